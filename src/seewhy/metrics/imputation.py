"""Noisy linear imputation: hidden pixels become the weighted mean of their neighbours, with a little noise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

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
    filled = image.detach().cpu().double().clone()
    noise = NOISE * torch.randn(image.shape, generator=generator)
    where = hidden.cpu()
    if where.any():
        solved = torch.from_numpy(_solve(filled.numpy(), where.numpy()))
        filled[:, where] = (solved + noise[:, where]).clamp(0, 1)
    return filled.to(image)


def _solve(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values [3, unknowns] of the hidden pixels: a sparse, symmetric and positive definite system."""
    number = np.full(np.add(hidden.shape, 2), -2)
    number[1:-1, 1:-1] = -1
    rows, columns = (index + 1 for index in np.nonzero(hidden))
    unknowns = len(rows)
    number[rows, columns] = np.arange(unknowns)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    diagonal, known = np.zeros(unknowns), np.zeros((unknowns, len(image)))
    entries = []
    for (down, right), weight in WEIGHTS.items():
        beside = number[rows + down, columns + right]
        diagonal += weight * (beside > -2)
        seen, unseen = np.flatnonzero(beside == -1), np.flatnonzero(beside >= 0)
        known[seen] += weight * padded[:, rows[seen] + down, columns[seen] + right].T
        entries.append((np.full(len(unseen), -weight), unseen, beside[unseen]))
    entries.append((diagonal, np.arange(unknowns), np.arange(unknowns)))
    values, first, second = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csc_matrix((values, (first, second)), shape=(unknowns, unknowns))
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(known).T
