"""What the tables of a run need of one batch, and its form in a file.

The rows that a measured batch adds to the tables of a run.
From what the callbacks made of a batch to its entry in the journal.
The journal of a run: what each finished batch gave, from which all tables are made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from seewhy.core.files import RunFolder
from seewhy.core.types import Batch, Explanation, Prediction, Skipped, Target
from seewhy.explainers.batch import build_predictions
from seewhy.metrics.base import Evidence
from seewhy.metrics.perturbation_curves import kept_curves
from seewhy.models.classifier import Classifier


class CurveRow(NamedTuple):
    """One row of curves.csv."""

    image: str
    explainer: str
    curve: str
    share: float
    logit: float
    probability: float


class ScoreRow(NamedTuple):
    """One value of one image."""

    image: str
    explainer: str
    metric: str
    value: float


def curve_rows(evidence: Evidence, explanations: Sequence[Explanation]) -> list[CurveRow]:
    """The perturbation curves that the metrics of a batch asked for."""
    rows = []
    for point in kept_curves(evidence):
        one = explanations[point.image]
        rows.append(CurveRow(one.name, one.explainer, point.curve, point.share, point.logit, point.probability))
    return rows


def score_rows(explanations: Iterable[Explanation]) -> list[ScoreRow]:
    """The metrics of a batch, one value a row."""
    return [
        ScoreRow(one.name, one.explainer, name, value) for one in explanations for name, value in one.metrics.items()
    ]


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


def entry_of(classifier: Classifier, outputs: Mapping[str, Any], batch: Batch) -> Entry:
    """`outputs` are those of the test step, with what the callbacks added."""
    logits = outputs["logits"]
    said = build_predictions(classifier, batch, logits) if len(batch.images) else []
    made = {one.name: one for one in outputs.get("explanations", [])}
    losses = functional.cross_entropy(logits.float(), batch.labels.clamp_min(0), reduction="none").tolist()
    return Entry(
        images=[
            Seen(name, path, prediction, None if label < 0 else loss, made.get(name))
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


FOLDER = "journal"
PLAN = f"{FOLDER}/plan.json"


class Journal:
    """One small file for each finished batch, `journal/<number>.json`, and `journal/plan.json`: what is computed.

    The entry of a batch is written last, after its maps and figures, whole or not at all. So a batch is finished or was
    never begun, at whatever moment a run is killed, and the tables of an uninterrupted run, of one that was taken up
    again, of several processes and of merged shards are made from the same entries in the same order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)

    def write(self, batch: int, entry: Entry) -> None:
        """Keep a finished batch."""
        self.folder.write_bytes(f"{FOLDER}/{batch:08d}.json", entry.to_bytes())

    def read(self, batch: int) -> Entry | None:
        """The entry of a batch; None where there is none, or it or a file that it names is not whole."""
        try:
            entry = Entry.of_bytes(self.path(batch).read_bytes())
            if entry is None or any(self._size(name) != size for name, size in entry.stored.items()):
                return None
        except FileNotFoundError:
            return None
        return entry

    def path(self, batch: int) -> Path:
        """Where the entry of a batch lies."""
        return self.folder.path / FOLDER / f"{batch:08d}.json"

    def _size(self, name: str) -> int:
        return (self.folder.path / name).stat().st_size

    def batches(self) -> list[int]:
        """The numbers of the entries, in order."""
        names = (path.name for path in (self.folder.path / FOLDER).glob("*.json"))
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d{8}\.json", name))

    def finished(self) -> dict[int, int]:
        """{number of a finished batch: its images, those that were skipped included}."""
        entries = ((batch, self.read(batch)) for batch in self.batches())
        return {batch: len(entry.images) + _unread(entry) for batch, entry in entries if entry is not None}

    def entries(self) -> Iterator[Entry]:
        """What is finished, in the order of the data set, one batch in memory at a time."""
        for batch in self.batches():
            entry = self.read(batch)
            if entry is not None:
                yield entry

    def explanations(self) -> Iterator[Explanation]:
        """All explanations in the order of the data set, without their pictures."""
        for entry in self.entries():
            yield from entry.explanations()

    def plan(self) -> dict[str, Any] | None:
        """What the run of this folder computes; None where none was begun."""
        try:
            found: dict[str, Any] = json.loads((self.folder.path / PLAN).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def begin(self, plan: dict[str, Any]) -> None:
        """Forget what is there, and write down what will be computed."""
        shutil.rmtree(self.folder.path / FOLDER, ignore_errors=True)
        self.folder.write_json(PLAN, plan)


def _unread(entry: Entry) -> int:
    """Images that could not be read: those that were seen and only not explained are among `images` too."""
    seen = {image.path for image in entry.images}
    return sum(one.path not in seen for one in entry.skipped)
