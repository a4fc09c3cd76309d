"""Bringing a map of a moved image back to where the pixels came from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.types import Attributions

ITERATIONS = 20
TOLERANCE = 0.5
"""Pixels by which a pixel may miss its source after the last iteration and still count as found."""


def map_back(maps: Attributions, sources: Tensor) -> tuple[Attributions, Tensor]:
    """(maps on the grid of the original image, bool [n, height, width]: where that is known).

    maps are [n, height, width] on the moved image; sources [n, 2, height, width] say where (x, y) each of its pixels
    came from, NaN where from outside. For each pixel q of the original the place p with sources(p) = q is found by
    fixed-point iteration p <- p - A^-1 (sources(p) - q), A being the affine motion nearest to sources: exact for
    rotations, and for elastic motions wherever they can be inverted; pixels that are missed by more than half a pixel,
    or that were moved out of sight, are not valid. Values between pixels are bilinear.
    """
    valid_sources = sources.isfinite().all(1)
    matrix, offset = _affine(sources, valid_sources)
    inverse = torch.linalg.inv(matrix)
    identity = _grid(sources)
    filled = torch.where(valid_sources[:, None], sources, _moved(identity, matrix, offset))
    places = _moved(identity - offset[:, :, None, None], inverse, torch.zeros_like(offset))
    for _ in range(ITERATIONS):
        places = places - _moved(sample(filled, places) - identity, inverse, torch.zeros_like(offset))
    missed = (sample(filled, places) - identity).abs().amax(1)
    height, width = maps.shape[1:]
    inside = (places[:, 0] >= 0) & (places[:, 0] <= width - 1) & (places[:, 1] >= 0) & (places[:, 1] <= height - 1)
    known = sample(valid_sources[:, None].float(), places)[:, 0] > 0.999
    valid = (missed <= TOLERANCE) & inside & known
    back = sample(maps[:, None], places)[:, 0]
    return torch.where(valid, back, 0), valid


def sample(values: Tensor, places: Tensor) -> Tensor:
    """Bilinear values [n, channels, h, w] at places (x, y) [n, 2, rows, columns] in pixels; the border is repeated."""
    height, width = values.shape[2:]
    scale = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=values.device, dtype=values.dtype)
    positions = 2 * places.permute(0, 2, 3, 1) / scale - 1
    return functional.grid_sample(values, positions, mode="bilinear", padding_mode="border", align_corners=True)


def _grid(sources: Tensor) -> Tensor:
    """The coordinates (x, y) of each pixel: [1, 2, height, width]."""
    rows, columns = (torch.arange(length, device=sources.device, dtype=sources.dtype) for length in sources.shape[2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y])[None]


def _moved(places: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """matrix [n, 2, 2] times each place [n, 2, h, w] plus offset [n, 2]."""
    return torch.einsum("nij,njhw->nihw", matrix, places.expand(len(matrix), -1, -1, -1)) + offset[:, :, None, None]


def _affine(sources: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares (matrix [n, 2, 2], offset [n, 2]) with sources(p) = matrix p + offset; identity without pixels."""
    grid = _grid(sources)[0].flatten(1)
    design = torch.cat([grid, torch.ones_like(grid[:1])]).T.double()
    matrices, offsets = [], []
    for known, found in zip(valid.flatten(1), sources.flatten(2).double(), strict=True):
        used = design[known]
        if len(used) < 3 or torch.linalg.matrix_rank(used) < 3:
            solution = torch.tensor([[1.0, 0], [0, 1], [0, 0]], device=sources.device, dtype=torch.float64)
        else:
            solution = torch.linalg.solve(used.T @ used, used.T @ found[:, known].T)
        matrices.append(solution[:2].T)
        offsets.append(solution[2])
    return torch.stack(matrices).to(sources), torch.stack(offsets).to(sources)
