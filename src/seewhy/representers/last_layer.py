"""The last linear layer of a network: its input is the space in which representer points are found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seewhy.classifier import Classifier
from seewhy.errors import Incompatible
from seewhy.probe import Probe
from seewhy.types import Images


class LastLayer:
    """logits = W f + b, with f the input of the network's last dense layer.

    Found with one uncounted pass of `image` [1, 3, height, width]. Incompatible where the logits are not what a dense
    layer gives for one vector of each image, such as behind a last convolution.
    """

    def __init__(self, classifier: Classifier, image: Images) -> None:
        counted = classifier.passes.forward
        with torch.no_grad(), classifier.frozen(), _calls(classifier) as calls:
            logits = classifier(image)
        classifier.passes.forward = counted
        found = [
            layer
            for layer, features, output in calls
            if features.ndim == 2 and output.shape == logits.shape and torch.equal(output, logits)
        ]
        if not found:
            kinds = [type(module).__name__ for module in classifier.network.modules() if not list(module.children())]
            raise Incompatible(
                f"representer points need a network that ends in a dense layer; {classifier.name} ends in "
                f"{', '.join(kinds[-3:])}: take model=cifar_cnn, vgg16_cifar, efficientnet_lite0 or a timm network"
            )
        self.layer = found[-1]

    def features(self, probe: Probe, images: Images) -> tuple[Tensor, Tensor]:
        """(f float32 [n, features], logits float32 [n, classes]) of the images, without gradients."""

        def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), _calls(probe.classifier, self.layer) as calls:
                logits = probe.classifier(images[chunk])
            return calls[-1][1].float(), logits.float()

        with torch.inference_mode(False), probe.classifier.frozen():
            features, logits = probe.in_passes(one, len(images), gradient=False)
        return features, logits


Call = tuple[nn.Linear, Tensor, Tensor]


@contextmanager
def _calls(classifier: Classifier, only: nn.Linear | None = None) -> Iterator[list[Call]]:
    """(layer, input, output) of every call of a dense layer inside the block, or of the calls of `only`."""
    calls: list[Call] = []

    def record(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        calls.append((module, arguments[0].clone(), output.clone()))

    layers = [only] if only else [one for one in classifier.network.modules() if isinstance(one, nn.Linear)]
    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
