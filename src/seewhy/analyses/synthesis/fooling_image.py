"""Fooling images: the smallest steps along the gradient that turn a photograph into another class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seewhy.analyses.synthesis.base import Synthesis, isolate, round_to_bytes
from seewhy.core.errors import UserError
from seewhy.core.settings import Count, NonNegative, Positive, Target
from seewhy.core.types import Classes, Images, Targets
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ProbabilityChange:
    """A class and its softmax probability before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class FooledImage:
    """The original, the fooling image as saved, and what the classifier says of both."""

    name: str
    path: str
    label: str
    """The true class in words; empty where it is unknown."""
    original: Tensor
    """float32 [channels, height, width] in [0, 1], as the classifier saw it."""
    saved: Tensor
    """float32 [channels, height, width], every value a multiple of 1/255: the file's pixels."""
    unrounded: Tensor
    """float32 [channels, height, width] before the rounding to 8 bits."""
    steps: int
    outcome: str
    predicted: ProbabilityChange
    """The class that the classifier gave to the original."""
    target: ProbabilityChange
    answer: str
    """The class that the classifier gives to the saved image."""
    success: bool
    """Whether that is the target."""
    display: tuple[int, ...] = ()
    """The channels that figures show, as in `Facts`."""

    @property
    def difference(self) -> Tensor:
        """saved - original, in [-1, 1]."""
        return self.saved - self.original

    @property
    def l2(self) -> float:
        """||saved - original||_2."""
        return float(self.difference.double().norm())

    @property
    def l2_unrounded(self) -> float:
        """||unrounded - original||_2, at most steps * rate."""
        return float((self.unrounded - self.original).double().norm())

    @property
    def linf(self) -> float:
        """max |saved - original|."""
        return float(self.difference.abs().max())

    @property
    def psnr(self) -> float:
        """-10 log10(mean (saved - original)^2) in decibels; infinite where nothing changed."""
        error = float(self.difference.double().square().mean())
        return -10 * math.log10(error) if error else math.inf

    def row(self) -> dict[str, str]:
        """The line of synthesis.csv."""
        numbers = {
            "l2": self.l2,
            "l2_unrounded": self.l2_unrounded,
            "linf": self.linf,
            "psnr": self.psnr,
            "predicted_probability_before": self.predicted.before,
            "predicted_probability_after": self.predicted.after,
            "target_probability_before": self.target.before,
            "target_probability_after": self.target.after,
        }
        words = {
            "image": self.name,
            "path": self.path,
            "label": self.label,
            "predicted": self.predicted.name,
            "target": self.target.name,
            "predicted_after": self.answer,
            "success": "yes" if self.success else "no",
            "outcome": self.outcome,
            "steps": str(self.steps),
        }
        return words | {key: f"{value:.6g}" for key, value in numbers.items()}


COLUMNS = (
    *("image", "path", "label", "predicted", "target", "predicted_after", "success", "outcome", "steps"),
    *("l2", "l2_unrounded", "linf", "psnr"),
    *("predicted_probability_before", "predicted_probability_after"),
    *("target_probability_before", "target_probability_after"),
)


FOOLED, ALREADY, STUCK, EXHAUSTED = "fooled", "already the target", "zero gradient", "steps exhausted"
"""How the search for one image may end."""


@dataclass(frozen=True)
class FoolingResult:
    """What the search found for each image of a batch."""

    images: Images
    """[batch, channels, height, width] as saved: every value a multiple of 1/255."""
    unrounded: Images
    """[batch, channels, height, width] before the rounding to 8 bits."""
    steps: Tensor
    """int64 [batch]: steps along the gradient."""
    outcomes: list[str]


@dataclass(frozen=True, kw_only=True)
class FoolingImage(Synthesis):
    """Images that the classifier takes for the target, by normalised gradient ascent on the target's logit.

    x <- clip(x + rate * g / ||g||_2, 0, 1) with g = d logit_target / dx, until the image, rounded to 8 bits, has the
    target as its largest logit, by more than `margin` over every other logit. The search also ends where the gradient
    is zero or not finite. Simonyan et al. 2014 and Szegedy et al. 2014 describe the effect.

    Args:
        target: A class index, a class name, `runner_up`, or `true` (which mends a misclassified image).
        rate: L2 length of one step for images in [0, 1]; before the rounding an image moves by at most steps * rate.
        max_steps: Largest number of steps.
        margin: Lead of the target's logit that ends the search.
    """

    target: Target = "runner_up"
    rate: Positive = 0.25
    max_steps: Count = 100
    margin: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is True:  # a command line's target=true is a boolean
            object.__setattr__(self, "target", "true")
        if self.target == "predicted":
            raise UserError("synthesis.target=predicted fools nobody: give a class, runner_up or true")

    def fool(self, classifier: Classifier, images: Images, targets: Classes) -> FoolingResult:
        """Search for all images at once; an image that is done leaves the passes.

        Args:
            classifier: The network; it is left as it was.
            images: float32 [batch, channels, height, width] in [0, 1].
            targets: Class to reach, int64 [batch].

        Returns:
            The images as saved and before rounding, with steps and outcome of each.
        """
        with isolate(classifier):
            return self._search(
                BatchedEvaluator(classifier, images[0], self.probe_batch_size), images.detach().clone(), targets
            )

    def _search(self, evaluator: BatchedEvaluator, images: Images, targets: Classes) -> FoolingResult:
        saved, steps = round_to_bytes(images), torch.zeros_like(targets)
        outcomes = [EXHAUSTED] * len(images)
        active = torch.arange(len(images), device=images.device)
        for step in range(self.max_steps + 1):
            logits, gradient = _logits_and_gradient(evaluator, images[active], targets[active])
            reached = self._leads(logits, targets[active])
            if reached.any():
                saved[active[reached]] = round_to_bytes(images[active[reached]])
                rounded = evaluator.compute_logits(saved[active[reached]])
                reached[reached.clone()] = self._leads(rounded, targets[active[reached]])
            norm = gradient.flatten(1).norm(dim=1)
            stuck = ~reached & ~(norm.isfinite() & (norm > 0))
            for rows, outcome in ((reached, FOOLED if step else ALREADY), (stuck, STUCK)):
                for row in active[rows].tolist():
                    outcomes[row] = outcome
            going = ~(reached | stuck)
            active = active[going]
            if not len(active) or step == self.max_steps:
                break
            direction = gradient[going] / norm[going, None, None, None]
            images[active] = (images[active] + self.rate * direction).clamp(0, 1)
            steps[active] += 1
        return FoolingResult(round_to_bytes(images), images, steps, outcomes)

    def _leads(self, logits: Tensor, targets: Classes) -> Tensor:
        """bool [n]: whether the target's logit is the only largest one, by at least the margin."""
        others = logits.scatter(1, targets[:, None], float("-inf")).amax(1)
        lead = Targets(targets).score(logits) - others
        return (lead > 0) & (lead >= self.margin)


def _logits_and_gradient(evaluator: BatchedEvaluator, images: Images, targets: Classes) -> tuple[Tensor, Tensor]:
    """(all logits [n, classes], d logit_target / d image [n, channels, height, width])."""

    def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
        leaves = images[chunk].requires_grad_()
        with torch.enable_grad():
            logits = evaluator.classifier(leaves).float()
            (gradient,) = torch.autograd.grad(Targets(targets[chunk]).score(logits).sum(), leaves)
        return logits.detach(), gradient

    logits, gradient = evaluator.run_passes(one, len(images), gradient=True)
    return logits, gradient
