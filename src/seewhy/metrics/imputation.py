"""Imputation: hidden pixels become the weighted mean of their neighbours, or what a coarser scale sees, with a little noise.

Rong, Leemann, Borisov, Kasneci, Kasneci: A consistent and efficient evaluation strategy for attribution methods,
ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn import functional

from seewhy.core.tensors import map_in_threads, widen
from seewhy.core.types import Images
from seewhy.metrics.multigrid import fill_hidden

NOISE = 0.01
"""Standard deviation of the noise, in units of the image range [0, 1], as published."""
WEIGHTS = {
    (down, right): 1 / 12 if down and right else 1 / 6
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
}
"""Weight of the neighbour at (down, right): those beside count twice as much as those at the corners."""
FEW, SMALL_SHARE = 2048, 1 / 8
"""Hidden pixels, and share of an image, up to which the sparse factors take less time than conjugate gradients."""
LONG = 8
"""Longer over shorter side of an image from which they do so whatever is hidden."""
OUTSIDE, VISIBLE = -2, -1
"""What stands in the grid of unknowns beyond the border, and at pixels whose value is there."""


def impute_image(image: Tensor, hidden: Tensor, generator: torch.Generator) -> Tensor:
    """Impute the hidden pixels of one image.

    The values v of the hidden pixels solve v_p = sum_q w_pq v_q / sum_q w_pq over the eight neighbours q inside the
    image, with the image's own value where q is not hidden; then normal noise of standard deviation 0.01 is added and
    the result clamped to [0, 1]. Small systems are solved by sparse factors, large ones to 1e-5 by `multigrid.fill_hidden`
    (1e-11 for an image in double precision); which of the two depends on the image and on what is hidden alone.

    Args:
        image: float32 [channels, height, width] in [0, 1].
        hidden: bool [height, width]; at least one pixel must be visible.
        generator: Draws noise for the whole image, whatever is hidden.

    Returns:
        float32 [channels, height, width].
    """
    return impute_images([image], hidden[None], [draw_noise(image.shape, generator)])[0]


def draw_noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw what is added to the pixels of an image, hidden or not.

    Args:
        shape: Of the image, [channels, height, width].
        generator: Of the image.

    Returns:
        float32 of that shape, normal with the standard deviation `NOISE`.
    """
    return NOISE * torch.randn(shape, generator=generator, dtype=torch.float32)


def impute_images(images: Sequence[Tensor], hidden: Tensor, noises: Sequence[Tensor]) -> Tensor:
    """Impute several images with noise that was drawn before; their systems are solved side by side, one to a core.

    Args:
        images: n tensors float32 [channels, height, width] in [0, 1].
        hidden: bool [n, height, width].
        noises: n tensors of the images' shape.

    Returns:
        float32 [n, channels, height, width].
    """
    visible, masks = [image.detach().cpu() for image in images], hidden.cpu()
    systems = [(widen(image).numpy(), mask.numpy()) for image, mask in zip(visible, masks, strict=True)]
    solutions = map_in_threads(lambda system: _solve(*system), systems)
    filled = [
        torch.where(mask, (torch.from_numpy(values) + noise.cpu()).clamp_(0, 1), image)
        for image, mask, values, noise in zip(visible, masks, solutions, noises, strict=True)
    ]
    return torch.stack(filled).to(images[0])


def pull_and_push(images: Images, hidden: Tensor, noises: Tensor) -> Images:
    """Fill hidden pixels from the finest scale that sees a visible pixel, at the cost of a few blurs.

    Pull: the image is halved again and again, each cell the mean of the visible pixels below it. Push: from the coarsest to
    the finest, a cell without a visible pixel takes the bilinear enlargement of the coarser level. Then noise is added as in
    `impute_image`. No image depends on another.

    Gortler, Grzeszczuk, Szeliski, Cohen: The lumigraph, SIGGRAPH 1996.

    Args:
        images: float32 [n, channels, height, width] in [0, 1].
        hidden: bool [n, height, width]; at least one pixel of each image must be visible.
        noises: float32 [n, channels, height, width], of `draw_noise`.

    Returns:
        float32 [n, channels, height, width].
    """
    weight = (~hidden[:, None]).to(images)
    levels = [(images, weight)]  # what is hidden of them is read nowhere: `_halve` weighs it with 0
    while max(levels[-1][0].shape[2:]) > 1:
        levels.append(_halve(*levels[-1]))
    filled = levels[-1][0]
    for values, seen in reversed(levels[:-1]):
        enlarged = functional.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = torch.where(seen > 0, values, enlarged[..., : values.shape[2], : values.shape[3]])
    noisy = torch.add(filled, noises.to(filled)).clamp_(0, 1)
    return torch.where(hidden[:, None], noisy, images)


def _halve(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(mean of the seen cells, mean weight) of each two by two cells; beyond the border nothing is seen."""
    pooled = [values * weight, weight]
    if any(side % 2 for side in values.shape[2:]):  # padding by nothing is a copy
        pooled = [functional.pad(each, (0, values.shape[3] % 2, 0, values.shape[2] % 2)) for each in pooled]
    total, share = (functional.avg_pool2d(each, 2) for each in pooled)
    return torch.where(share > 0, total / share.clamp_min(1e-12), 0), share


def _solve(image: NDArray[Any], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The image [channels, height, width] with its hidden pixels filled, by the solver that takes less time."""
    unknowns = np.count_nonzero(hidden)
    if max(FEW, hidden.size * SMALL_SHARE) < unknowns < hidden.size and min(hidden.shape) * LONG > max(hidden.shape):
        found = fill_hidden(np.ascontiguousarray(np.moveaxis(image, 0, 2)), hidden)
        if found is not None:
            return np.moveaxis(found, 2, 0)
    filled: NDArray[np.float64] = image.astype(np.float64)
    if hidden.any():
        filled[:, hidden] = _eliminate(filled, hidden)
    return filled


def _eliminate(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values [channels, unknowns] of the hidden pixels: a sparse, symmetric and positive definite system.

    The unknowns are numbered by nested dissection, so that the factors stay sparse without a search for an order.
    """
    across = hidden.shape[1] + 2
    rows, columns = np.nonzero(hidden)
    order = np.argsort(order_by_dissection(*hidden.shape)[rows, columns])
    unknowns, cells = len(order), ((rows + 1) * across + columns + 1)[order]
    grid = np.full(np.add(hidden.shape, 2), OUTSIDE)
    grid[1:-1, 1:-1] = VISIBLE
    numbers = grid.ravel()
    numbers[cells] = np.arange(unknowns)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1))).reshape(len(image), -1)
    diagonal, constant = np.zeros(unknowns), np.zeros((unknowns, len(image)))
    entries = []
    for (down, right), weight in WEIGHTS.items():
        near = cells + (down * across + right)
        neighbour = numbers[near]
        diagonal += weight * (neighbour != OUTSIDE)
        fixed, free = np.flatnonzero(neighbour == VISIBLE), np.flatnonzero(neighbour >= 0)
        constant[fixed] += weight * padded[:, near[fixed]].T
        entries.append((np.full(len(free), -weight), free, neighbour[free]))
    entries.append((diagonal, np.arange(unknowns), np.arange(unknowns)))
    values, first, second = (np.concatenate(column) for column in zip(*entries, strict=True))
    system = csc_matrix((values, (first, second)), shape=(unknowns, unknowns))
    options = {"SymmetricMode": True}
    factors = splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=1, relax=1, options=options)
    solution = np.empty((len(image), unknowns))
    solution[:, order] = factors.solve(constant).T
    return solution


@lru_cache(maxsize=4)
def order_by_dissection(height: int, width: int) -> NDArray[np.int64]:
    """Number the pixels in an order of elimination: the halves of a rectangle first, then the line between them.

    George: Nested dissection of a regular finite element mesh, SIAM Journal on Numerical Analysis 10, 1973.
    """
    order = np.empty((height, width), dtype=np.int64)
    _number_block(order, 0)
    return order


def _number_block(block: NDArray[np.int64], first: int) -> None:
    rows, columns = block.shape
    if max(rows, columns) <= 4:
        block[...] = first + np.arange(block.size).reshape(block.shape)
    elif rows < columns:
        _number_block(block.T, first)
    else:
        middle = rows // 2
        _number_block(block[:middle], first)
        _number_block(block[middle + 1 :], first + middle * columns)
        block[middle] = first + (rows - 1) * columns + np.arange(columns)
