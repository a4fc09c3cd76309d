"""Everything that representer points say of one network, its training set and some test images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.classifier import Classifier
from seewhy.data.training_set import TrainingSet
from seewhy.errors import UserError
from seewhy.probe import Probe
from seewhy.representers.consistency import Nearest, class_consistency
from seewhy.representers.last_layer import LastLayer
from seewhy.representers.reconstruction import Reconstruction, reconstruction
from seewhy.representers.refit import Refit, refit, with_constant
from seewhy.representers.training_pass import PASS, Training, read_training
from seewhy.representers.values import Strongest, strongest
from seewhy.targets import UNKNOWN
from seewhy.types import Images, Targets


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
        found = {f"pearson_{where}": values.pearson for where, values in self.rebuilt.items()}
        found |= {f"mean_gap_{where}": values.mean_gap for where, values in self.rebuilt.items()}
        found |= {f"consistency_{space}": float(values.nanmean()) for space, values in self.consistency.items()}
        return found | {
            "training_images": float(len(self.training.names)),
            "gradient_norm": self.fit.gradient_norm,
            "gradient_limit": self.fit.gradient_limit,
            "label_gradient_norm": self.label_fit.gradient_norm,
            "identity_error": self.identity_error,
        }


def representer_points(
    classifier: Classifier,
    data: TrainingSet,
    images: Images,
    targets: Targets,
    labels: Tensor,
    *,
    fit_to: str = "network",
    l2: float = 0.003,
    least_pearson: float = 0.99,
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
    probe = Probe(classifier, images[0], probe_batch_size)
    training = read_training(probe, layer, data, images, neighbours)
    label_fit, importance = label_importance(training.features, training.labels, len(classifier.facts.classes), l2)
    fit = label_fit if fit_to == "labels" else refit(training.features, training.probabilities, l2)
    rebuilt = {"training": _rebuilt(fit, training.features, training.probabilities)}
    rebuilt["training"].check(least_pearson, "training")
    tests, logits = (values.cpu() for values in layer.features(probe, images))
    rebuilt["test"] = _rebuilt(fit, tests, logits.softmax(1))
    rebuilt["test"].check(least_pearson, "test")
    found = strongest(training.features, fit.coefficients, tests, targets.cpu(), count)
    expected = (with_constant(tests) @ fit.weights.T).gather(1, targets.cpu()[:, None])[:, 0]
    near = Nearest(tests, neighbours)
    near.add(training.features, 0)
    spaces = {"input": training.nearest.top, "feature": near.top}
    return RepresenterPoints(
        training,
        fit,
        f"the {fit_to}",
        rebuilt,
        found,
        float((found.total - expected).abs().max()),
        label_fit,
        importance,
        {name: class_consistency(top, training.labels, labels.cpu()) for name, top in spaces.items()},
    )


def label_importance(features: Tensor, labels: Tensor, classes: int, l2: float) -> tuple[Refit, Tensor]:
    """(the last layer fitted to the labels, |alpha_iy| = (1 - p_iy) / (2 l2 n) [n]).

    A training image whose label does not fit its features has a large |alpha_iy|; mislabelled ones come first.
    """
    if bool((labels == UNKNOWN).any()):
        raise UserError(f"{int((labels == UNKNOWN).sum())} training images have no known class: give their labels")
    fit = refit(features, functional.one_hot(labels, classes), l2)
    return fit, fit.coefficients.gather(1, labels[:, None])[:, 0].abs()


def _rebuilt(fit: Refit, features: Tensor, probabilities: Tensor) -> Reconstruction:
    blocks = [(with_constant(block) @ fit.weights.T).softmax(1) for block in features.split(PASS)]
    return reconstruction(torch.cat(blocks), probabilities)
