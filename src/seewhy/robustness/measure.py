"""Predictions, explanations and scores of every corrupted version of a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seewhy.classifier import Classifier
from seewhy.corruptions.attack import Attack
from seewhy.corruptions.corrupter import Step
from seewhy.explainers.base import Explainer
from seewhy.measure_batch import measurable
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence
from seewhy.probe import Probe
from seewhy.robustness.groups import Group, attacked_classes, attacked_groups, corrupted_groups
from seewhy.robustness.map_back import map_back
from seewhy.robustness.prediction_row import CLEAN, Clean, prediction_row
from seewhy.robustness.stability import stability
from seewhy.types import Attributions, Batch


@dataclass
class Measured:
    """One group's rows, image by image and step by step, with what the figures need."""

    group: Group
    rows: list[list[dict[str, Any]]]
    maps: dict[str, Tensor]
    """Of each explainer [explained, steps, height, width], not moved back."""


@dataclass
class Measurement:
    """The measuring of one batch after the other; `seconds` adds up where the time goes."""

    classifier: Classifier
    explainers: Mapping[str, Explainer]
    metrics: Mapping[str, ImageMetric]
    steps: Sequence[Step]
    moving: Sequence[int]
    attacks: Mapping[str, Attack]
    seed: int = 0
    probe_batch_size: int | str = "auto"
    seconds: dict[str, float] = field(default_factory=dict)
    metric_passes: int = 0

    def clean(self, batch: Batch, logits: Tensor, explained: int, known: Mapping[str, Attributions]) -> Clean:
        """The clean predictions and maps; maps that are `known` already are not made again."""
        images, targets, maps = batch.images[:explained], logits.argmax(1), {}
        with self._timed("explanation"):
            for name, explainer in self.explainers.items() if explained else ():
                made = known.get(name)
                maps[name] = explainer(self.classifier, images, targets[:explained]) if made is None else made
        return Clean(batch, logits, targets, maps)

    def run(self, clean: Clean) -> Iterator[Measured]:
        """The clean images as level 0, then group by group."""
        batch = clean.batch
        explained = max((len(maps) for maps in clean.maps.values()), default=0)
        with torch.inference_mode(False), torch.no_grad(), self.classifier.frozen():
            images = batch.images.clone()
            yield self._rows(clean, Group([CLEAN], images[:, None]), clean.logits.clone()[:, None], explained)
            for group in corrupted_groups(batch, self.steps, self.moving):
                yield self._measure(clean, group, explained)
            probe = Probe(self.classifier, images[0], self.probe_batch_size)
            classes = attacked_classes(clean.targets, batch.labels).clone()
            pending = attacked_groups(self.attacks, probe, images, classes, self.seed)
            while True:
                with self._timed("attack"):
                    attacked = next(pending, None)
                if attacked is None:
                    return
                yield self._measure(clean, attacked, explained)

    def _measure(self, clean: Clean, group: Group, explained: int) -> Measured:
        images = group.images.flatten(0, 1)
        with self._timed("prediction"):
            logits = Probe(self.classifier, images[0], self.probe_batch_size).logits(images)
        return self._rows(clean, group, logits.unflatten(0, group.images.shape[:2]), explained)

    def _rows(self, clean: Clean, group: Group, logits: Tensor, explained: int) -> Measured:
        rows = [
            [
                prediction_row(self.classifier.facts.classes, clean, group, logits, image, step)
                for step in range(len(group.steps))
            ]
            for image in range(len(logits))
        ]
        maps = {}
        for name, explainer in self.explainers.items() if explained else ():
            maps[name], values = self._explain(name, explainer, clean, group, explained)
            for column, numbers in values.items():
                for image, line in enumerate(numbers.tolist()):
                    for step, value in enumerate(line):
                        rows[image][step][f"{name}_{column}"] = value
        return Measured(group, rows, maps)

    def _explain(
        self, name: str, explainer: Explainer, clean: Clean, group: Group, explained: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(maps [explained, steps, height, width], {column: [explained, steps]})."""
        count = len(group.steps)
        images = group.images[:explained].flatten(0, 1)
        targets = clean.targets[:explained].repeat_interleave(count)
        with self._timed("explanation"):
            known = clean.maps[name]
            made = known if group.steps == [CLEAN] else explainer(self.classifier, images, targets)
        with self._timed("stability"):
            back, valid = made, None
            if group.sources is not None:
                back, valid = map_back(made, group.sources[:explained].flatten(0, 1))
                valid = valid.unflatten(0, (explained, count))
            values = stability(known, back.unflatten(0, (explained, count)), explainer.signed, valid)
        with self._timed("metrics"):
            values |= self._score(explainer, clean, group, images, targets, made)
        return made.unflatten(0, (explained, count)), values

    def _score(
        self, explainer: Explainer, clean: Clean, group: Group, images: Tensor, targets: Tensor, maps: Tensor
    ) -> dict[str, Tensor]:
        """Every metric of the maps on the corrupted images; NaN for masks where pixels were moved."""
        if not self.metrics:
            return {}
        count, masks = len(group.steps), clean.batch.masks
        given = None if masks is None else masks[: len(images) // count].repeat_interleave(count, 0)
        options: dict[str, Any] = {"seed": self.seed, "probe_batch_size": self.probe_batch_size}
        evidence = Evidence(self.classifier, images, targets, maps, explainer=explainer, masks=given, **options)
        before, values = self.classifier.passes.forward, {}
        for metric in measurable(self.metrics, masks is not None)[0].values():
            for column, scores in metric(self.classifier, images, targets, maps, evidence=evidence).items():
                lost = metric.needs_masks and group.sources is not None
                values[column] = (scores * torch.nan if lost else scores).unflatten(0, (-1, count))
            metric.reset()
        self.metric_passes += self.classifier.passes.forward - before
        return values

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
