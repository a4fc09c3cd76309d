"""Images as a file holds them: every value a multiple of 1/255."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from seewhy.preprocess import to_unit_range
from seewhy.types import Images


def as_bytes(images: Images) -> Tensor:
    """float32 [...] in [0, 1] -> uint8 [...], the nearest of the 256 levels."""
    return (images.detach() * 255).round().clamp(0, 255).to(torch.uint8)


def as_saved(images: Images) -> Images:
    """The images as they are after saving and reading: float32 in [0, 1], off by at most 0.5 / 255."""
    return to_unit_range(as_bytes(images))


def picture(image: Tensor) -> Image.Image:
    """An image [3, height, width], uint8 or float32 in [0, 1], as a PIL picture."""
    pixels = image if image.dtype == torch.uint8 else as_bytes(image)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def png_of(image: Tensor) -> bytes:
    """The image [3, height, width] as PNG bytes, one pixel of the file for each pixel."""
    content = io.BytesIO()
    picture(image).save(content, format="PNG")
    return content.getvalue()
