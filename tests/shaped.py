"""Networks for images of any shape and any number of channels, and their twins of known maps."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn

from seewhy.core.facts import Facts
from seewhy.models.classifier import Classifier

GRID = (3, 5)
"""Rows and columns that the dense layer of `shaped_cnn` sees."""


def wrap(network: nn.Module, channels: int, shape: tuple[int, int], classes: int = 4, **options: str) -> Classifier:
    """A classifier in double precision whose channels all have one mean and one standard deviation."""
    names = tuple(f"class {index}" for index in range(classes))
    facts = Facts(names, shape, (0.4,) * channels, (0.25,) * channels)
    return Classifier(network.double(), facts, name="shaped", **options).double().eval()


def shaped_cnn(channels: int = 3, shape: tuple[int, int] = (24, 40), seed: int = 0) -> Classifier:
    """Two convolutions, whose positions matter to the dense layer behind them."""
    torch.manual_seed(seed)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 6, 5, stride=2, padding=2),
        "act1": nn.ReLU(),
        "conv2": nn.Conv2d(6, 8, 3, padding=1),
        "act2": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(GRID),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(8 * GRID[0] * GRID[1], 12),
        "act3": nn.ReLU(),
        "fc2": nn.Linear(12, 4),
    }
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return wrap(network, channels, shape, cam_layer="act2", influence_layer="act3")


def shaped_vit(channels: int = 3, shape: tuple[int, int] = (32, 48), seed: int = 0) -> Classifier:
    """A vision transformer of 16-pixel patches."""
    torch.manual_seed(seed)
    network = timm.create_model("test_vit", num_classes=4, img_size=shape, in_chans=channels)
    for name, parameter in network.named_parameters():
        if "bias" in name or "token" in name:
            nn.init.normal_(parameter, std=0.1)
    return wrap(network, channels, shape)


def _find_first(network: nn.Module) -> nn.Conv2d:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d))


def ignore_further_channels(classifier: Classifier, channels: int) -> Classifier:
    """The twin for more channels that looks at the first three alone."""
    network = copy.deepcopy(classifier.network)
    first = _find_first(network)
    further = first.weight.new_zeros(first.out_channels, channels - 3, *first.kernel_size)
    first.weight = nn.Parameter(torch.cat([first.weight.detach(), further], 1))
    first.in_channels = channels
    return _wrap_again(network, classifier, channels, classifier.facts.shape)


def see_grey(classifier: Classifier) -> Classifier:
    """The twin for one channel that gives of a grey image what the network gives of three equal channels."""
    network = copy.deepcopy(classifier.network)
    first = _find_first(network)
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    first.in_channels = 1
    return _wrap_again(network, classifier, 1, classifier.facts.shape)


def transpose(classifier: Classifier) -> Classifier:
    """The twin of a `shaped_cnn` that gives of a transposed image what the network gives of the image."""
    network = copy.deepcopy(classifier.network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight.detach().transpose(2, 3).contiguous())
    network.pool.output_size = GRID[::-1]
    weights = network.fc1.weight.detach().unflatten(1, (8, *GRID)).transpose(2, 3)
    network.fc1.weight = nn.Parameter(weights.flatten(1).contiguous())
    return _wrap_again(network, classifier, classifier.facts.channels, classifier.facts.shape[::-1])


def _wrap_again(network: nn.Module, like: Classifier, channels: int, shape: tuple[int, int]) -> Classifier:
    layers = {key: value for key in ("cam_layer", "influence_layer") if (value := getattr(like, key)) is not None}
    return wrap(network, channels, shape, **layers)


def images_of(channels: int, shape: tuple[int, int], count: int = 2, seed: int = 0) -> Tensor:
    """Smooth images with some noise, in [0, 1], so that there are superpixels in them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, shape, mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(count, channels, *shape, generator=generator)).double()


@contextmanager
def same_draws() -> Iterator[None]:
    """Inside, random numbers depend on the seed and their purpose alone: twins, whose images differ, draw the same."""

    def derive(seed: int, picture: Tensor, stream: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{seed} {stream}".encode(), digest_size=7).digest(), "little")

    with patch("seewhy.core.random.derive_seed", derive):
        yield
