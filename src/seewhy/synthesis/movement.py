"""Small random movements of an image: what survives them is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.types import Images


def moved(
    images: Images, generators: Sequence[torch.Generator], jitter: int, rotation: float = 0.0, scale: float = 1.0
) -> Images:
    """Each image rolled by 0 .. jitter pixels along both axes, then turned and scaled; differentiable.

    The angle is uniform in [-rotation, rotation] degrees, the factor log-uniform in [1 / scale, scale]; beyond its edge
    the image is mirrored. Every image draws its numbers from its own generator.
    """
    offsets = [torch.randint(0, jitter + 1, (2,), generator=generator).tolist() for generator in generators]
    rolled = torch.stack([image.roll(offset, (1, 2)) for image, offset in zip(images, offsets, strict=True)])
    if not rotation and scale == 1:
        return rolled
    drawn = torch.stack([2 * torch.rand(2, generator=generator) - 1 for generator in generators]).to(images)
    grid = functional.affine_grid(_turns(drawn, rotation, scale), list(images.shape), align_corners=False)
    return functional.grid_sample(rolled, grid, padding_mode="reflection", align_corners=False)


def _turns(drawn: Tensor, rotation: float, scale: float) -> Tensor:
    """[batch, 2, 3]: a rotation by drawn[:, 0] * rotation degrees and a magnification by scale^drawn[:, 1]."""
    angle, factor = drawn[:, 0] * math.radians(rotation), scale ** drawn[:, 1]
    cosine, sine, zero = angle.cos() / factor, angle.sin() / factor, torch.zeros_like(angle)
    return torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
