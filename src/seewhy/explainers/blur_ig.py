"""Blur integrated gradients: the gradient on the way from a blurred image to the sharp one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_whole_number
from seewhy.core.types import Images, Targets
from seewhy.explainers.completeness import CompleteChannelExplainer, ScoreChange, compare_scores
from seewhy.models.batched import BatchedEvaluator

NEGLIGIBLE = 1e-8
"""Share of a frequency below which the blur has removed it."""


@dataclass(frozen=True, kw_only=True)
class BlurIg(CompleteChannelExplainer):
    """Integral from sigma = max_sigma to 0 of d score / d x(sigma) * d x(sigma) / d sigma, summed over the channels.

    x(sigma) is the image after a Gaussian blur of that many pixels, mirrored at its borders. The integral is a
    trapezoid sum with differences of blurred images; they lie closer together the sharper the image:
    sigma_k = max_sigma (k / (n_steps - 1))^2. The map adds up to f(image) - f(most blurred image): nothing but the image's
    own detail is credited.
    Xu, Venugopalan, Sundararajan: Attribution in scale and space, CVPR 2020.

    Args:
        n_steps: Values of sigma, from 2.
        max_sigma: Strongest blur in pixels, above 0; None: 50 at 224 pixels, in proportion to the shorter side.
    """

    n_steps: int = 100
    max_sigma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("explainer.n_steps", self.n_steps, 2)
        if self.max_sigma is not None and not (math.isfinite(self.max_sigma) and self.max_sigma > 0):
            raise UserError(f"explainer.max_sigma={self.max_sigma} must be above 0 pixels; null is 50 at 224 pixels")

    def build_baselines(self, images: Images) -> Images:
        """Blur the images as much as the path does at its start.

        Args:
            images: Float [batch, channels, height, width] in [0, 1].

        Returns:
            Blurred images of the same shape.
        """
        return Blur(images)(torch.arange(len(images)), self._list_sigmas(images)[-1:].expand(len(images)))

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """Compute f(image) - f(most blurred image) with two forward passes for each image."""
        return compare_scores(evaluator, images, self.build_baselines(images), targets)

    def _list_sigmas(self, images: Images) -> Tensor:
        """The blurs [n_steps] in pixels, from none to the strongest."""
        strongest = self.max_sigma or min(images.shape[2:]) * 50 / 224
        return strongest * torch.linspace(0, 1, self.n_steps, dtype=images.dtype, device=images.device) ** 2

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Integrate the gradient, without measuring the completeness gap."""
        sigmas, blur, total = self._list_sigmas(images), Blur(images), len(images) * self.n_steps
        attributions = torch.zeros_like(images)
        for nodes in evaluator.split(total, gradient=True):
            around = torch.arange(int(nodes[0]) - 1, int(nodes[-1]) + 2, device=images.device).clamp(0, total - 1)
            blurred = blur(around // self.n_steps, sigmas[around % self.n_steps])
            image, step = nodes // self.n_steps, nodes % self.n_steps
            here, movement = blurred[1:-1], blurred[:-2] - blurred[2:]
            for end in (step == 0).nonzero()[:, 0].tolist():
                torch.sub(here[end], blurred[end + 2], out=movement[end])
            for end in (step == self.n_steps - 1).nonzero()[:, 0].tolist():
                torch.sub(blurred[end], here[end], out=movement[end])
            gradient = evaluator.compute_gradient(here, targets[image])
            attributions.index_add_(0, image, movement.mul_(gradient).div_(2))
        return attributions

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way for each step, and two forwards for the completeness gap."""
        return self.n_steps + 2, self.n_steps


class Blur:
    """Gaussian blur of any strength at the cost of the frequencies that it leaves.

    Mirroring at the borders makes the cosine transform diagonalise the blur: frequency w is left the share
    exp(-(sigma w)^2 / 2). Frequencies that the blur removes from all images of a batch take no part in the transform back.

    Args:
        images: Float [batch, channels, height, width].
    """

    def __init__(self, images: Images) -> None:
        self.rows, self.columns = _build_cosines(images.shape[2]).to(images), _build_cosines(images.shape[3]).to(images)
        self.spectrum = self.rows @ images @ self.columns.T

    def __call__(self, image: Tensor, sigmas: Tensor) -> Images:
        """Blur images [n, channels, height, width]: their indices [n] and a blur in pixels for each."""
        sigmas = sigmas.to(self.spectrum)
        high, wide = self._compute_shares(self.rows, sigmas), self._compute_shares(self.columns, sigmas)
        spectrum = self.spectrum[:, :, : high.shape[1], : wide.shape[1]][image]
        blurred = spectrum * high[:, None, :, None] * wide[:, None, None]
        return self.rows[: high.shape[1]].T @ blurred @ self.columns[: wide.shape[1]]

    @staticmethod
    def _compute_shares(cosines: Tensor, sigmas: Tensor) -> Tensor:
        """Shares [n, frequencies] that the blurs leave of the lowest frequencies, those that are not negligible."""
        side = len(cosines)
        frequencies = torch.arange(side, dtype=cosines.dtype, device=cosines.device) * (math.pi / side)
        shares = torch.exp(-((sigmas[:, None] * frequencies) ** 2) / 2)
        return shares[:, : int((shares.amax(0) > NEGLIGIBLE).sum())]


def _build_cosines(side: int) -> Tensor:
    """The orthonormal cosine transform [frequencies, positions] of `side` samples (DCT-II)."""
    positions = (torch.arange(side, dtype=torch.float64) + 0.5) * (math.pi / side)
    waves = torch.cos(torch.arange(side, dtype=torch.float64)[:, None] * positions) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    return waves
