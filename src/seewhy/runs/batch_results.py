"""What one finished batch contributes to the tables of a run, and its JSON form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target
from seewhy.explainers.batch import build_predictions
from seewhy.metrics.base import MetricContext
from seewhy.metrics.perturbation_curves import collect_curves
from seewhy.models.classifier import Classifier


class CurveRow(NamedTuple):
    """One row of curves.csv."""

    image: str
    explainer: str
    curve: str
    share: float
    logit: float
    probability: float


def collect_curve_rows(context: MetricContext, explanations: Sequence[Explanation]) -> list[CurveRow]:
    """The perturbation curves that the metrics of a batch asked for."""
    rows = []
    for point in collect_curves(context):
        one = explanations[point.image]
        rows.append(CurveRow(one.name, one.explainer, point.curve, point.share, point.logit, point.probability))
    return rows


PICTURES = ("image", "attribution")
"""The fields of an explanation that are no numbers or words: they lie in files of their own."""


class Cost(NamedTuple):
    """What a part of the work on a batch took."""

    forward: int
    backward: int
    seconds: float


class ImageResult(NamedTuple):
    """One image that the classifier saw."""

    name: str
    path: str
    prediction: Prediction
    loss: float | None
    """Cross-entropy; None where the true class is unknown."""
    explanation: Explanation | None
    """Its image and attribution are empty tensors when it comes from a file."""


@dataclass(frozen=True)
class BatchResults:
    """Everything of one batch that the tables are made of."""

    images: list[ImageResult]
    skipped: list[Skipped]
    curves: list[CurveRow] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Metrics that could not be taken."""
    stored: dict[str, int] = field(default_factory=dict)
    """The bytes of each file that belongs to the batch, by its name in the run folder."""

    def explanations(self) -> list[Explanation]:
        """Those of the images that were explained."""
        return [seen.explanation for seen in self.images if seen.explanation is not None]

    def to_bytes(self) -> bytes:
        """One line of JSON and one with its digest."""
        content = {
            "images": [_plain_image(seen) for seen in self.images],
            "skipped": self.skipped,
            "curves": [_plain_curve(list(rows)) for _, rows in groupby(self.curves, key=lambda row: row[:3])],
            "costs": self.costs,
            "left_out": self.left_out,
            "stored": self.stored,
        }
        line = json.dumps(content, separators=(",", ":")).encode()
        return line + b"\n" + _digest(line) + b"\n"

    @classmethod
    def of_bytes(cls, content: bytes) -> BatchResults | None:
        """The entry in a file; None where the file is not whole."""
        line, _, digest = content.removesuffix(b"\n").rpartition(b"\n")
        if not line or digest != _digest(line):
            return None
        found = json.loads(line)
        return cls(
            images=[_image_of(plain) for plain in found["images"]],
            skipped=[Skipped(*one) for one in found["skipped"]],
            curves=[row for plain in found["curves"] for row in _curve_of(plain)],
            costs={part: Cost(*cost) for part, cost in found["costs"].items()},
            left_out=found["left_out"],
            stored=found["stored"],
        )


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=8).hexdigest().encode()


def _plain_image(seen: ImageResult) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": seen.name, "path": seen.path, "loss": seen.loss}
    plain["prediction"] = dataclasses.asdict(seen.prediction)
    one = seen.explanation
    if one is not None:
        known = {"name", "path", "prediction", *PICTURES}
        fields = {part.name: getattr(one, part.name) for part in dataclasses.fields(one) if part.name not in known}
        plain["explanation"] = fields | {"target": dataclasses.asdict(one.target)}
    return plain


def _image_of(plain: Mapping[str, Any]) -> ImageResult:
    said = dict(plain["prediction"])
    prediction = Prediction(**said | {"top": tuple((word, value) for word, value in said["top"])})
    name, path, explanation = plain["name"], plain["path"], None
    if "explanation" in plain:
        fields = dict(plain["explanation"])
        fields |= {"target": Target(**fields["target"]), "warnings": tuple(fields["warnings"])}
        empty = torch.empty(0)
        explanation = Explanation(name=name, path=path, image=empty, prediction=prediction, attribution=empty, **fields)
    return ImageResult(name, path, prediction, plain["loss"], explanation)


def _plain_curve(rows: list[CurveRow]) -> list[Any]:
    """[image, explainer, curve, [share], [logit], [probability]]."""
    return [*rows[0][:3], *([row[column] for row in rows] for column in (3, 4, 5))]


def _curve_of(plain: list[Any]) -> Iterator[CurveRow]:
    image, explainer, curve, *columns = plain
    for values in zip(*columns, strict=True):
        yield CurveRow(image, explainer, curve, *values)


def collect_batch_results(classifier: Classifier, outputs: Mapping[str, Any], batch: Batch) -> BatchResults:
    """`outputs` are those of the test step, with what the callbacks added."""
    logits = outputs["logits"]
    said = build_predictions(classifier, batch, logits) if len(batch.images) else []
    made = {one.name: one for one in outputs.get("explanations", [])}
    losses = functional.cross_entropy(logits.float(), batch.labels.clamp_min(0), reduction="none").tolist()
    return BatchResults(
        images=[
            ImageResult(name, path, prediction, None if label < 0 else loss, made.get(name))
            for name, path, prediction, label, loss in zip(
                batch.names, batch.paths, said, batch.labels.tolist(), losses, strict=True
            )
        ],
        skipped=list(outputs.get("skipped", batch.skipped)),
        curves=outputs.get("curves", []),
        costs=outputs.get("costs", {}),
        left_out=outputs.get("left_out", []),
        stored=outputs.get("stored", {}),
    )
