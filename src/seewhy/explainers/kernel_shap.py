"""Kernel SHAP: the Shapley values of superpixels, from a weighted regression over coalitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import comb
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, CompleteExplainer
from seewhy.explainers.baselines import build_baselines, check_baseline
from seewhy.explainers.superpixels import BLOCK, Coalitions, check_n_segments, segment_images
from seewhy.models.batched import BatchedEvaluator

EXACT = 11
"""Up to this number of superpixels all coalitions are evaluated: at most 2046."""


@dataclass(frozen=True, kw_only=True)
class KernelShap(CompleteExplainer):
    """The Shapley value of each pixel's superpixel, spread evenly over its pixels: the map sums to f(x) - f(b).

    Minimises the sum over coalitions z of (f(z) - f(b) - z . values)^2 under that constraint, f(z) being the score of
    the image whose other superpixels show the baseline. With M superpixels a coalition of s weighs
    (M - 1) / (binomial(M, s) s (M - s)). Up to 11 superpixels all are evaluated and the values are exact; otherwise
    `n_samples` are drawn in proportion to their weight, each followed by its complement. Fact: `n_segments`.
    Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017; paired samples: Covert, Lee:
    Improving KernelSHAP, AISTATS 2021.
    """

    n_segments: int = 50
    n_samples: int = 1000
    baseline: str = "black"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_n_segments(self.n_segments)
        check_baseline(self.baseline)
        if self.n_samples < 2 or self.n_samples % 2:
            raise UserError(f"explainer.n_samples={self.n_samples} must be even and at least 2: samples come in pairs")

    @property
    def parameters(self) -> str:
        """Without what only decides about warnings."""
        return f"n_segments={self.n_segments}, n_samples={self.n_samples}, baseline={self.baseline}"

    def build_baselines(self, images: Images) -> Images:
        """What covers the superpixels that are not seen."""
        return build_baselines(self.baseline, images, self.seed)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        labels, counts = segment_images(images, self.n_segments)
        cover = self.build_baselines(images)
        ends = evaluator.compute_scores(torch.cat([images, cover]), targets.repeat(2)).cpu().double()
        whole, nothing = ends[: len(images)], ends[len(images) :]
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        generators = [seed_generator(self.seed, image, "kernel_shap") for image in images]
        draws = [draw_coalitions(count, self.n_samples, each) for count, each in zip(counts, generators, strict=True)]
        fits = [ShapleyRegression(count) for count in counts]
        while blocks := {row: block for row, draw in enumerate(draws) if (block := next(draw, None)) is not None}:
            image = torch.tensor(list(blocks)).repeat_interleave(torch.tensor([len(w) for _, w in blocks.values()]))
            padded = [functional.pad(shown, (0, max(counts) - shown.shape[1])) for shown, _ in blocks.values()]
            scores = coalitions.compute_scores(image, torch.cat(padded)) - nothing[image]
            for row, (shown, weights) in blocks.items():
                fits[row].add(shown.numpy(), weights.numpy(), scores[image == row].numpy())
        changes = (whole - nothing).tolist()
        maps = [
            spread_evenly(fit.values(change), each)
            for fit, change, each in zip(fits, changes, labels.cpu(), strict=True)
        ]
        facts = {"n_segments": torch.tensor(counts)}
        return self.add_completeness(evaluator, torch.stack(maps).to(images), images, targets, facts)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Forwards for samples, both ends and the completeness gap; None where all coalitions may be evaluated."""
        return None if self.n_segments <= 2 * EXACT else (self.n_samples + 4, 0)


def spread_evenly(values: NDArray[np.float64], labels: Tensor) -> Tensor:
    """float64 [height, width] that sums to values[s] over the pixels of superpixel s, evenly."""
    areas = torch.bincount(labels.flatten(), minlength=len(values))
    return (torch.from_numpy(values) / areas)[labels]


def draw_coalitions(count: int, n_samples: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of coalitions bool [n, count] with weights float64 [n]; neither the empty nor the full one.

    All of them with the weights of the Shapley kernel up to `EXACT` superpixels, otherwise `n_samples` drawn ones.
    """
    sizes = torch.arange(1, count, dtype=torch.float64)
    share = 1 / (sizes * (count - sizes))
    if count <= EXACT:
        numbers = torch.arange(1, 2**count - 1)
        shown = (numbers[:, None] >> torch.arange(count)) % 2 == 1
        weights = share / torch.from_numpy(comb(count, sizes.numpy()))
        whole = shown, weights[shown.sum(1) - 1] if count > 1 else shown.sum(1).double()
        yield from zip(*(part.split(BLOCK) for part in whole), strict=True)
        return
    for start in range(0, n_samples, BLOCK):
        pairs = min(BLOCK, n_samples - start) // 2
        chosen = 1 + torch.multinomial(share, BLOCK // 2, replacement=True, generator=generator)[:pairs]
        ranks = torch.rand(BLOCK // 2, count, generator=generator, dtype=torch.float32)[:pairs].argsort(1).argsort(1)
        first = ranks < chosen[:, None]
        yield torch.stack([first, ~first], 1).flatten(0, 1), torch.ones(2 * pairs, dtype=torch.float64)


class ShapleyRegression:
    """Weighted least squares under the constraint that the values add up to the change, from sums alone."""

    def __init__(self, count: int) -> None:
        self.products = np.zeros((count, count))
        self.responses = np.zeros(count)

    def add(self, shown: NDArray[np.bool_], weights: NDArray[np.float64], gains: NDArray[np.float64]) -> None:
        """Coalitions bool [n, count], their weights [n] and f(z) - f(b) [n]."""
        weighted = shown * weights[:, None]
        self.products += weighted.T @ shown
        self.responses += weighted.T @ gains

    def values(self, change: float) -> NDArray[np.float64]:
        """The value of each superpixel; they sum to `change`. With too few samples the nearest to equal values."""
        count = len(self.responses)
        equal = np.full(count, change / count)
        centre = np.eye(count) - 1 / count
        residual = centre @ (self.responses - self.products @ equal)
        offset = np.linalg.lstsq(centre @ self.products @ centre, residual, rcond=1e-10)[0]
        return equal + offset - offset.mean()
