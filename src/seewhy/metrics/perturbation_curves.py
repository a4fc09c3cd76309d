"""Numbers out of perturbation curves: areas, averages over counts, grids of counts.

The order of the pixels of a map, equal ones as they come, by a sort of numbers that hold value and place.
The order in which perturbation curves visit the pixels of a map.
Partly seen images: the points of perturbation curves before they go through the network.
Perturbation curves: the target's score while pixels are hidden or shown in the order of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.core.random import image_generator
from seewhy.core.types import Images
from seewhy.explainers.superpixels import find_runs
from seewhy.metrics.base import SPACES, Evidence, target_scores
from seewhy.metrics.imputation import impute_each, noise

FEWEST_STEPS = 10
"""Steps over the positive pixels of a map, however few these are (one a pixel where there are fewer)."""


def pixel_counts(pixels: int, n_steps: int) -> list[int]:
    """round(i pixels / n_steps) for i = 0 .. n_steps, and every count where there are fewer pixels than steps.

    The counts are symmetric (pixels - k is one where k is), so that insertion and reversed deletion share passes.
    """
    steps = max(1, min(n_steps, pixels))
    lower = [(2 * index * pixels + steps) // (2 * steps) for index in range(steps // 2 + 1)]
    return sorted({*lower, *(pixels - count for count in lower)})


def positive_counts(positive: int, pixels: int, n_steps: int) -> list[int]:
    """`pixel_counts` up to `positive`, and `positive` itself; ten equal steps are added where these are fewer."""
    counts = {count for count in pixel_counts(pixels, n_steps) if count < positive} | {0, positive}
    return sorted(counts if len(counts) > FEWEST_STEPS else counts | set(pixel_counts(positive, FEWEST_STEPS)))


def area(shares: Tensor, values: Tensor) -> float:
    """The area under straight lines through the points (trapezoidal rule)."""
    return float(torch.trapezoid(values, shares))


def average_over_counts(counts: list[int], values: Tensor) -> float:
    """1 / (P + 1) * sum over i = 0 .. P of the value at i; straight lines between the counts that are known.

    `counts` begins with 0 and ends with P. Exact where every count is known.
    """
    positions = torch.tensor(counts, dtype=torch.float64)
    total = torch.trapezoid(values, positions) + (values[0] + values[-1]) / 2
    return float(total / (counts[-1] + 1))


def area_between(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The integral of |first - second| over 0 .. 1 for two curves (shares, values) of straight lines, exact."""
    shares = np.union1d(first[0].numpy(), second[0].numpy())
    values = [np.interp(shares, curve[0].numpy(), curve[1].numpy()) for curve in (first, second)]
    gaps = values[0] - values[1]
    left, right = np.abs(gaps[:-1]), np.abs(gaps[1:])
    crossing = gaps[:-1] * gaps[1:] < 0
    heights = (left + right) / 2
    heights[crossing] = ((left**2 + right**2)[crossing] / (left + right)[crossing]) / 2
    return float((np.diff(shares) * heights).sum())


LOWER_BITS = 32
"""Where a key holds the place of its value; the value itself is above."""


def largest_first(rows: Tensor) -> Tensor:
    """Places int64 [batch, n] of the finite float32 values of each row from the largest to the smallest, stable."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    return torch.from_numpy(places_of(sorted_keys(rows.detach().numpy(), falling=True)))


def sorted_keys(rows: NDArray[np.float32], falling: bool = False) -> NDArray[np.int64]:
    """A key for each value of the rows [batch, n], sorted within each row; no value may be NaN."""
    assert rows.dtype == np.float32, f"keys hold float32 values, not {rows.dtype}"
    bits = (rows + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising if falling else rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    return keys


def places_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the values in their rows."""
    places: NDArray[np.int64] = keys & ((1 << LOWER_BITS) - 1)
    return places


def new_values(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the sorted values [..., n - 1] differ from the one before, from the second on."""
    values = keys >> LOWER_BITS
    differ: NDArray[np.bool_] = values[..., 1:] != values[..., :-1]
    return differ


@dataclass(frozen=True)
class Ranking:
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
    """How many pixels of each map have a positive attribution."""
    finite: list[bool]
    """False for a map with NaN or infinite values: it has no ranking and no score."""

    def coverage(self) -> list[float]:
        """The share of pixels with a positive attribution, NaN for a map that is not finite."""
        pixels = self.order.shape[1]
        known = zip(self.positive, self.finite, strict=True)
        return [count / pixels if finite else float("nan") for count, finite in known]

    def positive_shares(self, image: int) -> Tensor:
        """float64 [positive + 1] on the CPU: the share of all positive attribution in the first i pixels."""
        values = self.values[image, : self.positive[image]].double().cpu()
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        return sums / sums[-1]


def ranking(evidence: Evidence) -> Ranking:
    """The ranking of the batch, made once."""
    return evidence.once("ranking", lambda: _rank(evidence))


def _rank(evidence: Evidence) -> Ranking:
    maps, finite = evidence.finite_maps()
    maps = maps.flatten(1)
    shuffled = torch.stack([_shuffle(evidence, image) for image in evidence.images]).to(maps.device)
    sorting = largest_first(maps.gather(1, shuffled))
    order = shuffled.gather(1, sorting)
    positions = torch.arange(maps.shape[1], dtype=torch.int32, device=maps.device).expand_as(order)
    ranks = torch.empty_like(positions, memory_format=torch.contiguous_format).scatter_(1, order, positions)
    return Ranking(order, ranks, maps.gather(1, order), (maps > 0).sum(1).tolist(), finite.tolist())


def _shuffle(evidence: Evidence, image: Tensor) -> Tensor:
    return torch.randperm(image[0].numel(), generator=image_generator(evidence.seed, image, "ties"))


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
    for item, rows in find_runs(image):
        start, stop, inside = facts[rows].to(torch.int32)[:, :, None, None].unbind(1)
        ranks = ranked.ranks[item].view(1, *evidence.images.shape[2:])
        torch.eq((ranks >= start) & (ranks < stop), inside.bool(), out=shown[rows])
    if part[0].baseline == NOISY_LINEAR:
        return _imputed(evidence, image, ~shown)
    cover = evidence.baseline(part[0].baseline)
    made = evidence.images.new_empty(len(part), *evidence.images.shape[1:])
    for item, rows in find_runs(image):
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


def curve_scores(evidence: Evidence, curve: Curve, counts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Target's (logit, probability), float64 [points, 2] on the CPU per image, after each count of changed pixels.

    Passes are filled across images and counts, and none is made twice for one batch: showing the k largest on a
    baseline is hiding the others, smallest first, and the ends of all curves are common. NaN, without a pass, for maps
    that are not finite.
    """
    ranked = ranking(evidence)
    known: dict[Seen, Point] = evidence.once("seen", dict)
    wanted = [
        [seen_after(curve, image, count, ranked) for count in steps] if ranked.finite[image] else []
        for image, steps in enumerate(counts)
    ]
    _measure(evidence, ranked, known, [seen for steps in wanted for seen in steps])
    kept: dict[str, dict[tuple[int, int], Point]] = evidence.once("kept curves", dict)
    scores = []
    for image, steps in enumerate(wanted):
        points = [known[seen] for seen in steps]
        kept.setdefault(curve.label, {}).update(
            {(image, count): point for count, point in zip(counts[image], points, strict=bool(points))}
        )
        missing = [(float("nan"),) * 2] * len(counts[image])
        scores.append(torch.tensor(points or missing, dtype=torch.float64).view(-1, 2))
    return scores


def target_curves(evidence: Evidence, curve: Curve, counts: Sequence[Sequence[int]], space: str) -> list[Tensor]:
    """`curve_scores` in one score space: float64 [points] per image."""
    return [scores[:, SPACES.index(space)] for scores in curve_scores(evidence, curve, counts)]


def kept_curves(evidence: Evidence) -> list[CurvePoint]:
    """All points of all curves that the metrics of this batch asked for, by curve, image and share."""
    pixels = evidence.images[0, 0].numel()
    kept: dict[str, dict[tuple[int, int], Point]] = evidence.once("kept curves", dict)
    return [
        CurvePoint(image, label, count / pixels, *point)
        for label, points in sorted(kept.items())
        for (image, count), point in sorted(points.items())
    ]


def _measure(evidence: Evidence, ranked: Ranking, known: dict[Seen, Point], wanted: list[Seen]) -> None:
    """Adds what is missing: whole images and baselines from the evidence, the rest in chunks that are made lazily."""
    missing = [seen for seen in dict.fromkeys(wanted) if seen not in known]
    pixels = ranked.order.shape[1]
    ends = {seen: seen.stop == pixels for seen in missing if seen.inside and seen.stop - seen.start in (0, pixels)}
    for seen, whole in ends.items():
        logits = evidence.logits() if whole else evidence.baseline_logits(seen.baseline)
        known[seen] = _points(logits[seen.image][None], evidence.targets[seen.image][None])[0]
    missing = [seen for seen in missing if seen not in ends]
    for chunk in evidence.evaluator.chunks(len(missing), gradient=False):
        part = [missing[index] for index in chunk.tolist()]
        image = torch.tensor([seen.image for seen in part], device=evidence.images.device)
        logits = evidence.evaluator.logits(perturbed(evidence, ranked, part, image))
        known.update(zip(part, _points(logits, evidence.targets[image]), strict=True))


def _points(logits: Tensor, targets: Tensor) -> list[Point]:
    columns = [target_scores(logits, targets, space).tolist() for space in SPACES]
    return list(zip(*columns, strict=True))
