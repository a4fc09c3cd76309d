"""LayerCAM against a slow twin, its degenerate case and another implementation."""

import pytest
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.explainers.cam import GradCam, LayerCam
from tiny import classifier_of, random_images, small_cnn


def twin(activation: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, equations 6 to 8, one position after the other."""
    summed = torch.zeros_like(activation[0])
    for row in range(summed.shape[0]):
        for column in range(summed.shape[1]):
            weights = gradient[:, row, column].clamp_min(0)
            summed[row, column] = (weights * activation[:, row, column]).sum().clamp_min(0)
    return summed


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_slow_twin(layer: str) -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    maps = LayerCam(layer=layer, probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        torch.testing.assert_close(
            found, enlarged(twin(*signals(classifier, layer, image, int(target))), 32, *first_cell(layer))
        )


def test_equal_to_grad_cam_where_all_gradients_are_alike_and_positive() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(5, 3)
    dense.weight.data.abs_()
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    classifier, images, targets = classifier_of(network, 10, 3), random_images(2, 10), torch.tensor([0, 2])
    maps = LayerCam(layer="1", probe_batch_size=4)(classifier, images, targets)
    torch.testing.assert_close(maps, GradCam(layer="1", probe_batch_size=4)(classifier, images, targets))


@pytest.mark.oracle
def test_equal_to_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    classifier, image = small_cnn(), random_images(1, 32)
    layer = classifier.find_layer("relu2")
    activation, gradient = (part[None].numpy() for part in signals(classifier, "relu2", image[0], 3))
    with library.LayerCAM(model=classifier, target_layers=[layer]) as cam:
        small = cam.get_cam_image(image, layer, None, activation, gradient, False)
    maps = LayerCam(probe_batch_size=2)(classifier, image, torch.tensor([3]))
    torch.testing.assert_close(maps[0], enlarged(torch.tensor(small[0]).relu(), 32, *first_cell("relu2")))
