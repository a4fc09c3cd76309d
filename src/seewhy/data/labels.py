"""The true class of each image: by the name of its folder, or from a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from seewhy.core.errors import UserError
from seewhy.data.listing import ListedImage


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


def read_csv_labels(images: Sequence[ListedImage], table: Path, classes: Sequence[str]) -> list[Label]:
    """Read the label of each file from a CSV file.

    The column `label` is trusted where the column `class` agrees with it or is not there, and for 1,000 classes (the
    order of ImageNet); else the class is looked up by name.

    Args:
        images: The files.
        table: The CSV file; its column `file` is relative to the folder that it lies in.
        classes: The classes of the classifier.

    Returns:
        A label for each file; unknown and nameless where the table does not list it.

    Raises:
        UserError: Columns are missing, a label is no number, or no row fits a file.
    """
    with table.open(newline="", encoding="utf-8-sig", errors="backslashreplace") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if "file" not in columns or not {"label", "class"} & set(columns):
            raise UserError(
                f"{table} has the columns {', '.join(columns)}; it needs `file`, and `label` (index) or `class` (name)"
            )
        rows = {
            os.path.abspath(table.parent / row["file"]): _read_row(row, classes, f"{table}, line {reader.line_num}")
            for row in reader
            if row["file"]
        }
    labels = [rows.get(os.path.abspath(image.path)) for image in images]
    if not any(labels):
        raise UserError(
            f"{table} names none of the {len(images)} images: `file` is relative to the folder of that file"
        )
    return [label or Label(-1, "") for label in labels]


def _read_row(row: Mapping[str, str | None], classes: Sequence[str], where: str) -> Label:
    name, text = (row.get("class") or "").strip(), (row.get("label") or "").strip()
    if text:
        if not re.fullmatch(r"-?\d+", text):
            raise UserError(f"{where}: label {text!r} is not a number; put class names into a column `class`")
        index = int(text)
        trusted = not name or len(classes) == 1000
        if 0 <= index < len(classes) and (trusted or _simplify(classes[index]) == _simplify(name)):
            return Label(index, classes[index])
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
