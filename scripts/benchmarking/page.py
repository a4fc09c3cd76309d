"""The page and the table of the benchmark."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarking.goals import goals
from benchmarking.place import ROOT
from benchmarking.row import COLUMNS, Row
from benchmarking.scaling import Line, lines_of

NOTES = ROOT / "scripts" / "benchmarking" / "optimisations.md"
"""Kept by hand: what each optimisation should gain, and what it did."""
RUN = "- measured at commit"
HEAD = """# The benchmark

Written by `make benchmark`; the section on optimisations is kept in `scripts/benchmarking/optimisations.md`, the numbers
of this page are in [benchmark.csv](benchmark.csv).

**Floor**: the passes that were made, times the bare pass (a forward, or a forward with the gradient of the image) at its
fastest batch size, measured before and after each turn. **Peers** run in turn with ours on the same tensors, weights,
dtype and threads, with memory as they come by it (pages of 4 kB; seewhy asks for large ones): a ratio of 2 is twice the
time of ours. All numbers are medians, with the smallest and the largest turn in brackets. `difference`: the largest
between the values, as a share of the largest value of the peer, taken before the timing with `model.fold=false`, the
arithmetic of the peers (folded layers round otherwise: a gate of ReLU6 at its edge may flip, as it does between float32
and float64); empty where values cannot be equal, as the note says.
"""


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.cells() for row in rows)


def read_csv(path: Path) -> list[Row]:
    """The rows of an earlier run; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [Row.from_cells(cells) for cells in csv.DictReader(file)]


def join(earlier: Sequence[Row], rows: Sequence[Row], names: Mapping[str, Sequence[str]]) -> list[Row]:
    """Earlier rows of what was not measured again, and the new ones, in the order of parts, networks and names.

    Args:
        earlier: Of the page before.
        rows: Measured now.
        names: For a part the names that there are today, in their order; rows of others go.
    """

    def identify(row: Row) -> tuple[str, str, str, str]:
        library = row.setting.partition(":")[0] if row.part == "peer" else ""  # each can be measured without the others
        return row.part, row.model, row.name, library

    again = set(map(identify, rows))
    kept = [row for row in earlier if identify(row) not in again]
    joined = [row for row in [*kept, *rows] if row.part not in names or row.name in names[row.part]]
    parts, models = (list(dict.fromkeys(getattr(row, key) for row in joined)) for key in ("part", "model"))

    def place(row: Row) -> tuple[int, int, int]:
        number = names[row.part].index(row.name) if row.part in names else 0
        return parts.index(row.part), models.index(row.model), number

    return sorted(joined, key=place)


def runs_before(path: Path) -> list[str]:
    """What an earlier page says of the runs that made it: commit, command and time."""
    return [line for line in path.read_text().splitlines() if line.startswith(RUN)] if path.is_file() else []


def write_page(
    path: Path,
    rows: Sequence[Row],
    facts: Mapping[str, str],
    device: str,
    floors: Sequence[str],
    earlier: Sequence[str] = (),
) -> None:
    """Goals first, then the tables; `earlier` are the runs whose rows were kept."""
    about = {
        key: value for key, value in facts.items() if key not in ("commit", "command", "took", "machine", "threads")
    }
    run = f"{RUN} {facts['commit']} on {facts['machine']}, {facts['threads']}: `{facts['command']}`, {facts['took']}"
    run += "".join(f"; {floor}" for floor in floors)
    parts = [HEAD, *(f"- {key}: {value}" for key, value in about.items()), *earlier, run, ""]
    parts += ["## Goals", "", "| goal | | measured |", "|---|---|---|"]
    parts += [f"| {goal.wanted} | {goal.verdict} | {goal.found} |" for goal in goals(rows, device)]
    for part, title in {"method": "Attribution methods", "metric": "Metrics, of maps of `input_x_gradient`"}.items():
        parts += ["", f"## {title}", "", *_floor_table([row for row in rows if row.part == part])]
    parts += ["", "## Peers", "", *_peer_table([row for row in rows if row.part == "peer"])]
    parts += ["", "## Memory of a process", "", *_memory_table([row for row in rows if row.part == "memory"])]
    if lines := lines_of(rows):
        parts += [
            "",
            "## Scaling",
            "",
            "![Time and memory against the amount of work](benchmark.png)",
            "",
            *_lines(lines),
        ]
    rest = [row for row in rows if row.part in ("start", "data", "script", "adaptive", "below", "compile")]
    parts += [
        "",
        "## Start, data path, what a user would write instead, adaptive steps, incremental occlusion, torch.compile",
        "",
        "`script`: the command beside a plain script of torchvision, Captum and matplotlib on the same pictures; the ratio",
        "is the script's seconds over ours, starts included, and the note has its seconds and both peaks of memory.",
        "`compile`: passes of the network under torch.compile over fused ones, in processor time.",
        "",
        *_rest_table(rest),
        "",
        NOTES.read_text().strip(),
        "",
    ]
    path.write_text("\n".join(parts))


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _spread(row: Row) -> str:
    if row.ratio is None:
        return ""
    many = row.smallest is not None and row.smallest != row.largest
    return f"{row.ratio:.2f}" + (f" ({row.smallest:.2f} – {row.largest:.2f})" if many else "")


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> list[str]:
    if not lines:
        return ["Not measured in this run."]
    written = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *written]


def _floor_table(rows: Sequence[Row]) -> list[str]:
    head = ("model", "name", "images", "s per image", "forward", "backward", "over floor", "")
    return _table(
        head,
        [
            (
                row.model,
                f"`{row.name}`",
                row.images,
                _number(row.seconds),
                row.forward,
                row.backward,
                _spread(row),
                row.note,
            )
            if row.seconds is not None
            else (row.model, f"`{row.name}`", "", "", "", "", "", row.note)
            for row in rows
        ],
    )


def _peer_table(rows: Sequence[Row]) -> list[str]:
    head = ("model", "name", "peer", "images", "ours, s per image", "theirs / ours", "difference", "note")
    return _table(
        head,
        [
            (row.model, f"`{row.name}`", row.setting, row.images, _number(row.seconds), _spread(row),
             _number(row.difference, 1), row.note)
            for row in rows
        ],
    )  # fmt: skip


def _memory_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        (row.name, row.note, row.setting, "" if row.megabytes is None else f"{row.megabytes:.0f}", _spread(row))
        for row in rows
    ]
    return _table(("method", "small setting", "large setting", "MB", "ratio"), lines)


def _lines(lines: Sequence[Line]) -> list[str]:
    return _table(
        ("axis", "method", "seconds for each", "R² of a straight line", "largest / smallest peak"),
        [
            (line.axis, f"`{line.method}`", _number(line.slope), f"{line.straightness:.4f}", f"{line.memory_ratio:.2f}")
            for line in lines
        ],
    )


def _rest_table(rows: Sequence[Row]) -> list[str]:
    return _table(
        ("part", "model", "what", "seconds", "ratio", "note"),
        [
            (row.part, row.model, f"{row.name} {row.setting}".strip(), _number(row.seconds), _spread(row), row.note)
            for row in rows
        ],
    )
