"""Stability of explanations: the map of a corrupted image, moved back where pixels moved, beside the clean one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.tensors import compute_pearson
from seewhy.core.types import Attributions

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
        places = places - _moved(sample_bilinear(filled, places) - identity, inverse, torch.zeros_like(offset))
    missed = (sample_bilinear(filled, places) - identity).abs().amax(1)
    height, width = maps.shape[1:]
    inside = (places[:, 0] >= 0) & (places[:, 0] <= width - 1) & (places[:, 1] >= 0) & (places[:, 1] <= height - 1)
    visible = sample_bilinear(valid_sources[:, None].float(), places)[:, 0] > 0.999
    valid = (missed <= TOLERANCE) & inside & visible
    back = sample_bilinear(maps[:, None], places)[:, 0]
    return torch.where(valid, back, 0), valid


def sample_bilinear(values: Tensor, places: Tensor) -> Tensor:
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
    for mask, targets in zip(valid.flatten(1), sources.flatten(2).double(), strict=True):
        used = design[mask]
        if len(used) < 3 or torch.linalg.matrix_rank(used) < 3:
            solution = torch.tensor([[1.0, 0], [0, 1], [0, 0]], device=sources.device, dtype=torch.float64)
        else:
            solution = torch.linalg.solve(used.T @ used, used.T @ targets[:, mask].T)
        matrices.append(solution[:2].T)
        offsets.append(solution[2])
    return torch.stack(matrices).to(sources), torch.stack(offsets).to(sources)


def measure_stability(
    clean: Attributions, corrupted: Tensor, signed: bool, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """{measure: [n, versions]} of maps [n, height, width] and [n, versions, height, width]; 1 where they are equal.

    `spearman`: rank correlation of the pixels, in [-1, 1]; NaN where a map is constant. `top10`: share of the 10 % of
    the pixels with the largest values that both have in common, in [0, 1]. `ssim`: structural similarity of the maps,
    each scaled to [0, 1] by its largest absolute value (signed maps with zero at 0.5), in [-1, 1]. Only pixels of
    `valid` [n, versions, height, width] count; NaN where a map is not finite or no pixel is valid.
    """
    mask = torch.ones(1, 1, *clean.shape[1:], dtype=torch.bool, device=clean.device) if valid is None else valid
    first = clean[:, None]
    usable = first.isfinite().flatten(2).all(2) & corrupted.isfinite().flatten(2).all(2) & mask.flatten(2).any(2)
    pair = torch.nan_to_num(first, 0, 0, 0), torch.nan_to_num(corrupted, 0, 0, 0)
    orders = sort_pixels(pair[0], mask), sort_pixels(pair[1], mask)
    measured = {
        "spearman": compute_pearson(orders[0].ranks, orders[1].ranks, mask.flatten(-2)).float(),
        "top10": measure_top_overlap(*orders, mask),
        "ssim": measure_ssim(_scaled(pair[0], mask, signed), _scaled(pair[1], mask, signed), mask),
    }
    return {name: torch.where(usable, values, torch.nan) for name, values in measured.items()}


class Order(NamedTuple):
    """One sorting of a map, which serves every measure that goes by rank."""

    values: Tensor
    """The pixels [..., n] as they were."""
    ascending: Tensor
    """The valid ones in ascending order, then infinity."""
    ranks: Tensor
    """float64 [..., n]: the place of each pixel in that order from 0, ties sharing their mean."""


def sort_pixels(maps: Tensor, valid: Tensor) -> Order:
    """Sort the valid pixels of maps [..., height, width]."""
    values = maps.flatten(-2)
    ascending, places = torch.where(valid.flatten(-2), values, torch.inf).sort(-1)
    position = torch.arange(ascending.shape[-1], device=maps.device).expand_as(ascending)
    starts = torch.ones_like(ascending, dtype=torch.bool)
    starts[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    ends = torch.ones_like(starts)
    ends[..., :-1] = starts[..., 1:]
    first = torch.where(starts, position, 0).cummax(-1).values
    last = torch.where(ends, position, position.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    shared = (first + last).double() / 2
    return Order(values, ascending, torch.empty_like(shared).scatter_(-1, places, shared))


def measure_top_overlap(first: Order, second: Order, valid: Tensor, share: float = 0.1) -> Tensor:
    """sum of min(a, b) / k over the valid pixels, a and b being the membership of each map's k largest pixels.

    k is `share` of the valid pixels, rounded up. Pixels that tie at the threshold share the places that are left, so
    that a map with fewer than k positive pixels does not depend on the order of its zeros.
    """
    mask = valid.flatten(-2)
    count = mask.sum(-1, keepdim=True)
    size = (count * share).ceil().clamp(min=1)
    members = [compute_membership(each, mask, count, size) for each in (first, second)]
    return (torch.minimum(*members).sum(-1) / size[..., 0]).float()


def compute_membership(order: Order, valid: Tensor, count: Tensor, size: Tensor) -> Tensor:
    """How much each pixel [..., n] belongs to the `wanted` [..., 1] largest of the `count` valid ones, from 0 to 1."""
    position = (count - size).clamp(min=0).long().expand(*order.ascending.shape[:-1], 1)
    threshold = order.ascending.gather(-1, position)
    above, tied = (order.values > threshold) & valid, (order.values == threshold) & valid
    left = (size - above.sum(-1, keepdim=True)).double()
    return above.double() + tied * (left / tied.sum(-1, keepdim=True).clamp(min=1))


def measure_ssim(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Mean structural similarity [n, versions] over the valid pixels of maps [n, versions, height, width] in [0, 1]."""
    mask = valid.expand(*valid.shape[:2], *second.shape[-2:])
    return (compute_ssim_map(first, second, mask) * mask).flatten(-2).sum(-1) / mask.flatten(-2).sum(-1)


def compute_ssim_map(first: Tensor, second: Tensor, valid: Tensor, sigma: float = 1.5, radius: int = 5) -> Tensor:
    """Structural similarity of each pixel of maps [n, versions, height, width] with values in [0, 1].

    ((2 m1 m2 + c1) (2 s12 + c2)) / ((m1^2 + m2^2 + c1) (s1^2 + s2^2 + c2)), c1 = 0.01^2, c2 = 0.03^2, with Gaussian
    windows (sigma 1.5, 11 pixels) that count valid pixels only. Wang et al.: Image quality assessment (2004).
    """
    mask = valid.to(first.dtype)
    weight = _smooth(mask, sigma, radius).clamp(min=1e-12)

    def mean(values: Tensor) -> Tensor:
        return _smooth(values * mask, sigma, radius) / weight

    m1, m2 = mean(first), mean(second)
    v1, v2 = (mean(first.square()) - m1.square()).clamp(min=0), (mean(second.square()) - m2.square()).clamp(min=0)
    covariance = mean(first * second) - m1 * m2
    c1, c2 = 0.01**2, 0.03**2
    return (2 * m1 * m2 + c1) * (2 * covariance + c2) / ((m1.square() + m2.square() + c1) * (v1 + v2 + c2))


def _smooth(values: Tensor, sigma: float, radius: int) -> Tensor:
    """A Gaussian of 2 radius + 1 pixels over [n, versions, height, width], with zeros beyond the border."""
    steps = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
    window = torch.exp(-steps.square() / (2 * sigma**2))
    window = window / window.sum()
    flat = values.flatten(0, 1)[:, None]
    flat = functional.conv2d(flat, window.view(1, 1, 1, -1), padding=(0, radius))
    flat = functional.conv2d(flat, window.view(1, 1, -1, 1), padding=(radius, 0))
    return flat[:, 0].unflatten(0, values.shape[:2])


def _scaled(values: Tensor, valid: Tensor, signed: bool) -> Tensor:
    """The map divided by the largest absolute value of its valid pixels, and moved from [-1, 1] to [0, 1] if signed.

    Below zero the means of two opposite maps would have a negative product, and opposite maps would look alike.
    """
    largest = torch.where(valid, values.abs(), 0).amax((-2, -1), keepdim=True)
    shares = values / largest.where(largest > 0, 1)
    return (shares + 1) / 2 if signed else shares
