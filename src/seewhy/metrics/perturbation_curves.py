"""Perturbation curves: the target's score while pixels are hidden or shown in the order of a map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.core.tensors import iterate_runs
from seewhy.core.types import Images
from seewhy.metrics.base import SPACES, MetricContext
from seewhy.metrics.pixel_ranking import PixelRanking, rank_pixels

Point: TypeAlias = tuple[float, float]
"""(logit, probability) of the target."""
Impute: TypeAlias = Callable[[MetricContext, Tensor, Tensor], Images]
"""Fills hidden pixels, given (context, rows of the batch [n], what is hidden bool [n, height, width])."""


class Curve(NamedTuple):
    """Which pixels change, in which order, and what hidden pixels are replaced by."""

    change: str
    """`deletion` hides pixels of the image, `insertion` shows them on the baseline."""
    first: str
    """`largest` or `smallest` attribution."""
    baseline: str
    """One of `explainers.baselines.BASELINES`, or a name for what fills hidden pixels instead."""
    among: str = "all"
    """`all` pixels, or only those with `positive` attribution; the others stay as they are at the start."""

    @property
    def label(self) -> str:
        """Such as deletion/black; largest first, the positive pixels come in the same order as all of them."""
        if self.first == "largest":
            return f"{self.change}/{self.baseline}"
        among = "_positive" if self.among == "positive" else ""
        return f"{self.change}_smallest{among}_first/{self.baseline}"


class CurvePoint(NamedTuple):
    """A row of the table of curves."""

    image: int
    """Row of the batch."""
    curve: str
    """Label of the curve."""
    share: float
    """Of all pixels: how many are hidden (deletion) or shown (insertion)."""
    logit: float
    """Of the target."""
    probability: float
    """Of the target."""


class VisiblePixels(NamedTuple):
    """The visible pixels of an image: those with rank from start to stop - 1, or all others."""

    baseline: str
    image: int
    start: int
    stop: int
    inside: bool


def compute_curves(
    context: MetricContext, curve: Curve, counts: Sequence[Sequence[int]], impute: Impute | None = None
) -> list[Tensor]:
    """Compute the target's logit and probability after each count of changed pixels.

    Passes are filled across images and counts, and none is made twice for one batch: showing the k largest on a
    baseline is hiding the others, smallest first, and the ends of all curves are common. A map that is not finite
    costs no pass.

    Args:
        context: The batch with its maps.
        curve: Which pixels change, in which order.
        counts: For each image the numbers of changed pixels.
        impute: Fills hidden pixels; None takes them from the curve's baseline.

    Returns:
        float64 [points, 2] on the CPU per image; NaN for maps that are not finite.
    """
    ranking = rank_pixels(context)
    states = [
        [find_visible(curve, image, count, ranking) for count in steps] if ranking.finite[image] else []
        for image, steps in enumerate(counts)
    ]
    points = _measure_states(context, ranking, [state for steps in states for state in steps], impute)
    drawn = _drawn_points(context).setdefault(curve.label, {})
    scores = []
    for image, (steps, visited) in enumerate(zip(counts, states, strict=True)):
        if visited:
            drawn |= {(image, count): points[state] for count, state in zip(steps, visited, strict=True)}
        rows = [points[state] for state in visited] or [(float("nan"),) * 2] * len(steps)
        scores.append(torch.tensor(rows, dtype=torch.float64).view(-1, 2))
    return scores


def compute_target_curves(
    context: MetricContext,
    curve: Curve,
    counts: Sequence[Sequence[int]],
    space: str,
    impute: Impute | None = None,
) -> list[Tensor]:
    """Compute curves in one score space.

    Args:
        context: The batch with its maps.
        curve: Which pixels change, in which order.
        counts: For each image the numbers of changed pixels.
        space: `logit` or `probability`.
        impute: Fills hidden pixels; None takes them from the curve's baseline.

    Returns:
        float64 [points] on the CPU per image; NaN for maps that are not finite.
    """
    return [scores[:, SPACES.index(space)] for scores in compute_curves(context, curve, counts, impute)]


def collect_curves(context: MetricContext) -> list[CurvePoint]:
    """Collect every point of every curve that the metrics of a batch have computed.

    Args:
        context: The batch, after its metrics were measured.

    Returns:
        The points by curve, image and share.
    """
    pixels = context.images[0, 0].numel()
    return [
        CurvePoint(image, label, count / pixels, *point)
        for label, points in sorted(_drawn_points(context).items())
        for (image, count), point in sorted(points.items())
    ]


def find_visible(curve: Curve, image: int, count: int, ranking: PixelRanking) -> VisiblePixels:
    """Find the pixels of an image that are visible after `count` changes.

    The same pixels are the same value on any curve: ranks outside of an interval at the border of all ranks are
    written as the ranks inside the rest.
    """
    pixels = ranking.order.shape[1]
    end = ranking.positive[image] if curve.among == "positive" else pixels
    start, stop = (0, count) if curve.first == "largest" else (end - count, end)
    inside = curve.change == "insertion"
    if start == stop:
        start = stop = 0
    if not inside and start == 0:
        start, stop, inside = stop, pixels, True
    elif not inside and stop == pixels:
        start, stop, inside = 0, start, True
    if start == stop:
        start = stop = 0
    return VisiblePixels(curve.baseline, image, start, stop, inside)


def build_perturbed_images(
    context: MetricContext,
    ranking: PixelRanking,
    states: Sequence[VisiblePixels],
    image: Tensor,
    impute: Impute | None = None,
) -> Images:
    """Build the images of which only some pixels are visible.

    Args:
        context: The batch.
        ranking: Of its pixels.
        states: n states with one baseline.
        image: int64 [n] on the device of the images: their rows of the batch, ascending.
        impute: Fills hidden pixels; None takes them from the baseline of the states.

    Returns:
        float32 [n, channels, height, width].
    """
    bounds = torch.tensor([(state.start, state.stop, state.inside) for state in states], device=image.device)
    visible = torch.empty(len(states), *context.images.shape[2:], dtype=torch.bool, device=image.device)
    for item, rows in iterate_runs(image):
        start, stop, inside = bounds[rows].to(torch.int32)[:, :, None, None].unbind(1)
        ranks = ranking.ranks[item].view(1, *context.images.shape[2:])
        torch.eq((ranks >= start) & (ranks < stop), inside.bool(), out=visible[rows])
    if impute is not None:
        return impute(context, image, ~visible)
    cover = context.build_baseline(states[0].baseline)
    perturbed = context.images.new_empty(len(states), *context.images.shape[1:])
    for item, rows in iterate_runs(image):
        torch.where(visible[rows, None], context.images[item], cover[item], out=perturbed[rows])
    return perturbed


def _drawn_points(context: MetricContext) -> dict[str, dict[tuple[int, int], Point]]:
    """The points of all curves so far: by label, then (image, count)."""
    return context.compute_once("points of curves", dict)


def _measure_states(
    context: MetricContext, ranking: PixelRanking, states: Iterable[VisiblePixels], impute: Impute | None
) -> dict[VisiblePixels, Point]:
    """Measure the states that are new, and return all of the batch.

    Whole images and baselines are passes that other metrics share; the rest is built chunk by chunk.
    """
    points: dict[VisiblePixels, Point] = context.compute_once("points of states", dict)
    pixels, pending = ranking.order.shape[1], []
    for state in dict.fromkeys(states):
        if state in points:
            continue
        if not (state.inside and state.stop - state.start in (0, pixels)):
            pending.append(state)
            continue
        logits = context.logits if state.stop == pixels else context.compute_baseline_logits(state.baseline)
        row = torch.tensor([state.image], device=logits.device)
        points[state] = _read_points(context, logits[row], row)[0]
    for chunk in context.evaluator.split(len(pending), gradient=False):
        batch = [pending[index] for index in chunk.tolist()]
        image = torch.tensor([state.image for state in batch], device=context.images.device)
        logits = context.evaluator.compute_logits(build_perturbed_images(context, ranking, batch, image, impute))
        points |= zip(batch, _read_points(context, logits, image), strict=True)
    return points


def _read_points(context: MetricContext, logits: Tensor, rows: Tensor) -> list[Point]:
    columns = [context.select_scores(logits, space, rows).tolist() for space in SPACES]
    return list(zip(*columns, strict=True))
