"""What every adversarial corruption is: images inside a box around the original that the classifier gets wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.errors import UserError
from seewhy.precision import widen
from seewhy.probe import Probe
from seewhy.types import Images, Targets


class Attack(ABC):
    """Level k keeps every pixel within `eps[k - 1]` of the original and within [0, 1].

    `eps` is a list of numbers or of fractions as text, such as 8/255, for images in [0, 1].
    """

    def __init__(self, eps: Sequence[float | str]) -> None:
        self.eps = [number(value) for value in eps]
        if not self.eps or min(self.eps) < 0:
            raise UserError(f"eps={list(eps)} must list numbers from 0, such as [1/255, 8/255]")

    @abstractmethod
    def levels(self, probe: Probe, images: Images, classes: Targets, seed: int = 0) -> Iterator[Images]:
        """The attacked images, level by level; `classes` int64 [batch] are those whose score is pushed down."""

    @abstractmethod
    def passes_per_image(self) -> tuple[int, int]:
        """(forward, backward) passes that all levels of one image cost."""


def loss_gradient(probe: Probe, images: Images, classes: Targets) -> Tensor:
    """d cross-entropy(logits, class) / d image [batch, 3, height, width]."""

    def one(chunk: Tensor) -> tuple[Tensor]:
        leaves = images[chunk].detach().requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(widen(probe.classifier(leaves)), classes[chunk], reduction="sum")
            return (torch.autograd.grad(loss, leaves)[0],)

    return probe.in_passes(one, len(images), gradient=True)[0]


def number(value: float | str) -> float:
    """The number, or the value of a fraction such as 8/255; UserError for anything else."""
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{value!r} is neither a number nor a fraction such as 8/255") from None
