"""Judge the groups of an audit: which of them are shortcuts, which only looked odd, and which are the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from seewhy.analyses.audit.groups import Subject, compute_jaccard
from seewhy.analyses.audit.maps import Facts
from seewhy.analyses.audit.pictures import Rows, Values
from seewhy.analyses.audit.proof import BY_CLASS, BY_PLACE, BY_REST, REMOVED, TESTS, Candidate, Measurement
from seewhy.statistics.intervals import DIFFERENCE, Interval, compute_mean_intervals, find_difference_bounds
from seewhy.statistics.tests import ALPHA, compute_sign_flip_p, correct_by_holm

COPIES = 0.5
"""Spread among the images of a group below which they are copies of one picture, not images with one thing in common."""
ONE = 0.5
"""Jaccard index from which on two proven groups of a class are one shortcut."""
Tried = tuple[Subject, Candidate, Measurement | None]
SetApart = Callable[[Subject, Candidate, Rows], Measurement | None]
"""Measures what a group shares without the images that share something stronger; None where too few are left."""


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
        spread: Of its images beside what they share, as a share of that of the other images.
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
    spread: float
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


def judge(
    tried: Sequence[Tried], facts: Facts, effect: float, seed: int, set_apart: SetApart | None = None
) -> list[Finding]:
    """Judge all groups that were tried, the strongest first.

    A group is a shortcut where taking what it shares out of its images lowers the probability of the class by more than
    the same at random places does, *and* putting it into images of other classes raises that probability by at least
    `effect` more than (a) the same at random places, (b) what the rest of the class shares and (c) its rise for any other
    class: the lower ends of the 95 % intervals decide, and the largest p of the four sign-flip tests must be below 0.05
    after Holm's correction for all groups that were tried, also those that a first look ended. Images that are copies of one
    picture are none.

    A proven group is the same shortcut as a stronger one of its class where most of their images are the same, or where the
    images that are in the stronger one are left out, of the group and of what it is held against, and its effect is no
    longer proven: a tag raises every group that has it more often than the rest of the class does.

    Args:
        tried: Each with its measurement; None where a first look ended it.
        facts: Of all images.
        effect: Rise of the probability that counts.
        seed: Of intervals and tests.
        set_apart: Measures a group again without some images; None: only most of the images tell.

    Returns:
        The findings; of those that are one shortcut the weaker ones name the strongest.
    """
    measured = [number for number, (_, _, each) in enumerate(tried) if each is not None]
    samples = {
        (number, key): np.array(values)
        for number in measured
        for key, values in _list_samples(tried[number][2]).items()
    }
    changes = {key: DIFFERENCE if key[1] in ("rise", "fall") else find_difference_bounds(DIFFERENCE) for key in samples}
    whole = zip(samples, compute_mean_intervals(list(samples.values()), seed), strict=True)
    intervals = {key: interval.clip(changes[key]) for key, interval in whole}
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
    order = sorted(range(len(tried)), key=lambda number: _rate(findings[number]))

    def has_own_effect(place: int, without: Rows) -> bool:
        subject, candidate, _ = tried[order[place]]
        alone = None if set_apart is None else set_apart(subject, candidate, without)
        if alone is None:
            return set_apart is None
        left = {key: np.array(values) for key, values in alone.differences.items()}
        ranges = compute_mean_intervals(list(left.values()), seed)
        effects = {key: _join_ends(left[key], each) for key, each in zip(left, ranges, strict=True)}
        return not _find_reason(candidate, effects, 0.0, effect)

    return _join([findings[number] for number in order], has_own_effect)


def _rate(finding: Finding) -> tuple[bool, float, float]:
    """What is proven first, then by effect; what has none by what its removal costs."""
    removed = finding.effects.get(REMOVED, (-math.inf,))[0]
    return not finding.proven, -finding.effect if finding.effect == finding.effect else math.inf, -removed


def _join_ends(values: Values, interval: Interval) -> tuple[float, float, float]:
    """(mean, lower end, upper end)."""
    return float(values.mean()), float(interval.low), float(interval.high)


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
        return _join_ends(samples[number, key], intervals[number, key])

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
        spread=candidate.spread,
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
    if candidate.spread < COPIES:
        return "its images are alike everywhere, not in one thing: copies of one picture"
    return "" if p < ALPHA else f"p = {p:.2g} after the correction for all groups that were tried"


def _join(findings: Sequence[Finding], has_own_effect: Callable[[int, Rows], bool]) -> list[Finding]:
    """Name for each proven group the stronger one of the same class that it is, if it is one."""
    joined: list[Finding] = []
    for place, each in enumerate(findings):
        shares = {
            number: compute_jaccard(other.members, each.members)
            for number, other in enumerate(joined, 1)
            if each.proven and other.proven and not other.same_as and other.target == each.target
        }
        overlapping = [number for number, share in shares.items() if share > 0]
        same = 0
        if overlapping:
            nearest = max(overlapping, key=lambda number: shares[number])
            without = np.unique(np.concatenate([joined[number - 1].members for number in overlapping]))
            if shares[nearest] >= ONE or not has_own_effect(place, without):
                same = nearest
        joined.append(replace(each, same_as=same))
    return joined
