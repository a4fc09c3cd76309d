"""Partly seen images: the points of perturbation curves before they go through the network."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.explainers.coalitions import runs
from seewhy.image_seed import image_generator
from seewhy.metrics.evidence import Evidence
from seewhy.metrics.imputation import impute_each, noise
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
    shown = torch.empty(len(part), *evidence.images.shape[2:], dtype=torch.bool, device=image.device)
    for item, rows in runs(image):
        start, stop, inside = facts[rows].to(torch.int32)[:, :, None, None].unbind(1)
        ranks = ranked.ranks[item].view(1, *evidence.images.shape[2:])
        torch.eq((ranks >= start) & (ranks < stop), inside.bool(), out=shown[rows])
    if part[0].baseline == NOISY_LINEAR:
        return _imputed(evidence, image, ~shown)
    cover = evidence.baseline(part[0].baseline)
    made = evidence.images.new_empty(len(part), *evidence.images.shape[1:])
    for item, rows in runs(image):
        torch.where(shown[rows, None], evidence.images[item], cover[item], out=made[rows])
    return made


def _imputed(evidence: Evidence, image: Tensor, hidden: Tensor) -> Images:
    """The images [n, 3, height, width] of rows `image` [n] with the pixels under `hidden` [n, height, width] imputed."""

    def drawn(item: int) -> Tensor:
        one = evidence.images[item]
        return noise(one.shape, image_generator(evidence.seed, one, "noisy linear imputation"))

    rows = image.tolist()
    noises = [evidence.once(("imputation noise", item), partial(drawn, item)) for item in rows]
    return impute_each([evidence.images[item] for item in rows], hidden, noises)
