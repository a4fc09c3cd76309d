"""Kernel SHAP: the Shapley values of superpixels, from a weighted regression over coalitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import comb
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import UserError, check_whole_number
from seewhy.core.random import seed_generator
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.completeness import BaselineExplainer
from seewhy.explainers.superpixels import BLOCK, Coalitions, segment_images
from seewhy.models.batched import BatchedEvaluator

EXACT = 11
"""Up to this number of superpixels all coalitions are evaluated: at most 2046."""


@dataclass(frozen=True, kw_only=True)
class KernelShap(BaselineExplainer):
    """The Shapley value of each pixel's superpixel, spread evenly over its pixels: the map sums to f(x) - f(b).

    Minimises the sum over coalitions z of (f(z) - f(b) - z . values)^2 under that constraint, f(z) being the score of
    the image whose other superpixels show the baseline. With M superpixels a coalition of s weighs
    (M - 1) / (binomial(M, s) s (M - s)). Up to 11 superpixels all are evaluated and the values are exact; otherwise
    coalitions are drawn in proportion to their weight, each followed by its complement. Facts: `n_segments`, the number of
    superpixels, and `floor`, the most that rounding can make of a pixel's value.
    Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017; paired samples: Covert, Lee:
    Improving KernelSHAP, AISTATS 2021.

    Args:
        n_segments: About how many SLIC superpixels, from 1.
        n_samples: Coalitions that are drawn where there are more than 11 superpixels; even, from 2.
    """

    n_segments: int = 50
    n_samples: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("explainer.n_segments", self.n_segments)
        if self.n_samples < 2 or self.n_samples % 2:
            raise UserError(f"explainer.n_samples={self.n_samples} must be even and at least 2: samples come in pairs")

    @property
    def parameters(self) -> str:
        """Superpixels, coalitions and what covers."""
        return f"n_segments={self.n_segments}, n_samples={self.n_samples}, baseline={self.baseline}"

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        labels, counts = segment_images(images, self.n_segments)
        cover = self.build_baselines(images)
        ends = evaluator.compute_scores(torch.cat([images, cover]), targets.repeat(2)).cpu().double()
        full, empty = ends[: len(images)], ends[len(images) :]
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        generators = [seed_generator(self.seed, image, "kernel_shap") for image in images]
        draws = [draw_coalitions(count, self.n_samples, each) for count, each in zip(counts, generators, strict=True)]
        fits = [ShapleyRegression(count) for count in counts]
        rounding = torch.zeros(len(images), dtype=torch.float64)
        while blocks := {row: block for row, draw in enumerate(draws) if (block := next(draw, None)) is not None}:
            image = torch.tensor(list(blocks)).repeat_interleave(torch.tensor([len(w) for _, w in blocks.values()]))
            padded = [functional.pad(visible, (0, max(counts) - visible.shape[1])) for visible, _ in blocks.values()]
            scores, bounds = coalitions.compute_scores(image, torch.cat(padded))
            scores = scores - empty[image]
            for row, (visible, weights) in blocks.items():
                rounding[row] = torch.cat([rounding[row, None], bounds[image == row]]).amax()
                fits[row].add(visible.numpy(), weights.numpy(), scores[image == row].numpy())
        changes = (full - empty).tolist()
        maps = [
            spread_evenly(fit.solve(change), each)
            for fit, change, each in zip(fits, changes, labels.cpu(), strict=True)
        ]
        change = self.compute_change(evaluator, images, targets)
        result = self.add_completeness(torch.stack(maps).to(images), change, {"n_segments": torch.tensor(counts)})
        floors = [
            spread_evenly(fit.bound_rounding(float(bound)), each)
            for fit, bound, each in zip(fits, change.rounding.cpu().maximum(rounding), labels.cpu(), strict=True)
        ]
        return dataclasses.replace(result, floor=torch.stack(floors).to(images))

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Forwards for samples, both ends and the completeness gap; None where all coalitions may be evaluated."""
        return None if self.n_segments <= 2 * EXACT else (self.n_samples + 4, 0)


def spread_evenly(values: NDArray[np.float64], labels: Tensor) -> Tensor:
    """Spread each superpixel's value evenly over its pixels: float64 [height, width] with the same sum."""
    areas = torch.bincount(labels.flatten(), minlength=len(values))
    return (torch.from_numpy(values) / areas)[labels]


def draw_coalitions(count: int, n_samples: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw coalitions of superpixels, neither the empty nor the full one.

    All of them with the weights of the Shapley kernel up to `EXACT` superpixels, otherwise `n_samples` drawn ones.

    Args:
        count: Number of superpixels.
        n_samples: How many to draw.
        generator: Of the image.

    Yields:
        Blocks of coalitions bool [n, count], with their weights float64 [n].
    """
    sizes = torch.arange(1, count, dtype=torch.float64)
    share = 1 / (sizes * (count - sizes))
    if count <= EXACT:
        numbers = torch.arange(1, 2**count - 1)
        visible = (numbers[:, None] >> torch.arange(count)) % 2 == 1
        weights = share / torch.from_numpy(comb(count, sizes.numpy()))
        weights = weights[visible.sum(1) - 1] if count > 1 else visible.sum(1).double()
        yield from zip(visible.split(BLOCK), weights.split(BLOCK), strict=True)
        return
    for start in range(0, n_samples, BLOCK):
        pairs = min(BLOCK, n_samples - start) // 2
        size = 1 + torch.multinomial(share, BLOCK // 2, replacement=True, generator=generator)[:pairs]
        ranks = torch.rand(BLOCK // 2, count, generator=generator, dtype=torch.float32)[:pairs].argsort(1).argsort(1)
        first = ranks < size[:, None]
        yield torch.stack([first, ~first], 1).flatten(0, 1), torch.ones(2 * pairs, dtype=torch.float64)


class ShapleyRegression:
    """Weighted least squares under the constraint that the values add up to the change, from sums alone.

    Args:
        count: Number of superpixels.
    """

    def __init__(self, count: int) -> None:
        self.products = np.zeros((count, count))
        self.responses = np.zeros(count)
        self.weight = 0.0

    def add(self, visible: NDArray[np.bool_], weights: NDArray[np.float64], gains: NDArray[np.float64]) -> None:
        """Add coalitions bool [n, count], their weights [n] and f(z) - f(b) [n]."""
        weighted = visible * weights[:, None]
        self.weight += float(weights.sum())
        self.products += weighted.T @ visible
        self.responses += weighted.T @ gains

    def solve(self, change: float) -> NDArray[np.float64]:
        """Compute the value of each superpixel; they sum to `change`. With too few samples the nearest to equal values."""
        count = len(self.responses)
        equal = np.full(count, change / count)
        centre = np.eye(count) - 1 / count
        residual = centre @ (self.responses - self.products @ equal)
        offset = np.linalg.lstsq(centre @ self.products @ centre, residual, rcond=1e-10)[0]
        return equal + offset - offset.mean()

    def bound_rounding(self, rounding: float) -> NDArray[np.float64]:
        """Bound what rounding makes of each value: that of its equal share, and of the regression over gains f(z) - f(b).

        The sum over the samples k of the |weights| of gain k in value i is at most sqrt(sum of W * (C^+)_ii) with the
        centred moments C of the samples' weights W.
        """
        count = len(self.responses)
        centre = np.eye(count) - 1 / count
        inverse = np.diag(np.linalg.pinv(centre @ self.products @ centre, rcond=1e-10, hermitian=True))
        return np.asarray(rounding * (1 / count + np.sqrt(self.weight * np.clip(inverse, 0, None))), np.float64)
