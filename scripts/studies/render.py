"""Values by name -> the text of a page. A name without a value, None, NaN or an empty text is an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.exceptions import UndefinedError

from seewhy.core.errors import UserError
from studies.found_runs import Mean

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: Mapping[str, Any], templates: Path = TEMPLATES) -> str:
    """The template filled with the values. Raises UserError that names what is missing."""
    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        finalize=_present,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "percent": percent, "interval": interval, "rate": rate, "table": table}
    try:
        return environment.get_template(template).render(values)
    except UndefinedError as error:
        raise UserError(f"{template} cannot be filled: {error}") from error


def _present(value: Any) -> Any:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"a value of the page is missing: {value!r}")
    return value


def number(value: float, digits: int = 2) -> str:
    """A finite number with that many decimals, thousands apart."""
    return f"{_present(float(value)):,.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    """A share as percent."""
    return f"{number(100 * share, digits)} %"


def interval(found: Mean, digits: int = 2, factor: float = 1) -> str:
    """`mean [low, high]`; without an interval where there are too few values."""
    middle = number(factor * found.mean, digits)
    if not math.isfinite(found.low):
        return middle
    return f"{middle} [{number(factor * found.low, digits)}, {number(factor * found.high, digits)}]"


def rate(found: Mean, digits: int = 1) -> str:
    """A share as `percent [low, high] (count of n)`."""
    ends = f" [{number(100 * found.low, digits)}, {number(100 * found.high, digits)}]" if found.low == found.low else ""
    return f"{percent(found.mean, digits)}{ends} ({number(found.mean * found.n, 0)} of {number(found.n, 0)})"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same keys as a Markdown table; numbers stand right. An empty cell is an error, `-` is not."""
    if not rows:
        raise UserError("a table of the page has no rows")
    columns = list(rows[0])
    cells = [[str(_present(row[column])).replace("|", "\\|") for column in columns] for row in rows]
    right = [all(_is_number(row[place]) for row in cells) for place in range(len(columns))]
    lines = [columns, ["---:" if one else "---" for one in right], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit() or cell[:1] in "+-\N{MINUS SIGN}<"
