"""The image files of a data set in an order that never changes, and their true classes."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TextIO

from seewhy.core.errors import UserError
from seewhy.data.dataset import escape_path

EXTENSIONS = ("jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "npy")


class ListedImage(NamedTuple):
    """A file and the folder that it was found below."""

    path: Path
    base: Path

    @property
    def folder(self) -> str:
        """The first folder between `base` and the file; empty where there is none."""
        parts = self.path.relative_to(self.base).parts
        return escape_path(Path(parts[0])) if len(parts) > 1 else ""


def find_images(roots: Sequence[Path]) -> list[ListedImage]:
    """List every image file below the roots once.

    Args:
        roots: Folders, files and glob patterns; a file given by name counts whatever its extension.

    Returns:
        The files, sorted by path.

    Raises:
        UserError: A root does not exist, or a pattern matches nothing.
    """
    images: dict[str, ListedImage] = {}
    for root in roots:
        for image in _expand(root):
            images.setdefault(os.path.abspath(image.path), image)
    return [images[path] for path in sorted(images)]


def find_common_folder(images: Sequence[ListedImage]) -> Path:
    """The deepest folder that holds every root."""
    return Path(os.path.commonpath([os.path.abspath(image.base) for image in images]))


def take_turns(groups: Sequence[str]) -> list[int]:
    """Order positions by turns: the first of each group, then the second of each, and so on.

    Args:
        groups: The group of each position.

    Returns:
        The positions.

    >>> take_turns(["cat", "cat", "cat", "dog"])
    [0, 3, 1, 2]
    """
    turn: dict[str, int] = {}
    keys = []
    for position, group in enumerate(groups):
        turn[group] = turn.get(group, -1) + 1
        keys.append((turn[group], position))
    return [position for _, position in sorted(keys)]


def _expand(root: Path) -> list[ListedImage]:
    if root.is_dir():
        return [ListedImage(path, root) for path in _walk(root, set())]
    if os.path.lexists(root):
        return [ListedImage(root, root.parent)]
    if not glob.has_magic(str(root)):
        raise UserError(f"data.root={root} does not exist: give a folder, an image file or a pattern such as 'a/*.jpg'")
    parts = root.parts
    base = Path(*parts[: next(position for position, name in enumerate(parts) if glob.has_magic(name))])
    matches = [Path(match) for match in glob.glob(str(root), recursive=True)]
    if not matches:
        raise UserError(f"data.root={root} matches no file")
    visited: set[tuple[int, int]] = set()
    files = [path for path in matches if _is_image_name(path.name)]
    folders = [path for path in matches if path.is_dir() and not _is_image_name(path.name)]
    files += [path for folder in folders for path in _walk(folder, visited)]
    return [ListedImage(path, base) for path in files]


def _walk(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Image files below a folder; no folder is entered twice, whatever the links. An unreadable one is returned."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError:
        yield folder
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for name in names:
        path = folder / name
        if _is_image_name(name):
            yield path
        elif not name.startswith(".") and path.is_dir():
            yield from _walk(path, visited)


def _is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: by its extension, and not hidden."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in EXTENSIONS and "." in name


FILE_COLUMNS = ("file", "path", "file_name", "filename", "image", "filepath", "file_path", "image_path")
LABEL_COLUMNS = ("label", "labels")
NAME_COLUMNS = ("class", "class_name", "classname", "label_name", "category")
"""Names of columns in a table of labels, the preferred first."""
WHOLE_NUMBER = r"-?\d{1,9}(\.0+)?"


class Label(NamedTuple):
    """The true class: its number in the classifier (-1: unknown to it) and its name."""

    number: int
    name: str
    several: tuple[int, ...] | None = None
    """The numbers of all true labels, where an image may have several and they are known."""


SEPARATORS = re.compile(r"\s*[|;,]\s*")
"""What stands between the labels of one image."""


def split_labels(text: str, classes: Sequence[str] = ()) -> list[str]:
    """Split the labels of one image; a name of a class that holds a separator stays whole.

    >>> split_labels("cat | dog;3"), split_labels("hen, brood", ["hen, brood"])
    (['cat', 'dog', '3'], ['hen, brood'])

    Args:
        text: Labels with `|`, `;` or `,` between them.
        classes: The names of the classifier's classes.

    Returns:
        Each label once.
    """
    words = [text] if text in classes else SEPARATORS.split(text)
    return list(dict.fromkeys(word for word in words if word))


def join_labels(labels: Sequence[Label], classes: Sequence[str]) -> Label:
    """Join the labels of one image.

    Args:
        labels: Each on its own; those that the classifier does not know are named, and count for nothing.
        classes: The names of the classifier's labels.

    Returns:
        All of them; its number is that of the first that the classifier knows.
    """
    numbers = [label.number for label in labels if label.number >= 0]
    names = dict.fromkeys(classes[label.number] if label.number >= 0 else label.name for label in labels)
    return Label(numbers[0] if numbers else -1, ", ".join(names), tuple(sorted(set(numbers))))


def match_class(name: str, classes: Sequence[str]) -> int:
    """Index of the class of that name, -1 where there is none.

    The exact name first; then upper and lower case, `_`, `-` and space are alike, where that leaves only one class.
    For 1,000 classes a WordNet id is the class at its position in ImageNet's order.

    >>> match_class("sea_Lion", ("dog", "sea lion")), match_class("n01440764", ["tench"] * 1000)
    (1, 0)
    """
    if name in classes:
        return list(classes).index(name)
    if len(classes) == 1000 and re.fullmatch(r"n\d{8}", name):
        return _read_wordnet_ids().get(name, -1)
    alike = [index for index, each in enumerate(classes) if _simplify(each) == _simplify(name)] if name else []
    return alike[0] if len(alike) == 1 else -1


class ClassCell(NamedTuple):
    """What a table says of the class of one image, as it is written there."""

    label: str
    """Of the column of labels: an index or a name; empty where there is none."""
    name: str
    """Of the column of class names; empty where there is none."""

    def match(self, classes: Sequence[str]) -> Label:
        """Look the class up among those of a classifier.

        Args:
            classes: The names of its classes.

        Returns:
            The class; its index is trusted if the name agrees with it, and for 1,000 classes (the order of ImageNet).
        """
        text, name = self
        if not text and name and match_class(name, classes) < 0:
            text, name = name, ""  # a column of classes that holds their indices
        if re.fullmatch(WHOLE_NUMBER, text):
            index = int(float(text))
            trusted = not name or len(classes) == 1000
            if 0 <= index < len(classes) and (trusted or _simplify(classes[index]) == _simplify(name)):
                return Label(index, classes[index])
        name = name or ("" if text.startswith("-") else text)
        return Label(match_class(name, classes), name)

    def match_several(self, classes: Sequence[str]) -> Label:
        """Look up all labels of an image, with `|`, `;` or `,` between them.

        Args:
            classes: The names of the classifier's classes.

        Returns:
            The labels; none of them where the cell is empty, unknown ones where it is -1.
        """
        text = self.name or self.label
        if text == "-1":
            return Label(-1, "")
        return join_labels([ClassCell(word, "").match(classes) for word in split_labels(text, classes)], classes)


def list_table_classes(cells: Sequence[ClassCell | None], several: bool = False) -> list[str]:
    """List the classes of the images in a table, for a classifier that is yet to be trained.

    Args:
        cells: Of each image; None where the table does not list it.
        several: Whether an image may have several labels.

    Returns:
        Where all labels are indices the name of each class from 0 to the largest, `class 3` where the table names none;
        else the names in alphabetical order.

    >>> list_table_classes([ClassCell("cat", ""), ClassCell("ant", ""), None])
    ['ant', 'cat']
    >>> list_table_classes([ClassCell("2", "cat"), ClassCell("0", "ant")])
    ['ant', 'class 1', 'cat']
    """
    if several:
        cells = [ClassCell(word, "") for cell in cells if cell for word in split_labels(cell.name or cell.label)]
    pairs = [(cell.label or cell.name, cell.name if cell.label else "") for cell in cells if cell is not None]
    pairs = [(text, name) for text, name in pairs if text and not text.startswith("-")]
    if pairs and all(re.fullmatch(WHOLE_NUMBER, text) for text, _ in pairs):
        names = {int(float(text)): name for text, name in sorted(pairs)}
        return [names.get(index) or f"class {index}" for index in range(max(names) + 1)]
    return sorted({name or text for text, name in pairs})


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


def read_class_cells(images: Sequence[ListedImage], table: Path, several: bool = False) -> list[ClassCell | None]:
    """Read what a CSV file says of the class of each file.

    Columns may have any of the usual names (`FILE_COLUMNS`, `LABEL_COLUMNS`, `NAME_COLUMNS`), in upper or lower case, and be
    separated by commas, semicolons or tabs.

    Args:
        images: The files.
        table: The CSV file; paths in it are relative to the folder that it lies in, or to that of the images.
        several: Whether an image may have several labels; then the table may also have a column of 0 and 1 for each.

    Returns:
        The cells of each file; None where the table does not list it.

    Raises:
        UserError: Columns are missing, the file is no table, or no row fits a file.
    """
    rows: dict[str, ClassCell] = {}
    with _open_table(table) as file:
        header, delimiter = _read_header(file)
        columns = _find_columns(header)
        by_column = [name for name in header if name != columns.file] if several else []
        if not columns.file or not (columns.label or columns.name or by_column):
            raise UserError(
                f"{table} has the columns {', '.join(header)}; it needs `file` (or {', '.join(FILE_COLUMNS[1:])}), and "
                f"`label` ({', '.join(LABEL_COLUMNS[1:])}) or `class` ({', '.join(NAME_COLUMNS[1:])}) with indices or names"
            )
        reader = csv.DictReader(file, header, delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                path = (row.get(columns.file) or "").strip()
                if path:
                    cells = ((row.get(column) or "").strip() for column in (columns.label, columns.name))
                    has_labels = columns.label or columns.name
                    cell = ClassCell(*cells) if has_labels else _read_marks(row, by_column, table)
                    rows[path] = _join_rows(rows.get(path, cell), cell, several, f"{table} says of {path}")
        except csv.Error as error:
            raise UserError(f"{table}, line {reader.line_num + 2}: {error}; is it a CSV file?") from None
    cells_of_images = _look_up(images, rows, table.parent)
    if not any(cells_of_images):
        example = next(iter(rows), "")
        raise UserError(
            f"{table} names none of the {len(images)} images: `{columns.file}` is relative to the folder of that file"
            + (f", where there is no {example!r}" if example else "")
        )
    return cells_of_images


def _join_rows(before: ClassCell, cell: ClassCell, several: bool, where: str) -> ClassCell:
    """What two rows say of one image: the same, or both where an image may have several labels."""
    if before == cell:
        return cell
    words = [each.name or each.label for each in (before, cell)]
    if several:
        return ClassCell("|".join(words), "")
    raise UserError(
        f"{where} both {words[0]!r} and {words[1]!r}: keep one row, or set model.score=sigmoid where an image may have "
        "several labels"
    )


def _read_marks(row: Mapping[str, str | None], names: Sequence[str], table: Path) -> ClassCell:
    """The labels whose columns hold 1."""
    marks = {name: (row.get(name) or "0").strip() for name in names}
    for name, mark in marks.items():
        if not re.fullmatch(r"[01](\.0+)?", mark):
            raise UserError(
                f"{table}: the column {name} holds {mark!r}; without a column `label` each column of labels is 0 or 1"
            )
    return ClassCell("|".join(name.strip() for name, mark in marks.items() if mark.startswith("1")), "")


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


def _look_up(images: Sequence[ListedImage], rows: Mapping[str, ClassCell], folder: Path) -> list[ClassCell | None]:
    """The row of each image: by its path below the folder of the table, else below that of the images."""
    beside = {os.path.abspath(folder / path): label for path, label in rows.items()}
    below = {os.path.normpath(path): label for path, label in rows.items()}
    return [
        beside.get(os.path.abspath(image.path), below.get(os.path.relpath(image.path, image.base))) for image in images
    ]


@cache
def _read_wordnet_ids() -> dict[str, int]:
    """The position of each of ImageNet's 1,000 WordNet ids, such as n01440764, in the usual order of its classes."""
    timm = find_spec("timm")
    assert timm is not None and timm.origin is not None
    path = Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return {name: index for index, name in enumerate(path.read_text().split())}


def _simplify(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
