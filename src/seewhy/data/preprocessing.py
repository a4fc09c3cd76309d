"""From a decoded picture to the image that a network was trained on."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import InterpolationMode

from seewhy.core.facts import Facts


def resize_and_crop(pictures: Tensor, facts: Facts) -> Tensor:
    """Resize the shorter side to size / crop and cut out the centre: what timm and torchvision do for evaluation.

    Args:
        pictures: uint8 [..., 3, height, width].
        facts: Size, crop and interpolation.

    Returns:
        uint8 [..., 3, size, size]; a picture that already has the right size as it is.
    """
    size = facts.size
    if pictures.shape[-2:] != (size, size) or facts.crop < 1:
        pictures = functional.center_crop(resize(pictures, facts), [size, size])
    return pictures


def resize(pictures: Tensor, facts: Facts) -> Tensor:
    """uint8 [..., 3, height, width] with the shorter side size / crop, not cut yet; unchanged where that is its size."""
    mode = InterpolationMode(facts.interpolation)
    new = compute_resized_size(pictures.shape[-2], pictures.shape[-1], facts)
    return functional.resize(pictures, list(new), mode, antialias=facts.interpolation != "nearest")


def compute_resized_size(height: int, width: int, facts: Facts) -> tuple[int, int]:
    """(height, width) of a picture before it is cut: the shorter side is size / crop."""
    short = int(facts.size / facts.crop)
    scale = short / min(height, width)
    if height <= width:
        return short, max(short, int(width * scale))
    return max(short, int(height * scale)), short


def to_unit_range(pictures: Tensor) -> Tensor:
    """Scale pixels to [0, 1].

    Args:
        pictures: uint8, of any shape.

    Returns:
        float32 of that shape.
    """
    return pictures.float().div_(255.0)
