"""Noisy linear imputation: hidden pixels become the weighted mean of their neighbours, with a little noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from seewhy.core.tensors import map_in_threads

NOISE = 0.01
"""Standard deviation of the noise, in units of the image range [0, 1], as published."""
WEIGHTS = {
    (down, right): 1 / 12 if down and right else 1 / 6
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
}
"""Weight of the neighbour at (down, right): those beside count twice as much as those at the corners."""


def impute(image: Tensor, hidden: Tensor, generator: torch.Generator) -> Tensor:
    """The image [3, height, width] with its pixels under `hidden` (bool [height, width]) imputed.

    The values v of the hidden pixels solve v_p = sum_q w_pq v_q / sum_q w_pq over the eight neighbours q inside the
    image, known values where q is seen; then normal noise of standard deviation 0.01 is added and the result clamped
    to [0, 1]. At least one pixel must be seen. The generator draws noise for the whole image whatever is hidden.
    Rong, Leemann, Borisov, Kasneci, Kasneci: A consistent and efficient evaluation strategy for attribution methods,
    ICML 2022.
    """
    return impute_each([image], hidden[None], [noise(image.shape, generator)])[0]


def noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """What is added to the hidden pixels, drawn for all of them."""
    return NOISE * torch.randn(shape, generator=generator, dtype=torch.float32)


def impute_each(images: Sequence[Tensor], hidden: Tensor, noises: Sequence[Tensor]) -> Tensor:
    """`impute` of images [3, height, width] under hidden [n, height, width] with noise that was drawn before: [n, 3, ...].

    The systems are solved beside each other, one to a core.
    """
    knowns = [image.detach().cpu().double() for image in images]
    wheres = hidden.cpu()
    pairs = [(known.numpy(), where.numpy()) for known, where in zip(knowns, wheres, strict=True)]
    solved = map_in_threads(lambda pair: _solve(*pair), pairs)
    filled = torch.stack(knowns)
    for one, where, values, drawn in zip(filled, wheres, solved, noises, strict=True):
        one[:, where] = (torch.from_numpy(values) + drawn[:, where]).clamp(0, 1)
    return filled.to(images[0])


def _solve(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values [3, unknowns] of the hidden pixels: a sparse, symmetric and positive definite system.

    The unknowns are numbered by nested dissection, so that the factors stay sparse without a search for an order.
    """
    if not hidden.any():
        return np.empty((len(image), 0))
    number = np.full(np.add(hidden.shape, 2), -2)
    number[1:-1, 1:-1] = -1
    rows, columns = np.nonzero(hidden)
    order = np.argsort(dissection(*hidden.shape)[rows, columns])
    unknowns, across = len(order), hidden.shape[1] + 2
    places = ((rows + 1) * across + columns + 1)[order]
    number = number.ravel()
    number[places] = np.arange(unknowns)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1))).reshape(len(image), -1)
    diagonal, known = np.zeros(unknowns), np.zeros((unknowns, len(image)))
    entries = []
    for (down, right), weight in WEIGHTS.items():
        near = places + (down * across + right)
        beside = number[near]
        diagonal += weight * (beside > -2)
        seen, unseen = np.flatnonzero(beside == -1), np.flatnonzero(beside >= 0)
        known[seen] += weight * padded[:, near[seen]].T
        entries.append((np.full(len(unseen), -weight), unseen, beside[unseen]))
    entries.append((diagonal, np.arange(unknowns), np.arange(unknowns)))
    values, first, second = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csc_matrix((values, (first, second)), shape=(unknowns, unknowns))
    options = {"SymmetricMode": True}
    factors = splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=1, relax=1, options=options)
    solved = np.empty((len(image), unknowns))
    solved[:, order] = factors.solve(known).T
    return solved


@lru_cache(maxsize=4)
def dissection(height: int, width: int) -> NDArray[np.int64]:
    """The place of each pixel in the order of elimination: the halves of a rectangle first, then the line between.

    George: Nested dissection of a regular finite element mesh, SIAM Journal on Numerical Analysis 10, 1973.
    """
    places = np.empty((height, width), dtype=np.int64)
    _number(places, 0)
    return places


def _number(block: NDArray[np.int64], first: int) -> None:
    rows, columns = block.shape
    if max(rows, columns) <= 4:
        block[...] = first + np.arange(block.size).reshape(block.shape)
    elif rows < columns:
        _number(block.T, first)
    else:
        middle = rows // 2
        _number(block[:middle], first)
        _number(block[middle + 1 :], first + middle * columns)
        block[middle] = first + (rows - 1) * columns + np.arange(columns)
