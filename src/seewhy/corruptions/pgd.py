"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from seewhy.corruptions.attack import Attack, loss_gradient, number
from seewhy.errors import UserError
from seewhy.image_seed import image_generator
from seewhy.probe import Probe
from seewhy.types import Images, Targets


class PGD(Attack):
    """`n_steps` times: attacked = clip(attacked + step * sign(gradient), image - eps, image + eps), clipped to [0, 1].

    The gradient is that of the cross-entropy. `step=None` is 2.5 eps / n_steps. With `random_start` the first image is
    drawn uniformly in the box from (seed, image). Madry et al.: Towards deep learning models resistant to adversarial
    attacks, ICLR 2018.
    """

    def __init__(
        self,
        eps: Sequence[float | str],
        step: float | str | None = None,
        n_steps: int = 7,
        random_start: bool = False,
    ) -> None:
        super().__init__(eps)
        if n_steps < 1:
            raise UserError(f"n_steps={n_steps} must be at least 1")
        self.step = None if step is None else number(step)
        self.n_steps = n_steps
        self.random_start = random_start

    def levels(self, probe: Probe, images: Images, classes: Targets, seed: int = 0) -> Iterator[Images]:
        """One image for each eps, each with its own path."""
        for eps in self.eps:
            step = 2.5 * eps / self.n_steps if self.step is None else self.step
            lowest, highest = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
            attacked = self._start(images, eps, seed).clamp(lowest, highest)
            for _ in range(self.n_steps):
                attacked = (attacked + step * loss_gradient(probe, attacked, classes).sign()).clamp(lowest, highest)
            yield attacked

    def _start(self, images: Images, eps: float, seed: int) -> Images:
        if not self.random_start:
            return images
        drawn = [torch.rand(image.shape, generator=image_generator(seed, image, "pgd")) for image in images]
        return images + eps * (2 * torch.stack(drawn).to(images.device) - 1)

    def passes_per_image(self) -> tuple[int, int]:
        """`n_steps` passes each way for each level."""
        return self.n_steps * len(self.eps), self.n_steps * len(self.eps)
