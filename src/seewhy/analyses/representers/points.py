"""Representer points: how much each training image adds to one logit of a test image.

One pass over the training set collects its features, the refitted last layer turns them into representer values, and a
running selection keeps the strongest. Memory holds the features, never the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.representers.refit import BLOCK, LastLayer, Refit, append_constant, refit_last_layer
from seewhy.core.errors import UserError
from seewhy.core.targets import UNKNOWN
from seewhy.core.types import Classes, Images, Targets
from seewhy.data.loading import TrainingSet
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier


class RunningTop:
    """`values` [rows, k] in descending order and `columns` int64 [rows, k], k = min(count, columns seen so far)."""

    def __init__(self, rows: int, count: int) -> None:
        self.count = count
        self.values = torch.zeros(rows, 0, dtype=torch.float64)
        self.columns = torch.zeros(rows, 0, dtype=torch.int64)

    def add(self, block: Tensor, first: int) -> None:
        """A block [rows, width] whose columns are `first`, `first` + 1, ..."""
        best = block.topk(min(self.count, block.shape[1]), dim=1)
        values = torch.cat([self.values, best.values.double().cpu()], dim=1)
        columns = torch.cat([self.columns, best.indices.cpu() + first], dim=1)
        order = values.argsort(dim=1, descending=True, stable=True)[:, : self.count]
        self.values, self.columns = values.gather(1, order), columns.gather(1, order)


class Nearest:
    """The `count` training vectors with the largest cosine to each of `tests` [m, d], seen a block at a time."""

    def __init__(self, tests: Tensor, count: int) -> None:
        self.tests = functional.normalize(tests.flatten(1).float(), dim=1)
        self.top = RunningTop(len(tests), count)

    def add(self, block: Tensor, first: int) -> None:
        """Training vectors [n, d] at the positions `first`, `first` + 1, ..."""
        self.top.add(self.tests @ functional.normalize(block.flatten(1).float(), dim=1).T, first)


def measure_class_consistency(nearest: RunningTop, training_labels: Tensor, labels: Tensor) -> Tensor:
    """Share of the nearest training images that have the test image's own class.

    float64 [m] in [0, 1], higher is more consistent; NaN where the class of the test image is unknown (-1).
    """
    same = (training_labels[nearest.columns] == labels[:, None]).double().mean(1)
    return torch.where(labels == UNKNOWN, torch.nan, same)


class Reconstruction(NamedTuple):
    """Agreement of two sets of class probabilities."""

    pearson: float
    """Correlation over all images and classes, -1 to 1; NaN where one of them is constant."""
    mean_gap: float
    """Mean over the images of the sum over the classes of |difference|, 0 to 2; lower is closer."""

    def check(self, least: float, where: str) -> None:
        """UserError where the correlation is below `least`: the values would explain another network."""
        if not self.pearson >= least:
            raise UserError(
                f"on the {where} images the refitted last layer has a Pearson correlation of {self.pearson:.4f} with "
                f"the network's own probabilities (mean gap {self.mean_gap:.3f}), below {least:g}: its representer "
                "values would explain another network; set a smaller callbacks.representers.l2"
            )


def compare_probabilities(rebuilt: Tensor, original: Tensor) -> Reconstruction:
    """The agreement of probabilities [n, classes] of the refitted layer with those of the network."""
    refitted, own = rebuilt.double(), original.double()
    first, second = (values - values.mean() for values in (refitted, own))
    lengths = first.norm() * second.norm()
    pearson = float((first * second).sum() / lengths) if lengths > 0 else torch.nan
    return Reconstruction(pearson, float((refitted - own).abs().sum(1).mean()))


PASS = 1000
"""Training images that are read at once."""


@dataclass(frozen=True)
class Training:
    """What one pass over the training set leaves behind; the pictures are not kept."""

    features: Tensor
    probabilities: Tensor
    labels: Tensor
    names: list[str]
    nearest: Nearest
    wrong: Tensor | None = None
    """Whether each label is known to be wrong, bool [n]; None where the data do not say so."""

    def compute_loss(self) -> Tensor:
        """Compute the network's own cross-entropy of each training image's label, float64 [n]."""
        of_label = self.probabilities.double().gather(1, self.labels[:, None])[:, 0]
        return -of_label.clamp_min(torch.finfo(self.probabilities.dtype).tiny).log()


def read_training(
    evaluator: BatchedEvaluator, layer: LastLayer, data: TrainingSet, images: Images, neighbours: int
) -> Training:
    """One pass: features, probabilities and labels of the training set, and its nearest pictures to `images`."""
    total, device = data.training_count(), images.device
    nearest = Nearest(images, neighbours)
    features, probabilities, labels, names = [], [], [], []
    for start in range(0, total, PASS):
        batch = data.training_batch(list(range(start, min(total, start + PASS)))).to(device)
        block_features, logits = layer.features(evaluator, batch.images)
        features.append(block_features.cpu())
        probabilities.append(evaluator.classifier.facts.compute_probabilities(logits).cpu())
        labels.append(batch.labels.cpu())
        names += batch.names
        nearest.add(batch.images, start)
    wrong = getattr(data, "wrong_labels", None)
    return Training(torch.cat(features), torch.cat(probabilities), torch.cat(labels), names, nearest, wrong)


TEST_BLOCK = 512
"""Test images whose values are held at once: the memory is TEST_BLOCK x BLOCK float64."""


@dataclass(frozen=True)
class Strongest:
    """For each test image the training images that speak most for and against the target."""

    excitatory: RunningTop
    """The largest values."""
    inhibitory: RunningTop
    """The most negative values with their sign turned, so that they fall too."""
    total: Tensor
    """float64 [m]: the sum of the values of all training images, which is the logit of the refitted layer."""


def find_strongest(features: Tensor, coefficients: Tensor, tests: Tensor, targets: Classes, count: int) -> Strongest:
    """The `count` largest and smallest alpha_ij (f_i . f_t + 1) over the training images i, and their sum.

    `features` [n, d] and `coefficients` alpha float64 [n, classes] of the training images, `tests` [m, d] and `targets`
    j [m] of the test images. Streamed: neither m x n x classes nor m x n values are held. Values above 0 are excitatory
    (the training image speaks for the target), below 0 inhibitory.
    Yeh, Kim, Yen, Ravikumar: Representer point selection for explaining deep neural networks, NeurIPS 2018.
    """
    parts = [
        _of_block(features, coefficients, tests[start : start + TEST_BLOCK], targets[start : start + TEST_BLOCK], count)
        for start in range(0, len(tests), TEST_BLOCK)
    ]
    joined = Strongest(RunningTop(0, count), RunningTop(0, count), torch.cat([block.total for block in parts]))
    for name in ("excitatory", "inhibitory"):
        tops = [getattr(block, name) for block in parts]
        getattr(joined, name).values = torch.cat([top.values for top in tops])
        getattr(joined, name).columns = torch.cat([top.columns for top in tops])
    return joined


def _of_block(features: Tensor, coefficients: Tensor, tests: Tensor, targets: Classes, count: int) -> Strongest:
    rows = append_constant(tests)
    excitatory, inhibitory = RunningTop(len(tests), count), RunningTop(len(tests), count)
    total = torch.zeros(len(tests), dtype=torch.float64)
    for start in range(0, len(features), BLOCK):
        span = slice(start, start + BLOCK)
        block = (rows @ append_constant(features[span]).T) * coefficients[span][:, targets].T
        excitatory.add(block, start)
        inhibitory.add(-block, start)
        total += block.sum(1)
    return Strongest(excitatory, inhibitory, total)


@dataclass(frozen=True)
class RepresenterPoints:
    """The refitted layer, the strongest training images of each test image, and the importance of each of them."""

    training: Training
    fit: Refit
    fit_to: str
    """`the network` or `the labels`."""
    rebuilt: dict[str, Reconstruction]
    """For the `training` and the `test` images."""
    strongest: Strongest
    identity_error: float
    """Largest |sum of the values - logit of the refitted layer| over the test images."""
    label_fit: Refit
    """The layer fitted to the given labels instead of the network's own probabilities."""
    importance: Tensor
    """|alpha_iy| of `label_fit`, float64 [n]; the largest belong to the images whose label fits least."""
    consistency: dict[str, Tensor]
    """For the `input` and the `feature` space."""

    def facts(self) -> dict[str, float]:
        """The numbers that decide whether to trust the values."""
        facts = {f"pearson_{where}": values.pearson for where, values in self.rebuilt.items()}
        facts |= {f"mean_gap_{where}": values.mean_gap for where, values in self.rebuilt.items()}
        facts |= {f"consistency_{space}": float(values.nanmean()) for space, values in self.consistency.items()}
        facts |= self._count_wrong_labels()
        return facts | {
            "training_images": float(len(self.training.names)),
            "gradient_norm": self.fit.gradient_norm,
            "gradient_limit": self.fit.gradient_limit,
            "label_gradient_norm": self.label_fit.gradient_norm,
            "identity_error": self.identity_error,
        }

    def _count_wrong_labels(self) -> dict[str, float]:
        """How many labels are known to be wrong, and how many of them as many images hold, the first in either order."""
        wrong = self.training.wrong
        if wrong is None:
            return {}
        count = int(wrong.sum())
        orders = {"importance": self.importance, "loss": self.training.compute_loss()}
        first = {name: values.argsort(descending=True, stable=True)[:count] for name, values in orders.items()}
        hits = {f"wrong_labels_by_{name}": float(wrong[rows].sum()) for name, rows in first.items()}
        return {"wrong_labels": float(count), **hits}


def compute_representer_points(
    classifier: Classifier,
    data: TrainingSet,
    images: Images,
    targets: Classes,
    labels: Tensor,
    *,
    fit_to: str = "network",
    l2: float = 0.003,
    least_pearson: float,
    count: int = 5,
    neighbours: int = 10,
    probe_batch_size: int | str = "auto",
) -> RepresenterPoints:
    """Representer points of `images` [m, 3, height, width] for the logit of `targets` [m].

    `fit_to=network`: the last layer is fitted to the network's own probabilities (Yeh et al.); the residuals then have
    both signs for every class. `labels`: to the labels, so that only images of the target's class are excitatory. Either
    way UserError where the refitted layer is not close to the network (`least_pearson`). The importance always comes
    from the fit to the labels: residuals of the network's own probabilities do not know the labels.
    """
    if fit_to not in ("network", "labels"):
        raise UserError(f"callbacks.representers.fit_to={fit_to!r} is none of network, labels")
    layer = LastLayer(classifier, images[:1])
    evaluator = BatchedEvaluator(classifier, images[0], probe_batch_size)
    training = read_training(evaluator, layer, data, images, neighbours)
    label_fit, importance = measure_label_importance(
        training.features, training.labels, len(classifier.facts.classes), l2
    )
    fit = label_fit if fit_to == "labels" else refit_last_layer(training.features, training.probabilities, l2)
    rebuilt = {"training": _rebuilt(fit, training.features, training.probabilities)}
    rebuilt["training"].check(least_pearson, "training")
    tests, logits = (values.cpu() for values in layer.features(evaluator, images))
    rebuilt["test"] = _rebuilt(fit, tests, classifier.facts.compute_probabilities(logits))
    rebuilt["test"].check(least_pearson, "test")
    top = find_strongest(training.features, fit.coefficients, tests, targets.cpu(), count)
    expected = Targets(targets.cpu()).score(append_constant(tests) @ fit.weights.T)
    near = Nearest(tests, neighbours)
    near.add(training.features, 0)
    spaces = {"input": training.nearest.top, "feature": near.top}
    return RepresenterPoints(
        training,
        fit,
        f"the {fit_to}",
        rebuilt,
        top,
        float((top.total - expected).abs().max()),
        label_fit,
        importance,
        {name: measure_class_consistency(top, training.labels, labels.cpu()) for name, top in spaces.items()},
    )


def measure_label_importance(features: Tensor, labels: Tensor, classes: int, l2: float) -> tuple[Refit, Tensor]:
    """(the last layer fitted to the labels, |alpha_iy| = (1 - p_iy) / (2 l2 n) [n]).

    A training image whose label does not fit its features has a large |alpha_iy|; mislabelled ones come first.
    """
    if bool((labels == UNKNOWN).any()):
        raise UserError(f"{int((labels == UNKNOWN).sum())} training images have no known class: give their labels")
    fit = refit_last_layer(features, functional.one_hot(labels, classes), l2)
    return fit, fit.coefficients.gather(1, labels[:, None])[:, 0].abs()


def _rebuilt(fit: Refit, features: Tensor, probabilities: Tensor) -> Reconstruction:
    blocks = [(append_constant(block) @ fit.weights.T).softmax(1) for block in features.split(PASS)]
    return compare_probabilities(torch.cat(blocks), probabilities)
