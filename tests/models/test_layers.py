"""Layers by name, and the layer that class activation maps are drawn from by default."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from seewhy.core.errors import Incompatible, OwnCodeFailure, UserError
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer, require_grid
from seewhy.models.unwrapping import find_layer
from tiny import classifier_of, linear_classifier, random_images, small_cnn


def layer_of(network: nn.Module, size: int, classes: int = 10) -> str:
    return find_cam_layer(classifier_of(network, size, classes), (size, size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "layer"),
    [
        ("test_resnet", {}, "layer4"),
        ("test_efficientnet", {}, "bn2"),
        ("test_convnext", {}, "stages"),
        ("test_mambaout", {}, "stages"),
        ("test_vit", {"img_size": 64}, "blocks.4"),
        ("test_vit", {"img_size": 64, "global_pool": "avg"}, "blocks"),
        ("test_vit3", {"img_size": 64}, "norm"),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2}, "blocks.0"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 2, "depths": (1, 1), "num_heads": (1, 2)},
            "norm",
        ),
    ],
)
def test_default_layer_of_timm(name: str, options: dict[str, object], layer: str) -> None:
    torch.manual_seed(0)
    assert layer_of(timm.create_model(name, num_classes=10, **options), 64) == layer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [("squeezenet1_1", 64, "features"), ("resnet18", 64, "layer4"), ("resnet18", 32, "layer3")],
)
def test_default_layer_of_torchvision(name: str, size: int, layer: str) -> None:
    torch.manual_seed(0)
    assert layer_of(torchvision.models.get_model(name, weights=None, num_classes=10), size) == layer


def test_pooled_stages_are_passed_over() -> None:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    network = nn.Sequential(features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(36, 10))
    assert layer_of(network, 16) == "0.1"


def test_the_search_leaves_no_hook_and_is_neither_counted_nor_repeated() -> None:
    classifier = small_cnn()
    runs = []
    classifier.network.register_forward_hook(lambda *_: runs.append(1))
    assert find_cam_layer(classifier, (32, 32)) == "relu2"
    needed = len(runs)
    assert find_cam_layer(classifier, (32, 32)) == "relu2"
    assert (classifier.passes.forward, classifier.passes.backward, len(runs)) == (0, 0, needed)
    assert not any(module._forward_hooks for module in classifier.network.children())


def test_a_network_without_positions() -> None:
    classifier, _ = linear_classifier()
    with pytest.raises(Incompatible, match="saliency"):
        find_cam_layer(classifier, (8, 8))


class TwoPaths(nn.Module):
    """Two convolutions side by side, whose means alone come together."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = (nn.Conv2d(3, 4, stride, stride) for stride in (2, 4))
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.cat([path(images).mean((2, 3)) for path in (self.fine, self.coarse)], 1))


def test_a_network_of_paths_that_meet_behind_their_grids_is_refused_with_a_layer_that_can() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(TwoPaths(), 16, 10)
    with pytest.raises(Incompatible, match=r"16x16.*every path.*explainer\.layer=coarse.*saliency"):
        find_cam_layer(classifier, (16, 16))
    assert require_grid(classifier, "coarse", (16, 16)).cells == (4, 4)


def test_no_hook_stays_after_an_error() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            self.convolution(images)
            raise ValueError("broken")

    network = Broken()
    with pytest.raises(OwnCodeFailure, match="broken"):
        layer_of(network, 8)
    assert not network.convolution._forward_hooks


def test_a_wrong_name_lists_candidates() -> None:
    with pytest.raises(UserError, match=r"'relu9'.*relu2.*conv2"):
        find_layer(small_cnn().network, "relu9")
    assert find_layer(small_cnn().network, "conv2").out_channels == 16


def reaches_the_logits(classifier: Classifier, layer: str, size: int) -> bool:
    """Whether something passes a layer by: an image of NaN where the layer gives what it gave for another image."""
    kept: list[Tensor] = []
    module = classifier.find_layer(layer)
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    classifier(random_images(1, size).to(classifier.mean))
    handle.remove()
    handle = module.register_forward_hook(lambda _, __, output: kept[-1])
    logits = classifier(torch.full((1, 3, size, size), torch.nan).to(classifier.mean))
    handle.remove()
    return bool(logits.isnan().any())


@pytest.mark.slow
@pytest.mark.parametrize("zero_initialised", [False, True])
@torch.no_grad()
def test_the_default_layer_is_crossed_by_every_path_whatever_the_weights(zero_initialised: bool) -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet26", num_classes=10, zero_init_last=zero_initialised)
    assert layer_of(network, 32) == "layer3"
    assert reaches_the_logits(classifier_of(network, 32, 10), "layer4.0.act1", 32)
    assert not reaches_the_logits(classifier_of(network, 32, 10), "layer3", 32)
    for value in network.parameters():
        value.data.zero_()
    classifier = classifier_of(copy.deepcopy(network), 32, 10)
    assert find_cam_layer(classifier, (32, 32)) == "layer3"
    assert not any(bool(value.any()) for value in classifier.network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet"])
@torch.no_grad()
def test_nothing_passes_the_default_layer_by(name: str) -> None:
    torch.manual_seed(0)
    classifier = classifier_of(timm.create_model(name, num_classes=10), 96, 10)
    assert not reaches_the_logits(classifier, find_cam_layer(classifier, (96, 96)), 96)
