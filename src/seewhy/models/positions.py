"""Where the positions of an image are in the output of a layer: feature maps, channels-last maps and tokens."""

from __future__ import annotations

from math import isqrt

from torch import Tensor, nn

LARGEST_PREFIX = 8
"""Tokens that may precede those of the patches where the network does not say how many there are."""


def as_grid(features: Tensor, network: nn.Module, size: tuple[int, int]) -> Tensor | None:
    """The output of a layer as [batch, channels, rows, columns], or None where it has no grid of positions.

    Known are [batch, channels, rows, columns], [batch, rows, columns, channels] and [batch, tokens, channels], whose
    class and register tokens are dropped. `size` is (height, width) of the images: the grid has its proportions.
    """
    if features.ndim == 3:
        layout = token_grid(network, features.shape[1], size)
        if layout is None:
            return None
        prefix, rows, columns = layout
        return features[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
    if features.ndim != 4:
        return None
    last = _proportional(features.shape[1], features.shape[2], size)
    first = _proportional(features.shape[2], features.shape[3], size)
    if last and (not first or getattr(network, "output_fmt", "NCHW") == "NHWC"):
        return features.permute(0, 3, 1, 2)
    return features if first else None


def token_grid(network: nn.Module, tokens: int, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """(tokens before those of the patches, rows, columns) of a sequence of that length; None where no grid fits."""
    known = getattr(network, "num_prefix_tokens", None)
    for prefix in range(LARGEST_PREFIX + 1) if known is None else (int(known), 0):
        grid = _grid(network, tokens - prefix, size)
        if grid is not None:
            return prefix, *grid
    return None


def _grid(network: nn.Module, patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(rows, columns) of that many patches: those of the network's own grid, else the proportions of the image."""
    own = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if own is not None and own[0] * own[1] == patches:
        return int(own[0]), int(own[1])
    rows = isqrt(max(0, patches) * size[0] // size[1])
    for candidate in (rows, rows + 1):
        if candidate and patches % candidate == 0 and _proportional(candidate, patches // candidate, size):
            return candidate, patches // candidate
    return None


def _proportional(rows: int, columns: int, size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of the image, up to one row or column where the image is not square."""
    height, width = size
    return abs(rows * width - columns * height) <= (max(height, width) if height != width else 0)
