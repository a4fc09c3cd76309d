"""Prove what a group's images share: taken out of them and put into others, beside the same at random places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from seewhy.analyses.audit.groups import ALL, FEWEST, Group, Subject, split_rows
from seewhy.analyses.audit.interventions import (
    Shared,
    choose_place,
    compute_features,
    measure_deviation,
    measure_shared,
    measure_spread,
    refine_members,
)
from seewhy.analyses.audit.maps import Facts, compute_images
from seewhy.analyses.audit.pictures import Pictures, Rows, Values, shrink, split_evenly
from seewhy.core.types import Images
from seewhy.models.batched import BatchedEvaluator

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


@dataclass(frozen=True)
class Candidate:
    """What a group shares, as it is tried.

    Attributes:
        group: As it was found.
        members: Rows of the images that have it.
        share: (images of the class that have it, images of the class).
        shared: What it is.
        look: Rise of the probability at the first look, less that of a control.
        looks: The same for everything that was looked at, of which this is the largest.
        lessened: Of a place, its mask on the images in small.
        spread: Standard deviation among its images beside what they share, as a share of that among the other images.
    """

    group: Group
    members: Rows
    share: tuple[int, int]
    shared: Shared
    look: float
    spread: float = 1.0
    looks: tuple[float, ...] = ()
    lessened: Tensor | None = None


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
        self._features: list[tuple[Tensor, str, Tensor]] = []

    def list_others(self, target: int) -> Rows:
        """List the images that neither are nor seem to be of a class, in a random order.

        Args:
            target: Index of the class.

        Returns:
            Their rows.
        """
        rows = np.flatnonzero((target == ALL) | (self.facts.predicted != target) & (self.facts.labels != target))
        return np.random.default_rng((self.seed, target + 1)).permutation(rows)

    def look(self, subject: Subject, group: Group, small: Tensor, before: Sequence[float] = ()) -> Candidate | None:
        """Look at each thing that a group may share, on a few images of other classes, and take the strongest.

        Args:
            subject: Of the group.
            group: The group.
            small: The images of `subject.context` in small.
            before: What the looks gave in an earlier attempt: then none is taken.

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
        looks = list(before)
        if len(looks) != len(trials):
            built = [self._build(subject, group, small, places, *trial, others) for trial in trials]
            looks = self._glance([each.shared for each in built], few, subject.target)
            candidate = built[int(np.argmax(looks))]
        else:
            candidate = self._build(subject, group, small, places, *trials[int(np.argmax(looks))], others)
        spread = measure_spread(small, np.flatnonzero(np.isin(subject.context, candidate.members)), candidate.lessened)
        return replace(candidate, look=max(looks), looks=tuple(looks), spread=spread)

    def _glance(self, trials: Sequence[Shared], few: Rows, target: int) -> list[float]:
        """The rise of each, less that of its control, on a few images."""
        images = self.pictures.gather(few)
        parts = (shared.insert(images, draw) for shared in trials for draw in (None, 0))
        values = compute_images(self.evaluator, parts)[:, target].view(len(trials), 2, len(few))
        return (values[:, 0] - values[:, 1]).mean(1).tolist()

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
            lessened = shrink(mask[None, None].float())[0, 0] >= 0.5
        members, _ = refine_members(kind, places, self._compute_features(kind, small, lessened))
        outside = np.setdiff1d(np.arange(len(subject.context)), members)
        rest = subject.context[outside] if len(outside) >= FEWEST else others
        shared = measure_shared(kind, mask, self.pictures, subject.context[members], rest, others, self.seed)
        rows = subject.context[members]
        of_class = self.facts.labels[subject.context] == subject.target
        if bool(of_class.any()):
            share = int(of_class[members].sum()), int(of_class.sum())
        else:
            share = len(members), len(subject.context)
        return Candidate(group, rows, share, shared, math.nan, lessened=lessened)

    def _compute_features(self, kind: str, small: Tensor, mask: Tensor | None) -> Tensor:
        """The features of a kind; those that do not depend on a mask are remembered for the images that were last."""
        if mask is not None:
            return compute_features(kind, small, mask)
        for images, name, features in self._features:
            if images is small and name == kind:
                return features
        self._features = [(small, kind, compute_features(kind, small, None)), *self._features[:3]]
        return self._features[0][2]

    def _measure_rise(self, rows: Rows, target: int, shared: Shared, draw: int | None) -> tuple[Values, Tensor]:
        """(rise of the class's probability where it is inserted [n], the probabilities then [n, classes])."""
        changed = self._change(rows, lambda images, _: shared.insert(images, draw))
        return changed[:, target].numpy() - self.facts.probabilities[rows, target], changed

    def _change(self, rows: Rows, change: Callable[[Images, Rows], Images]) -> Tensor:
        def parts() -> Iterator[Images]:
            for part in split_rows(rows, PART):
                yield change(self.pictures.gather(part), part)

        return compute_images(self.evaluator, parts())

    def set_apart(self, subject: Subject, candidate: Candidate, without: Rows) -> Candidate | None:
        """Leave images out of a group and of what it is held against: what do the others share?

        Args:
            subject: Of the group.
            candidate: What all of its images share.
            without: Rows of the images that are left out.

        Returns:
            What those that are left share, at the same place; None where they are too few for a group.
        """
        members = np.setdiff1d(candidate.members, without)
        if len(members) < FEWEST:
            return None
        others = self.list_others(subject.target)
        rest = np.setdiff1d(subject.context, np.union1d(candidate.members, without))
        rest = rest if len(rest) >= FEWEST else others
        kind, mask = candidate.shared.kind, candidate.shared.region
        shared = measure_shared(kind, mask, self.pictures, members, rest, others, self.seed)
        return replace(candidate, members=members, shared=shared)

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

        def change(images: Images, rows: Rows, way: int) -> Images:
            return shared.remove(images, self.pictures.gather([partner[row] for row in rows.tolist()]), draw)[way]

        ways = len(shared.remove(self.pictures.gather(own[:1]), self.pictures.gather(donors[:1]), draw))
        changed = [self._change(own, partial(change, way=way)) for way in range(ways)]
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
        return groups * (4 * 2 * SCREENED + self.count_proof())

    def count_proof(self) -> int:
        """Count the forward passes of the proof of one group, at most.

        Returns:
            Passes of one image each.
        """
        return self.images * (2 + self.places) + 2 * self.images * (1 + self.places)
