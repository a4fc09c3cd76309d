"""The image files of a data set in an order that never changes, with their names and true classes."""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import re
import unicodedata
from collections import Counter
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


def list_table_classes(cells: Sequence[ClassCell | None]) -> list[str]:
    """List the classes of the images in a table, for a classifier that is yet to be trained.

    Args:
        cells: Of each image; None where the table does not list it.

    Returns:
        Where all labels are indices the name of each class from 0 to the largest, `class 3` where the table names none;
        else the names in alphabetical order.

    >>> list_table_classes([ClassCell("cat", ""), ClassCell("ant", ""), None])
    ['ant', 'cat']
    >>> list_table_classes([ClassCell("2", "cat"), ClassCell("0", "ant")])
    ['ant', 'class 1', 'cat']
    """
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


def read_csv_labels(images: Sequence[ListedImage], table: Path, classes: Sequence[str]) -> list[Label]:
    """Read the label of each file from a CSV file.

    A whole number in `label` is an index, other text the name of a class; in `class` a name comes first. Where both columns
    are given, the index is trusted if the name agrees with it, and for 1,000 classes (the order of ImageNet); else the
    class is looked up by name.

    Args:
        images: The files.
        table: See `read_class_cells`.
        classes: The classes of the classifier.

    Returns:
        A label for each file; unknown and nameless where the table does not list it.

    Raises:
        UserError: Columns are missing, the file is no table, or no row fits a file.
    """
    cells = read_class_cells(images, table)
    return [Label(-1, "") if cell is None else cell.match(classes) for cell in cells]


def read_class_cells(images: Sequence[ListedImage], table: Path) -> list[ClassCell | None]:
    """Read what a CSV file says of the class of each file.

    Columns may have any of the usual names (`FILE_COLUMNS`, `LABEL_COLUMNS`, `NAME_COLUMNS`), in upper or lower case, and be
    separated by commas, semicolons or tabs.

    Args:
        images: The files.
        table: The CSV file; paths in it are relative to the folder that it lies in, or to that of the images.

    Returns:
        The cells of each file; None where the table does not list it.

    Raises:
        UserError: Columns are missing, the file is no table, or no row fits a file.
    """
    rows: dict[str, ClassCell] = {}
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
                    cells = ((row.get(column) or "").strip() for column in (columns.label, columns.name))
                    rows[path] = ClassCell(*cells)
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


MAX_CHARACTERS = 100
MAX_BYTES = 180
"""File systems allow 255 bytes for a name; the rest is for what a run appends."""


def name_images(paths: Sequence[Path], root: Path) -> list[str]:
    """Name images by their paths: unique, whatever their order, and safe as file names.

    A name is the path below `root` without its suffix, `__` between folders, and `_` for whatever is neither a letter,
    a digit, `.`, `_` nor `-`. Files that would share a name (upper and lower case count as equal) have their suffix
    appended, and a hash of their path below `root` where that is not enough. `[a/1.png]` is called `a__1`.

    Args:
        paths: Different paths.
        root: The folder that they lie below.

    Returns:
        A name for each path.
    """
    relative = [_below(path, root) for path in paths]
    names = [_fit(_clean(path.with_suffix("")), path) for path in relative]
    for longer in (_with_suffix, _with_hash):
        count = Counter(name.casefold() for name in names)
        while any(number > 1 for number in count.values()):
            changed = [
                longer(path) if count[name.casefold()] > 1 else name for path, name in zip(relative, names, strict=True)
            ]
            if changed == names:
                break
            names, count = changed, Counter(name.casefold() for name in changed)
    return names


def _below(path: Path, root: Path) -> Path:
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return path.relative_to(root) if path.is_relative_to(root) and path != root else path.relative_to(path.anchor)


def _clean(path: Path) -> str:
    text = unicodedata.normalize("NFC", "__".join(path.parts))
    safe = "".join(character if character.isalnum() or character in "._-" else "_" for character in text)
    return "_" + safe[1:] if safe.startswith(".") else safe or "_"


def _with_suffix(path: Path) -> str:
    return _fit(f"{_clean(path.with_suffix(''))}_{_clean(Path(path.suffix[1:]))}", path)


def _with_hash(path: Path) -> str:
    return _fit(f"{_clean(path.with_suffix(''))}_{_clean(Path(path.suffix[1:]))}", path, always=True)


def _fit(name: str, path: Path, always: bool = False) -> str:
    """The name, cut to its greatest length; a name that was cut, and every name if `always`, ends in a hash."""
    if not always and len(name) <= MAX_CHARACTERS and len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:8]
    short = name[: MAX_CHARACTERS - 9].encode()[: MAX_BYTES - 9].decode(errors="ignore")
    return f"{short}_{digest}"
