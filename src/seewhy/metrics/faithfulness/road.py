"""ROAD: remove pixels and impute them, so that the shape of what was removed gives nothing away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.metrics.base import SPACES, ImageMetric, MetricContext
from seewhy.metrics.perturbation_curves import NOISY_LINEAR, Curve, compute_target_curves


class Road(ImageMetric):
    """Mean over `shares` s of f(s least relevant pixels imputed) - f(s most relevant pixels imputed).

    floor(s * pixels) pixels are replaced by noisy linear imputation (`imputation.impute`, noise 0.01 that belongs to the
    image); f is the target's softmax probability (or logit) of each image, where the paper counts correct answers: an
    accuracy says little about one image. Columns `morf` and `lerf` are the two means. Higher is better; range [-1, 1]
    for probabilities, 0 for an order that means nothing. Rewards smooth maps: what lies in small holes is imputed
    too well to be missed. NaN where the map is not finite.
    Rong, Leemann, Borisov, Kasneci, Kasneci: A consistent and efficient evaluation strategy for attribution methods,
    ICML 2022.
    """

    higher_is_better = True
    columns: ClassVar[tuple[str, ...]] = ("morf", "lerf")

    def __init__(
        self,
        shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        space: str = "probability",
    ) -> None:
        super().__init__()
        if not shares or not all(0 < share < 1 for share in shares):
            raise UserError(f"metric.road.shares={list(shares)} must be between 0 and 1, such as [0.1, 0.5, 0.9]")
        if space not in SPACES:
            raise UserError(f"metric.road.space={space!r} must be {' or '.join(SPACES)}")
        self.shares = tuple(shares)
        self.space = space

    @property
    def variant(self) -> str:
        """Score space, imputation and shares."""
        shares = ", ".join(f"{share:g}" for share in self.shares)
        return f"mean of LeRF less mean of MoRF; {self.space}, noisy linear imputation, shares {shares}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """The means [batch]."""
        morf, lerf = (self._mean(context, first) for first in ("largest", "smallest"))
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}

    def _mean(self, context: MetricContext, first: str) -> Tensor:
        pixels = context.images[0, 0].numel()
        counts = [int(share * pixels + 1e-6) for share in self.shares]
        curve = Curve("deletion", first, NOISY_LINEAR)
        curves = compute_target_curves(context, curve, [counts] * len(context.images), self.space)
        return context.images.new_tensor([float(values.mean()) for values in curves])
