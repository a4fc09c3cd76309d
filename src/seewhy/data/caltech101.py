"""Caltech-101."""

from __future__ import annotations

from pathlib import Path

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.settings import BatchSize, ImageCount, PathText, Processes, check_when_made
from seewhy.data.folder import Folder

PICTURES = "101_ObjectCategories"


@check_when_made("data")
class Caltech101(Folder):
    """The images of the 101 classes; the folder BACKGROUND_Google is left out, as in torchvision.

    Li, Fei-Fei et al.: Learning generative visual models from few training examples (CVPR workshop 2004).

    Args:
        root: Holds caltech101/101_ObjectCategories, or 101_ObjectCategories, or is that folder.
        facts: What the classifier asks of images (classes, size, normalisation).
        batch_size: Images of a batch.
        num_workers: Processes that read images; 0 reads in this one.
        limit: Number of images, spread over the classes; None: all.
        download: Whether to download the images where there are none yet.
    """

    left_out = frozenset({"BACKGROUND_Google"})

    def __init__(
        self,
        root: PathText = "data",
        facts: Facts | None = None,
        batch_size: BatchSize = 8,
        num_workers: Processes = 0,
        limit: ImageCount | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, facts, batch_size, num_workers, limit)
        self.download = download

    def prepare_data(self) -> None:
        """Download with torchvision where that was asked for and there are no images yet."""
        if self.download and self._find_pictures() is None:
            from torchvision.datasets import Caltech101 as TorchvisionCaltech101

            TorchvisionCaltech101(str(self.root), download=True)

    def roots(self) -> list[Path]:
        """The folder of the class folders."""
        folder = self._find_pictures()
        if folder is None:
            raise UserError(
                f"no Caltech-101 under data.root={self.root}: it needs a folder caltech101/{PICTURES} there; "
                "set data.root to the folder that holds it, or data.download=true where there is a network"
            )
        return [folder]

    def _find_pictures(self) -> Path | None:
        root = Path(str(self.root)).expanduser()
        candidates = [root / "caltech101" / PICTURES, root / PICTURES]
        if root.name == PICTURES or (root / "accordion").is_dir():
            candidates.append(root)
        return next((folder for folder in candidates if folder.is_dir()), None)
