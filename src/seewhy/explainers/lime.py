"""LIME: a weighted linear model of which superpixels the score needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.core.errors import UserError, check_whole_number
from seewhy.core.random import seed_generator
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import build_baselines, check_baseline
from seewhy.explainers.superpixels import BLOCK, Coalitions, segment_images
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class Lime(Explainer):
    """The coefficient of each pixel's superpixel in a ridge regression of the score on which superpixels are visible.

    The first sample is the whole image, in the others each superpixel is replaced by the baseline with probability 1/2. A
    sample at cosine distance d from the whole image weighs sqrt(exp(-d^2 / kernel_width^2)). Facts: `n_segments`, the
    number of superpixels, `fit_r2`, the weighted share of the scores' variance that the linear model explains, and
    `floor`, what the scores' rounding makes of a coefficient.
    Ribeiro, Singh, Guestrin: "Why should I trust you?", KDD 2016.

    Args:
        n_segments: About how many SLIC superpixels, from 1.
        n_samples: Images that the network sees, from 2, better 20 for each superpixel.
        kernel_width: Of the weights of the samples, in cosine distance, above 0.
        alpha: Penalty of the squared coefficients, not of the intercept; 0: least squares.
        baseline: What covers superpixels: black, white, grey, mean, blurred, noise or uniform.
    """

    n_segments: int = 50
    n_samples: int = 1000
    kernel_width: float = 0.25
    alpha: float = 1.0
    baseline: str = "black"

    def __post_init__(self) -> None:
        check_whole_number("explainer.n_segments", self.n_segments)
        check_whole_number("explainer.n_samples", self.n_samples, 2)
        check_baseline(self.baseline)
        if self.kernel_width <= 0:
            raise UserError(f"explainer.kernel_width={self.kernel_width} must be above 0, such as 0.25")
        if self.alpha < 0:
            raise UserError(f"explainer.alpha={self.alpha} must be 0 (least squares) or above")

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        labels, counts = segment_images(images, self.n_segments)
        cover = build_baselines(self.baseline, images, self.seed)
        coalitions = Coalitions(evaluator, images, cover, labels, targets)
        generators = [seed_generator(self.seed, image, "lime") for image in images]
        fits = [RidgeRegression(count, self.kernel_width) for count in counts]
        rounding = torch.zeros(len(images), dtype=torch.float64)
        for start in range(0, self.n_samples, BLOCK):
            samples = min(BLOCK, self.n_samples - start)
            visible = torch.zeros(len(images), samples, max(counts), dtype=torch.bool)
            for row, (count, generator) in enumerate(zip(counts, generators, strict=True)):
                drawn = torch.rand(BLOCK, count, generator=generator, dtype=torch.float32)
                visible[row, :, :count] = drawn[:samples] < 0.5
            visible[:, 0] |= start == 0
            image = torch.arange(len(images)).repeat_interleave(samples)
            scores, bounds = coalitions.compute_scores(image, visible.flatten(0, 1))
            scores = scores.view(len(images), samples)
            rounding = torch.maximum(rounding, bounds.view(len(images), samples).amax(1))
            for row, (count, fit) in enumerate(zip(counts, fits, strict=True)):
                fit.add(visible[row, :, :count].numpy(), scores[row].numpy())
        values = torch.zeros(len(images), max(counts), dtype=torch.float64)
        for row, (count, fit) in enumerate(zip(counts, fits, strict=True)):
            values[row, :count] = torch.from_numpy(fit.solve(self.alpha))
        maps = values.to(images).gather(1, labels.flatten(1)).view(labels.shape)
        quality = torch.tensor([fit.compute_r2(self.alpha) for fit in fits])
        gains = torch.tensor([fit.bound_gain(self.alpha) for fit in fits], dtype=torch.float64)
        return AttributionResult(maps, {"n_segments": torch.tensor(counts), "fit_r2": quality}, rounding * gains)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for each sample."""
        return self.n_samples, 0


class RidgeRegression:
    """Weighted ridge regression with an intercept, in float64, from sums alone: samples come in blocks.

    Args:
        count: Number of superpixels.
        kernel_width: Of the weights of the samples, in cosine distance.
    """

    def __init__(self, count: int, kernel_width: float) -> None:
        self.kernel_width = kernel_width
        self.moments = np.zeros((count + 2, count + 2))
        """Weighted sums of the products of (1, visible superpixels, score - first score)."""
        self.first: float | None = None

    def add(self, visible: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        """Add samples bool [n, superpixels] with their scores [n]."""
        self.first = float(scores[0]) if self.first is None else self.first
        distance = 1 - np.sqrt(visible.mean(1))
        weights = np.exp(-(distance**2) / (2 * self.kernel_width**2))
        table = np.column_stack([np.ones(len(scores)), visible, scores - self.first])
        self.moments += (table * weights[:, None]).T @ table

    def solve(self, alpha: float) -> NDArray[np.float64]:
        """Compute the coefficient of each superpixel; of equally good ones the shortest vector."""
        centred = self._centre()
        penalised = centred[:-1, :-1] + alpha * np.eye(len(centred) - 1)
        return np.asarray(np.linalg.lstsq(penalised, centred[:-1, -1], rcond=1e-12)[0], np.float64)

    def compute_r2(self, alpha: float) -> float:
        """Compute 1 - weighted squared error / weighted variance of the scores; 0 where all scores are equal."""
        centred, values = self._centre(), np.append(-self.solve(alpha), 1)
        spread = centred[-1, -1]
        return float(1 - values @ centred @ values / spread) if spread > 0 else 0.0

    def bound_gain(self, alpha: float) -> float:
        """Bound how much larger than the scores' rounding that of a coefficient can be.

        The coefficients are A y with the weights W of the samples inside A; the sum of |A_ik| over the samples k is at
        most sqrt(sum of W * (P^-1 C P^-1)_ii), C being the centred moments and P = C + alpha. Rounding of a difference
        counts twice the rounding of a score, hence the half.
        """
        centred = self._centre()[:-1, :-1]
        inverse = np.linalg.pinv(centred + alpha * np.eye(len(centred)), rcond=1e-12)
        spread = np.diag(inverse @ centred @ inverse).max(initial=0.0)
        return float(np.sqrt(self.moments[0, 0] * max(spread, 0.0))) / 2

    def _centre(self) -> NDArray[np.float64]:
        """The moments around the weighted means, without the intercept."""
        sums = self.moments[0, 1:]
        return self.moments[1:, 1:] - np.outer(sums, sums) / self.moments[0, 0]
