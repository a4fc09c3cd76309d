"""One fooling image with all that is reported of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Said:
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
    """float32 [3, height, width] in [0, 1], as the classifier saw it."""
    saved: Tensor
    """float32 [3, height, width], every value a multiple of 1/255: the file's pixels."""
    unrounded: Tensor
    """float32 [3, height, width] before the rounding to 8 bits."""
    steps: int
    outcome: str
    predicted: Said
    """The class that the classifier gave to the original."""
    target: Said
    answer: str
    """The class that the classifier gives to the saved image."""
    success: bool
    """Whether that is the target."""

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
