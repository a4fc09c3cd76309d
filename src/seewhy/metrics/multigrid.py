"""The system of noisy linear imputation, solved by conjugate gradients with one multigrid cycle a step.

With the window w = [1, 2, 1] / 4 along both sides, S the blur with w (nothing beyond the border) and D = S 1, every hidden
pixel p solves (D v - S v)_p = 0: it is the weighted mean of its eight neighbours inside of the image. Among the hidden
pixels that is a symmetric and positive definite matrix, which is never written down: a product with it is one blur.

Tatebe: The multigrid preconditioned conjugate gradient method, Copper Mountain conference on multigrid methods, 1993.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)  # images are solved side by side, one to a core

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

WINDOW = np.array([1, 2, 1]) / 4
DAMPING = 1.5
"""Of the smoother, as a share of D: what a coarser grid cannot see (S between 0 and 1/2) shrinks to a half at most."""
COARSEST = 128
"""Pixels of the coarsest grid at most; its system is solved as a dense one."""
MOST = 40
"""Steps of one solution at most. 7 to 16 are usual, whatever the size of the image is."""
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12}
"""The last step of a solution moves no pixel by more, in units of the image range."""
RELIABLE = 1e-5
"""How far the steps of one solution in single precision may shrink; what is left is taken from a new residual."""


def fill_hidden(image: Floats, hidden: Mask) -> NDArray[np.float64] | None:
    """Give each hidden pixel the weighted mean of its neighbours, those beside counting twice those at the corners.

    Steps are computed in float32, the solution and its residual in float64: float64 images are solved to some 1e-11, float32
    images to 1e-5.

    Args:
        image: float32 or float64 [height, width, channels] in [0, 1].
        hidden: bool [height, width]; at least one pixel must be visible.

    Returns:
        float64 [height, width, channels]: `image` where it is visible. None if that took too many steps, as it does on very
        long images, or if a visible pixel is not finite.
    """
    if not hidden.any():
        return np.array(image, dtype=np.float64)
    channels = image.shape[2]
    grids = build_grids(hidden, channels)
    top = grids[0]
    padded = np.zeros(top.mask.shape)
    inside = padded[: hidden.shape[0], : hidden.shape[1]]
    unknown = top.mask[: hidden.shape[0], : hidden.shape[1]] > 0
    seen = np.where(unknown, 0, image)
    mean = np.einsum("hwc->c", seen) / np.count_nonzero(~hidden)
    inside[...] = seen
    np.add(inside, np.tile(mean, hidden.shape[1]).reshape(-1, channels), out=inside, where=unknown)
    held = np.empty_like(padded)
    residual, tolerance = np.empty(padded.shape, dtype=np.float32), TOLERANCE[image.dtype]
    largest, before = np.inf, np.inf
    while largest >= tolerance and not largest > before / 2:  # not where rounding is what is left
        np.multiply(padded, top.diagonal, out=held)
        np.subtract(_blur(padded), held, out=residual, casting="same_kind")
        np.multiply(residual, top.mask, out=residual)
        descent = _descend(grids, residual, tolerance)
        if descent is None:
            return None
        before, largest = largest, descent[1]
        np.add(padded, descent[0], out=padded)
    return inside


class Grid:
    """One grid of the cycle: its hidden pixels, and memory for a solution and what it is computed from.

    Args:
        hidden: bool [height, width].
        inside: bool [height, width], the pixels of the image, beyond which nothing is a neighbour.
        channels: Of the image.
    """

    def __init__(self, hidden: Mask, inside: Mask, channels: int) -> None:
        weight = _blur(inside.astype(np.float64))
        self.hidden, self.weight = hidden, np.where(hidden, weight, 0.0)
        self.mask = _repeat(hidden, channels)
        self.diagonal = _repeat(self.weight, channels)
        self.smoother = _repeat(np.where(hidden, DAMPING / np.where(hidden, weight, 1), 0), channels)
        self.right, self.solution, self.blurred, self.spare = np.empty((4, *self.mask.shape), dtype=np.float32)
        self.inverse: NDArray[np.float32] | None = None

    def invert(self) -> None:
        """Solve the system of this grid densely from now on, if it has few unknowns."""
        if np.count_nonzero(self.hidden) > COARSEST:
            return
        apart = (np.abs(place[:, None] - place) for place in np.nonzero(self.hidden))
        down, across = (np.where(far < 2, (2 - far) / 4, 0) for far in apart)
        system = np.diag(self.weight[self.hidden]) - down * across
        self.inverse = np.linalg.inv(system).astype(np.float32)

    def multiply(self, values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write D v - S v to `out`; at pixels that are not hidden it holds what nobody may read."""
        _blur_into(values, self.blurred)
        np.multiply(values, self.diagonal, out=out)
        np.subtract(out, self.blurred, out=out)


def build_grids(hidden: Mask, channels: int) -> list[Grid]:
    """Build the grids of the cycle, the finest first, each with half of the pixels along both sides.

    A pixel of a coarser grid is hidden where all of its four pixels are that lie inside of the image.

    Args:
        hidden: bool [height, width].
        channels: Of the image.

    Returns:
        One grid at least, the finest enlarged to whole pixels of the coarsest.
    """
    halvings = 0
    while math.prod(-(-side >> halvings) for side in hidden.shape) > COARSEST:
        halvings += 1
    shape = tuple(-(-side >> halvings) << halvings for side in hidden.shape)
    mask, inside = np.zeros((2, *shape), dtype=np.bool_)
    mask[: hidden.shape[0], : hidden.shape[1]] = hidden
    inside[: hidden.shape[0], : hidden.shape[1]] = True
    grids = [Grid(mask, inside, channels)]
    for _ in range(halvings):
        mask = np.logical_and.reduce(_quarter(mask | ~inside))
        inside = np.logical_or.reduce(_quarter(inside))
        mask &= inside
        if not mask.any():
            break
        grids.append(Grid(mask, inside, channels))
    grids[-1].invert()
    return grids


def _descend(
    grids: list[Grid], residual: NDArray[np.float32], tolerance: float
) -> tuple[NDArray[np.float32], float] | None:
    """Conjugate gradients from zero: the solution for a residual and the largest step of all; None: it was not found."""
    top = grids[0]
    solution, product = np.zeros_like(residual), np.empty_like(residual)
    largest = 0.0
    direction = run_cycle(grids, residual).copy()
    slope = _dot(residual, direction)
    for _ in range(MOST):
        if slope == 0:
            return solution, largest
        top.multiply(direction, product)
        length = slope / _dot(direction, product)
        cv2.scaleAdd(direction, length, solution, dst=solution)
        step = length * cv2.norm(direction, cv2.NORM_INF)
        if not math.isfinite(step):
            return None
        largest = max(largest, step)
        if step < max(tolerance, RELIABLE * largest):
            return solution, largest
        cv2.scaleAdd(product, -length, residual, dst=residual)
        cycle = run_cycle(grids, residual)
        before, slope = slope, _dot(residual, cycle)
        cv2.scaleAdd(direction, slope / before, cycle, dst=direction)
    return None


def run_cycle(grids: list[Grid], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Approximate the solution of D v - S v = `right` by one V-cycle, which is symmetric: smooth, correct, smooth.

    Args:
        grids: Of `build_grids`, from the one of `right` on.
        right: float32 [height, width, channels]; read at hidden pixels alone.

    Returns:
        float32 of that shape, 0 where nothing is hidden. It is overwritten by the next cycle.
    """
    grid, coarser = grids[0], grids[1:]
    solution, blurred = grid.solution, grid.blurred
    if grid.inverse is not None:
        solution.fill(0)
        solution[grid.hidden] = grid.inverse @ right[grid.hidden]
        return solution
    np.multiply(right, grid.smoother, out=solution)
    if coarser:
        below = coarser[0]
        _blur_into(solution, blurred)
        # the residual, where D times the solution is DAMPING times `right`
        cv2.scaleAdd(right, 1 - DAMPING, blurred, dst=blurred)
        np.multiply(blurred, grid.mask, out=blurred)
        # a blur and the mean of four: the transpose of the bilinear enlargement
        _blur_into(blurred, grid.spare, cv2.BORDER_REFLECT)
        size = below.hidden.shape[::-1]
        cv2.resize(grid.spare, size, dst=below.right, interpolation=cv2.INTER_LINEAR)
        np.multiply(below.right, 4, out=below.right)  # a difference over two pixels, squared
        correction = run_cycle(coarser, below.right)
        cv2.resize(correction, grid.hidden.shape[::-1], dst=blurred, interpolation=cv2.INTER_LINEAR)
        np.multiply(blurred, grid.mask, out=blurred)
        np.add(solution, blurred, out=solution)
    _blur_into(solution, blurred)
    np.add(blurred, right, out=blurred)
    np.multiply(blurred, grid.smoother, out=blurred)
    cv2.scaleAdd(solution, 1 - DAMPING, blurred, dst=solution)
    return solution


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    blurred = np.empty_like(values)
    cv2.sepFilter2D(values, cv2.CV_64F, WINDOW, WINDOW, dst=blurred, borderType=cv2.BORDER_CONSTANT)
    return blurred


def _blur_into(values: NDArray[np.float32], out: NDArray[np.float32], border: int = cv2.BORDER_CONSTANT) -> None:
    cv2.sepFilter2D(values, cv2.CV_32F, WINDOW, WINDOW, dst=out, borderType=border)


def _dot(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.einsum("i,i->", first.ravel(), second.ravel()))  # its order depends on no number of threads


def _repeat(values: NDArray[Any], channels: int) -> NDArray[np.float32]:
    repeated = np.empty((*values.shape, channels), dtype=np.float32)
    cv2.merge([values.astype(np.float32)] * channels, dst=repeated)
    return repeated


def _quarter(mask: Mask) -> list[Mask]:
    return [mask[row::2, column::2] for row in (0, 1) for column in (0, 1)]
