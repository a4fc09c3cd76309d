"""Networks for the 32x32 images of CIFAR-10: that of the PyTorch tutorial, VGG16 with batch normalisation, dense ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from seewhy.core.settings import Count, check_when_made

Side = Annotated[int, Ge(1), Le(4096)]
Units = Annotated[int, Ge(0), Le(65_536)]
Layers = Annotated[int, Ge(1), Le(1000)]


class CifarCNN(nn.Module):
    """Two convolutions and three dense layers for 32x32 images.

    Every ReLU and every pool is a module of its own that is used once, so that methods which hook modules (DeepLift,
    guided backprop, LRP) see each use.

    Args:
        num_classes: Number of logits.
        channels: Of the images.
    """

    def __init__(self, num_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [batch, classes] of normalised images [batch, channels, 32, 32]."""
        features = self.pool1(self.relu1(self.conv1(images)))
        features = self.pool2(self.relu2(self.conv2(features)))
        features = self.relu3(self.fc1(self.flatten(features)))
        logits: Tensor = self.fc3(self.relu4(self.fc2(features)))
        return logits


STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions of each stage at full width."""


class VGG16Cifar(nn.Module):
    """The 13 convolutions of VGG16, each with batch normalisation, and one dense layer on the last 1x1 map.

    Args:
        num_classes: Number of logits.
        width: Multiplies the channels of every stage: 0.25 is the quarter-width network that trains in minutes on a
            CPU.
        channels: Of the images.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = channels
        for size, convolutions in STAGES:
            channels_out = max(1, round(size * width))
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels_out),
                    nn.ReLU(),
                ]
                channels_in = channels_out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [batch, classes] of normalised images [batch, channels, height, width] of at least 32 pixels."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(images))))
        return logits


@check_when_made("model.arguments")
class DenseNetwork(nn.Module):
    """Dense layers on all pixels: a linear network without hidden ones, whose attributions are known in closed form.

    Args:
        num_classes: Number of logits.
        channels: Of the images.
        side: Of the images in pixels.
        hidden: Units of each hidden layer; 0: none, the network is linear.
        layers: Hidden layers, where they have units.

    Raises:
        UserError: An argument is out of range.
    """

    def __init__(
        self, num_classes: Count = 10, channels: Count = 3, side: Side = 32, hidden: Units = 0, layers: Layers = 2
    ) -> None:
        super().__init__()
        sizes = [channels * side * side, *([hidden] * layers if hidden else [])]
        inner: list[nn.Module] = []
        for before, after in pairwise(sizes):
            inner += [nn.Linear(before, after), nn.ReLU()]
        self.network = nn.Sequential(nn.Flatten(), *inner, nn.Linear(sizes[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [batch, classes] of normalised images [batch, channels, side, side]."""
        logits: Tensor = self.network(images)
        return logits
