"""The images of a folder as a training set: cut out and flipped at random, in batches, with what could not be read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.data.dataset import ImageFiles, Item
from seewhy.data.images import MAX_PIXELS

SMALLEST_AREA = 0.35
"""Share of a picture's area that a random cut has at least."""


class TrainingImages(ImageFiles):
    """Image files of which a random cut, resized to the classifier's size and flipped in half of the cases, is read.

    Random numbers are drawn from torch's global generator, which Lightning seeds in every process.

    Args:
        items: The files.
        facts: What the classifier asks of images (size, interpolation).
        max_pixels: An image of more pixels is skipped before it is decoded.
        scale: The stored value that becomes 1; None: the largest of the file's type.
    """

    def __init__(
        self, items: Sequence[Item], facts: Facts, max_pixels: int = MAX_PIXELS, scale: float | None = None
    ) -> None:
        super().__init__(items, facts, max_pixels=max_pixels, scale=scale)
        mode, (height, width) = InterpolationMode(facts.interpolation), facts.shape
        ratio = 3 / 4 * width / height, 4 / 3 * width / height
        area, antialias = (SMALLEST_AREA, 1.0), mode.value != "nearest"
        cut = v2.RandomResizedCrop([height, width], area, ratio, interpolation=mode, antialias=antialias)
        self.cut = v2.Compose([cut, v2.RandomHorizontalFlip()])

    def fit(self, picture: Tensor) -> Tensor:
        """Cut out a part of a picture [channels, height, width] at random."""
        cut: Tensor = self.cut(picture)
        return cut.clamp(0, 1) if cut.is_floating_point() else cut  # bicubic interpolation overshoots


def check_shares(validation: float, test: float) -> None:
    """Check the shares of a data set that are held out.

    Args:
        validation: To choose the best weights.
        test: For the test.

    Raises:
        UserError: Both leave nothing to train on.
    """
    if validation + test >= 1:
        raise UserError(f"data.validation={validation} and data.test={test} leave no image to train on")


def check_training_parts(items: Sequence[Item], classes: Sequence[str], where: str) -> None:
    """Check that a network can be trained on images that were split.

    Args:
        items: All images with their labels and parts.
        classes: Of the classifier.
        where: The images in words, for the message.

    Raises:
        UserError: There are fewer than two classes, or a part has no image with a class of the classifier.
    """
    labelled = [item for item in items if item.is_labelled]
    if len(classes) < 2:
        raise UserError(f"{where} has {len(classes)} class; training needs two or more")
    if not labelled:
        known = ", ".join(classes[:4])
        raise UserError(
            f"{where}: no image has a class of the network ({known}, ...); set model.classes or data.labels"
        )
    for part, key in (("train", ""), ("val", "data.validation"), ("test", "data.test")):
        if not any(item.split == part for item in labelled):
            fix = f"; give more images, or a larger {key}" if key else ""
            raise UserError(f"{where}: none of the {len(labelled)} images with a class is in the part {part}{fix}")
