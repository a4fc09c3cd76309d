"""The sample images that come with the project, with the classes that suit the classifier."""

from __future__ import annotations

from pathlib import Path

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.core.resources import find_resources
from seewhy.data.folder import Folder

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
