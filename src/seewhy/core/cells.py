"""Cells of tables: text that a spreadsheet would run as a formula is written with an apostrophe and read without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet runs, or one that was quoted before."""


def quote_cell(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula; numbers stay as they are.

    >>> quote_cell("=1+1"), quote_cell("-0.5"), quote_cell("-a"), quote_cell(-0.5)
    ("'=1+1", '-0.5', "'-a", -0.5)

    Args:
        value: Of a cell.

    Returns:
        The value, or the quoted text; `restore_cell` undoes it.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not _is_number(value) else value


def restore_cell(value: Any) -> Any:
    """Take away the apostrophe of `quote_cell`.

    >>> [restore_cell(quote_cell(text)) for text in ("=1", "'=1", "'a", "-0.5", "@x")]
    ['=1', "'=1", "'a", '-0.5', '@x']

    Args:
        value: As it was read.

    Returns:
        The value as it was before it was written.
    """
    quoted = isinstance(value, str) and value.startswith("'") and FORMULA.match(value)
    return value[1:] if quoted else value


def restore_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Restore every cell of a row.

    Args:
        row: As `csv.DictReader` reads it.

    Returns:
        The cells by column.
    """
    return {column: restore_cell(value) for column, value in row.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.isascii()
