"""Grad-CAM++ against the published formula, computed pixel by pixel, and against another implementation."""

import pytest
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.explainers.cam import GradCamPlusPlus
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


def twin(activation: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, equations 10 and 19, in double precision, without a library's small constant."""
    summed = torch.zeros(activation.shape[1:], dtype=torch.float64)
    for features, slopes in zip(activation.double(), gradient.double(), strict=True):
        weight = 0.0
        for slope in slopes.flatten().tolist():
            if slope:
                alpha = slope**2 / (2 * slope**2 + float(features.sum()) * slope**3)
                weight += alpha * max(slope, 0.0)
        summed += weight * features
    return summed.clamp_min(0)


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_slow_twin(layer: str) -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    maps = GradCamPlusPlus(layer=layer, probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        expected = enlarged(twin(*signals(classifier, layer, image, int(target))), 32, *first_cell(layer))
        torch.testing.assert_close(found, expected)


def test_by_hand() -> None:
    features = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[-3.0, 0.0], [0.0, 1.0]]]])
    gradient = torch.tensor([[[[1.0, -1.0], [0.5, 0.0]], [[2.0, 0.0], [0.0, 4.0]]]])
    # channel 0 sums to 4: 1 / (2 + 4) + 0.5 / (2 + 2); channel 1 sums to -2, which counts as 0: 2 / 2 + 4 / 2
    first, second = 1 / 6 + 0.5 / 4, 3.0
    expected = first * features[:, 0] + second * features[:, 1]
    torch.testing.assert_close(GradCamPlusPlus()._combine(features, gradient), expected)


def steep_network() -> Classifier:
    """Gradients so large that the small constant in other implementations does not matter."""
    torch.manual_seed(0)
    dense = nn.Linear(6 * 5 * 5, 3)
    dense.weight.data.mul_(1e6)
    return classifier_of(nn.Sequential(nn.Conv2d(3, 6, 4), nn.ReLU(), nn.Flatten(), dense), 8, 3)


@pytest.mark.oracle
def test_equal_to_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    classifier, images, targets = steep_network(), random_images(3, 8), torch.tensor([0, 1, 2])
    layer = classifier.find_layer("1")
    maps = GradCamPlusPlus(layer="1", probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        activation, gradient = (part[None].numpy() for part in signals(classifier, "1", image, int(target)))
        with library.GradCAMPlusPlus(model=classifier, target_layers=[layer]) as cam:
            small = cam.get_cam_image(image[None], layer, None, activation, gradient)
        torch.testing.assert_close(found, enlarged(torch.tensor(small[0]).relu(), 8, 1.5, 1), rtol=1e-6, atol=1e-6)
