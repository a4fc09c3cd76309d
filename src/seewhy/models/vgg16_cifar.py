"""VGG16 with batch normalisation for 32x32 images."""

from torch import Tensor, nn

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions of each stage at full width."""


class VGG16Cifar(nn.Module):
    """The 13 convolutions of VGG16, each with batch normalisation, and one dense layer on the last 1x1 map.

    `width` multiplies the channels of every stage: 0.25 is the quarter-width network that trains in minutes on a CPU.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 3
        for channels, convolutions in STAGES:
            channels_out = max(1, round(channels * width))
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
        """[batch, 3, height, width] (at least 32 pixels) -> logits [batch, classes]."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(images))))
        return logits
