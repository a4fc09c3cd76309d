"""Data modules of image files: a folder, a file, a pattern or a list of those; and the bundled samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge, Gt, Le, Lt
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, IMAGENET_MEAN, IMAGENET_STD, Facts
from seewhy.core.files import find_resources, refuse_address
from seewhy.core.settings import (
    BatchSize,
    ImageCount,
    OneOf,
    PathNumber,
    PathText,
    Positive,
    Processes,
    Seed,
    check_when_made,
)
from seewhy.core.types import Batch
from seewhy.core.words import count_noun
from seewhy.data.corruptions.corrupter import Corrupter, limit_batch_size
from seewhy.data.dataset import ImageFiles, Item, collate, escape_path
from seewhy.data.images import MAX_PIXELS, find_masks, read_picture_size
from seewhy.data.labels import (
    EXTENSIONS,
    ClassCell,
    Label,
    ListedImage,
    find_common_folder,
    find_default_table,
    find_images,
    list_table_classes,
    match_class,
    read_class_cells,
    take_turns,
)
from seewhy.data.loading import compute_cut_share
from seewhy.data.names import name_images
from seewhy.data.splits import PARTS, find_part_folders, split_by_class
from seewhy.data.training import TrainingImages, check_shares, check_training_parts


class _Listing(NamedTuple):
    """The files below the roots and what their classes are called."""

    images: list[ListedImage]
    cells: list[ClassCell | None]
    """Of the CSV file, or the name of the folder that each file lies in."""
    by_table: bool
    parts: dict[str, Path]
    """The folder of each part where `root` holds root/train, root/val and so on."""


@check_when_made("data")
class Folder(LightningDataModule):
    """The images below `root`, in the order of their paths; to be explained, or split into parts to train on.

    Files are found by extension in all folders below, hidden ones left out. The true class comes from a CSV file, else
    from the first folder below `root` (root/<class>/image.jpg), or below root/train, root/val and root/test. UserError
    where nothing is found.

    A training uses the parts train and val, and tests the part test: those folders, or shares of each class that the seed
    draws. Images without a class of the classifier are left out of it.

    Args:
        root: A folder, a file, a glob pattern, or a list of those.
        facts: What the classifier asks of images (classes, size, normalisation).
        batch_size: Images of a batch.
        num_workers: Processes that read images; 0 reads in this one.
        limit: Takes the first image of each class in turn, then the second, so that every class has its share, whether
            classes come from folders or from a CSV file; the order stays that of the paths. None: all.
        labels: CSV file with the columns `file` and `label` and / or `class`, by any of their usual names; None: labels.csv
            or metadata.csv in the folder, if there.
        masks: Folder with a picture for each image, under the same path, that is not black where the object is.
        max_pixels: An image of more pixels is skipped before it is decoded.
        split: Only the images of that part: train, val or test. None: all.
        validation: Share of each class that is held out to choose the best weights, where there is no folder for it.
        test: Share of each class that is held out for the test, where there is no folder for it.
        split_seed: Decides which images are held out.
        augmentation: Whether training images are cut out at random and flipped.
        training_batch_size: Images of a training batch.
        scale: The stored value that becomes 1, such as 10000 of reflectances in 16 bits; larger ones become 1 too. None:
            the largest of the file's type.
    """

    left_out: frozenset[str] = frozenset()
    """First-level folders that are not read."""

    items: list[Item]

    corrupt: Corrupter | None = None
    """Makes the corrupted versions of each image where they are asked for."""

    def __init__(
        self,
        root: PathNumber | Sequence[PathNumber] | None = None,
        facts: Facts | None = None,
        batch_size: BatchSize = 8,
        num_workers: Processes = 0,
        limit: ImageCount | None = None,
        labels: PathText | None = None,
        masks: PathText | None = None,
        max_pixels: Annotated[int, Ge(1)] = MAX_PIXELS,
        split: Annotated[str, OneOf(PARTS)] | None = None,
        validation: Annotated[float, Gt(0), Lt(1)] = 0.15,
        test: Annotated[float, Gt(0), Lt(1)] = 0.15,
        split_seed: Seed = 0,
        augmentation: bool = True,
        training_batch_size: Annotated[int, Ge(2), Le(65_536)] = 32,
        scale: Positive | None = None,
    ) -> None:
        super().__init__()
        check_shares(validation, test)
        self.root = root
        self.facts = facts or Facts((), 224, IMAGENET_MEAN, IMAGENET_STD)
        self.several = self.facts.score == "sigmoid"
        """Whether an image may have several labels."""
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.limit = limit
        self.labels = labels
        self.masks = masks
        self.max_pixels = max_pixels
        self.split = split
        self.shares = validation, test
        self.split_seed = split_seed
        self.augmentation = augmentation
        self.training_batch_size = training_batch_size
        self.scale = scale
        self.items = []
        self.parts: dict[str, list[Item]] = {}
        """What is trained on, validated and tested; empty before a training."""
        self.unread: dict[str, str] = {}
        """Training and validation images that could not be read, each with the reason."""

    def roots(self) -> list[Path]:
        """List what to look into.

        Returns:
            Folders, files and patterns.

        Raises:
            UserError: `root` is not set.
        """
        if self.root is None or (not isinstance(self.root, int) and not self.root):  # a folder may be called 0
            raise UserError("data.root is not set: give a folder, an image or a pattern, such as data.root=photographs")
        roots = list(self.root) if isinstance(self.root, Sequence) and not isinstance(self.root, str) else [self.root]
        for root in roots:
            refuse_address("data.root", str(root))
        return [Path(str(root)).expanduser() for root in roots]

    def list_classes(self) -> list[str]:
        """List the classes of the images, for a classifier that is yet to be trained on them.

        Returns:
            By index where a CSV file has indices; else the names in alphabetical order.
        """
        listing = self._list()
        if listing.by_table:
            return list_table_classes(listing.cells, self.several)
        return sorted({cell.name for cell in listing.cells if cell is not None and cell.name})

    def setup(self, stage: str = "test") -> None:
        """Find the files, name them and look up their classes, and split them for `fit`; done once."""
        if stage == "fit" and not self.parts:
            items = self._build_items(self._list(), split=True)
            check_training_parts(items, self.facts.classes, self._describe_roots())
            self.parts = {part: [item for item in items if item.split == part and item.is_labelled] for part in PARTS}
            test = self.parts["test"]
            self.items = [test[position] for position in take_turns([_group(item) for item in test])]
        if self.items:
            return
        self.items = self._build_items(self._list(), split=self.split is not None)
        if self.split is not None:
            self.items = [item for item in self.items if item.split == self.split]
            if not self.items:
                raise UserError(f"data.split={self.split}: no image of {self._describe_roots()} is in that part")

    def _list(self) -> _Listing:
        roots = self.roots()
        parts = find_part_folders(roots[0]) if len(roots) == 1 else {}
        images = [image for image in find_images(list(parts.values()) or roots) if image.folder not in self.left_out]
        if not images:
            raise UserError(
                f"no images in data.root={self._describe_roots()}: looked for the extensions {', '.join(EXTENSIONS)}"
            )
        table, tables = self._find_table(roots), {part: find_default_table(part) for part in parts.values()}
        if table is not None:
            return _Listing(images, read_class_cells(images, table, self.several), True, parts)
        if not any(tables.values()):
            return _Listing(images, [ClassCell("", image.folder) for image in images], False, parts)
        cells: list[ClassCell | None] = []
        for part, table in tables.items():  # the images come in the order of the parts' paths
            inside = [image for image in images if image.base == part]
            cells += (
                [None] * len(inside) if table is None or not inside else read_class_cells(inside, table, self.several)
            )
        return _Listing([image for part in tables for image in images if image.base == part], cells, True, parts)

    def _build_items(self, listing: _Listing, split: bool) -> list[Item]:
        """An item for each image, up to the limit, with its part where they are split."""
        images, cells, by_table, folders = listing
        paths, classes = [image.path for image in images], self.facts.classes
        root = find_common_folder(images)
        names = name_images(paths, root)
        if by_table:
            match = ClassCell.match_several if self.several else ClassCell.match
            labels = [Label(-1, "") if cell is None else match(cell, classes) for cell in cells]
        else:
            labels = [Label(match_class(image.folder, classes), image.folder) for image in images]
        masks: list[Path | None] = [None] * len(images)
        if self.masks is not None:
            bases = [self.roots()[0] if folders else image.base for image in images]
            masks = find_masks(paths, bases, str(self.masks))
        items = [
            Item(path, name, label.number, self._name_label(label), mask, several=label.several)
            for path, name, label, mask in zip(paths, names, labels, masks, strict=True)
        ]
        named = {folder: part for part, folder in folders.items()}
        items = [item._replace(split=named.get(image.base, "")) for item, image in zip(items, images, strict=True)]
        turns = take_turns([f"{item.split}/{_group(item)}" for item in items])
        items = [items[position] for position in sorted(turns[: self.limit])]
        return self._split(items, folders) if split else items

    def _split(self, items: Sequence[Item], folders: dict[str, Path]) -> list[Item]:
        """The items with their parts: that of its folder; what has no folder is drawn from the training images."""
        validation, test = (
            0.0 if part in folders else share for part, share in zip(PARTS[1:], self.shares, strict=True)
        )
        drawn = [item for item in items if item.split in ("", "train")]
        labels = [_group(item) for item in drawn]
        parts = split_by_class([item.name for item in drawn], labels, validation, test, self.split_seed)
        by_name = dict(zip((item.name for item in drawn), parts, strict=True))
        return [item._replace(split=by_name.get(item.name, item.split)) for item in items]

    def _name_label(self, label: Label) -> str:
        """The true class in the classifier's words, where it has one; all labels where there may be several."""
        known = label.number >= 0 and label.several is None
        return self.facts.classes[label.number] if known else label.name

    def _find_table(self, roots: Sequence[Path]) -> Path | None:
        """The given table, else that beside the images."""
        if self.labels is None:
            return find_default_table(roots[0]) if len(roots) == 1 else None
        refuse_address("data.labels", str(self.labels))
        path = Path(self.labels).expanduser()
        if not path.is_file():
            raise UserError(f"data.labels={self.labels}: there is no such file")
        return path

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Remember which training images could not be read; of the test images the journal says it."""
        if self.trainer is not None and not self.trainer.testing:
            self.unread |= {skipped.path: skipped.reason for skipped in batch.skipped}
        return batch

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled; the last incomplete batch is left out where there are others."""
        items, size = self.parts["train"], self.training_batch_size
        kind = TrainingImages if self.augmentation else ImageFiles
        data = kind(items, self.facts, max_pixels=self.max_pixels, scale=self.scale)
        return self._load(data, size, shuffle=True, drop_last=len(items) > size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation images in order."""
        data = ImageFiles(self.parts["val"], self.facts, max_pixels=self.max_pixels, scale=self.scale)
        return self._load(data, self.training_batch_size)

    def _load(self, data: ImageFiles, size: int, **options: Any) -> DataLoader[Batch]:
        return DataLoader(data, size, num_workers=self.num_workers, collate_fn=self._gather(), **options)  # type: ignore[arg-type]

    def _gather(self, masked: bool = False) -> Callable[..., Batch]:
        facts = self.facts
        outputs = len(facts.classes) if self.several else None
        return partial(collate, size=facts.shape, channels=facts.channels, masked=masked, outputs=outputs)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The images in order; files that cannot be read are in `Batch.skipped`."""
        data = ImageFiles(self.items, self.facts, self.corrupt, self.max_pixels, self.scale)
        gather = self._gather(self.masks is not None)
        size = limit_batch_size(self.batch_size, self.corrupt)
        return DataLoader(data, size, num_workers=self.num_workers, collate_fn=gather)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Describe the images in words.

        Returns:
            A phrase such as `24 images of 3 classes in photographs`.
        """
        images, classes = len(self.items), len({item.label_name for item in self.items} - {""})
        of = f" of {classes} class{'es' if classes > 1 else ''}" if classes else ""
        return f"{count_noun(images, 'image')}{of} in {self._describe_roots()}"

    def describe_cut(self) -> str:
        """Describe how much of the pictures the centre crop leaves out because their proportions are not the image's.

        Returns:
            A sentence, from the headers of at most 32 files; empty where nothing worth a word is left out.
        """
        step = max(1, len(self.items) // LOOKED_AT)
        paths = [item.path for item in self.items[::step][:LOOKED_AT]]
        sizes = [(path, size) for path in paths if (size := read_picture_size(path)) is not None]
        shares = [compute_cut_share(*size, self.facts) for _, size in sizes]
        if not shares or max(shares) < 0.01:
            return ""
        largest = max(shares)
        height, width = self.facts.shape
        words = f"{100 * sum(shares) / len(shares):.0f} % of a picture, at most {100 * largest:.0f} %"
        name = escape_path(sizes[shares.index(largest)][0])
        return f"{height} x {width} px: the centre crop leaves out {words} ({name}); model.fit=squash cuts nothing"

    def describe_parts(self) -> dict[str, int]:
        """Count the images of a training, after `setup("fit")`.

        Returns:
            The number of classes, and of images in each part.
        """
        return {"classes": len(self.facts.classes), **{part: len(items) for part, items in self.parts.items()}}

    def _describe_roots(self) -> str:
        return ", ".join(escape_path(root) for root in self.roots())


def _group(item: Item) -> str:
    """What an image takes turns by, and has its share of: its class, or the first of its labels."""
    return item.label_name if item.several is None else item.label_name.partition(", ")[0]


LOOKED_AT = 32
"""Files whose headers are read to tell how much of the pictures is cut."""
SAMPLES = find_resources("samples", "logbook/images")


def find_samples(classes: Sequence[str], root: Path | None = None) -> Path:
    """Find the sample images for a classifier.

    Args:
        classes: The names of its classes.
        root: A folder of such folders; None: logbook/images.

    Returns:
        `cifar10/` for the CIFAR-10 classes, `photographs/` (ImageNet classes) for all others.
    """
    is_cifar = {name.casefold() for name in classes} == set(CIFAR10_CLASSES)
    return (SAMPLES if root is None else root) / ("cifar10" if is_cifar else "photographs")


@check_when_made("data")
class Samples(Folder):
    """`cifar10/` for classifiers of the CIFAR-10 classes, `photographs/` (ImageNet classes) for all others.

    Args:
        root: A folder with folders of those names, each with its labels.csv; None: logbook/images.
        facts: What the classifier asks of images (classes, size, normalisation).
        batch_size: Images of a batch.
        num_workers: Processes that read images; 0 reads in this one.
        limit: Takes the first images of each class in turn; None: all.
    """

    def __init__(
        self,
        root: PathNumber | None = None,
        facts: Facts | None = None,
        batch_size: BatchSize = 8,
        num_workers: Processes = 0,
        limit: ImageCount | None = None,
    ) -> None:
        folder = find_samples(facts.classes if facts else (), SAMPLES if root is None else Path(str(root)))
        if not folder.is_dir():
            raise UserError(
                f"the sample images are not in {folder}: set data.root to logbook/images of the project, "
                "or show your own with data=folder data.root=<folder>"
            )
        super().__init__(folder, facts, batch_size, num_workers, limit)
