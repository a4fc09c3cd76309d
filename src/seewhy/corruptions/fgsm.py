"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Iterator

from seewhy.corruptions.attack import Attack, loss_gradient
from seewhy.probe import Probe
from seewhy.types import Images, Targets


class FGSM(Attack):
    """clip(image + eps * sign(d cross-entropy / d image), 0, 1): the gradient is taken once for all levels.

    Goodfellow et al.: Explaining and harnessing adversarial examples, ICLR 2015.
    """

    def levels(self, probe: Probe, images: Images, classes: Targets, seed: int = 0) -> Iterator[Images]:
        """One image for each eps, all along the same direction."""
        direction = loss_gradient(probe, images, classes).sign()
        for eps in self.eps:
            yield (images + eps * direction).clamp(0, 1)

    def passes_per_image(self) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
