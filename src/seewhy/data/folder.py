"""Images from a folder, a file, a pattern or a list of those, with what is known of their classes.

The images that come with the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from seewhy.core.errors import UserError
from seewhy.core.facts import IMAGENET_MEAN, IMAGENET_STD, Facts
from seewhy.core.types import Batch
from seewhy.data.corruptions.corrupter import Corrupter, limit_batch_size
from seewhy.data.dataset import ImageFiles, Item, collate, escape_path
from seewhy.data.images import MAX_PIXELS
from seewhy.data.labels import Label, match_class, read_csv_labels
from seewhy.data.listing import EXTENSIONS, _common_folder, find_images, take_turns
from seewhy.data.loading import check_loading
from seewhy.data.masks import find_masks
from seewhy.data.names import name_images


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
        names = name_images([each.path for each in found], _common_folder(found))
        table = self._table(roots)
        if table is not None:
            labels = read_csv_labels(found, table, self.facts.classes)
        else:
            labels = [Label(match_class(each.folder, self.facts.classes), each.folder) for each in found]
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
        size = limit_batch_size(self.batch_size, self.corrupt)
        return DataLoader(data, size, num_workers=self.num_workers, collate_fn=gather)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Such as `24 images of 3 classes in photographs`."""
        images, classes = len(self.items), len({item.label_name for item in self.items} - {""})
        of = f" of {classes} class{'es' if classes > 1 else ''}" if classes else ""
        return f"{images} image{'s' if images != 1 else ''}{of} in {self._place()}"

    def _place(self) -> str:
        return ", ".join(escape_path(root) for root in self.roots())
