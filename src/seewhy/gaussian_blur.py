"""Gaussian blur whose cost does not grow with its width."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.types import Images


def gaussian_blur(images: Images, size: tuple[int, int], sigma: float) -> Images:
    """Images [batch, channels, height, width] weighted with a Gaussian of `sigma` pixels, mirrored at their borders.

    `size` (rows, columns) is that of its window, both odd; the edge pixel itself is not repeated. One product of matrices
    for each side: for wide windows the two-dimensional convolution of torchvision takes longer than a network.
    """
    rows, columns = (
        _weights(side, width, sigma).to(images) for side, width in zip(images.shape[2:], size, strict=True)
    )
    return rows @ images @ columns.T


def _weights(side: int, window: int, sigma: float) -> Tensor:
    """[side, side]: what each pixel of a line adds to each blurred one."""
    offsets = torch.arange(window) - window // 2
    gaussian = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = (torch.arange(side)[:, None] + offsets).abs()
    mirrored = torch.where(places < side, places, 2 * (side - 1) - places)
    weights = torch.zeros(side, side, dtype=torch.double)
    return weights.scatter_add_(1, mirrored, (gaussian / gaussian.sum()).expand(side, -1))
