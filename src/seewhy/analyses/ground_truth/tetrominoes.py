"""Tetrominoes in noise on an 8x8 grid: linear, multiplicative and XOR tasks, on white or correlated backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.ground_truth.base import GroundTruth, Planted, Probe, Shape, check_size
from seewhy.analyses.ground_truth.pool import Pool
from seewhy.core.settings import OneOf, Positive, Share

Grid = NDArray[np.float64]
SIDE = 8
SHAPES = (((1, 0), (1, 1), (1, 0)), ((1, 0), (1, 0), (1, 1)))
"""T and L."""
PLACES = ((1, 1), (4, 5))
"""Top left corner of T and of L, as in the paper's 8x8 task."""
ELSEWHERE = ((1, 5), (4, 1))
"""Where the probes put them."""
DEVIATIONS = 5.0
"""Standard deviations from grey to black, where all images share a scale."""


@dataclass(frozen=True, kw_only=True)
class Tetrominoes(GroundTruth):
    """A T near the top left corner, an L near the bottom right one, and a background G n of Gaussian noise.

    With a the pattern and unit Frobenius norms of a and G, an image is alpha a + (1 - alpha) G n (`linear`: a is T in
    class 0 and L in class 1; `xor`: +-T +-L, equal signs in class 0 and unequal ones in class 1), or (1 - alpha a) G n
    (`multiplicative`, a as in `linear`, with values 0 and 1). Where T is decides as much as where L is not: the mask holds
    both. G is the identity (`white`) or a Gaussian filter (`correlated`), under which pixels off the patterns carry no
    class, but what they say of the noise on the patterns: suppressors, which the best network uses.

    Values are mapped to [0, 1], zero to grey: each image divided by its largest |value| as in the paper (`each`), or all
    by one number (`all`: five standard deviations; the task stays linear and its best weights are known). Grids are
    enlarged to the images of the network, and equal in all channels.

    Clark, Wilming, Haufe: XAI-TRIS, non-linear image benchmarks for explanation methods, Machine Learning 2024
    (arXiv 2306.12816). Haufe et al.: On the interpretation of weight vectors of linear models in multivariate
    neuroimaging, NeuroImage 2014.

    Args:
        scenario: linear, multiplicative or xor.
        background: white or correlated.
        alpha: Share of the signal.
        smoothing: Standard deviation of the filter of a correlated background, in grid cells.
        scale: each or all.

    Raises:
        UserError: A setting is out of range.
    """

    scenario: Annotated[str, OneOf(("linear", "multiplicative", "xor"))] = "linear"
    background: Annotated[str, OneOf(("white", "correlated"))] = "white"
    alpha: Share = 0.18
    smoothing: Positive = 3.0
    scale: Annotated[str, OneOf(("each", "all"))] = "each"

    magnitude: ClassVar[bool] = True
    baseline: ClassVar[str | None] = "grey"
    statistics: ClassVar[tuple[float, float] | None] = (0.5, 0.2)

    @property
    def classes(self) -> tuple[str, ...]:
        """T and L, or equal and unequal signs."""
        return ("equal", "unequal") if self.scenario == "xor" else ("T", "L")

    def plant(self, part: str, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> Planted:
        """Make images with their patterns."""
        check_size(shape, SIDE, self.scenario)
        noise, labels, signs = self._draw(part, numbers)
        masks = enlarge(np.broadcast_to(draw_patterns(PLACES).any(0), noise.shape).astype(float), shape)[:, 0] > 0
        return Planted(self.render(noise, self._weigh(labels, signs), PLACES, shape), torch.from_numpy(labels), masks)

    def build_probes(self, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> list[Probe]:
        """Probe with the noise alone, with the other class's pattern, and with the pattern elsewhere or in pieces."""
        noise, labels, signs = self._draw("test", numbers)
        own, other = self._weigh(labels, signs), self._weigh(1 - labels, signs)
        pieces = [[(row * 3 % 7, (row * 5 + side * 3) % 8) for row in range(1, 5)] for side in (0, 1)]
        scattered = np.zeros((2, SIDE, SIDE))
        for side, cells in enumerate(pieces):
            scattered[side][tuple(np.array(cells).T)] = 1
        scattered *= ~draw_patterns(PLACES).any(0)
        return [
            Probe("with", self.render(noise, own, PLACES, shape), torch.from_numpy(labels)),
            Probe("without", self.render(noise, 0 * own, PLACES, shape), torch.from_numpy(labels)),
            Probe("inserted", self.render(noise, other, PLACES, shape), torch.from_numpy(1 - labels)),
            Probe("elsewhere", self.render(noise, own, ELSEWHERE, shape), torch.from_numpy(labels)),
            Probe("scattered", self.render(noise, own, scattered, shape), torch.from_numpy(labels)),
        ]

    def _draw(self, part: str, numbers: Sequence[int]) -> tuple[Grid, NDArray[np.int64], Grid]:
        """(noise [n, 8, 8], labels [n], signs [n]), each image from its own generator; classes take turns."""
        drawn = [
            (each.standard_normal((SIDE, SIDE)), each.integers(0, 2))
            for each in (self.spawn(part, number) for number in numbers)
        ]
        white = np.array([noise for noise, _ in drawn]).reshape(-1, SIDE * SIDE)
        noise = (white @ self.filter_noise().T).reshape(-1, SIDE, SIDE)
        return noise, np.array(numbers, dtype=np.int64) % 2, 2.0 * np.array([bit for _, bit in drawn]) - 1

    def filter_noise(self) -> Grid:
        """Build the matrix G of the background.

        Returns:
            [64, 64] of unit Frobenius norm; in the multiplicative task of norm 8, which the identity has.
        """
        matrix = filter_by(self.smoothing if self.background == "correlated" else 0.0)
        return matrix * (SIDE if self.scenario == "multiplicative" else 1) / float(np.linalg.norm(matrix))

    def _weigh(self, labels: NDArray[np.int64], signs: Grid) -> Grid:
        """What T and L are multiplied by [n, 2]; unit Frobenius norm of the pattern where it is added."""
        if self.scenario == "xor":
            return np.stack([signs, np.where(labels == 0, signs, -signs)], 1) / 8**0.5
        weights = np.eye(2)[labels]
        return weights if self.scenario == "multiplicative" else weights / 2

    def render(self, noise: Grid, weights: Grid, places: Sequence[tuple[int, int]] | Grid, shape: Shape) -> Tensor:
        """Render images.

        Args:
            noise: The background [n, 8, 8].
            weights: What T and L are multiplied by [n, 2].
            places: Their corners, or the patterns themselves [2, 8, 8].
            shape: (channels, height, width).

        Returns:
            float32 [n, channels, height, width] in [0, 1].
        """
        patterns = places if isinstance(places, np.ndarray) else draw_patterns(places)
        signal = np.einsum("nk,kij->nij", weights, patterns)
        if self.scenario == "multiplicative":
            grids = (1 - self.alpha * signal) * noise
        else:
            grids = self.alpha * signal + (1 - self.alpha) * noise
        largest = self.compute_largest() if self.scale == "all" else np.abs(grids).max((1, 2), keepdims=True)
        return enlarge((grids / np.maximum(largest, 1e-12)).clip(-1, 1) / 2 + 0.5, shape).float()

    def compute_largest(self) -> float:
        """Compute the value that becomes white where all images share a scale.

        Returns:
            Five standard deviations of a pixel, and the signal.
        """
        if self.scenario == "multiplicative":
            return DEVIATIONS * float(np.linalg.norm(self.filter_noise(), axis=1).max())
        signal = self.alpha / (8**0.5 if self.scenario == "xor" else 2)
        return DEVIATIONS * (1 - self.alpha) * float(np.linalg.norm(self.filter_noise(), axis=1).max()) + signal

    def compute_best_weights(self) -> Grid:
        """The weights [8, 8] of the best linear network on the grids, Sigma^-1 (mu_1 - mu_0), for values in [0, 1].

        Only of the linear task with a scale for all. A pixel off the patterns has the weight that cancels the noise on
        them, though it carries no class: what a gradient attributes to it is false by exactly that much.

        Returns:
            The change of log p(1) - log p(0) by each cell.
        """
        unit = 1 / (2 * self.compute_largest())
        noise = (1 - self.alpha) * self.filter_noise() * unit
        first, second = draw_patterns(PLACES)
        difference = self.alpha / 2 * unit * (second - first).ravel()
        weights: Grid = np.linalg.solve(noise @ noise.T, difference).reshape(SIDE, SIDE)
        return weights


def draw_patterns(corners: Sequence[tuple[int, int]]) -> Grid:
    """Draw T and L.

    Args:
        corners: (row, column) of the top left cell of each.

    Returns:
        [2, 8, 8] of 0 and 1.
    """
    patterns = np.zeros((2, SIDE, SIDE))
    for pattern, shape, (top, left) in zip(patterns, SHAPES, corners, strict=True):
        pattern[top : top + 3, left : left + 2] = shape
    return patterns


@cache
def filter_by(sigma: float) -> Grid:
    """Build the matrix of a Gaussian filter of the 8x8 grid.

    Args:
        sigma: Standard deviation in cells; 0: none.

    Returns:
        [64, 64]; a row gives a filtered cell.
    """
    identity = np.eye(SIDE * SIDE)
    if not sigma:
        return identity
    columns = [gaussian_filter(column.reshape(SIDE, SIDE), sigma).ravel() for column in identity]
    return np.array(columns).T


def enlarge(grids: Grid, shape: Shape) -> Tensor:
    """Enlarge grids to images, cell by cell, equal in all channels.

    Args:
        grids: [n, 8, 8].
        shape: (channels, height, width).

    Returns:
        float64 [n, channels, height, width].
    """
    values = torch.from_numpy(np.ascontiguousarray(grids))[:, None]
    return functional.interpolate(values, size=shape[1:], mode="nearest").expand(-1, shape[0], -1, -1).contiguous()
