"""Perturbation curves: the target's score while pixels are hidden or shown in the order of a map."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.random import seed_generator
from seewhy.core.tensors import iterate_runs
from seewhy.core.types import Images
from seewhy.metrics.base import SPACES, MetricContext

NOISY_LINEAR = "noisy_linear"
"""Stands for the baseline in the names of curves: hidden pixels are imputed from their neighbours."""
PULL_PUSH = "pull_push"
"""Stands for the baseline where they are filled from the finest scale that sees a visible pixel."""
WITHOUT_PIXELS = {PULL_PUSH: "mean"}
"""The baseline that an image becomes when nothing is left to impute from; other names are baselines themselves."""
LOWER_BITS = 32
"""Bits of a sort key that hold the position of its value; the value itself lies above them."""


@dataclass(frozen=True)
class PixelRanking:
    """Pixels of each map from the largest attribution to the smallest.

    Pixels with equal attributions come in a random order that belongs to (seed, image): a constant map is ranked like
    noise and has no share in where the pixels lie. The order with the smallest first is exactly the reverse.
    """

    order: Tensor
    """int64 [batch, pixels]: the pixel at each rank."""
    ranks: Tensor
    """int32 [batch, pixels]: the rank of each pixel, 0 for the largest attribution."""
    values: Tensor
    """float32 [batch, pixels]: the attributions in that order."""
    positive: list[int]
    """Number of pixels of each map with a positive attribution."""
    finite: list[bool]
    """False for a map with NaN or infinite values: it has no ranking and no score."""

    def compute_coverage(self) -> list[float]:
        """Compute the share of pixels with a positive attribution, NaN for a map that is not finite."""
        pixels = self.order.shape[1]
        counts = zip(self.positive, self.finite, strict=True)
        return [count / pixels if finite else float("nan") for count, finite in counts]

    def compute_positive_shares(self, image: int) -> Tensor:
        """Compute the share of all positive attribution in the first i pixels, float64 [positive + 1] on the CPU."""
        values = self.values[image, : self.positive[image]].double().cpu()
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        return sums / sums[-1]


def rank_pixels(context: MetricContext) -> PixelRanking:
    """Rank the pixels of every map of a batch, once."""
    return context.compute_once("pixel ranking", lambda: _rank(context))


def order_descending(rows: Tensor) -> Tensor:
    """Sort each row stably, largest value first.

    Args:
        rows: Finite values [batch, n]; float32 on the CPU takes a faster way than torch's.

    Returns:
        int64 [batch, n]: the positions of the values in their rows.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    return torch.from_numpy(read_positions(sort_keys(rows.detach().numpy(), falling=True)))


def sort_keys(rows: NDArray[np.float32], falling: bool = False) -> NDArray[np.int64]:
    """Sort integers that hold a value and its position, several times as fast as a stable sort of the values.

    Args:
        rows: [batch, n] without NaN.
        falling: Whether the largest value comes first.

    Returns:
        One key per value, sorted within each row.
    """
    assert rows.dtype == np.float32, f"keys hold float32 values, not {rows.dtype}"
    bits = (rows + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising if falling else rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    return keys


def read_positions(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read the positions of the values in their rows out of sort keys."""
    positions: NDArray[np.int64] = keys & ((1 << LOWER_BITS) - 1)
    return positions


def find_changes(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find which of the sorted values [..., n], from the second on, differ from the one before: bool [..., n - 1]."""
    values = keys >> LOWER_BITS
    differ: NDArray[np.bool_] = values[..., 1:] != values[..., :-1]
    return differ


def _rank(context: MetricContext) -> PixelRanking:
    maps, finite = context.replace_non_finite()
    maps = maps.flatten(1)
    shuffled = torch.stack([_shuffle(context, image) for image in context.images]).to(maps.device)
    order = shuffled.gather(1, order_descending(maps.gather(1, shuffled)))
    positions = torch.arange(maps.shape[1], dtype=torch.int32, device=maps.device).expand_as(order)
    ranks = torch.empty_like(positions, memory_format=torch.contiguous_format).scatter_(1, order, positions)
    return PixelRanking(order, ranks, maps.gather(1, order), (maps > 0).sum(1).tolist(), finite.tolist())


def _shuffle(context: MetricContext, image: Tensor) -> Tensor:
    return torch.randperm(image[0].numel(), generator=seed_generator(context.seed, image, "ties"))


Point: TypeAlias = tuple[float, float, Hashable]
"""(logit, probability) of the target, and what the network predicts (`MetricContext.decide`)."""
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
    scores = []
    for visited, steps in zip(_visit_states(context, curve, counts, impute), counts, strict=True):
        rows = [point[:2] for point in visited] or [(float("nan"),) * 2] * len(steps)
        scores.append(torch.tensor(rows, dtype=torch.float64).view(-1, 2))
    return scores


def find_kept(
    context: MetricContext, curve: Curve, counts: Sequence[Sequence[int]], impute: Impute | None = None
) -> list[list[bool]]:
    """Find after which counts of changed pixels the network still predicts what it predicts for the image.

    Args:
        context: The batch with its maps.
        curve: Which pixels change, in which order.
        counts: For each image the numbers of changed pixels.
        impute: Fills hidden pixels; None takes them from the curve's baseline.

    Returns:
        One answer per count and image; none for maps that are not finite.
    """
    before, visited = context.decide(context.logits), _visit_states(context, curve, counts, impute)
    return [[point[2] == prediction for point in points] for points, prediction in zip(visited, before, strict=True)]


def _visit_states(
    context: MetricContext, curve: Curve, counts: Sequence[Sequence[int]], impute: Impute | None
) -> list[list[Point]]:
    """The points of each image's curve; none for a map that is not finite."""
    ranking = rank_pixels(context)
    states = [
        [find_visible(curve, image, count, ranking) for count in steps] if ranking.finite[image] else []
        for image, steps in enumerate(counts)
    ]
    points = _measure_states(context, ranking, [state for steps in states for state in steps], impute)
    drawn = _drawn_points(context).setdefault(curve.label, {})
    for image, (steps, visited) in enumerate(zip(counts, states, strict=True)):
        if visited:
            drawn |= {(image, count): points[state] for count, state in zip(steps, visited, strict=True)}
    return [[points[state] for state in visited] for visited in states]


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
        CurvePoint(image, label, count / pixels, *point[:2])
        for label, points in sorted(_drawn_points(context).items())
        for (image, count), point in sorted(points.items())
    ]


def adopt_points(context: MetricContext, other: MetricContext, name: str) -> None:
    """Add the points of the curves of another network on the same images to those of a batch.

    Args:
        context: The batch.
        other: The same images and maps on the other network.
        name: Of its curves, such as `in_domain_{}`.
    """
    for label, points in _drawn_points(other).items():
        _drawn_points(context).setdefault(name.format(label), {}).update(points)


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
        baseline = WITHOUT_PIXELS.get(state.baseline, state.baseline)
        logits = context.logits if state.stop == pixels else context.compute_baseline_logits(baseline)
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
    return list(zip(*columns, context.decide(logits, rows), strict=True))
