"""Run an audit: explain, find, prove; what a run folder holds is not computed again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from seewhy.analyses.audit.groups import (
    ALL,
    FEWEST,
    LARGEST_SHARE,
    Group,
    Subject,
    describe_all,
    find_groups,
    list_subjects,
)
from seewhy.analyses.audit.maps import FOLDER, Facts, Reader
from seewhy.analyses.audit.pictures import Pictures, Rows, split_evenly
from seewhy.analyses.audit.proof import TESTS, Candidate, Measurement, Prover
from seewhy.analyses.audit.verdict import Finding, Tried, judge
from seewhy.analyses.ground_truth.run import CellStore, digest_plan
from seewhy.core.disclosure import print_line
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.settings import Count, ProbeBatchSize, Seed, UnitInterval, check_fields
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

HALF = 0.5
"""Share of `effect` that a first look must reach for a proof."""
Several = Annotated[int, Ge(20), Le(1_000_000)]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is looked for, and how thoroughly.

    Args:
        least: Images of a class, or of a confusion, below which it is not looked at.
        most: Images of a class that are clustered.
        candidates: Clusters of a class that are tried; all of its images are one group more.
        images: Images of each kind that a proof changes.
        places: Random places, or other controls, of each proof.
        resamples: Bootstrap samples of the stability of clusters.
        effect: Rise of the class's probability in images of other classes from which on something is a shortcut.
        fail_on: Effect from which on a shortcut ends the command with exit code 3; None: none does.
        seed: Of all that is drawn.
        probe_batch_size: Images in the network at once, or `auto`.
    """

    least: Several = 40
    most: Several = 500
    candidates: Count = 12
    images: Several = 100
    places: Count = 3
    resamples: Count = 5
    effect: UnitInterval = 0.2
    fail_on: UnitInterval | None = None
    seed: Seed = 0
    probe_batch_size: ProbeBatchSize = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "audit")


@dataclass(frozen=True)
class Result:
    """What an audit found.

    Attributes:
        pictures: All images.
        facts: What is known of each.
        subjects: Classes and confusions that were looked at.
        findings: All groups that were tried, the strongest first.
        before: (images, groups) that an earlier attempt had done.
        whole: Images that there are; `pictures` are fewer where no class is predicted for enough of them.
    """

    pictures: Pictures
    facts: Facts
    subjects: list[Subject]
    findings: list[Finding]
    before: tuple[int, int]
    whole: int

    @property
    def shortcuts(self) -> list[Finding]:
        """What is proven, each once."""
        return [each for each in self.findings if each.proven and not each.same_as]


def run_audit(
    audit: Audit,
    classifier: Classifier,
    explainer: Explainer,
    batches: Iterable[Batch],
    folder: Path,
    plan: Mapping[str, Any] | None = None,
) -> Result:
    """Find what a classifier uses besides the object, and prove it.

    Args:
        audit: How.
        classifier: The network; it is not changed.
        explainer: The method of the maps.
        batches: The images.
        folder: The run folder.
        plan: What decides the maps beside these.

    Returns:
        The groups with their verdicts. The file of the pixels lies in the folder until `clean_up`.

    Raises:
        UserError: There are too few images of every class.
        Incompatible: Classes do not exclude each other, or the method refuses the network.
    """
    classifier.facts.require_score("audit", "softmax", "binary")
    out = RunFolder(folder)
    method = {"method": explainer.name, "parameters": explainer.parameters}
    digest = digest_plan({**(plan or {}), **method, "weights": classifier.weights_sha256, "seed": audit.seed})
    cost = explainer.passes_per_image(size=classifier.facts.size, classes=len(classifier.facts.classes))
    each = "as many as its map needs" if cost is None else f"{cost[0] + 2} forward and {cost[1]} backward"
    print_line(f"passes for each image: {each}; with a mask 2 more forward")

    whole = 0

    def choose(predicted: Rows) -> Rows:
        nonlocal audit, whole
        rows, whole = np.arange(len(predicted)), len(predicted)
        if whole < audit.least:
            raise UserError(
                f"there are {whole} images, fewer than audit.least={audit.least}: give more, best as many of each class, "
                "or set audit.least (at least 20)"
            )
        if np.bincount(predicted).max() < audit.least:
            rows = split_evenly(rows, max(2 * audit.images, audit.least))
            audit = replace(audit, images=max(20, audit.images // 2))
            passes = audit.candidates * 2 * audit.images * (1 + audit.places)
            print_line(
                f"no class is predicted for {audit.least} of the {whole:,} images (audit.least): nothing can be proven. "
                f"{len(rows)} of them, evenly spread, are looked at together: their maps, and at most {passes:,} further "
                "forward passes"
            )
        return rows

    reader = Reader(classifier, explainer, out, digest, audit.probe_batch_size, audit.seed)
    pictures, facts = reader.read(batches, choose)
    names = classifier.facts.classes
    subjects = list_subjects(facts, names, audit.least)
    evaluator = BatchedEvaluator(classifier, pictures.gather([0])[0].to(classifier.mean), audit.probe_batch_size)
    prover = Prover(evaluator, pictures, facts, audit.images, audit.places, audit.seed)
    tries = {"images": audit.images, "places": audit.places, "seed": audit.seed}
    store = CellStore(out, digest_plan({"facts": reader.digest, **tries}), FOLDER)
    if subjects[0].target != ALL:
        most = (audit.candidates + 1) * len(subjects)
        print_line(
            f"{len(pictures):,} images explained with {explainer.name}; {len(subjects)} classes and confusions, at most "
            f"{most} groups: at most {prover.count_passes(most):,} further forward passes, and {prover.count_proof():,} "
            "more for each proven group that shares images with a stronger one"
        )
    tried: list[Tried] = []
    before, fresh = 0, set[str]()
    for subject in subjects:
        chosen = split_evenly(subject.rows, audit.most)
        context = split_evenly(subject.context, max(audit.most, 1))
        looked_at = Subject(subject.name, subject.target, chosen, np.union1d(context, chosen))
        small = pictures.shrink(looked_at.context)
        places = np.searchsorted(looked_at.context, chosen)
        groups = find_groups(facts, chosen, small[places], audit.candidates, audit.resamples, audit.seed)
        if len(chosen) <= LARGEST_SHARE * len(looked_at.context):
            groups.append(describe_all(facts, chosen))
        print_line(f"{subject.name}: {len(subject.rows):,} images, {len(groups)} groups")
        of_class = facts.labels[looked_at.context] == subject.target
        views = [(looked_at, small)]
        views += [(replace(looked_at, context=looked_at.context[of_class]), small[torch.from_numpy(of_class)])]
        for group in groups:
            view = views[is_of_class(looked_at, group, facts)]
            done, restored = _try(prover, view[0], group, view[1], audit.effect, store, fresh)
            before += restored
            tried += [done] if done else []

    def set_apart(subject: Subject, candidate: Candidate, without: Rows) -> Measurement | None:
        alone = prover.set_apart(subject, candidate, without)
        return None if alone is None else _prove(prover, subject, alone, store, fresh, without)[0]

    findings = judge(tried, facts, audit.effect, audit.seed, set_apart)
    return Result(pictures, facts, subjects, findings, (reader.before, before), whole)


def is_of_class(subject: Subject, group: Group, facts: Facts) -> bool:
    """Whether a group is held against the images that are labelled with its class alone.

    It is where most of it is, as far as the rest of the class leaves something to hold it against: images of other classes
    that a network takes for this one look like the group because the network follows what the group shares.

    Args:
        subject: Of the group.
        group: The group.
        facts: Of all images.

    Returns:
        Whether it is; otherwise all images of the subject's context count.
    """
    own = int((facts.labels[subject.rows[group.members]] == subject.target).sum())
    whole = int((facts.labels[subject.context] == subject.target).sum())
    return 2 * own > len(group.members) and FEWEST <= own <= LARGEST_SHARE * whole


def _try(
    prover: Prover, subject: Subject, group: Group, small: Tensor, effect: float, store: CellStore, fresh: set[str]
) -> tuple[Tried | None, bool]:
    """(a group with its proof, whether that lay in the run folder); `fresh` names the proofs of this attempt."""
    rows = {"context": subject.context.tolist(), "members": subject.rows[group.members].tolist()}
    name = f"look_{digest_plan({'target': subject.target, **rows})}"
    before = _read_looks(store.read(name))
    candidate = prover.look(subject, group, small, before)
    if candidate is None:
        return None, False
    if candidate.looks and list(candidate.looks) != before:
        store.write(name, {"looks": candidate.looks})
    if candidate.look < HALF * effect:
        return (subject, candidate, None), False
    measurement, restored = _prove(prover, subject, candidate, store, fresh)
    return (subject, candidate, measurement), restored


def _prove(
    prover: Prover,
    subject: Subject,
    candidate: Candidate,
    store: CellStore,
    fresh: set[str],
    without: Rows | None = None,
) -> tuple[Measurement, bool]:
    """(what was measured of a candidate, whether that lay in the run folder); `without` was left out of the images."""
    content = {
        "target": subject.target,
        "context": subject.context.tolist(),
        "kind": candidate.shared.kind,
        "region": candidate.shared.region.flatten().nonzero().flatten().tolist(),
        "members": candidate.members.tolist(),
        **({} if without is None else {"without": without.tolist()}),
    }
    name = f"proof_{digest_plan(content)}"
    before = store.read(name)
    stored = None if before is None else from_plain(before)
    if stored is not None:
        return stored, name not in fresh
    measurement = prover.measure(subject, candidate)
    store.write(name, to_plain(measurement))
    fresh.add(name)
    return measurement, False


def _read_looks(content: Mapping[str, Any] | None) -> list[float]:
    looks = (content or {}).get("looks")
    whole = isinstance(looks, list) and all(isinstance(each, float) and math.isfinite(each) for each in looks)
    return looks if isinstance(looks, list) and whole else []


def clean_up(result: Result) -> None:
    """Remove the file of the pixels, which nobody needs any more.

    Args:
        result: Of an audit whose files are written.
    """
    with contextlib.suppress(OSError):
        result.pictures.path.unlink()


def to_plain(measurement: Measurement) -> dict[str, Any]:
    """Write a measurement as JSON holds it.

    Args:
        measurement: Any.

    Returns:
        Its fields.
    """
    return dict(vars(measurement))


def from_plain(stored: dict[str, Any]) -> Measurement | None:
    """Read a measurement back.

    Args:
        stored: As `to_plain` wrote it.

    Returns:
        The measurement; None where it is damaged.
    """
    try:
        differences = {key: [float(value) for value in values] for key, values in stored["differences"].items()}
        rise, fall = ([float(value) for value in stored[key]] for key in ("rise", "fall"))
        follow, accuracy = (tuple(int(value) for value in stored[key]) for key in ("follow", "accuracy"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if len(follow) != 2 or len(accuracy) != 3 or not differences.keys() <= TESTS.keys():
        return None
    return Measurement(differences, rise, fall, follow, accuracy)
