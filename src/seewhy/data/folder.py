"""Data modules of image files: a folder, a file, a pattern or a list of those; and the bundled samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from seewhy.core.errors import UserError
from seewhy.core.files import find_resources
from seewhy.core.types import CIFAR10_CLASSES, IMAGENET_MEAN, IMAGENET_STD, Batch, Facts
from seewhy.data.corruptions.corrupter import Corrupter, limit_batch_size
from seewhy.data.dataset import ImageFiles, Item, collate, escape_path
from seewhy.data.images import MAX_PIXELS, find_masks
from seewhy.data.labels import (
    EXTENSIONS,
    Label,
    find_common_folder,
    find_default_table,
    find_images,
    match_class,
    name_images,
    read_csv_labels,
    take_turns,
)
from seewhy.data.loading import check_loading


class Folder(LightningDataModule):
    """The images below `root`, in the order of their paths.

    Files are found by extension in all folders below, hidden ones left out. The true class comes from a CSV file, else
    from the first folder below `root` (root/<class>/image.jpg). UserError where nothing is found.

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
        """List what to look into.

        Returns:
            Folders, files and patterns.

        Raises:
            UserError: `root` is not set.
        """
        if self.root is None or not self.root:
            raise UserError("data.root is not set: give a folder, an image or a pattern, such as data.root=photographs")
        roots = list(self.root) if isinstance(self.root, Sequence) and not isinstance(self.root, str) else [self.root]
        return [Path(str(root)).expanduser() for root in roots]

    def setup(self, stage: str = "test") -> None:
        """Find the files, name them and look up their classes; done once."""
        if self.items:
            return
        roots = self.roots()
        images = [image for image in find_images(roots) if image.folder not in self.left_out]
        if not images:
            raise UserError(
                f"no images in data.root={self._describe_roots()}: looked for the extensions {', '.join(EXTENSIONS)}"
            )
        paths, classes = [image.path for image in images], self.facts.classes
        names = name_images(paths, find_common_folder(images))
        table = self._find_table(roots)
        if table is not None:
            labels = read_csv_labels(images, table, classes)
        else:
            labels = [Label(match_class(image.folder, classes), image.folder) for image in images]
        masks: list[Path | None] = [None] * len(images)
        if self.masks is not None:
            masks = find_masks(paths, [image.base for image in images], self.masks)
        items = [
            Item(path, name, label.number, classes[label.number] if label.number >= 0 else label.name, mask)
            for path, name, label, mask in zip(paths, names, labels, masks, strict=True)
        ]
        order = take_turns([item.label_name for item in items])
        self.items = [items[position] for position in sorted(order[: self.limit])]

    def _find_table(self, roots: Sequence[Path]) -> Path | None:
        if self.labels is not None:
            path = Path(self.labels).expanduser()
            if not path.is_file():
                raise UserError(f"data.labels={self.labels}: there is no such file")
            return path
        return find_default_table(roots[0]) if len(roots) == 1 else None

    def test_dataloader(self) -> DataLoader[Batch]:
        """The images in order; files that cannot be read are in `Batch.skipped`."""
        data = ImageFiles(self.items, self.facts, self.corrupt, self.max_pixels)
        gather = partial(collate, size=self.facts.size, masked=self.masks is not None)
        size = limit_batch_size(self.batch_size, self.corrupt)
        return DataLoader(data, size, num_workers=self.num_workers, collate_fn=gather)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Describe the images in words.

        Returns:
            A phrase such as `24 images of 3 classes in photographs`.
        """
        images, classes = len(self.items), len({item.label_name for item in self.items} - {""})
        of = f" of {classes} class{'es' if classes > 1 else ''}" if classes else ""
        return f"{images} image{'s' if images != 1 else ''}{of} in {self._describe_roots()}"

    def _describe_roots(self) -> str:
        return ", ".join(escape_path(root) for root in self.roots())


SAMPLES = find_resources("samples", "logbook/images")


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
        root: str | None = None,
        facts: Facts | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        classes = {name.casefold() for name in facts.classes} if facts else set()
        folder = (Path(root) if root else SAMPLES) / ("cifar10" if classes == set(CIFAR10_CLASSES) else "photographs")
        if not folder.is_dir():
            raise UserError(
                f"the sample images are not in {folder}: set data.root to logbook/images of the project, "
                "or show your own with data=folder data.root=<folder>"
            )
        super().__init__(folder, facts, batch_size, num_workers, limit)
