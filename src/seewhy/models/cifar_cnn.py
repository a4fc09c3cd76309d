"""The small network of the PyTorch CIFAR-10 tutorial."""

from torch import Tensor, nn


class CifarCNN(nn.Module):
    """Two convolutions and three dense layers for 32x32 images.

    Every ReLU and every pool is a module of its own that is used once, so that methods which hook modules (DeepLift,
    guided backprop, LRP) see each use.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
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
        """[batch, 3, 32, 32] -> logits [batch, classes]."""
        features = self.pool1(self.relu1(self.conv1(images)))
        features = self.pool2(self.relu2(self.conv2(features)))
        features = self.relu3(self.fc1(self.flatten(features)))
        logits: Tensor = self.fc3(self.relu4(self.fc2(features)))
        return logits
