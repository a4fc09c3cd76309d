"""From a decoded picture to the image that a network was trained on."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import InterpolationMode

from seewhy.models.facts import Facts


def resize_and_crop(pictures: Tensor, facts: Facts) -> Tensor:
    """uint8 [..., 3, height, width] -> uint8 [..., 3, size, size].

    The shorter side becomes size / crop (anti-aliased), then the centre is cut out: what timm and torchvision do for
    evaluation. A picture that already has the right size is returned as it is.
    """
    size = facts.size
    if pictures.shape[-2:] != (size, size) or facts.crop < 1:
        height, width = pictures.shape[-2:]
        short = int(size / facts.crop)
        scale = short / min(height, width)
        new = [short, max(short, int(width * scale))] if height <= width else [max(short, int(height * scale)), short]
        mode = InterpolationMode(facts.interpolation)
        pictures = functional.resize(pictures, new, mode, antialias=facts.interpolation != "nearest")
        pictures = functional.center_crop(pictures, [size, size])
    return pictures


def to_unit_range(pictures: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [0, 1]."""
    return pictures.float().div_(255.0)
