"""Predictions, explanations and scores of every corrupted version of a batch, in groups of bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seewhy.analyses.robustness.stability import map_back, measure_stability
from seewhy.core.facts import Facts
from seewhy.core.outputs import list_labels
from seewhy.core.targets import UNKNOWN, find_true_classes
from seewhy.core.types import Attributions, Batch, Classes, Images
from seewhy.data.corruptions.attacks import Attack
from seewhy.data.corruptions.corrupter import CorruptionStep
from seewhy.data.loading import to_unit_range
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import NO_LABEL
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.batch import select_measurable
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

CHUNK = 64 * 224**2
"""Pixels of the images of one group: it bounds memory, whatever the corruptions and their levels."""


class Group(NamedTuple):
    """Some steps for every image of a batch."""

    steps: Sequence[CorruptionStep]
    images: Tensor
    """float32 [batch, steps, channels, height, width] in [0, 1]."""
    sources: Tensor | None = None
    """float32 [batch, steps, 2, height, width] where the steps moved pixels."""
    attacked: Classes | None = None
    """int64 [batch]: the class whose score an attack pushed down."""


def iterate_corrupted_groups(batch: Batch, steps: Sequence[CorruptionStep], moving: Sequence[int]) -> Iterator[Group]:
    """The versions that came with the batch: those that move pixels apart from the others."""
    if batch.corrupted is None:
        return
    each = max(1, CHUNK // (len(batch.images) * batch.images.shape[-1] * batch.images.shape[-2]))
    still = [number for number in range(len(steps)) if number not in set(moving)]
    for positions, moved in ((still, False), (list(moving), True)):
        for start in range(0, len(positions), each):
            group_positions = positions[start : start + each]
            images = to_unit_range(batch.corrupted.pictures[:, group_positions].to(batch.images.device))
            sources = batch.corrupted.sources[:, start : start + each].to(batch.images.device) if moved else None
            yield Group([steps[number] for number in group_positions], images, sources)


def iterate_attacked_groups(
    attacks: Mapping[str, Attack], evaluator: BatchedEvaluator, images: Images, classes: Classes, seed: int
) -> Iterator[Group]:
    """Each level of each attack against `classes`."""
    for name, attack in attacks.items():
        for level, attacked in enumerate(attack.levels(evaluator, images, classes, seed), 1):
            yield Group([CorruptionStep(name, level)], attacked[:, None], attacked=classes)


def choose_attacked_classes(predicted: Classes, labels: Tensor) -> Classes:
    """The true class where it is known, else the predicted one."""
    return torch.where(labels >= 0, labels, predicted)


CLEAN = CorruptionStep("clean", 0)


@dataclass
class CleanResults:
    """What is computed once for each image: prediction, target and maps."""

    batch: Batch
    logits: Tensor
    targets: Classes
    maps: dict[str, Attributions]
    """Of each explainer, for the first images of the batch only where not all are explained."""


def answer_image(facts: Facts, scores: Tensor) -> tuple[int, frozenset[int]]:
    """Tell what a classifier says of an image.

    Args:
        facts: What its outputs mean.
        scores: What it gives [classes].

    Returns:
        (the likeliest class, the predicted classes: one, or the labels above the threshold).
    """
    index = int(scores.argmax())
    if facts.score != "sigmoid":
        return index, frozenset((index,))
    return index, frozenset(list_labels(facts.compute_probabilities(scores.float()).tolist(), facts.threshold))


def build_prediction_row(
    facts: Facts, clean: CleanResults, group: Group, logits: Tensor, image: int, step: int
) -> dict[str, Any]:
    """What is said of one image at one step.

    `probability` is that of the class predicted there, `clean_probability` that of the class predicted on the clean
    image, `true_probability` that of the true class. `attack_success` is empty where the clean prediction was not the
    attacked class to begin with.
    """
    probabilities = facts.report_probabilities(logits[image, step].float())
    index, answer = answer_image(facts, logits[image, step])
    _, clean_answer = answer_image(facts, clean.logits[image])
    target, label = int(clean.targets[image]), clean.batch.labels[image]
    row: dict[str, Any] = {
        "image": clean.batch.names[image],
        "corruption": group.steps[step].corruption,
        "level": group.steps[step].level,
        "label": clean.batch.label_names[image],
        "predicted": ", ".join(facts.classes[label] for label in sorted(answer)) or NO_LABEL,
        "probability": float(probabilities[index]),
        "flip": float(answer != clean_answer),
    }
    if facts.has_probabilities:
        row["clean_probability"] = float(probabilities[target])
    if int(label.min()) >= 0 and facts.has_probabilities:
        true = int(find_true_classes(label[None], logits[image, step][None]))
        row |= {} if true == UNKNOWN else {"true_probability": float(probabilities[true])}
        row["correct"] = float(facts.are_correct(logits[image, step][None], facts.mark_labels(label[None])))
    if group.attacked is not None:
        attacked = int(group.attacked[image])
        row["attacked_class"] = facts.classes[attacked]
        if attacked in clean_answer:
            row["attack_success"] = float(attacked not in answer)
    return row


@dataclass
class MeasuredGroup:
    """One group's rows, image by image and step by step, with what the figures need."""

    group: Group
    rows: list[list[dict[str, Any]]]
    maps: dict[str, Tensor]
    """Of each explainer [explained, steps, height, width], not moved back."""


@dataclass
class Measurement:
    """Measure one batch after the other; `seconds` adds up where the time goes.

    Attributes:
        classifier: The network; it is left as it was.
        explainers: Methods whose maps are compared, by name.
        metrics: Metrics of the maps on the corrupted images, by name.
        steps: Corruption and level of each version that comes with a batch.
        moving: Positions in `steps` of those that move pixels.
        attacks: Attacks on the classifier, by name.
        seed: Seed of every random number, together with the image.
        probe_batch_size: How many images are in the network at once, or `auto`.
        seconds: Time spent by stage.
        metric_passes: Forward passes that the metrics made.
    """

    classifier: Classifier
    explainers: Mapping[str, Explainer]
    metrics: Mapping[str, ImageMetric]
    steps: Sequence[CorruptionStep]
    moving: Sequence[int]
    attacks: Mapping[str, Attack]
    seed: int = 0
    probe_batch_size: int | str = "auto"
    seconds: dict[str, float] = field(default_factory=dict)
    metric_passes: int = 0

    def clean(self, batch: Batch, logits: Tensor, explained: int, existing: Mapping[str, Attributions]) -> CleanResults:
        """Explain the clean images, once for all versions.

        Args:
            batch: Clean images with their labels.
            logits: Outputs for them, [batch, classes].
            explained: How many images of the batch get maps.
            existing: Maps that another callback has computed already, by explainer.

        Returns:
            Predictions, targets (the predicted class) and maps of the clean images.
        """
        images, targets, maps = batch.images[:explained], logits.argmax(1), {}
        with self._timed("explanation"):
            for name, explainer in self.explainers.items() if explained else ():
                existing_maps = existing.get(name)
                maps[name] = (
                    explainer(self.classifier, images, targets[:explained]) if existing_maps is None else existing_maps
                )
        return CleanResults(batch, logits, targets, maps)

    def run(self, clean: CleanResults) -> Iterator[MeasuredGroup]:
        """Measure the clean images as level 0, then every group of corrupted and attacked versions.

        Args:
            clean: Results of the clean images.

        Yields:
            One group after the other, with a row for each image and version.
        """
        batch = clean.batch
        explained = max((len(maps) for maps in clean.maps.values()), default=0)
        with torch.inference_mode(False), torch.no_grad(), self.classifier.frozen():
            images = batch.images.clone()
            yield self._rows(clean, Group([CLEAN], images[:, None]), clean.logits.clone()[:, None], explained)
            for group in iterate_corrupted_groups(batch, self.steps, self.moving):
                yield self._measure(clean, group, explained)
            evaluator = BatchedEvaluator(self.classifier, images[0], self.probe_batch_size)
            labels = find_true_classes(batch.labels, clean.logits)
            classes = choose_attacked_classes(clean.targets, labels).clone()
            pending = iterate_attacked_groups(self.attacks, evaluator, images, classes, self.seed)
            while True:
                with self._timed("attack"):
                    attacked = next(pending, None)
                if attacked is None:
                    return
                yield self._measure(clean, attacked, explained)

    def _measure(self, clean: CleanResults, group: Group, explained: int) -> MeasuredGroup:
        images = group.images.flatten(0, 1)
        with self._timed("prediction"):
            logits = BatchedEvaluator(self.classifier, images[0], self.probe_batch_size).compute_logits(images)
        return self._rows(clean, group, logits.unflatten(0, group.images.shape[:2]), explained)

    def _rows(self, clean: CleanResults, group: Group, logits: Tensor, explained: int) -> MeasuredGroup:
        rows = [
            [
                build_prediction_row(self.classifier.facts, clean, group, logits, image, step)
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
        return MeasuredGroup(group, rows, maps)

    def _explain(
        self, name: str, explainer: Explainer, clean: CleanResults, group: Group, explained: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(maps [explained, steps, height, width], {column: [explained, steps]})."""
        count = len(group.steps)
        images = group.images[:explained].flatten(0, 1)
        targets = clean.targets[:explained].repeat_interleave(count)
        with self._timed("explanation"):
            clean_maps = clean.maps[name]
            maps = clean_maps if group.steps == [CLEAN] else explainer(self.classifier, images, targets)
        with self._timed("stability"):
            back, valid = maps, None
            if group.sources is not None:
                back, valid = map_back(maps, group.sources[:explained].flatten(0, 1))
                valid = valid.unflatten(0, (explained, count))
            values = measure_stability(clean_maps, back.unflatten(0, (explained, count)), explainer.signed, valid)
        with self._timed("metrics"):
            values |= self._score(explainer, clean, group, images, targets, maps)
        return maps.unflatten(0, (explained, count)), values

    def _score(
        self, explainer: Explainer, clean: CleanResults, group: Group, images: Tensor, targets: Tensor, maps: Tensor
    ) -> dict[str, Tensor]:
        """Every metric of the maps on the corrupted images; NaN for masks where pixels were moved."""
        if not self.metrics:
            return {}
        count, masks = len(group.steps), clean.batch.masks
        group_masks = None if masks is None else masks[: len(images) // count].repeat_interleave(count, 0)
        options: dict[str, Any] = {"seed": self.seed, "probe_batch_size": self.probe_batch_size}
        context = MetricContext(
            self.classifier, images, targets, maps, explainer=explainer, masks=group_masks, **options
        )
        before, values = self.classifier.passes.forward, {}
        for metric in select_measurable(self.metrics, masks is not None)[0].values():
            for column, scores in metric(self.classifier, images, targets, maps, context=context).items():
                lost = metric.needs_masks and group.sources is not None
                values[column] = (scores * torch.nan if lost else scores).unflatten(0, (-1, count))
            metric.reset()
        self.metric_passes += self.classifier.passes.forward - before
        return values

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def count_necessary_passes(measurement: Measurement, images: int, explained: int) -> int | None:
    """Count the forward passes that cannot be saved: one prediction a version, the explainers' own, the attacks' own.

    Args:
        measurement: What is measured.
        images: Number of images.
        explained: How many of them get maps.

    Returns:
        The number of passes, or None where an explainer's passes depend on the image.
    """
    facts, attacks = measurement.classifier.facts, measurement.attacks.values()
    versions = 1 + len(measurement.steps) + sum(len(attack.eps) for attack in attacks)
    total = images * (versions + sum(attack.passes_per_image()[0] for attack in attacks))
    for explainer in measurement.explainers.values():
        cost = explainer.passes_per_image(size=facts.size, classes=len(facts.classes))
        if cost is None:
            return None
        total += explained * versions * cost[0]
    return total


def describe_work(
    measurement: Measurement, seconds: Mapping[str, float], forward: int, images: int, explained: int
) -> dict[str, Any]:
    """Describe what the work took, for the record of the run.

    Args:
        measurement: What was measured.
        seconds: Of `corruption`, of `waiting` for images, and the `total`.
        forward: Forward passes of the run, those of metrics included.
        images: Number of images.
        explained: How many of them got maps.

    Returns:
        Seconds by stage, the shares of waiting and of the network, forward passes without those of metrics, and their
        ratio to the passes that cannot be saved, None where that number depends on the images.
    """
    network = sum(measurement.seconds.get(stage, 0.0) for stage in ("prediction", "explanation", "attack"))
    necessary = count_necessary_passes(measurement, images, explained)
    passes = forward - measurement.metric_passes
    return {
        "seconds": {stage: round(value, 3) for stage, value in {**measurement.seconds, **seconds}.items()},
        "waiting_share": round(seconds["waiting"] / seconds["total"], 4),
        "network_share": round(network / seconds["total"], 4),
        "forward_passes": passes,
        "forward_passes_over_floor": None if necessary is None else round(passes / necessary, 4),
    }


def find_existing_maps(
    outputs: Mapping[str, Any], batch: Batch, targets: Classes, explainers: Mapping[str, Explainer]
) -> dict[str, Attributions]:
    """Find maps that the batch's explanations hold already.

    Args:
        outputs: Results of the batch, with `explanations` where another callback computed some.
        batch: The images.
        targets: Target class of the first images, int64 [n].
        explainers: Methods by name.

    Returns:
        Maps [n, height, width] of each explainer whose explanations of exactly these images and targets exist.
    """
    by_image = {explanation.image_name: explanation for explanation in outputs.get("explanations", [])}
    shared = [by_image[name] for name in batch.names[: len(targets)] if name in by_image]
    if not shared or len(shared) < len(targets):
        return {}
    maps = {}
    for key, explainer in explainers.items():
        expected = [(explainer.name, explainer.parameters, target) for target in targets.tolist()]
        if expected == [
            (explanation.explainer, explanation.parameters, explanation.target.index) for explanation in shared
        ]:
            maps[key] = torch.stack([explanation.attribution for explanation in shared]).to(targets.device)
    return maps
