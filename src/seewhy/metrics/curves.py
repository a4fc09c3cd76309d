"""Perturbation curves: the target's score while pixels are hidden or shown in the order of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.metrics.evidence import SPACES, Evidence, target_scores
from seewhy.metrics.ranking import Ranking, ranking
from seewhy.metrics.seen import Curve, Seen, perturbed, seen_after

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
    for chunk in evidence.probe.chunks(len(missing), gradient=False):
        part = [missing[index] for index in chunk.tolist()]
        image = torch.tensor([seen.image for seen in part], device=evidence.images.device)
        logits = evidence.probe.logits(perturbed(evidence, ranked, part, image))
        known.update(zip(part, _points(logits, evidence.targets[image]), strict=True))


def _points(logits: Tensor, targets: Tensor) -> list[Point]:
    columns = [target_scores(logits, targets, space).tolist() for space in SPACES]
    return list(zip(*columns, strict=True))
