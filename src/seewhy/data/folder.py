"""Images from a folder, a file, a pattern or a list of those, with what is known of their classes.

The images that come with the project.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, IMAGENET_MEAN, IMAGENET_STD, Facts
from seewhy.core.types import Batch
from seewhy.data.corruptions.corrupter import Corrupter, images_per_batch
from seewhy.data.dataset import ImageFiles, Item, check_loading, collate, printable
from seewhy.data.images import MAX_PIXELS
from seewhy.data.masks import find_masks
from seewhy.data.names import image_names

EXTENSIONS = ("jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm")


class Found(NamedTuple):
    """A file and the folder that it was found below."""

    path: Path
    base: Path

    @property
    def folder(self) -> str:
        """The first folder between `base` and the file; empty where there is none."""
        parts = self.path.relative_to(self.base).parts
        return printable(Path(parts[0])) if len(parts) > 1 else ""


class Label(NamedTuple):
    """The true class: its number in the classifier (-1: unknown to it) and its name."""

    number: int
    name: str


class Folder(LightningDataModule):
    """The images below `root`: a folder, a file, a glob pattern, or a list of those.

    Files are found by extension in all folders below, hidden ones left out, and sorted. The true class comes from the
    csv file `labels` (default: labels.csv in the folder; columns `file` and `label` and / or `class`), else from the
    first folder below `root` (root/<class>/image.jpg). `limit` takes the first images; where classes come from folders
    it takes one image of each class in turn, so that every class has its share. `masks` is a folder with a picture for
    each image, under the same path, that is not black where the object is. An image of more than `max_pixels` is left
    out before it is decoded. UserError where nothing is found.
    """

    left_out: frozenset[str] = frozenset()
    """First-level folders that are not read."""

    items: list[Item]

    corrupt: Corrupter | None = None
    """Makes the corrupted versions of each image where they are asked for."""

    def __init__(
        self,
        root: str | Path | Sequence[str] | None = None,
        facts: Facts | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
        labels: str | None = None,
        masks: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__()
        if limit is not None and limit < 1:
            raise UserError(f"data.limit={limit} leaves no image: give at least 1, or null for all")
        check_loading(batch_size, num_workers)
        if max_pixels < 1:
            raise UserError(f"data.max_pixels={max_pixels} refuses every image: give at least 1")
        self.root = root
        self.facts = facts or Facts((), 224, IMAGENET_MEAN, IMAGENET_STD)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.limit = limit
        self.labels = labels
        self.masks = masks
        self.max_pixels = max_pixels
        self.items = []

    def roots(self) -> list[Path]:
        """The folders, files and patterns to look into."""
        if self.root is None or not self.root:
            raise UserError("data.root is not set: give a folder, an image or a pattern, such as data.root=photographs")
        given = list(self.root) if isinstance(self.root, Sequence) and not isinstance(self.root, str) else [self.root]
        return [Path(str(root)).expanduser() for root in given]

    def setup(self, stage: str = "test") -> None:
        """Find the files, name them and look up their classes; done once."""
        if self.items:
            return
        roots = self.roots()
        found = [each for each in find_images(roots) if each.folder not in self.left_out]
        if not found:
            raise UserError(
                f"no images in data.root={self._place()}: looked for the extensions {', '.join(EXTENSIONS)}"
            )
        names = image_names([each.path for each in found], _common_folder(found))
        table = self._table(roots)
        if table is not None:
            labels = csv_labels(found, table, self.facts.classes)
        else:
            labels = [Label(class_index(each.folder, self.facts.classes), each.folder) for each in found]
        words = [self.facts.classes[label.number] if label.number >= 0 else label.name for label in labels]
        masks: list[Path | None] = [None] * len(found)
        if self.masks is not None:
            masks = find_masks([each.path for each in found], [each.base for each in found], self.masks)
        items = [
            Item(each.path, name, label.number, word, mask)
            for each, name, label, word, mask in zip(found, names, labels, words, masks, strict=True)
        ]
        chosen = range(len(items)) if table is not None else take_turns([label.name for label in labels])
        self.items = [items[position] for position in sorted(list(chosen)[: self.limit])]

    def _table(self, roots: Sequence[Path]) -> Path | None:
        if self.labels is not None:
            path = Path(self.labels).expanduser()
            if not path.is_file():
                raise UserError(f"data.labels={self.labels}: there is no such file")
            return path
        default = roots[0] / "labels.csv"
        return default if len(roots) == 1 and default.is_file() else None

    def test_dataloader(self) -> DataLoader[Batch]:
        """The images in order; files that cannot be read are in `Batch.skipped`."""
        data = ImageFiles(self.items, self.facts, self.corrupt, self.max_pixels)
        gather = partial(collate, size=self.facts.size, masked=self.masks is not None)
        size = images_per_batch(self.batch_size, self.corrupt)
        return DataLoader(data, size, num_workers=self.num_workers, collate_fn=gather)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Such as `24 images of 3 classes in photographs`."""
        images, classes = len(self.items), len({item.label_name for item in self.items} - {""})
        of = f" of {classes} class{'es' if classes > 1 else ''}" if classes else ""
        return f"{images} image{'s' if images != 1 else ''}{of} in {self._place()}"

    def _place(self) -> str:
        return ", ".join(printable(root) for root in self.roots())


def find_images(roots: Sequence[Path]) -> list[Found]:
    """Every image file below the roots once, sorted by path; a file given by name counts whatever its extension."""
    found: dict[str, Found] = {}
    for root in roots:
        for each in _expand(root):
            found.setdefault(os.path.abspath(each.path), each)
    return [found[path] for path in sorted(found)]


def _expand(root: Path) -> list[Found]:
    if root.is_dir():
        return [Found(path, root) for path in _walk(root, set())]
    if os.path.lexists(root):
        return [Found(root, root.parent)]
    if not glob.has_magic(str(root)):
        raise UserError(f"data.root={root} does not exist: give a folder, an image file or a pattern such as 'a/*.jpg'")
    parts = root.parts
    base = Path(*parts[: next(position for position, part in enumerate(parts) if glob.has_magic(part))])
    matches = [Path(match) for match in glob.glob(str(root), recursive=True)]
    if not matches:
        raise UserError(f"data.root={root} matches no file")
    visited: set[tuple[int, int]] = set()
    files = [path for path in matches if is_image_name(path.name)]
    folders = [path for path in matches if path.is_dir() and not is_image_name(path.name)]
    return [Found(path, base) for path in files + [path for folder in folders for path in _walk(folder, visited)]]


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
        if is_image_name(name):
            yield path
        elif not name.startswith(".") and path.is_dir():
            yield from _walk(path, visited)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: a known extension, and not hidden."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in EXTENSIONS and "." in name


def _common_folder(found: Sequence[Found]) -> Path:
    return Path(os.path.commonpath([os.path.abspath(each.base) for each in found]))


def take_turns(groups: Sequence[str]) -> list[int]:
    """Positions ordered by turns: the first of each group, then the second of each, and so on.

    >>> take_turns(["cat", "cat", "cat", "dog"])
    [0, 3, 1, 2]
    """
    turn: dict[str, int] = {}
    keys = []
    for position, group in enumerate(groups):
        turn[group] = turn.get(group, -1) + 1
        keys.append((turn[group], position))
    return [position for _, position in sorted(keys)]


def class_index(name: str, classes: Sequence[str]) -> int:
    """Index of the class of that name, -1 where there is none.

    The exact name first; then upper and lower case, `_`, `-` and space are alike, where that leaves only one class.
    For 1,000 classes a WordNet id is the class at its place in ImageNet's order.

    >>> class_index("sea_Lion", ("dog", "sea lion")), class_index("n01440764", ["tench"] * 1000)
    (1, 0)
    """
    if len(classes) == 1000 and re.fullmatch(r"n\d{8}", name):
        return wordnet_ids().get(name, -1)
    if name in classes:
        return list(classes).index(name)
    alike = [index for index, known in enumerate(classes) if _plain(known) == _plain(name)] if name else []
    return alike[0] if len(alike) == 1 else -1


@cache
def wordnet_ids() -> dict[str, int]:
    """The place of each of ImageNet's 1,000 WordNet ids, such as n01440764, in the usual order of its classes."""
    timm = find_spec("timm")
    assert timm is not None and timm.origin is not None
    listed = Path(timm.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return {name: index for index, name in enumerate(listed.read_text().split())}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def csv_labels(found: Sequence[Found], table: Path, classes: Sequence[str]) -> list[Label]:
    """The label of each file from a csv file whose column `file` is relative to the folder that it lies in.

    The column `label` is trusted where the column `class` agrees with it or is not there, and for 1,000 classes (the
    order of ImageNet); else the class is found by name. UserError where columns are missing or no row fits a file.
    """
    with table.open(newline="", encoding="utf-8-sig", errors="backslashreplace") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if "file" not in columns or not {"label", "class"} & set(columns):
            raise UserError(
                f"{table} has the columns {', '.join(columns)}; it needs `file`, and `label` (index) or `class` (name)"
            )
        rows = {
            os.path.abspath(table.parent / row["file"]): _row_label(row, classes, f"{table}, line {reader.line_num}")
            for row in reader
            if row["file"]
        }
    labels = [rows.get(os.path.abspath(each.path)) for each in found]
    if not any(labels):
        raise UserError(f"{table} names none of the {len(found)} images: `file` is relative to the folder of that file")
    return [label or Label(-1, "") for label in labels]


def _row_label(row: Mapping[str, str | None], classes: Sequence[str], place: str) -> Label:
    name, text = (row.get("class") or "").strip(), (row.get("label") or "").strip()
    if text:
        if not re.fullmatch(r"-?\d+", text):
            raise UserError(f"{place}: label {text!r} is not a number; put class names into a column `class`")
        index = int(text)
        if 0 <= index < len(classes) and (not name or len(classes) == 1000 or _plain(classes[index]) == _plain(name)):
            return Label(index, classes[index])
    return Label(class_index(name, classes), name)


SAMPLES = Path(__file__).parents[3] / "logbook" / "images"


class Samples(Folder):
    """`cifar10/` for classifiers of the CIFAR-10 classes, `photographs/` (ImageNet classes) for all others.

    `root` takes the place of logbook/images; it holds folders of those names, each with its labels.csv.
    """

    def __init__(
        self,
        root: str | None = None,
        facts: Facts | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        known = {name.casefold() for name in facts.classes} if facts else set()
        folder = (Path(root) if root else SAMPLES) / ("cifar10" if known == set(CIFAR10_CLASSES) else "photographs")
        if not folder.is_dir():
            raise UserError(
                f"the sample images are not in {folder}: set data.root to logbook/images of the project, "
                "or show your own with data=folder data.root=<folder>"
            )
        super().__init__(folder, facts, batch_size, num_workers, limit)
