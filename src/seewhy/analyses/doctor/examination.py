"""Examine a classifier on images: every usual mistake is tried, and one diagnosis stands beside its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from seewhy.analyses.doctor import alternatives as ways
from seewhy.analyses.doctor import network_checks as checks
from seewhy.analyses.doctor.alternatives import Alternative, Answers
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.types import Batch
from seewhy.data.loading import Reader
from seewhy.explainers.cam import choose_layer
from seewhy.models.classifier import Classifier
from seewhy.statistics.tests import compute_sign_flip_p, correct_by_holm

LEVEL = 0.01
"""Of every test, after Holm's correction where several are made."""
GAIN = 0.05
"""Accuracy, or mean probability of the label, that an alternative must add."""
FEWEST = 10
"""Labelled images below which an accuracy says nothing."""
SATURATED = 1e-6
"""Distance from 1 at which a probability no longer moves."""
MOST = 0.5
"""Share of the images from which on saturated answers or empty maps are a finding."""
DIVERGED, NEARER = 0.5, 4
"""Without labels: divergence of the statistics from which on another normalisation is looked for, and how many times
smaller it must become."""
MAPPED = 64
"""Images whose maps are drawn."""
DECISIVE = 5000
"""Weights of a head whose distribution alone tells whether it was trained."""
NOTHING = "nothing found"


@dataclass(frozen=True)
class Check:
    """One thing that was examined.

    Attributes:
        name: What could be wrong.
        is_wrong: Whether it is; None where it could not be told.
        evidence: What was measured, in one sentence.
        setting: What mends it; empty where nothing is wrong.
    """

    name: str
    is_wrong: bool | None
    evidence: str
    setting: str = ""


@dataclass(frozen=True)
class Examination:
    """All checks of a classifier, in the order in which a finding explains those behind it.

    Attributes:
        checks: In that order.
        images: How many images were read.
        labelled: How many of them have a label that the network knows.
        accuracy: Share of right answers among those; NaN without labels.
    """

    checks: tuple[Check, ...]
    images: int
    labelled: int
    accuracy: float

    @property
    def diagnosis(self) -> Check | None:
        """The first finding; None where nothing was found."""
        return next((each for each in self.checks if each.is_wrong), None)

    def describe(self) -> str:
        """Describe the diagnosis in one sentence."""
        found = self.diagnosis
        return NOTHING if found is None else f"{found.name}: {found.evidence}; {found.setting}"


def examine(classifier: Classifier, read: Reader, batch_size: int | str = "auto") -> Examination:
    """Examine a classifier: preprocessing, labels, weights, layers, probabilities and maps.

    Every alternative answers the same images. With labels one is a finding where it adds 5 points of accuracy, or of the
    mean probability of the label, and the paired sign-flip test of that probability has p < 0.01 after Holm's correction;
    without labels a normalisation or order of channels is one where the first batch normalisations are given what they were
    trained on, four times as nearly as now. Nothing of the classifier changes.

    Args:
        classifier: The network with its facts.
        read: Reads the images for some facts; called a few times.
        batch_size: Images in the network at once, or `auto`.

    Returns:
        The checks and the diagnosis.

    Raises:
        UserError: No image could be read.
    """
    alternatives = ways.list_alternatives(classifier.facts)
    inspection = checks.Inspection()
    answers = ways.answer_all(classifier, read, alternatives, batch_size, inspection)
    if "" not in answers:
        raise UserError("no image could be read: the doctor needs images like those that the network is for")
    own = answers[""]
    labelled = int(np.isfinite(own.correct).sum())
    mapped, renewed = _read_first(classifier, read), _renew_statistics(classifier, read)
    features = torch.cat(inspection.features) if inspection.features else None
    right = (
        np.full(len(own.labels), np.nan) if features is None else checks.measure_feature_accuracy(features, own.labels)
    )
    guesses = _guesses(own, classifier, labelled)
    listed = (
        _check_random(classifier),
        _check_statistics(classifier, own, renewed),
        _check_labels(classifier, own, labelled, right),
        *_check_preprocessing(alternatives, answers, labelled),
        _check_dead(inspection),
        _check_head(classifier, own, inspection, right, guesses),
        _check_saturation(classifier, own),
        *_check_maps(classifier, inspection, mapped, batch_size)[::-1],
    )
    return Examination(listed, len(own.predicted), labelled, own.accuracy)


def _read_first(classifier: Classifier, read: Reader) -> list[Batch]:
    """The first `MAPPED` images."""
    first: list[Batch] = []
    left = MAPPED
    for batch in _filled(read(classifier.facts)):
        first.append(batch.first(left))
        left -= len(batch.images)
        if left <= 0:
            break
    return first


def _renew_statistics(classifier: Classifier, read: Reader) -> Answers | None:
    """The answers with the statistics of each batch; None where the network collected some of its own."""
    if not checks.keeps_initial_statistics(classifier.network):
        return None
    correct, total = 0.0, 0
    for batch in _filled(read(classifier.facts)):
        if batch.labels.ndim == 1:
            with classifier.evaluating(), torch.no_grad(), checks.with_batch_statistics(classifier.network):
                predicted = classifier(batch.images.to(classifier.mean)).argmax(1).cpu()
            known = batch.labels.cpu() >= 0
            correct += float((predicted[known] == batch.labels.cpu()[known]).sum())
            total += int(known.sum())
    shares = np.full(1, correct / total if total else np.nan)
    return Answers(np.zeros(1, np.int64), shares, shares, shares)


def _filled(batches: Iterable[Batch]) -> Iterator[Batch]:
    return (batch for batch in batches if len(batch.images))


def _guesses(own: Answers, classifier: Classifier, labelled: int) -> bool:
    """Whether the accuracy of a network of single labels cannot be told from guessing."""
    if labelled < FEWEST or classifier.facts.score not in ("softmax", "binary"):
        return False
    hits = int(np.nansum(own.correct))
    return bool(stats.binom.sf(hits - 1, labelled, 1 / len(classifier.facts.classes)) > LEVEL)


def _check_random(classifier: Classifier) -> Check:
    share = checks.measure_untrained_share(classifier.network)
    evidence = f"{100 * share:.0f} % of its large weights are distributed as an initialisation draws them"
    if share != share:
        return Check("random weights", None, "the network has no large weights")
    return Check(
        "random weights", share > MOST, evidence, "give trained ones with model.weights=" if share > MOST else ""
    )


def _check_statistics(classifier: Classifier, own: Answers, renewed: Answers | None) -> Check:
    name = "statistics of batch normalisation"
    if renewed is None:
        return Check(name, False, "some were collected, or the network has none")
    evidence = f"all have mean 0 and variance 1, so that none was collected; accuracy {_percent(own.accuracy)}"
    evidence += f", {_percent(renewed.accuracy)} with the statistics of each batch"
    better = not renewed.accuracy <= own.accuracy + GAIN  # NaN: without labels the evidence is the statistics alone
    mend = "save them too (running_mean, running_var), or collect them by passes in training mode"
    return Check(name, better, evidence, mend if better else "")


def _check_labels(classifier: Classifier, own: Answers, labelled: int, right_features: NDArray[np.float64]) -> Check:
    """Whether the answers fit the labels better under names that are shifted by one, or in alphabetical order.

    A head of random weights fits some order better than others: the best must be as good as what the features know.
    """
    if labelled < FEWEST or classifier.facts.score != "softmax":
        return Check(ways.LABELS, None, f"it needs at least {FEWEST} images with one label each")
    classes = classifier.facts.classes
    known = own.labels >= 0
    predicted, labels = own.predicted[known], own.labels[known]
    order = np.argsort(np.array(classes))
    renamed = {
        "of the next index": (predicted + 1) % len(classes),
        "of the previous index": (predicted - 1) % len(classes),
        "in alphabetical order": order[predicted],
        "as if it were in alphabetical order": np.argsort(order)[predicted],
    }
    right = (predicted == labels).astype(float)
    rows = {name: (values == labels).astype(float) for name, values in renamed.items()}
    p = correct_by_holm(compute_sign_flip_p([each - right for each in rows.values()]))
    name, best = max(rows.items(), key=lambda row: row[1].mean())
    least = float(p[list(rows).index(name)])
    evidence = f"accuracy {_percent(right.mean())}, {_percent(best.mean())} with the name {name} (p = {least:.2g})"
    measured = np.isfinite(right_features)
    knows = float(right_features[measured].mean()) if measured.sum() >= FEWEST else 0.0
    wrong = least < LEVEL and best.mean() >= max(right.mean() + GAIN, 0.9 * knows)
    return Check(ways.LABELS, wrong, evidence, "set model.classes in the order of the outputs" if wrong else "")


def _check_preprocessing(
    alternatives: Sequence[Alternative], answers: dict[str, Answers], labelled: int
) -> list[Check]:
    """One check of each respect in which images can be prepared wrongly; the best alternative of all is the finding."""
    own = answers[""]
    tried = [each for each in alternatives if each.name in answers]
    names: dict[str, list[Alternative]] = {
        cause: [each for each in tried if each.cause == cause]
        for cause in (ways.NORMALISATION, ways.ORDER, ways.SIZE, ways.CROP)
    }
    with_labels = labelled >= FEWEST
    kind = "fit" if with_labels else "confidence"
    differences = [getattr(answers[each.name], kind) - getattr(own, kind) for each in tried]
    differences = [each[np.isfinite(each)] for each in differences]
    p = dict(zip([each.name for each in tried], correct_by_holm(compute_sign_flip_p(differences)), strict=True))
    gains = dict(zip([each.name for each in tried], [float(each.mean()) for each in differences], strict=True))

    def suits(each: Alternative) -> bool:
        other = answers[each.name]
        if with_labels:
            gain = max(gains[each.name], other.accuracy - own.accuracy)
            return p[each.name] < LEVEL and gains[each.name] > 0 and gain >= GAIN
        prepared = each.cause in (ways.NORMALISATION, ways.ORDER) and len(own.predicted) >= FEWEST
        return prepared and own.deviance > DIVERGED and other.deviance <= own.deviance / NEARER

    def rate(each: Alternative) -> float:
        return gains[each.name] if with_labels else -answers[each.name].deviance

    best = max(filter(suits, tried), key=rate, default=None)
    return [_describe(cause, members, best, answers, p, gains, with_labels) for cause, members in names.items()]


def _describe(
    cause: str,
    members: Sequence[Alternative],
    best: Alternative | None,
    answers: dict[str, Answers],
    p: dict[str, float],
    gains: dict[str, float],
    with_labels: bool,
) -> Check:
    if not members:
        return Check(cause, None, "the network takes no other")
    own = answers[""]
    shown = best if best in members and best is not None else max(members, key=lambda each: gains[each.name])
    other = answers[shown.name]
    evidence = f"with {shown.name} "
    if with_labels:
        evidence += (
            f"accuracy {_percent(own.accuracy)} becomes {_percent(other.accuracy)}, the mean probability of the label "
        )
        evidence += f"{np.nanmean(own.fit):.3f} becomes {np.nanmean(other.fit):.3f}"
    else:
        evidence += f"the mean confidence {own.confidence.mean():.3f} becomes {other.confidence.mean():.3f}"
    if own.deviance == own.deviance:
        evidence += f", the divergence of the first statistics {own.deviance:.2g} becomes {other.deviance:.2g}"
    evidence += f" (p = {p[shown.name]:.2g})"
    few = len(own.predicted) < FEWEST
    if not with_labels and (few or cause in (ways.SIZE, ways.CROP) or own.deviance != own.deviance):
        return Check(
            cause, None, f"{evidence}; {'so few images decide' if few else 'without labels this decides'} nothing"
        )
    return Check(cause, shown is best, evidence, f"set {shown.setting}" if shown is best else "")


def _check_dead(inspection: checks.Inspection) -> Check:
    dead = inspection.find_dead_layer()
    if not inspection.layers:
        return Check("dead layer", None, "the network shows none of its layers")
    if not dead:
        return Check(
            "dead layer", False, f"each of {len(inspection.layers)} layers answers differently to different images"
        )
    evidence = f"layer {dead} gives the same for every image, although it is given different things"
    return Check("dead layer", True, evidence, "look at its weights and at those in front of it, and train it again")


def _check_head(
    classifier: Classifier,
    own: Answers,
    inspection: checks.Inspection,
    right: NDArray[np.float64],
    guesses: bool,
) -> Check:
    name = "random head"
    if not inspection.features:
        return Check(name, None, "the network shows no last layer with one output for each class")
    weight = classifier.find_layer(inspection.head).weight
    untrained = checks.looks_untrained(weight)  # type: ignore[arg-type]
    evidence = (
        f"the weights of {inspection.head} are {'' if untrained else 'not '}distributed as an initialisation draws them"
    )
    known = np.isfinite(right)
    p = 1.0
    if known.sum() >= FEWEST:
        difference = right[known] - own.correct[known]
        p = float(compute_sign_flip_p([difference])[0]) if difference.mean() > GAIN else 1.0
        evidence += (
            f", accuracy is {_percent(own.correct[known].mean())} and the class means of its inputs are right in "
        )
        evidence += f"{_percent(right[known].mean())} (p = {p:.2g})"
    fix = "train it, or give a file that holds it with model.weights="
    if not np.isfinite(own.correct).any():
        decides = weight.numel() >= DECISIVE  # type: ignore[operator]
        evidence += "" if decides else f"; without labels fewer than {DECISIVE:,} weights decide nothing"
        return Check(name, untrained if decides else None, evidence, fix if untrained and decides else "")
    wrong = ((guesses or untrained) and p < LEVEL) or (guesses and untrained)
    return Check(name, wrong, evidence, fix if wrong else "")


def _check_saturation(classifier: Classifier, own: Answers) -> Check:
    name = "saturated probabilities"
    if not classifier.facts.has_probabilities:
        return Check(name, None, "the outputs are no probabilities")
    share = float((own.confidence > 1 - SATURATED).mean())
    evidence = f"{_percent(share)} of the answers are within {SATURATED:g} of certainty"
    mend = "scores of probabilities cannot move there: divide the outputs by a temperature, and read scores of logits"
    return Check(name, share > MOST, evidence, mend if share > MOST else "")


def _check_maps(
    classifier: Classifier, inspection: checks.Inspection, batches: Sequence[Batch], batch_size: int | str
) -> list[Check]:
    """Whether another layer draws better class activation maps, and whether Grad-CAM is empty on the classifier's own."""
    names = "layer of the maps", "empty Grad-CAM"
    kept: dict[str | None, list[NDArray[np.float64]]] = {}
    empty: list[NDArray[np.float64]] = []
    try:
        own = choose_layer(classifier, classifier.facts.shape, None)
        layers = dict.fromkeys((own, None, *checks.list_map_layers(inspection)))
        for batch in batches:
            images = batch.images.to(classifier.mean)
            empty.append(checks.measure_empty_maps(classifier, images, batch_size))
            for layer, values in checks.measure_kept(classifier, images, list(layers), batch_size).items():
                kept.setdefault(layer, []).append(values)
    except Incompatible as error:
        return [Check(name, None, str(error)) for name in names]
    joined = {layer: np.concatenate(parts) for layer, parts in kept.items()}
    return [_compare_layers(own, joined), _check_empty(np.concatenate(empty))]


def _compare_layers(own: str, kept: dict[str | None, NDArray[np.float64]]) -> Check:
    """A finding where the own layer is no better than random regions, and another is better than both."""
    others = [layer for layer in kept if layer not in (own, None)]
    random = kept[None]
    gaps = [kept[own] - random, *(kept[layer] - kept[own] for layer in others)]
    p = [compute_sign_flip_p(gaps[:1])[0], *correct_by_holm(compute_sign_flip_p(gaps[1:]))]
    evidence = (
        f"of the prediction the four best of 16 regions keep {kept[own].mean():.3f} with layer {own}, random ones "
    )
    evidence += f"{random.mean():.3f} (p = {p[0]:.2g})"
    better = [number for number, gap in enumerate(gaps) if number and gap.mean() >= GAIN and p[number] < LEVEL]
    if not better:
        return Check("layer of the maps", False, evidence)
    best = max(better, key=lambda number: gaps[number].mean())
    layer = others[best - 1]
    evidence += f", and {kept[layer].mean():.3f} with layer {layer} (p = {p[best]:.2g})"
    wrong = not (p[0] < LEVEL and gaps[0].mean() > 0)
    return Check("layer of the maps", wrong, evidence, f"set model.cam_layer={layer}" if wrong else "")


def _check_empty(empty: NDArray[np.float64]) -> Check:
    share = float(empty.mean())
    evidence = f"Grad-CAM has no positive value for {_percent(share)} of {len(empty)} images"
    mend = "take explainer=hires_cam or layer_cam, another model.cam_layer, or a method that looks at the whole network"
    return Check("empty Grad-CAM", share > MOST, evidence, mend if share > MOST else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share == share else "unknown"
