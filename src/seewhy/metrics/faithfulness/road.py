"""ROAD: remove pixels and impute them, so that the shape of what was removed gives nothing away."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.types import Images
from seewhy.metrics.base import GAIN, PROBABILITY, ImageMetric, MetricContext, Range, Shares, Space
from seewhy.metrics.imputation import draw_noise, impute_images
from seewhy.metrics.perturbation_curves import NOISY_LINEAR, Curve, compute_target_curves


class Road(ImageMetric):
    """Mean over shares s of f(s least relevant pixels imputed) - f(s most relevant pixels imputed).

    floor(s * pixels) pixels are replaced by noisy linear imputation (`imputation.impute_image`, noise 0.01 that belongs
    to the image); f is the target's probability (or logit) of each image, where the paper counts correct answers:
    an accuracy says little about one image. Columns `morf` and `lerf` are the two means. Range -1 to 1 for probabilities,
    0 for an order that means nothing; higher is better. Rewards smooth maps: what lies in small holes is imputed too well
    to be missed. NaN where the map is not finite. In the mean rank of faithfulness it is a form of `deletion` with another
    filling.

    Rong, Leemann, Borisov, Kasneci, Kasneci: A consistent and efficient evaluation strategy for attribution methods,
    ICML 2022.

    Args:
        shares: Of the pixels that are imputed, each between 0 and 1.
        space: Score of the target, `probability` or `logit`.

    Raises:
        UserError: If a setting is none of these.
    """

    construct = "faithfulness"
    variant_of = "deletion"
    higher_is_better = True
    columns = ("morf", "lerf")
    ranges: Mapping[str, Range] = {"score": GAIN, "morf": PROBABILITY, "lerf": PROBABILITY}

    def __init__(
        self,
        shares: Shares = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        space: Space = "probability",
    ) -> None:
        super().__init__()
        self.shares, self.space = tuple(shares), space

    @property
    def variant(self) -> str:
        """Score space, imputation and shares."""
        shares = ", ".join(f"{share:g}" for share in self.shares)
        return f"mean of LeRF less mean of MoRF; {self.space}, noisy linear imputation, shares {shares}"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Compute the means [batch], with two forward passes for each image and share."""
        morf, lerf = (self._average(context, first) for first in ("largest", "smallest"))
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}

    def _average(self, context: MetricContext, first: str) -> Tensor:
        pixels = context.images[0, 0].numel()
        counts = [int(share * pixels + 1e-6) for share in self.shares]
        curve = Curve("deletion", first, NOISY_LINEAR)
        curves = compute_target_curves(context, curve, [counts] * len(context.images), self.space, impute_hidden)
        return context.images.new_tensor([float(values.mean()) for values in curves])


def impute_hidden(context: MetricContext, image: Tensor, hidden: Tensor) -> Images:
    """Impute hidden pixels with noise that belongs to (seed, image), whatever is hidden.

    Args:
        context: The batch.
        image: int64 [n], rows of the batch.
        hidden: bool [n, height, width].

    Returns:
        float32 [n, channels, height, width].
    """

    def draw(item: int) -> Tensor:
        pixels = context.images[item]
        return draw_noise(pixels.shape, seed_generator(context.seed, pixels, "noisy linear imputation"))

    rows = image.tolist()
    noises = [context.compute_once(("imputation noise", item), partial(draw, item)) for item in rows]
    return impute_images([context.images[item] for item in rows], hidden, noises)
