"""What one finished batch contributes to the tables of a run, and its JSON form."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.core.target_choice import SEPARATOR
from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target
from seewhy.explainers.batch import build_predictions
from seewhy.metrics.base import MetricContext
from seewhy.metrics.perturbation_curves import collect_curves
from seewhy.models.classifier import Classifier, Passes


class CurveRow(NamedTuple):
    """One row of curves.csv: a point of the perturbation curve of one image.

    Attributes:
        image: Name of the image.
        explainer: Name of the method.
        curve: Name of the curve, such as `deletion/black`.
        share: Fraction of the pixels that are removed or inserted.
        logit: Of the target.
        probability: Of the target; NaN of a network without probabilities.
    """

    image: str
    explainer: str
    curve: str
    share: float
    logit: float
    probability: float


class Curve(NamedTuple):
    """The perturbation curve of one image, as the journal holds it.

    Attributes:
        image: Name of the image.
        explainer: Name of the method.
        curve: Name of the curve, such as `deletion/black`.
        shares: Fractions of the pixels that are removed or inserted.
        logits: Of the target, at each share.
        probabilities: Of the target, at each share; NaN of a network without probabilities.
    """

    image: str
    explainer: str
    curve: str
    shares: Sequence[float]
    logits: Sequence[float]
    probabilities: Sequence[float]


class Cost(NamedTuple):
    """What a stage of the work on a batch took.

    Attributes:
        forward: Images that went forwards through the network.
        backward: Images that went backwards.
        seconds: Wall time.
    """

    forward: int
    backward: int
    seconds: float


class ImageResult(NamedTuple):
    """One image that went through the classifier.

    Attributes:
        name: Unique in the run.
        path: Of its file.
        prediction: What the classifier says of it.
        loss: -log p of the true class, or the mean over the labels; None where it is unknown or there is none.
        explanations: One for each target; read from a journal, their images and attributions are empty tensors.
    """

    name: str
    path: str
    prediction: Prediction
    loss: float | None
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True)
class BatchResults:
    """Everything that the tables of a run take from one batch.

    Attributes:
        images: Those that could be read.
        skipped: Those that could not be read or explained, with the reason.
        curves: All perturbation curves.
        costs: By stage: `attribution`, `metrics`, `precision`.
        left_out: Metrics that need what the data lack.
        batch_sizes: Most images in one pass where that was measured, by the kind of pass.
        stored: Digest of each file that belongs to the batch, by its name in the run folder.
    """

    images: list[ImageResult]
    skipped: list[Skipped]
    curves: list[Curve] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    batch_sizes: dict[str, int] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)

    @property
    def explanations(self) -> list[Explanation]:
        """Those of the images that were explained."""
        return [explanation for image in self.images for explanation in image.explanations]

    def to_plain(self) -> dict[str, Any]:
        """Describe the results without their tensors.

        Returns:
            Values that JSON has.
        """
        return {
            "images": [_plain_image(image) for image in self.images],
            "skipped": self.skipped,
            "curves": self.curves,
            "costs": self.costs,
            "left_out": self.left_out,
            "batch_sizes": self.batch_sizes,
            "stored": self.stored,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> BatchResults:
        """Build results from their description.

        Args:
            plain: What `to_plain` returned, after JSON; its form was checked.

        Returns:
            The results.
        """
        return cls(
            images=[_read_image(image) for image in plain["images"]],
            skipped=[Skipped(*entry) for entry in plain["skipped"]],
            curves=[_read_curve(*curve) for curve in plain["curves"]],
            costs={stage: Cost(*cost) for stage, cost in plain["costs"].items()},
            left_out=plain["left_out"],
            batch_sizes=plain["batch_sizes"],
            stored=plain["stored"],
        )


def collect_batch_results(classifier: Classifier, outputs: Mapping[str, Any], batch: Batch) -> BatchResults:
    """Collect what the callbacks added to the outputs of a test step.

    Args:
        classifier: That of the step.
        outputs: `logits` [n, classes] and, where a callback added them, `explanations`, `skipped`, `costs` and `left_out`
            as in `BatchResults`, and `curves`, the rows of `collect_curve_rows`.
        batch: The n images of the step.

    Returns:
        The results of the batch.
    """
    logits = outputs["logits"]
    explanations: dict[str, list[Explanation]] = {}
    for explanation in outputs.get("explanations", []):
        explanations.setdefault(explanation.image_name, []).append(explanation)
    if all(name in explanations for name in batch.names):
        predictions = [explanations[name][0].prediction for name in batch.names]
    else:
        predictions = build_predictions(classifier, batch, logits)
    losses = _compute_losses(classifier, logits, batch)
    rows = zip(batch.names, batch.paths, predictions, losses, strict=True)
    return BatchResults(
        images=[ImageResult(*row, tuple(explanations.get(row[0], ()))) for row in rows],
        skipped=list(outputs.get("skipped", batch.skipped)),
        batch_sizes=dict(classifier.batch_sizes),
        curves=join_points(outputs.get("curves", ())),
        **{key: outputs[key] for key in ("costs", "left_out") if key in outputs},
    )


def join_points(rows: Iterable[CurveRow]) -> list[Curve]:
    """Join the points of each curve.

    Args:
        rows: Those of one curve after each other.

    Returns:
        The curves, in the order of the rows.
    """
    curves = []
    for names, points in groupby(rows, key=lambda row: row[:3]):
        shares, logits, probabilities = zip(*(point[3:] for point in points), strict=True)
        image, explainer, curve = names
        curves.append(Curve(image, explainer, curve, shares, logits, probabilities))
    return curves


def _compute_losses(classifier: Classifier, logits: Tensor, batch: Batch) -> list[float | None]:
    """The loss of each image; None where its true class is unknown, and of outputs that have no loss."""
    if not len(logits) or not classifier.facts.has_probabilities:
        return [None] * len(logits)
    labels = classifier.facts.mark_labels(batch.labels)
    losses = classifier.facts.compute_losses(logits.float(), labels.clamp_min(0)).tolist()
    lowest = labels.amin(1) if labels.ndim > 1 else labels
    return [None if label < 0 else loss for label, loss in zip(lowest.tolist(), losses, strict=True)]


def collect_curve_rows(context: MetricContext, explanations: Sequence[Explanation]) -> list[CurveRow]:
    """Collect the perturbation curves that the metrics of a batch asked for.

    Args:
        context: What the metrics of the batch share.
        explanations: Those that were measured, in its order.

    Returns:
        One row a point.
    """
    rows, has_probabilities = [], context.classifier.facts.has_probabilities
    for point in collect_curves(context):
        explanation = explanations[point.image]
        names = explanation.name, explanation.explainer, point.curve
        rows.append(CurveRow(*names, point.share, point.logit, point.probability if has_probabilities else math.nan))
    return rows


@contextmanager
def record_cost(classifier: Classifier, outputs: dict[str, Any], stage: str) -> Iterator[None]:
    """Write the passes and seconds of the block into `outputs["costs"]`.

    Args:
        classifier: The network whose passes are counted.
        outputs: Those of a test step.
        stage: `attribution`, `metrics` or `precision`.

    Yields:
        Nothing.
    """
    before, start = Passes(classifier.passes.forward, classifier.passes.backward), time.perf_counter()
    yield
    spent = classifier.passes.since(before)
    outputs.setdefault("costs", {})[stage] = Cost(spent.forward, spent.backward, time.perf_counter() - start)


OPTIONAL = frozenset(("labels", "true_labels", "label_accuracy", "display", "suffix", "weights", "float32"))
"""Fields of a prediction, a target and an explanation that the journal leaves out where they are not set."""


def list_stored_fields() -> list[str]:
    """List the fields of an explanation that stand in the journal: not its tensors, nor what its image's row holds.

    Returns:
        Their names, in order.
    """
    elsewhere = ("name", "path", "prediction", "image", "attribution")
    return [field.name for field in dataclasses.fields(Explanation) if field.name not in elsewhere]


def _plain_image(image: ImageResult) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": image.name, "path": image.path, "loss": image.loss}
    plain["prediction"] = _describe(image.prediction, dataclasses.asdict(image.prediction))
    entries = [_plain_explanation(explanation) for explanation in image.explanations]
    if len(entries) == 1:
        plain["explanation"] = entries[0]
    elif entries:
        plain["explanations"] = entries
    return plain


def _plain_explanation(explanation: Explanation) -> dict[str, Any]:
    fields = {name: getattr(explanation, name) for name in list_stored_fields()}
    target = _describe(explanation.target, dataclasses.asdict(explanation.target))
    return _describe(explanation, fields) | {"target": target}


def _describe(value: Prediction | Explanation | Target, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass without the optional ones that are not set."""
    defaults = {field.name: field.default for field in dataclasses.fields(value) if field.name in OPTIONAL}
    return {name: entry for name, entry in fields.items() if name not in defaults or entry != defaults[name]}


def _read_image(plain: Mapping[str, Any]) -> ImageResult:
    top = tuple((name, value) for name, value in plain["prediction"]["top"])
    sets = {key: _read_tuple(plain["prediction"].get(key)) for key in ("labels", "true_labels")}
    prediction = Prediction(**plain["prediction"] | {"top": top} | sets)
    entries = [plain["explanation"]] if "explanation" in plain else plain.get("explanations", [])
    explanations = tuple(_read_explanation(plain, entry, prediction) for entry in entries)
    return ImageResult(plain["name"], plain["path"], prediction, plain["loss"], explanations)


def _read_explanation(image: Mapping[str, Any], plain: Mapping[str, Any], prediction: Prediction) -> Explanation:
    weights = tuple((index, weight) for index, weight in plain["target"].get("weights", ()))
    fields = dict(plain) | {"target": Target(**{**plain["target"], "weights": weights})}
    fields |= {"display": tuple(fields.get("display", ())), "warnings": tuple(fields["warnings"])}
    name = f"{image['name']}{SEPARATOR}{fields['suffix']}" if fields.get("suffix") else image["name"]
    empty = torch.empty(0)
    return Explanation(name=name, path=image["path"], image=empty, prediction=prediction, attribution=empty, **fields)


def _read_tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _read_curve(
    image: str,
    explainer: str,
    curve: str,
    shares: list[float],
    logits: list[float],
    probabilities: list[float | None],
) -> Curve:
    if not len(shares) == len(logits) == len(probabilities):
        raise ValueError(f"curve {curve} of {image} has columns of unequal length")
    known = [math.nan if probability is None else probability for probability in probabilities]
    return Curve(image, explainer, curve, shares, logits, known)
