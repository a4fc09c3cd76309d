"""Small classifiers whose attributions are known in closed form or quick to compute, and images.

Everything is in double precision: what is compared does not depend on the order in which a processor sums, and no gate of a
rectifier opens on one side alone. `.float()` where single precision is meant.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn

from seewhy.core.facts import Facts
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.classifier import Classifier


def classifier_of(
    network: nn.Module, size: int, classes: int, *, normalised: bool = True, **options: object
) -> Classifier:
    """A classifier around any network: CIFAR-like mean and standard deviation, or none at all."""
    names = tuple(f"class {index}" for index in range(classes))
    mean, std = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)) if normalised else ((0.0,) * 3, (1.0,) * 3)
    built = Classifier(network.double(), Facts(names, size, mean, std), name=type(network).__name__, **options)  # type: ignore[arg-type]
    return built.double().eval()


def linear_classifier(size: int = 8, classes: int = 3, seed: int = 0) -> tuple[Classifier, Tensor]:
    """(classifier without normalisation, its weights [classes, 3, size, size]): logit_c = sum(w_c * image) + bias."""
    torch.manual_seed(seed)
    layer = nn.Linear(3 * size * size, classes)
    classifier = classifier_of(nn.Sequential(nn.Flatten(), layer), size, classes, normalised=False)
    return classifier, layer.weight.detach().view(classes, 3, size, size)


def small_cnn(seed: int = 0) -> Classifier:
    """The tutorial network with random weights: 32x32 pixels, 10 classes, a non-trivial normalisation."""
    torch.manual_seed(seed)
    return classifier_of(CifarCNN(), 32, 10, cam_layer="relu2", influence_layer="relu4")


def looked_over(classifier: Classifier) -> Classifier:
    """The same classifier after the two passes of one image in which its layers are looked over, once and for all."""
    with classifier.frozen():
        return classifier


def random_images(count: int, size: int, seed: int = 0) -> Tensor:
    """Uniform images in [0, 1]."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).double()


KINKS: dict[type[nn.Module], tuple[float, ...]] = {nn.ReLU: (0.0,), nn.ReLU6: (0.0, 6.0), nn.Hardswish: (-3.0, 3.0)}
"""Where the derivative of an activation jumps."""


def images_beside_no_kink(classifier: Classifier, count: int, size: int, margin: float = 1e-5) -> Tensor:
    """Random images that bring no activation of the network nearer to a jump of its derivative than `margin`.

    Only there do gradients in single precision agree whatever the order of summation. float32 [count, 3, size, size].
    """
    twin, distances = copy.deepcopy(classifier).double(), [0.0]

    def measure(module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        values = (*arguments, *named.values())[0]
        distances.extend(float((values - kink).abs().min()) for kink in KINKS[type(module)])

    for module in twin.modules():
        if type(module) in KINKS:
            module.register_forward_pre_hook(measure, with_kwargs=True)
    for seed in range(100):
        images = random_images(count, size, seed)
        distances.clear()
        with torch.no_grad():
            twin(images)
        if min(distances, default=margin) >= margin:
            return images.float()
    raise AssertionError(f"of 100 draws none is {margin} from all jumps")


@contextmanager
def double_by_default() -> Iterator[None]:
    """Peers round weights, scores and sums to single precision wherever they make a tensor; inside the block they do not."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Tensor, "float", Tensor.double):
            yield
    finally:
        torch.set_default_dtype(before)
