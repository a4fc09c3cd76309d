"""Partly seen images: the points of perturbation curves before they go through the network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.explainers.coalitions import runs
from seewhy.image_seed import image_generator
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.imputation import impute
from seewhy.metrics.ranking import Ranking
from seewhy.types import Images

NOISY_LINEAR = "noisy_linear"
"""Hidden pixels are imputed from their neighbours instead of taken from a baseline image."""


class Curve(NamedTuple):
    """Which pixels change, in which order, and what stands in the place of those that are not seen."""

    change: str
    """`deletion` hides pixels of the image, `insertion` shows them on the baseline."""
    first: str
    """`largest` or `smallest` attribution."""
    baseline: str
    among: str = "all"
    """`all` pixels, or only those with `positive` attribution; the others stay as they are at the start."""

    @property
    def label(self) -> str:
        """Such as deletion/black; largest first, the positive pixels come in the same order as all of them."""
        if self.first == "largest":
            return f"{self.change}/{self.baseline}"
        among = "_positive" if self.among == "positive" else ""
        return f"{self.change}_smallest{among}_first/{self.baseline}"


class Seen(NamedTuple):
    """The pixels of one image that are seen: those with rank from start to stop - 1, or all others."""

    baseline: str
    image: int
    start: int
    stop: int
    inside: bool


def seen_after(curve: Curve, image: int, count: int, ranked: Ranking) -> Seen:
    """The pixels of an image that are seen after `count` changes; the same pixels are the same `Seen` on any curve."""
    pixels = ranked.order.shape[1]
    last = ranked.positive[image] if curve.among == "positive" else pixels
    start, stop = (0, count) if curve.first == "largest" else (last - count, last)
    inside = curve.change == "insertion"
    if start == stop:
        start = stop = 0
    if not inside and start == 0:
        start, stop, inside = stop, pixels, True
    elif not inside and stop == pixels:
        start, stop, inside = 0, start, True
    if start == stop:
        start = stop = 0
    return Seen(curve.baseline, image, start, stop, inside)


def perturbed(evidence: Evidence, ranked: Ranking, part: list[Seen], image: Tensor) -> Images:
    """The images [n, 3, height, width] of which only the pixels of `part` are seen; `image` [n] names their rows."""
    facts = torch.tensor([(seen.start, seen.stop, seen.inside) for seen in part], device=image.device)
    made = evidence.images.new_empty(len(part), *evidence.images.shape[1:])
    for item, rows in runs(image):
        start, stop, inside = facts[rows].to(torch.int32)[:, :, None, None].unbind(1)
        ranks = ranked.ranks[item].view(1, *evidence.images.shape[2:])
        shown = ((ranks >= start) & (ranks < stop)) == inside.bool()
        _fill(evidence, part[0].baseline, item, shown, made[rows])
    return made


def _fill(evidence: Evidence, baseline: str, item: int, shown: Tensor, made: Images) -> None:
    """Writes one image, seen where `shown` [n, height, width] is true, into `made` [n, 3, height, width]."""
    image = evidence.images[item]
    if baseline != NOISY_LINEAR:
        torch.where(shown[:, None], image, evidence.baseline(baseline)[item], out=made)
        return
    for one, hidden in zip(made, ~shown, strict=True):
        one.copy_(impute(image, hidden, image_generator(evidence.seed, image, "noisy linear imputation")))
