"""Other preprocessing and other labels than those of a classifier, tried on the same images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.analyses.doctor.network_checks import Inspection
from seewhy.core.facts import CIFAR10_MEAN, CIFAR10_STD, IMAGENET_MEAN, IMAGENET_STD, Facts
from seewhy.core.types import Batch, Images
from seewhy.data.loading import Reader
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

Values = NDArray[np.float64]

STATISTICS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "images as they are, in [0, 1]": ((0.0,), (1.0,)),
    "images in [-1, 1]": ((0.5,), (0.5,)),
    "images from 0 to 255": ((0.0,), (1 / 255,)),
    "mean and std of ImageNet": (IMAGENET_MEAN, IMAGENET_STD),
    "mean and std of CIFAR-10": (CIFAR10_MEAN, CIFAR10_STD),
    "mean and std of CLIP": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    "mean of ImageNet, images from 0 to 255": (IMAGENET_MEAN, (1 / 255,)),
}
"""Normalisations that networks are trained with: (mean, std) of each channel, or one for all."""
NORMALISATION, ORDER, SIZE, CROP, LABELS = "mean and std", "order of channels", "size", "crop", "order of labels"
WATCHED = 32
"""Images that pass at once while every layer is watched, where their number is not given."""
LAYERS = 3
"""Batch normalisations, from the image on, whose statistics are compared."""


@dataclass(frozen=True)
class Alternative:
    """One way to prepare images that differs from the classifier's in one respect."""

    name: str
    """In words."""
    cause: str
    """What is wrong with the classifier if this suits it better."""
    setting: str
    """What to set."""
    facts: Facts
    """Preprocessing that it stands for."""
    reversed: bool = False
    """Whether the normalised channels come in the opposite order."""


@dataclass
class Answers:
    """What a network says to images under one alternative; NaN and -1 where an image has no label."""

    predicted: NDArray[np.int64]
    """Likeliest class [n]."""
    confidence: Values
    """Its probability [n]."""
    fit: Values
    """Probability of the label, exp(-loss) where there are several [n]."""
    correct: Values
    """1 where the answer is right [n]."""
    deviance: float = float("nan")
    """How far the input of the first batch normalisations is from what they were trained on: the mean over channels of the
    Kullback-Leibler divergence of two normal distributions; NaN without such layers."""
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def accuracy(self) -> float:
        """Share of right answers among the labelled images; NaN where there are none."""
        labelled = self.correct[np.isfinite(self.correct)]
        return float(labelled.mean()) if len(labelled) else float("nan")


def list_alternatives(facts: Facts) -> list[Alternative]:
    """List what is tried beside a classifier's own preprocessing.

    Args:
        facts: Of the classifier.

    Returns:
        Normalisations, the opposite order of channels, sizes and crops; none that changes nothing.
    """
    listed: list[Alternative] = []
    for name, (mean, std) in STATISTICS.items():
        if {len(mean), len(std)} - {1, facts.channels}:
            continue
        means, stds = (tuple(each) * (facts.channels if len(each) == 1 else 1) for each in (mean, std))
        if np.allclose([*means, *stds], [*facts.mean, *facts.std], rtol=0, atol=0.003):
            continue
        lists = (f"[{','.join(f'{value:.4g}' for value in values)}]" for values in (means, stds))
        setting = "model.mean={} model.std={}".format(*lists)
        listed.append(Alternative(name, NORMALISATION, setting, facts.replace({"mean": means, "std": stds})))
    if facts.channels == 3:
        flipped = "give it `images.flip(1)` in the forward of model=own, or store the files with that order"
        listed.append(Alternative("channels as blue, green, red", ORDER, flipped, facts, reversed=True))
    height, width = facts.shape
    for other in dict.fromkeys((height // 2, height * 2, 224, 32)):
        size = other, max(1, round(other * width / height))
        if 16 <= min(size) <= max(size) <= 2 * max(facts.shape) and size != facts.shape:
            value = size[0] if size[0] == size[1] else [*size]
            words = f"images of {size[0]} x {size[1]} pixels"
            listed.append(Alternative(words, SIZE, f"model.size={value}", facts.replace({"size": size})))
    fit = "squash" if facts.fit == "crop" else "crop"
    words = "pictures squashed to the size" if fit == "squash" else "pictures cut in their proportions"
    listed.append(Alternative(words, CROP, f"model.fit={fit}", facts.replace({"fit": fit})))
    for share in (0.875, 1.0):
        if abs(facts.crop - share) > 0.06:
            words = f"the centre crop keeps {100 * share:.3g} % of the side"
            listed.append(Alternative(words, CROP, f"model.crop={share}", facts.replace({"crop": share})))
    return listed


def answer_all(
    classifier: Classifier,
    read: Reader,
    alternatives: Sequence[Alternative],
    batch_size: int | str = "auto",
    inspection: Inspection | None = None,
) -> dict[str, Answers]:
    """Let a network answer the same images under each alternative.

    Args:
        classifier: The network; it is left as it was.
        read: Reads the images; it is called once for each size and crop.
        alternatives: What to try; one that the network cannot take is left out.
        batch_size: Images in the network at once, or `auto`.
        inspection: Watches the layers while the classifier as it is answers.

    Returns:
        The answers by the name of the alternative, in their order, and those of the classifier as it is under "".
    """
    own = Alternative("", "", "", classifier.facts)
    groups: dict[tuple[object, ...], list[Alternative]] = {}
    for each in (own, *alternatives):
        facts = each.facts
        groups.setdefault((facts.shape, facts.crop, facts.fit), []).append(each)
    answers: dict[str, Answers] = {}
    for members in groups.values():
        rows: dict[str, list[tuple[Tensor, ...]]] = {each.name: [] for each in members}
        watches = {each.name: _Statistics(classifier.network) for each in members}
        for batch in read(members[0].facts):
            for each in [member for member in members if member.name in rows]:
                if not len(batch.images):
                    continue
                try:
                    with classifier.evaluating(), torch.no_grad(), watches[each.name].watching():
                        looking = None if each.name else inspection
                        rows[each.name].append(_answer(classifier, each, batch, batch_size, looking))
                except (RuntimeError, ValueError, AssertionError):
                    if not each.name:
                        raise
                    del rows[each.name]  # the network takes no images of this size
        for name, parts in rows.items():
            if parts:
                columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
                predicted, confidence, fit, correct, labels = columns
                answers[name] = Answers(predicted, confidence, fit, correct, watches[name].compare(), labels)
    order = ["", *(each.name for each in alternatives)]
    return {name: answers[name] for name in order if name in answers}


def prepare(images: Images, own: Facts, other: Alternative) -> Images:
    """Change images such that the classifier's normalisation makes of them what an alternative would.

    Args:
        images: [n, channels, height, width] in [0, 1].
        own: Facts of the classifier.
        other: The alternative.

    Returns:
        [n, channels, height, width], not in [0, 1].
    """

    def spread(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]

    facts = other.facts
    if not other.reversed and (facts.mean, facts.std) == (own.mean, own.std):
        return images
    normalised = (images - spread(facts.mean)) / spread(facts.std)
    normalised = normalised.flip(1) if other.reversed else normalised
    return normalised * spread(own.std) + spread(own.mean)


def _answer(
    classifier: Classifier, each: Alternative, batch: Batch, batch_size: int | str, inspection: Inspection | None
) -> tuple[Tensor, ...]:
    """(predicted, its probability, fit, correct, label) of a batch."""
    facts = classifier.facts
    images = prepare(batch.images.to(classifier.mean), facts, each)
    if inspection is None:
        scores = BatchedEvaluator(classifier, images[0], batch_size).compute_logits(images)
    else:
        scores = inspection.compute_logits(classifier, images, batch_size if isinstance(batch_size, int) else WATCHED)
    probabilities = facts.compute_probabilities(scores).double()
    marks = facts.mark_labels(batch.labels.to(scores.device))
    known = (marks if marks.ndim == 1 else marks[:, 0]) >= 0
    fit = torch.full((len(images),), float("nan"), dtype=torch.float64)
    correct = fit.clone()
    if bool(known.any()):
        losses = facts.compute_losses(scores[known], marks[known])
        losses = losses / (marks.shape[1] if marks.ndim > 1 else 1)
        fit[known.cpu()] = torch.exp(-losses.double()).cpu()
        correct[known.cpu()] = facts.are_correct(scores[known], marks[known]).double().cpu()
    labels = torch.where(known, marks, -1) if marks.ndim == 1 else torch.full((len(images),), -1)
    confidence, predicted = probabilities.max(1)
    return predicted.cpu(), confidence.cpu(), fit, correct, labels.cpu()


class _Statistics:
    """Means and variances of what the first batch normalisations are given, beside those that they keep."""

    def __init__(self, network: nn.Module) -> None:
        kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm
        norms = [module for module in network.modules() if isinstance(module, kinds) and module.track_running_stats]
        self.norms = norms[:LAYERS]
        self.sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in self.norms]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Add up what passes inside the block."""
        handles = []
        for norm, sums in zip(self.norms, self.sums, strict=True):

            def add(module: nn.Module, inputs: tuple[Tensor, ...], sums: Tensor = sums) -> None:
                values = inputs[0].detach().double().cpu().transpose(0, 1).flatten(1)
                sums += torch.stack(
                    [values.sum(1), values.square().sum(1), torch.full_like(values[:, 0], values.shape[1])]
                )

            handles.append(norm.register_forward_pre_hook(add))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def compare(self) -> float:
        """The divergence of what was seen from what the layers keep; NaN without such layers."""
        divergences = []
        for norm, (total, squares, count) in zip(self.norms, self.sums, strict=True):
            assert norm.running_mean is not None and norm.running_var is not None
            if not bool((count > 0).all()):
                return float("nan")
            kept = norm.running_var.double().cpu() + norm.eps
            mean = total / count
            variance = (squares / count - mean.square()).clamp_min(0) + norm.eps
            shift = (mean - norm.running_mean.double().cpu()).square() / kept
            divergences.append(float((0.5 * (variance / kept + shift - 1 - torch.log(variance / kept))).mean()))
        return float(np.mean(divergences)) if divergences else float("nan")
