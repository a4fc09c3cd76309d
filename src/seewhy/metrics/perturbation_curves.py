"""Numbers out of perturbation curves: areas, averages over counts, grids of counts.

The order of the pixels of a map, equal ones as they come, by a sort of numbers that hold value and place.
The order in which perturbation curves visit the pixels of a map.
Partly seen images: the points of perturbation curves before they go through the network.
Perturbation curves: the target's score while pixels are hidden or shown in the order of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.tensors import iterate_runs
from seewhy.core.types import Images
from seewhy.metrics.base import SPACES, MetricContext
from seewhy.metrics.imputation import impute_each, noise
from seewhy.metrics.pixel_ranking import PixelRanking, rank_pixels

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


def seen_after(curve: Curve, image: int, count: int, ranked: PixelRanking) -> Seen:
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


def perturbed(context: MetricContext, ranked: PixelRanking, part: list[Seen], image: Tensor) -> Images:
    """The images [n, 3, height, width] of which only the pixels of `part` are seen; `image` [n] names their rows."""
    facts = torch.tensor([(seen.start, seen.stop, seen.inside) for seen in part], device=image.device)
    shown = torch.empty(len(part), *context.images.shape[2:], dtype=torch.bool, device=image.device)
    for item, rows in iterate_runs(image):
        start, stop, inside = facts[rows].to(torch.int32)[:, :, None, None].unbind(1)
        ranks = ranked.ranks[item].view(1, *context.images.shape[2:])
        torch.eq((ranks >= start) & (ranks < stop), inside.bool(), out=shown[rows])
    if part[0].baseline == NOISY_LINEAR:
        return _imputed(context, image, ~shown)
    cover = context.build_baseline(part[0].baseline)
    made = context.images.new_empty(len(part), *context.images.shape[1:])
    for item, rows in iterate_runs(image):
        torch.where(shown[rows, None], context.images[item], cover[item], out=made[rows])
    return made


def _imputed(context: MetricContext, image: Tensor, hidden: Tensor) -> Images:
    """The images [n, 3, height, width] of rows `image` [n] with the pixels under `hidden` [n, height, width] imputed."""

    def drawn(item: int) -> Tensor:
        one = context.images[item]
        return noise(one.shape, seed_generator(context.seed, one, "noisy linear imputation"))

    rows = image.tolist()
    noises = [context.compute_once(("imputation noise", item), partial(drawn, item)) for item in rows]
    return impute_each([context.images[item] for item in rows], hidden, noises)


Point: TypeAlias = tuple[float, float]
"""(logit, probability) of the target."""


class CurvePoint(NamedTuple):
    """One row of the table of curves."""

    image: int
    """Row of the batch."""
    curve: str
    share: float
    """Of all pixels: how many are hidden (deletion) or shown (insertion)."""
    logit: float
    probability: float


def compute_curves(context: MetricContext, curve: Curve, counts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Target's (logit, probability), float64 [points, 2] on the CPU per image, after each count of changed pixels.

    Passes are filled across images and counts, and none is made twice for one batch: showing the k largest on a
    baseline is hiding the others, smallest first, and the ends of all curves are common. NaN, without a pass, for maps
    that are not finite.
    """
    ranked = rank_pixels(context)
    known: dict[Seen, Point] = context.compute_once("seen", dict)
    wanted = [
        [seen_after(curve, image, count, ranked) for count in steps] if ranked.finite[image] else []
        for image, steps in enumerate(counts)
    ]
    _measure(context, ranked, known, [seen for steps in wanted for seen in steps])
    kept: dict[str, dict[tuple[int, int], Point]] = context.compute_once("kept curves", dict)
    scores = []
    for image, steps in enumerate(wanted):
        points = [known[seen] for seen in steps]
        kept.setdefault(curve.label, {}).update(
            {(image, count): point for count, point in zip(counts[image], points, strict=bool(points))}
        )
        missing = [(float("nan"),) * 2] * len(counts[image])
        scores.append(torch.tensor(points or missing, dtype=torch.float64).view(-1, 2))
    return scores


def compute_target_curves(
    context: MetricContext, curve: Curve, counts: Sequence[Sequence[int]], space: str
) -> list[Tensor]:
    """`curve_scores` in one score space: float64 [points] per image."""
    return [scores[:, SPACES.index(space)] for scores in compute_curves(context, curve, counts)]


def collect_curves(context: MetricContext) -> list[CurvePoint]:
    """All points of all curves that the metrics of this batch asked for, by curve, image and share."""
    pixels = context.images[0, 0].numel()
    kept: dict[str, dict[tuple[int, int], Point]] = context.compute_once("kept curves", dict)
    return [
        CurvePoint(image, label, count / pixels, *point)
        for label, points in sorted(kept.items())
        for (image, count), point in sorted(points.items())
    ]


def _measure(context: MetricContext, ranked: PixelRanking, known: dict[Seen, Point], wanted: list[Seen]) -> None:
    """Adds what is missing: whole images and baselines from the context, the rest in chunks that are made lazily."""
    missing = [seen for seen in dict.fromkeys(wanted) if seen not in known]
    pixels = ranked.order.shape[1]
    ends = {seen: seen.stop == pixels for seen in missing if seen.inside and seen.stop - seen.start in (0, pixels)}
    for seen, whole in ends.items():
        logits = context.logits if whole else context.compute_baseline_logits(seen.baseline)
        known[seen] = _points(context, logits[[seen.image]], torch.tensor([seen.image], device=logits.device))[0]
    missing = [seen for seen in missing if seen not in ends]
    for chunk in context.evaluator.split(len(missing), gradient=False):
        part = [missing[index] for index in chunk.tolist()]
        image = torch.tensor([seen.image for seen in part], device=context.images.device)
        logits = context.evaluator.compute_logits(perturbed(context, ranked, part, image))
        known.update(zip(part, _points(context, logits, image), strict=True))


def _points(context: MetricContext, logits: Tensor, rows: Tensor) -> list[Point]:
    columns = [context.select_scores(logits, space, rows).tolist() for space in SPACES]
    return list(zip(*columns, strict=True))
