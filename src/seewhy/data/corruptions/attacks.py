"""Adversarial corruptions: images inside a box around the original that the classifier gets wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated

import torch
from annotated_types import MinLen, Predicate
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, Words, check_when_made
from seewhy.core.tensors import widen
from seewhy.core.types import Classes, Images
from seewhy.models.batched import BatchedEvaluator


def parse_number(value: float | str) -> float:
    """The number, or the value of a fraction such as 8/255; UserError for anything else."""
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{value!r} is neither a number nor a fraction such as 8/255") from None


def _lies_in_unit_interval(value: float | str) -> bool:
    try:
        return 0 <= parse_number(value) <= 1
    except UserError:
        return False


Strength = Annotated[
    float | str, Predicate(_lies_in_unit_interval), Words("a number from 0 to 1 or a fraction such as 8/255")
]
"""A difference of pixels in [0, 1]."""
PositiveStrength = Annotated[Strength, Predicate(parse_number), Words("above 0 and at most 1, such as 0.01 or 2/255")]


@check_when_made("corruption.{}")
class Attack(ABC):
    """Level k keeps every pixel within `eps[k - 1]` of the original and within [0, 1].

    Args:
        eps: Numbers or fractions as text, such as 8/255, for images in [0, 1].
    """

    def __init__(self, eps: Annotated[Sequence[Strength], MinLen(1)]) -> None:
        self.eps = [parse_number(value) for value in eps]

    @abstractmethod
    def levels(self, evaluator: BatchedEvaluator, images: Images, classes: Classes, seed: int = 0) -> Iterator[Images]:
        """Attack images.

        Args:
            evaluator: The classifier.
            images: float32 [batch, channels, height, width] in [0, 1].
            classes: int64 [batch]: the classes whose score is pushed down.
            seed: Decides random numbers, with each image.

        Returns:
            The attacked images, level by level.
        """

    @abstractmethod
    def passes_per_image(self) -> tuple[int, int]:
        """Count the passes that all levels of one image cost.

        Returns:
            (forward, backward) passes.
        """


def compute_loss_gradient(evaluator: BatchedEvaluator, images: Images, classes: Classes) -> Tensor:
    """d -log p(class) / d image [batch, channels, height, width]; of outputs without probabilities d -output / d image."""

    def compute(chunk: Tensor) -> tuple[Tensor]:
        leaves = images[chunk].detach().requires_grad_()
        with torch.enable_grad():
            losses = evaluator.classifier.facts.compute_losses(widen(evaluator.classifier(leaves)), classes[chunk])
            return (torch.autograd.grad(losses.sum(), leaves)[0],)

    return evaluator.run_passes(compute, len(images), gradient=True)[0]


class FGSM(Attack):
    """clip(image + eps * sign(d cross-entropy / d image), 0, 1): the gradient is taken once for all levels.

    Goodfellow et al.: Explaining and harnessing adversarial examples, ICLR 2015.
    """

    def levels(self, evaluator: BatchedEvaluator, images: Images, classes: Classes, seed: int = 0) -> Iterator[Images]:
        """One image for each eps, all along the same direction."""
        direction = compute_loss_gradient(evaluator, images, classes).sign()
        for eps in self.eps:
            yield (images + eps * direction).clamp(0, 1)

    def passes_per_image(self) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1


@check_when_made("corruption.{}")
class PGD(Attack):
    """`n_steps` times: attacked = clip(attacked + step * sign(gradient), image - eps, image + eps), clipped to [0, 1].

    The gradient is that of the cross-entropy. Madry et al.: Towards deep learning models resistant to adversarial
    attacks, ICLR 2018.

    Args:
        eps: Numbers or fractions as text, such as 8/255, for images in [0, 1].
        step: Length of a step, a number or a fraction; None: 2.5 eps / n_steps.
        n_steps: Number of steps, at least 1.
        random_start: Whether the first image is drawn uniformly in the box from (seed, image).
    """

    def __init__(
        self,
        eps: Annotated[Sequence[Strength], MinLen(1)],
        step: PositiveStrength | None = None,
        n_steps: Count = 7,
        random_start: bool = False,
    ) -> None:
        super().__init__(eps)
        self.step = None if step is None else parse_number(step)
        self.n_steps = n_steps
        self.random_start = random_start

    def levels(self, evaluator: BatchedEvaluator, images: Images, classes: Classes, seed: int = 0) -> Iterator[Images]:
        """One image for each eps, each with its own path."""
        for eps in self.eps:
            step = 2.5 * eps / self.n_steps if self.step is None else self.step
            lowest, highest = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
            attacked = self._start(images, eps, seed).clamp(lowest, highest)
            for _ in range(self.n_steps):
                attacked = (attacked + step * compute_loss_gradient(evaluator, attacked, classes).sign()).clamp(
                    lowest, highest
                )
            yield attacked

    def _start(self, images: Images, eps: float, seed: int) -> Images:
        if not self.random_start:
            return images
        drawn = [
            torch.rand(image.shape, generator=seed_generator(seed, image, "pgd"), dtype=torch.float32)
            for image in images
        ]
        return images + eps * (2 * torch.stack(drawn).to(images.device) - 1)

    def passes_per_image(self) -> tuple[int, int]:
        """`n_steps` passes each way for each level."""
        return self.n_steps * len(self.eps), self.n_steps * len(self.eps)
