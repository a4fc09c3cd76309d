"""What differs between two records."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from regression.keep import Table, read_table

SHOWN = 5
"""Differences of one column, array file or text that are named; the others are counted."""


def compare_records(old: Path, new: Path, without: Sequence[str] = (), only: Sequence[str] = ()) -> Iterator[str]:
    """One line for each thing that differs: missing and new files, columns, values, arrays, texts.

    Args:
        old: Folder of the earlier record.
        new: Folder of the later record.
        without: Words; files with one of them in their path are left out.
        only: Names of commands; empty: all.

    Raises:
        FileNotFoundError: A folder is not there or holds no record.
        ValueError: Neither record has anything of a command in `only`.
    """
    names = [_names(folder, without, only) for folder in (old, new)]
    for command in only:
        if not any(_is_of(name, command) for name in names[0] | names[1]):
            raise ValueError(f"neither {old} nor {new} has anything of a command {command}")
    yield from (f"{name}: missing" for name in sorted(names[0] - names[1]))
    yield from (f"{name}: new" for name in sorted(names[1] - names[0]))
    for name in sorted(names[0] & names[1]):
        paths = old / name, new / name
        if name.endswith(".npz"):
            found = compare_arrays(*paths)
        elif name.endswith(".csv"):
            if Path(name).name == "_arrays.csv" and all(path.with_suffix(".npz").exists() for path in paths):
                continue  # the arrays themselves are compared
            found = compare_tables(read_table(paths[0]), read_table(paths[1]), keyed=Path(name).name.startswith("_"))
        else:
            found = compare_texts(paths[0].read_text(), paths[1].read_text())
        yield from (f"{name}: {line}" for line in found)


def _is_of(name: str, command: str) -> bool:
    return name.startswith(f"{command}/")


def _names(folder: Path, without: Sequence[str], only: Sequence[str]) -> set[str]:
    if not (folder / "_commands.csv").is_file():
        raise FileNotFoundError(f"{folder} holds no record: it has no _commands.csv; make it with `record {folder}`")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = {name for name in names if not any(word in name for word in without)}
    return {name for name in names if any(_is_of(name, command) for command in only)} if only else names


def compare_tables(old: Table, new: Table, keyed: bool = False) -> Iterator[str]:
    """What differs between two tables.

    Args:
        old: (columns, rows).
        new: (columns, rows).
        keyed: Whether the first column names the rows, so that missing and new ones can be told by name.
    """
    yield from (f"column {name}: missing" for name in old[0] if name not in new[0])
    yield from (f"column {name}: new" for name in new[0] if name not in old[0])
    shared = [name for name in old[0] if name in new[0]]
    if shared != [name for name in new[0] if name in old[0]]:
        yield f"the columns are in another order: {', '.join(new[0])}"
    cells = [[[_cell(row, columns.index(name)) for name in shared] for row in rows] for columns, rows in (old, new)]
    if keyed and shared[:1] == old[0][:1]:
        yield from _compare_keyed(shared, *cells)
    elif len(cells[0]) != len(cells[1]):
        yield f"{len(cells[1])} rows instead of {len(cells[0])}"
        counted = [Counter(map(tuple, rows)) for rows in cells]
        for word, rows in (("missing", counted[0] - counted[1]), ("new", counted[1] - counted[0])):
            yield from _some([f"row {', '.join(row)}: {word}" for row in rows.elements()])
    elif cells[0] != cells[1] and sorted(cells[0]) == sorted(cells[1]):
        yield "the rows are in another order"
    else:
        labels = [f"row {number}" for number in range(1, len(cells[0]) + 1)]
        yield from _compare_columns(shared, labels, *cells)


def _cell(row: list[str], place: int) -> str:
    return row[place] if place < len(row) else ""


def _compare_keyed(columns: list[str], old: list[list[str]], new: list[list[str]]) -> Iterator[str]:
    rows = [_by_key(table) for table in (old, new)]
    yield from _some([f"{key}: missing" for key in rows[0] if key not in rows[1]])
    yield from _some([f"{key}: new" for key in rows[1] if key not in rows[0]])
    shared = [key for key in rows[0] if key in rows[1]]
    yield from _compare_columns(columns[1:], shared, [rows[0][key] for key in shared], [rows[1][key] for key in shared])


def _by_key(rows: list[list[str]]) -> dict[str, list[str]]:
    """The rows without their first cell by that cell; a second row of a name is numbered."""
    seen: Counter[str] = Counter()
    result = {}
    for key, *others in rows:
        seen[key] += 1
        result[key if seen[key] == 1 else f"{key} ({seen[key]})"] = others
    return result


def _compare_columns(
    columns: list[str], labels: list[str], old: list[list[str]], new: list[list[str]]
) -> Iterator[str]:
    """Column by column: the largest difference of numbers, and examples of other texts."""
    for place, name in enumerate(columns):
        pairs = [(label, one[place], two[place]) for label, one, two in zip(labels, old, new, strict=True)]
        unequal = [(label, one, two) for label, one, two in pairs if one != two]
        numbers = [
            (label, float(one), float(two)) for label, one, two in unequal if _is_number(one) and _is_number(two)
        ]
        texts = [pair for pair in unequal if not (_is_number(pair[1]) and _is_number(pair[2]))]
        if numbers:
            yield f"column {name}: {_describe_numbers(numbers, len(pairs))}"
        yield from _some([f"column {name}, {label}: {one!r} became {two!r}" for label, one, two in texts])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _describe_numbers(numbers: list[tuple[str, float, float]], count: int) -> str:
    """The largest absolute and relative difference, each with the row where it is."""
    old, new = (np.array([row[side] for row in numbers]) for side in (1, 2))
    absolute, relative = differences(old, new)
    if not absolute.any():
        return f"{len(numbers)} of {count} numbers are written differently, with the same value"
    most, worst = int(absolute.argmax()), int(relative.argmax())
    return (
        f"{len(numbers)} of {count} numbers differ; largest absolute difference {absolute[most]:.3g} "
        f"({numbers[most][0]}: {old[most]:.9g} became {new[most]:.9g}), "
        f"largest relative difference {relative[worst]:.3g} ({numbers[worst][0]})"
    )


def differences(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(|a - b|, |a - b| / max(|a|, |b|)) of each pair in float64; equal values, also NaN and infinities, differ by 0.

    Where only one of the two is finite, both are infinite.

    >>> absolute, relative = differences(np.array([1.0, np.nan, np.inf]), np.array([0.5, np.nan, 1.0]))
    >>> absolute.tolist(), relative.tolist()
    ([0.5, 0.0, inf], [0.5, 0.0, inf])
    """
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    finite = np.isfinite(old) & np.isfinite(new)
    absolute, relative = np.where(same, 0.0, np.inf), np.where(same, 0.0, np.inf)
    both = finite & ~same
    absolute[both] = np.abs(old[both] - new[both])
    relative[both] = absolute[both] / np.maximum(np.abs(old[both]), np.abs(new[both]))
    return absolute, relative


def compare_arrays(old: Path, new: Path) -> Iterator[str]:
    """What differs between the arrays of two npz files; the relative difference is to the array's largest magnitude."""
    with np.load(old) as one, np.load(new) as two:
        yield from (f"array {name}: missing" for name in one.files if name not in two.files)
        yield from (f"array {name}: new" for name in two.files if name not in one.files)
        for name in one.files:
            if name in two.files and (words := _describe_arrays(one[name], two[name])):
                yield f"array {name}: {words}"


def _describe_arrays(old: np.ndarray, new: np.ndarray) -> str:
    """In words what differs; empty where nothing does."""
    if old.shape != new.shape:
        return f"shape {list(new.shape)} instead of {list(old.shape)}"
    words = f"type {new.dtype} instead of {old.dtype}" if old.dtype != new.dtype else ""
    absolute, _ = differences(old, new)
    if absolute.any():
        finite = np.abs(np.asarray(old, np.float64)[np.isfinite(old)])
        scale = float(finite.max(initial=0.0))
        relative = float(absolute.max()) / scale if scale else np.inf
        count = np.count_nonzero(absolute)
        differ = f"{count} of {old.size} values differ; largest absolute difference {absolute.max():.3g}, "
        words = f"{words}; {differ}" if words else differ
        words += f"relative to the largest magnitude {relative:.3g}"
    elif not words and old.tobytes() != new.tobytes():
        words = "the same values with other bytes (the sign of 0, or another NaN)"
    return words


def compare_texts(old: str, new: str) -> Iterator[str]:
    """The lines that were taken away and added."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    yield from _some([line for line in lines if not line.startswith(("---", "+++", "@@"))])
    if old != new and old.splitlines() == new.splitlines():
        yield "the line ends differ"


def _some(lines: list[str]) -> list[str]:
    """The first lines, and how many others there are."""
    return [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN + 1 else lines
