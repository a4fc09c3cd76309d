"""Grad-CAM against its closed form, a slow twin and two other implementations."""

import pytest
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.explainers.cam import GradCam
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


def pooled_network() -> tuple[Classifier, nn.Conv2d, nn.Linear]:
    """Convolution, ReLU, average over positions, dense layer: Grad-CAM is the dense layer's weights at work."""
    torch.manual_seed(0)
    convolution, dense = nn.Conv2d(3, 5, 3), nn.Linear(5, 4)
    network = nn.Sequential(convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    return classifier_of(network, 10, 4, normalised=False), convolution, dense


def test_closed_form() -> None:
    classifier, convolution, dense = pooled_network()
    images, targets = random_images(3, 10), torch.tensor([0, 2, 3])
    features = convolution(images).relu().detach()
    expected = (dense.weight[targets][:, :, None, None].detach() / 64 * features).sum(1).relu()
    expected = torch.stack([enlarged(each, 10, 1, 1) for each in expected])
    torch.testing.assert_close(GradCam(probe_batch_size=2)(classifier, images, targets), expected)


def twin(activation: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, equations 1 and 2, one channel after the other."""
    summed = torch.zeros_like(activation[0])
    for channel in range(len(activation)):
        summed += gradient[channel].sum() / gradient[channel].numel() * activation[channel]
    return summed.clamp_min(0)


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_slow_twin(layer: str) -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 0])
    maps = GradCam(layer=layer, probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        expected = enlarged(twin(*signals(classifier, layer, image, int(target))), 32, *first_cell(layer))
        torch.testing.assert_close(found, expected)


def test_equal_to_captum() -> None:
    from captum import attr

    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 0])
    small = attr.LayerGradCam(classifier, classifier.find_layer("relu2")).attribute(
        images, target=targets, relu_attributions=True
    )
    expected = torch.stack([enlarged(each, 32, *first_cell("relu2")) for each in small[:, 0].detach()])
    torch.testing.assert_close(GradCam(probe_batch_size=2)(classifier, images, targets), expected)


@pytest.mark.oracle
def test_equal_to_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 0])
    layer = classifier.find_layer("relu2")
    maps = GradCam(probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        activation, gradient = (part[None].numpy() for part in signals(classifier, "relu2", image, int(target)))
        with library.GradCAM(model=classifier, target_layers=[layer]) as cam:
            small = cam.get_cam_image(image[None], layer, None, activation, gradient)
        torch.testing.assert_close(found, enlarged(torch.tensor(small[0]).relu(), 32, *first_cell("relu2")))
