"""Prove what a group's images share: taken out of them and put into others, beside the same at random places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from seewhy.analyses.audit.groups import ALL, FEWEST, Group, Subject, compute_jaccard, split_rows
from seewhy.analyses.audit.interventions import (
    Shared,
    choose_place,
    measure_deviation,
    measure_shared,
    refine_members,
)
from seewhy.analyses.audit.maps import Facts, Pictures, Rows, Values, compute_images, split_evenly
from seewhy.core.types import Images
from seewhy.models.batched import BatchedEvaluator
from seewhy.statistics.intervals import Interval, compute_mean_intervals
from seewhy.statistics.tests import ALPHA, compute_sign_flip_p, correct_by_holm

PART = 64
"""Images that are changed at once."""
SCREENED = 32
"""Images of other classes that a first look takes; the proof takes others."""
REMOVED, BY_PLACE, BY_REST, BY_CLASS = "removed", "inserted", "beside_rest", "beside_control"
TESTS = {
    REMOVED: "removed from its own images it lowers the probability no more than at random places",
    BY_PLACE: "inserted into others it raises the probability no more than at random places",
    BY_REST: "what the rest of the class shares raises it as much: that is the class itself",
    BY_CLASS: "inserted into others it raises another class as much",
}
"""The differences that must all be above zero, with what is said where one is not."""
ONE = 0.5
"""Jaccard index from which on two proven groups of a class are one shortcut."""


@dataclass(frozen=True)
class Candidate:
    """What a group shares, as it is tried.

    Attributes:
        group: As it was found.
        members: Rows of the images that have it.
        share: (images of the class that have it, images of the class).
        shared: What it is.
        look: Rise of the probability at the first look, less that of a control.
    """

    group: Group
    members: Rows
    share: tuple[int, int]
    shared: Shared
    look: float


@dataclass(frozen=True)
class Measurement:
    """What was measured of a candidate, image by image.

    Attributes:
        differences: For each of `TESTS` the differences, one an image; for images of many classes the first alone.
        rise: Of the class's probability in images of others where it was inserted.
        fall: Of the class's probability in its own images where it was removed.
        follow: (images of others that then get the class, images).
        accuracy: (right answers on its own labelled images, the same without it, images); counts.
    """

    differences: dict[str, list[float]] = field(default_factory=dict)
    rise: list[float] = field(default_factory=list)
    fall: list[float] = field(default_factory=list)
    follow: tuple[int, int] = (0, 0)
    accuracy: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Finding:
    """One group with its verdict.

    Attributes:
        subject: Class or confusion in words.
        target: Index of the class.
        kind: `place`, `pattern` or `cast`.
        source: How the group was found.
        members: Rows of its images.
        share: (share of the class, lower end of its 95 % interval, upper end).
        stability: Of the cluster.
        border: How much more of its mean map lies at the border than an even one has.
        outside: Mean share of its maps outside of the objects' masks; NaN without masks.
        effects: For each of `TESTS` (mean, lower end, upper end); empty where a first look found nothing, and the first
            alone where the images are of many classes.
        rise: (mean, lower, upper) of the class's probability in other images where it was inserted.
        fall: (mean, lower, upper) of its loss in its own where it was removed.
        follow: Share of other images that then get the class.
        accuracy: (with it, without it) on its own labelled images; NaN without labels.
        p: The largest of the tests, before correction.
        p_holm: Corrected for all groups that were tried.
        proven: Whether it is a shortcut.
        reason: Why not; empty where it is.
        same_as: Number, from 1, of a finding further up that is the same shortcut; 0 where there is none.
        region: Where it is, bool [height, width].
    """

    subject: str
    target: int
    kind: str
    source: str
    members: Rows
    share: tuple[float, float, float]
    stability: float
    border: float
    outside: float
    effects: dict[str, tuple[float, float, float]]
    rise: tuple[float, float, float]
    fall: tuple[float, float, float]
    follow: float
    accuracy: tuple[float, float]
    p: float
    p_holm: float
    proven: bool
    reason: str
    same_as: int
    region: Tensor

    @property
    def effect(self) -> float:
        """The smallest rise beside a control, or what the first look gave."""
        inserted = [self.effects[key][0] for key in (BY_PLACE, BY_REST, BY_CLASS) if key in self.effects]
        return min(inserted, default=math.nan)


class Prover:
    """Tries candidates on one network.

    Args:
        evaluator: Of the network.
        pictures: All images.
        facts: What is known of them.
        images: Images of each kind that are changed.
        places: Controls of each.
        seed: Of all that is drawn.
    """

    def __init__(
        self, evaluator: BatchedEvaluator, pictures: Pictures, facts: Facts, images: int, places: int, seed: int
    ) -> None:
        self.evaluator, self.pictures, self.facts = evaluator, pictures, facts
        self.images, self.places, self.seed = images, places, seed

    def list_others(self, target: int) -> Rows:
        """List the images that neither are nor seem to be of a class, in a random order.

        Args:
            target: Index of the class.

        Returns:
            Their rows.
        """
        rows = np.flatnonzero((target == ALL) | (self.facts.predicted != target) & (self.facts.labels != target))
        return np.random.default_rng((self.seed, target + 1)).permutation(rows)

    def look(self, subject: Subject, group: Group, small: Tensor) -> Candidate | None:
        """Look at each thing that a group may share, on a few images of other classes, and take the strongest.

        Args:
            subject: Of the group.
            group: The group.
            small: The images of `subject.context` in small.

        Returns:
            The candidate; None where no other class has images.
        """
        if subject.target == ALL:
            return self._place(subject, group)
        others = self.list_others(subject.target)
        few = others[: min(SCREENED, len(others) // 2)]
        if not len(few):
            return None
        places = np.flatnonzero(np.isin(subject.context, subject.rows[group.members]))
        mean = torch.from_numpy(self.facts.maps[subject.rows[group.members]].mean(0))
        size = self.pictures.shape[1:]
        trials: list[tuple[str, Tensor | None]] = [("pattern", None), ("cast", None)]
        masks = [choose_place(mean, size), choose_place(measure_deviation(small, places), size)]  # type: ignore[arg-type]
        trials += [("place", mask) for number, mask in enumerate(masks) if not number or bool((mask != masks[0]).any())]
        best: Candidate | None = None
        for kind, mask in trials:
            candidate = self._build(subject, group, small, places, kind, mask, others)
            rises = [self._measure_rise(few, subject.target, candidate.shared, draw)[0] for draw in (None, 0)]
            candidate = replace(candidate, look=float((rises[0] - rises[1]).mean()))
            if best is None or candidate.look > best.look:
                best = candidate
        return best

    def _place(self, subject: Subject, group: Group) -> Candidate:
        """The place where the mean map of images of many classes lies, which can only be taken out of them."""
        rows = subject.rows[group.members]
        mask = choose_place(torch.from_numpy(self.facts.maps[rows].mean(0)), self.pictures.shape[1:])  # type: ignore[arg-type]
        shared = measure_shared("place", mask, self.pictures, rows, rows, rows, self.seed)
        return Candidate(group, rows, (len(rows), len(subject.rows)), shared, math.nan)

    def _build(
        self,
        subject: Subject,
        group: Group,
        small: Tensor,
        places: Rows,
        kind: str,
        mask: Tensor | None,
        others: Rows,
    ) -> Candidate:
        lessened = None
        if mask is not None:
            lessened = torch.nn.functional.adaptive_avg_pool2d(mask[None, None].float(), small.shape[2:])[0, 0] >= 0.5
        members, _ = refine_members(kind, places, small, lessened)
        outside = np.setdiff1d(np.arange(len(subject.context)), members)
        rest = subject.context[outside] if len(outside) >= FEWEST else others
        shared = measure_shared(kind, mask, self.pictures, subject.context[members], rest, others, self.seed)
        rows = subject.context[members]
        of_class = self.facts.labels[subject.context] == subject.target
        if bool(of_class.any()):
            share = int(of_class[members].sum()), int(of_class.sum())
        else:
            share = len(members), len(subject.context)
        return Candidate(group, rows, share, shared, math.nan)

    def _measure_rise(self, rows: Rows, target: int, shared: Shared, draw: int | None) -> tuple[Values, Tensor]:
        """(rise of the class's probability where it is inserted [n], the probabilities then [n, classes])."""
        changed = self._change(rows, lambda images, _: shared.insert(images, draw))
        return changed[:, target].numpy() - self.facts.probabilities[rows, target], changed

    def _change(self, rows: Rows, change: Callable[[Images, Rows], Images]) -> Tensor:
        def parts() -> Iterator[Images]:
            for part in split_rows(rows, PART):
                yield change(self.pictures.gather(part), part)

        return compute_images(self.evaluator, parts())

    def measure(self, subject: Subject, candidate: Candidate) -> Measurement:
        """Take what a group shares out of its images and put it into others.

        Args:
            subject: Of the group.
            candidate: What it shares.

        Returns:
            What it did to every image.
        """
        target, shared = subject.target, candidate.shared
        all_others = self.list_others(target)
        own = split_evenly(candidate.members, self.images)
        fall, without = self._measure_fall(own, all_others, target, shared, None)
        falls = np.mean(
            [self._measure_fall(own, all_others, target, shared, draw)[0] for draw in range(self.places)], 0
        )
        labels, before = self.facts.labels[own], self.facts.probabilities
        right = [(each == labels)[labels >= 0] for each in (before[own].argmax(1), without)]
        removal = Measurement(
            differences={REMOVED: (fall - falls).tolist()},
            fall=fall.tolist(),
            accuracy=(int(right[0].sum()), int(right[1].sum()), int((labels >= 0).sum())),
        )
        if target == ALL:
            return removal
        others = all_others[min(SCREENED, len(all_others) // 2) :][: self.images]
        rise, changed = self._measure_rise(others, target, shared, None)
        random = np.mean([self._measure_rise(others, target, shared, draw)[0] for draw in range(self.places)], 0)
        with_rest = self._change(others, lambda images, _: shared.insert_rest(images))
        by_rest = with_rest[:, target].numpy() - before[others, target]
        gains = changed.numpy() - before[others]
        gains[:, target] = -np.inf
        control = int(np.where(np.isfinite(gains), gains, -np.inf).mean(0).argmax())
        return replace(
            removal,
            differences={
                **removal.differences,
                BY_PLACE: (rise - random).tolist(),
                BY_REST: (rise - by_rest).tolist(),
                BY_CLASS: (rise - gains[:, control]).tolist(),
            },
            rise=rise.tolist(),
            follow=(int((changed.argmax(1) == target).sum()), len(others)),
        )

    def _measure_fall(
        self, own: Rows, others: Rows, target: int, shared: Shared, draw: int | None
    ) -> tuple[Values, Rows]:
        """(loss of the class's probability where it is removed, the mean of the ways [n]; the class of the first way)."""
        donors = np.resize(others, len(own))
        partner = dict(zip(own.tolist(), donors.tolist(), strict=True))

        def list_ways(images: Images, rows: Rows) -> list[Images]:
            return shared.remove(images, self.pictures.gather([partner[row] for row in rows.tolist()]), draw)

        count = len(list_ways(self.pictures.gather(own[:1]), own[:1]))
        changed = [
            self._change(own, lambda images, rows, way=way: list_ways(images, rows)[way]) for way in range(count)
        ]  # type: ignore[misc]
        classes = np.full(len(own), target) if target != ALL else self.facts.predicted[own]
        after = torch.stack(changed).mean(0).numpy()[np.arange(len(own)), classes]
        return self.facts.probabilities[own, classes] - after, changed[0].argmax(1).numpy()

    def count_passes(self, groups: int) -> int:
        """Count the forward passes of so many groups, at most.

        Args:
            groups: That are tried.

        Returns:
            Passes of one image each.
        """
        return groups * (4 * 2 * SCREENED + self.images * (2 + self.places) + 2 * self.images * (1 + self.places))


def judge(
    tried: Sequence[tuple[Subject, Candidate, Measurement | None]], facts: Facts, effect: float, seed: int
) -> list[Finding]:
    """Judge all groups that were tried, the strongest first.

    A group is a shortcut where taking what it shares out of its images lowers the probability of the class by more than
    the same at random places does, *and* putting it into images of other classes raises that probability by at least
    `effect` more than (a) the same at random places, (b) what the rest of the class shares and (c) its rise for any other
    class: the lower ends of the 95 % intervals decide, and the largest p of the four sign-flip tests must be below 0.05
    after Holm's correction for all groups that were tried, also those that a first look ended.

    Args:
        tried: Each with its measurement; None where a first look ended it.
        facts: Of all images.
        effect: Rise of the probability that counts.
        seed: Of intervals and tests.

    Returns:
        The findings; of those that are one shortcut the weaker ones name the strongest.
    """
    measured = [number for number, (_, _, each) in enumerate(tried) if each is not None]
    samples = {
        (number, key): np.array(values)
        for number in measured
        for key, values in _list_samples(tried[number][2]).items()
    }
    intervals = dict(zip(samples, compute_mean_intervals(list(samples.values()), seed), strict=True))
    tests = dict(zip(samples, compute_sign_flip_p(list(samples.values()), seed), strict=True))
    p = np.ones(len(tried))
    for number in measured:
        p[number] = max(
            float(tests[number, key]) if (number, key) in samples and samples[number, key].mean() > 0 else 1.0
            for key in TESTS
        )
    corrected = correct_by_holm(p)
    findings = [
        _describe(
            *tried[number], facts, number, samples, intervals, (float(p[number]), float(corrected[number])), effect
        )
        for number in range(len(tried))
    ]
    findings.sort(key=_rate)
    return _join(findings)


def _rate(finding: Finding) -> tuple[bool, float, float]:
    """What is proven first, then by effect; what has none by what its removal costs."""
    removed = finding.effects.get(REMOVED, (-math.inf,))[0]
    return not finding.proven, -finding.effect if finding.effect == finding.effect else math.inf, -removed


def _list_samples(measurement: Measurement | None) -> dict[str, list[float]]:
    assert measurement is not None
    samples = {**measurement.differences, "rise": measurement.rise, "fall": measurement.fall}
    return {key: values for key, values in samples.items() if values}


def _describe(
    subject: Subject,
    candidate: Candidate,
    measurement: Measurement | None,
    facts: Facts,
    number: int,
    samples: dict[tuple[int, str], Values],
    intervals: dict[tuple[int, str], Interval],
    p: tuple[float, float],
    effect: float,
) -> Finding:
    def read(key: str) -> tuple[float, float, float]:
        if (number, key) not in samples:
            return math.nan, math.nan, math.nan
        interval = intervals[number, key]
        return float(samples[number, key].mean()), float(interval.low), float(interval.high)

    effects = {key: read(key) for key in TESTS if (number, key) in samples}
    reason = _find_reason(candidate, effects, p[1], effect)
    hits, whole = candidate.share
    outcomes = np.repeat([1.0, 0.0], [hits, whole - hits])
    share = compute_mean_intervals([outcomes], 0, [(0, 1)])[0] if whole else Interval(math.nan, math.nan, "")
    outside = facts.outside[candidate.members]
    follow, accuracy = (measurement.follow, measurement.accuracy) if measurement else ((0, 0), (0, 0, 0))
    labelled = accuracy[2] or math.nan
    return Finding(
        subject=subject.name,
        target=subject.target,
        kind=candidate.shared.kind,
        source=candidate.group.source,
        members=candidate.members,
        share=(hits / whole if whole else math.nan, share.low, share.high),
        stability=candidate.group.stability,
        border=candidate.group.border,
        outside=float(np.nanmean(outside)) if bool(np.isfinite(outside).any()) else math.nan,
        effects=effects,
        rise=read("rise") if effects else (candidate.look, math.nan, math.nan),
        fall=read("fall"),
        follow=follow[0] / follow[1] if follow[1] else math.nan,
        accuracy=(accuracy[0] / labelled, accuracy[1] / labelled),
        p=p[0],
        p_holm=p[1],
        proven=not reason,
        reason=reason,
        same_as=0,
        region=candidate.shared.region,
    )


def _find_reason(candidate: Candidate, effects: dict[str, tuple[float, float, float]], p: float, effect: float) -> str:
    """Why a group is no shortcut; empty where it is."""
    if not effects:
        return f"a first look raised the probability by {candidate.look:.2f} more than a control: too little to go on"
    for key, words in TESTS.items():
        if key not in effects:
            return "its images are of many classes: what they share cannot be told from their objects"
        low = effects[key][1]
        if not low > 0:
            return words
        if key != REMOVED and not low >= effect:
            return f"{words}, or by less than audit.effect={effect:g}"
    return "" if p < ALPHA else f"p = {p:.2g} after the correction for all groups that were tried"


def _join(findings: Sequence[Finding]) -> list[Finding]:
    """Name for each proven group the stronger one of the same class whose images are the same."""
    joined: list[Finding] = []
    for each in findings:
        same = [
            number
            for number, other in enumerate(joined, 1)
            if each.proven
            and other.proven
            and not other.same_as
            and other.target == each.target
            and compute_jaccard(other.members, each.members) >= ONE
        ]
        joined.append(replace(each, same_as=same[0] if same else 0))
    return joined
