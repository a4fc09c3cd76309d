"""One line of the benchmark's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarking.clock import Spread

DIFFER = "VALUES DIFFER"
"""How the note of a row begins whose values are not those that they are compared with."""


@dataclass(frozen=True)
class Row:
    """What was measured of one method, metric, setting or part; what does not apply is None."""

    part: str
    """`method`, `metric`, `peer`, `memory`, `scaling`, `start`, `data`, `script`, `adaptive`,
    `below` or `compile`."""
    model: str
    name: str
    setting: str = ""
    images: int | None = None
    seconds: float | None = None
    """Per image, the median."""
    forward: int | None = None
    backward: int | None = None
    ratio: float | None = None
    """To the floor; of a peer: its seconds over ours."""
    smallest: float | None = None
    largest: float | None = None
    megabytes: float | None = None
    difference: float | None = None
    """Of a peer: the largest difference from ours as a share of its largest value."""
    work: float | None = None
    """Multiplications over those of the counted passes."""
    note: str = ""

    def cells(self) -> dict[str, Any]:
        """The row for a CSV file."""
        return {
            key: "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> Row:
        """The row that `cells` were made of."""
        kinds = {field.name: str(field.type) for field in fields(cls)}
        given: dict[str, Any] = {}
        for key, text in cells.items():
            number = int if kinds[key].startswith("int") else float if kinds[key].startswith("float") else str
            given[key] = text if number is str else number(text) if text else None
        return cls(**given)


COLUMNS = tuple(field.name for field in fields(Row))


def spread_cells(spread: Spread | None) -> dict[str, float]:
    """The columns of a ratio; none where there is none."""
    return {} if spread is None else {"ratio": spread.median, "smallest": spread.smallest, "largest": spread.largest}
