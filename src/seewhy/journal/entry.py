"""What the tables of a run need of one batch, and its form in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch

from seewhy.explanation import Explanation, Prediction, Target
from seewhy.score_rows import CurveRow
from seewhy.types import Skipped

PICTURES = ("image", "attribution")
"""The fields of an explanation that are no numbers or words: they lie in files of their own."""


class Cost(NamedTuple):
    """What a part of the work on a batch took."""

    forward: int
    backward: int
    seconds: float


class Seen(NamedTuple):
    """One image that the classifier saw."""

    name: str
    path: str
    prediction: Prediction
    loss: float | None
    """Cross-entropy; None where the true class is unknown."""
    explanation: Explanation | None
    """Its image and attribution are empty tensors when it comes from a file."""


@dataclass(frozen=True)
class Entry:
    """Everything of one batch that the tables are made of."""

    images: list[Seen]
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
    def of_bytes(cls, content: bytes) -> Entry | None:
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


def _plain_image(seen: Seen) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": seen.name, "path": seen.path, "loss": seen.loss}
    plain["prediction"] = dataclasses.asdict(seen.prediction)
    one = seen.explanation
    if one is not None:
        known = {"name", "path", "prediction", *PICTURES}
        fields = {part.name: getattr(one, part.name) for part in dataclasses.fields(one) if part.name not in known}
        plain["explanation"] = fields | {"target": dataclasses.asdict(one.target)}
    return plain


def _image_of(plain: Mapping[str, Any]) -> Seen:
    said = dict(plain["prediction"])
    prediction = Prediction(**said | {"top": tuple((word, value) for word, value in said["top"])})
    name, path, explanation = plain["name"], plain["path"], None
    if "explanation" in plain:
        fields = dict(plain["explanation"])
        fields |= {"target": Target(**fields["target"]), "warnings": tuple(fields["warnings"])}
        empty = torch.empty(0)
        explanation = Explanation(name=name, path=path, image=empty, prediction=prediction, attribution=empty, **fields)
    return Seen(name, path, prediction, plain["loss"], explanation)


def _plain_curve(rows: list[CurveRow]) -> list[Any]:
    """[image, explainer, curve, [share], [logit], [probability]]."""
    return [*rows[0][:3], *([row[column] for row in rows] for column in (3, 4, 5))]


def _curve_of(plain: list[Any]) -> Iterator[CurveRow]:
    image, explainer, curve, *columns = plain
    for values in zip(*columns, strict=True):
        yield CurveRow(image, explainer, curve, *values)
