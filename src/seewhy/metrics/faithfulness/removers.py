"""The symmetric relevance gain under six removers: what stands in the place of removed pixels decides many rankings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, OneOf
from seewhy.core.types import Images
from seewhy.metrics.base import GAIN, PROBABILITY, ImageMetric, MetricContext, Range, Space
from seewhy.metrics.faithfulness.pixel_flipping import compute_pixel_counts
from seewhy.metrics.imputation import draw_noise, pull_and_push
from seewhy.metrics.perturbation_curves import PULL_PUSH, Curve, compute_target_curves

REMOVERS = {
    "black": "black",
    "white": "white",
    "mean": "mean",
    "blur": "blurred",
    "noise": "noise",
    "imputed": PULL_PUSH,
}
"""{remover: what stands in the names of curves}: a baseline, or imputation from the visible neighbours."""


class RemoverGain(ImageMetric):
    """Area of LeRF less area of MoRF, as `morf_lerf`, with one of six removers in the place of removed pixels.

    `black`, `white`, `mean` (the image's mean colour), `blur` (a Gaussian of an eighth of the shorter side) and `noise`
    (normal around grey) are the baselines of `explainers.baselines`; `imputed` fills from the visible pixels around
    (`imputation.pull_and_push`, with the noise of `road`), and is the mean colour where none is left. Also known as the
    symmetric relevance gain (SRG). Columns `morf` and `lerf` are the two areas. Of the explainer `random` their mean is the
    area of a random order, the R-OMS of the remover: how much of the score outlives a removal that means nothing. Range -1
    to 1 for probabilities, 0 for an order that means nothing; higher is better. NaN where the map is not finite. In the mean
    rank of faithfulness it is a form of `deletion`.

    All six together (`metric=[removers]`) need less than six times the passes of one: the image and the image without
    any pixel are measured once, and with `morf_lerf`, whose steps are divided by these, all passes of `black` are common.

    Blücher, Vielhaben, Strodthoff: Decoupling pixel flipping and occlusion strategy for consistent XAI benchmarks, TMLR
    2024.

    Args:
        remover: One of `REMOVERS`.
        n_steps: Steps over all pixels of an image, fewer than the 50 of `morf_lerf`, as there are six removers.
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
        self, remover: Annotated[str, OneOf(REMOVERS)] = "black", n_steps: Count = 10, space: Space = "probability"
    ) -> None:
        super().__init__()
        self.remover, self.n_steps, self.space = remover, n_steps, space

    @property
    def name(self) -> str:
        """`srg_` and the remover."""
        return f"srg_{self.remover}"

    @property
    def variant(self) -> str:
        """Score space, remover and steps."""
        return f"area of LeRF less area of MoRF; {self.space}, {self.remover} remover, {self.n_steps} steps"

    def measure(self, context: MetricContext) -> dict[str, Tensor]:
        """Compute the areas by the trapezoidal rule, with two forward passes for each image and step."""
        pixels = context.images[0, 0].numel()
        counts = compute_pixel_counts(pixels, self.n_steps)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        areas = []
        for first in ("largest", "smallest"):
            curve = Curve("deletion", first, REMOVERS[self.remover])
            impute = fill_hidden if self.remover == "imputed" else None
            curves = compute_target_curves(context, curve, [counts] * len(context.images), self.space, impute)
            areas.append(context.images.new_tensor([float(torch.trapezoid(values, shares)) for values in curves]))
        morf, lerf = areas
        return {"score": lerf - morf, "morf": morf, "lerf": lerf}


def fill_hidden(context: MetricContext, image: Tensor, hidden: Tensor) -> Images:
    """Fill hidden pixels from visible ones, with noise that belongs to (seed, image), whatever is hidden.

    Args:
        context: The batch.
        image: int64 [n], rows of the batch.
        hidden: bool [n, height, width].

    Returns:
        float32 [n, channels, height, width].
    """

    def draw() -> Tensor:
        purpose = "noise of filled pixels"
        drawn = [draw_noise(pixels.shape, seed_generator(context.seed, pixels, purpose)) for pixels in context.images]
        return torch.stack(drawn).to(context.images)

    noises = context.compute_once("noise of filled pixels", draw)
    return pull_and_push(context.images[image], hidden, noises[image])
