"""The true class of each image: by the name of its folder, or from a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TextIO

from seewhy.core.errors import UserError
from seewhy.data.listing import ListedImage

FILE_COLUMNS = ("file", "path", "file_name", "filename", "image", "filepath", "file_path", "image_path")
LABEL_COLUMNS = ("label", "labels")
NAME_COLUMNS = ("class", "class_name", "classname", "label_name", "category")
"""Names of columns in a table of labels, the preferred first."""
WHOLE_NUMBER = r"-?\d{1,9}(\.0+)?"


class Label(NamedTuple):
    """The true class: its number in the classifier (-1: unknown to it) and its name."""

    number: int
    name: str


def match_class(name: str, classes: Sequence[str]) -> int:
    """Index of the class of that name, -1 where there is none.

    The exact name first; then upper and lower case, `_`, `-` and space are alike, where that leaves only one class.
    For 1,000 classes a WordNet id is the class at its position in ImageNet's order.

    >>> match_class("sea_Lion", ("dog", "sea lion")), match_class("n01440764", ["tench"] * 1000)
    (1, 0)
    """
    if len(classes) == 1000 and re.fullmatch(r"n\d{8}", name):
        return _read_wordnet_ids().get(name, -1)
    if name in classes:
        return list(classes).index(name)
    alike = [index for index, each in enumerate(classes) if _simplify(each) == _simplify(name)] if name else []
    return alike[0] if len(alike) == 1 else -1


def find_default_table(folder: Path) -> Path | None:
    """Find the table of labels that lies beside the images of a folder.

    Args:
        folder: The folder.

    Returns:
        labels.csv, else a metadata.csv with a column of labels (such files may hold captions alone), else None.
    """
    labels, metadata = folder / "labels.csv", folder / "metadata.csv"
    if labels.is_file():
        return labels
    if not metadata.is_file():
        return None
    with _open_table(metadata) as file:
        columns = _find_columns(_read_header(file)[0])
    return metadata if columns.file and (columns.label or columns.name) else None


def read_csv_labels(images: Sequence[ListedImage], table: Path, classes: Sequence[str]) -> list[Label]:
    """Read the label of each file from a CSV file.

    Columns may have any of the usual names (`FILE_COLUMNS`, `LABEL_COLUMNS`, `NAME_COLUMNS`), in upper or lower case, and be
    separated by commas, semicolons or tabs. A whole number in `label` is an index, other text the name of a class; in
    `class` a name comes first. Where both columns are given, the index is trusted if the name agrees with it, and for
    1,000 classes (the order of ImageNet); else the class is looked up by name.

    Args:
        images: The files.
        table: The CSV file; paths in it are relative to the folder that it lies in, or to that of the images.
        classes: The classes of the classifier.

    Returns:
        A label for each file; unknown and nameless where the table does not list it.

    Raises:
        UserError: Columns are missing, the file is no table, or no row fits a file.
    """
    rows: dict[str, Label] = {}
    with _open_table(table) as file:
        header, delimiter = _read_header(file)
        columns = _find_columns(header)
        if not columns.file or not (columns.label or columns.name):
            raise UserError(
                f"{table} has the columns {', '.join(header)}; it needs `file` (or {', '.join(FILE_COLUMNS[1:])}), and "
                f"`label` ({', '.join(LABEL_COLUMNS[1:])}) or `class` ({', '.join(NAME_COLUMNS[1:])}) with indices or names"
            )
        reader = csv.DictReader(file, header, delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                path = (row.get(columns.file) or "").strip()
                if path:
                    rows[path] = _read_row(row, columns, classes)
        except csv.Error as error:
            raise UserError(f"{table}, line {reader.line_num + 2}: {error}; is it a CSV file?") from None
    labels = _look_up(images, rows, table.parent)
    if not any(labels):
        example = next(iter(rows), "")
        raise UserError(
            f"{table} names none of the {len(images)} images: `{columns.file}` is relative to the folder of that file"
            + (f", where there is no {example!r}" if example else "")
        )
    return [label or Label(-1, "") for label in labels]


class _Columns(NamedTuple):
    """The names of the columns in a table; empty where there is none."""

    file: str
    label: str
    name: str


def _open_table(path: Path) -> TextIO:
    return path.open(newline="", encoding="utf-8-sig", errors="backslashreplace")


def _read_header(file: TextIO) -> tuple[list[str], str]:
    """The columns in the first line of a table, and what separates them."""
    line = file.readline()
    delimiter = max((",", ";", "\t"), key=line.count)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []), delimiter
    except csv.Error as error:
        raise UserError(f"{file.name}, line 1: {error}; is it a CSV file?") from None


def _find_columns(header: Sequence[str]) -> _Columns:
    def find(names: Sequence[str]) -> str:
        found = {column.strip().casefold(): column for column in reversed(header)}
        return next((found[name] for name in names if name in found), "")

    return _Columns(find(FILE_COLUMNS), find(LABEL_COLUMNS), find(NAME_COLUMNS))


def _look_up(images: Sequence[ListedImage], rows: Mapping[str, Label], folder: Path) -> list[Label | None]:
    """The row of each image: by its path below the folder of the table, else below that of the images."""
    beside = {os.path.abspath(folder / path): label for path, label in rows.items()}
    below = {os.path.normpath(path): label for path, label in rows.items()}
    return [
        beside.get(os.path.abspath(image.path), below.get(os.path.relpath(image.path, image.base))) for image in images
    ]


def _read_row(row: Mapping[str, str | None], columns: _Columns, classes: Sequence[str]) -> Label:
    name, text = (row.get(columns.name) or "").strip(), (row.get(columns.label) or "").strip()
    if not text and name and match_class(name, classes) < 0:
        text, name = name, ""  # a column of classes that holds their indices
    if re.fullmatch(WHOLE_NUMBER, text):
        index = int(float(text))
        trusted = not name or len(classes) == 1000
        if 0 <= index < len(classes) and (trusted or _simplify(classes[index]) == _simplify(name)):
            return Label(index, classes[index])
    name = name or ("" if text.startswith("-") else text)
    return Label(match_class(name, classes), name)


@cache
def _read_wordnet_ids() -> dict[str, int]:
    """The position of each of ImageNet's 1,000 WordNet ids, such as n01440764, in the usual order of its classes."""
    timm = find_spec("timm")
    assert timm is not None and timm.origin is not None
    path = Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return {name: index for index, name in enumerate(path.read_text().split())}


def _simplify(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
