"""What is measured: a network with images and targets, as ours and as the peers want to see it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from benchmarking.peers.plain import Plain, plain_of, rectified
from benchmarking.place import ROOT
from seewhy.core.errors import MissingWeights
from seewhy.data.folder import Samples
from seewhy.explainers.base import Explainer
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics.base import ImageMetric
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer


@dataclass(frozen=True)
class Subject:
    """A classifier, images with the classes it predicts, and masks of a square in the middle."""

    classifier: Classifier
    images: Tensor
    targets: Tensor
    layer: str

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.images.device

    @property
    def masks(self) -> Tensor:
        """A square in the middle of each image, bool [batch, height, width]."""
        height, width = self.images.shape[2:]
        inside = torch.zeros(len(self.images), height, width, dtype=torch.bool, device=self.device)
        inside[:, height // 4 : -(height // 4), width // 4 : -(width // 4)] = True
        return inside

    @cached_property
    def maps(self) -> Tensor:
        """Maps to be measured: input x gradient, which has both signs and no equal values."""
        return InputXGradient(probe_batch_size=8)(self.classifier, self.images, self.targets)

    def first(self, count: int) -> Subject:
        """With the first images alone."""
        return replace(self, images=self.images[:count], targets=self.targets[:count])

    @cached_property
    def plain(self) -> Plain:
        """The network without a line of ours, on the same weights."""
        return plain_of(self.classifier).to(self.device)

    @cached_property
    def rectified(self) -> Plain:
        """`plain` with ReLU6 written as min(ReLU, 6)."""
        return rectified(self.plain)

    @cached_property
    def bytes_of_a_gradient(self) -> int:
        """What one image keeps in memory between forward and backward pass."""
        kept: dict[int, int] = {}

        def keep(value: Tensor) -> Tensor:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            output = self.plain(self.images[:1].clone().requires_grad_())
        weights = {value.untyped_storage().data_ptr() for value in self.plain.parameters()}
        del output
        return sum(size for place, size in kept.items() if place not in weights)


def composed(overrides: list[str]) -> object:
    """The config of src/explain.py."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("explain", overrides)


def explainer_named(name: str, *overrides: str) -> Explainer:
    """The explainer of the config of that name."""
    return instantiate(composed([f"explainer={name}", *overrides]).explainer, _convert_="object")  # type: ignore[attr-defined]


def metric_named(name: str, *overrides: str) -> ImageMetric:
    """The metric of the config of that name."""
    return instantiate(composed([f"metric=[{name}]", *overrides]).metric[name], _convert_="all")  # type: ignore[attr-defined]


def build(model: str, count: int, device: str = "cpu", size: int | None = None, *more: str) -> Subject:
    """`model` with its weights (else random ones): the sample images, then their mirror images, then noise.

    Args:
        model: Of the configs; `timm:NAME` and `torchvision:NAME` for any network of theirs.
        count: Of images.
        device: Where all lies.
        size: Of the images in pixels; None: the network's own.
        *more: Overrides of the config.
    """
    group, _, name = model.partition(":")
    overrides = [f"model={group}", *([f"model.name={name}"] if name else []), *([f"model.size={size}"] if size else [])]
    overrides += more
    try:
        classifier = instantiate(composed(overrides).model, _convert_="object")  # type: ignore[attr-defined]
    except Exception as error:
        if not isinstance(error, MissingWeights) and not isinstance(error.__cause__, MissingWeights):
            raise
        classifier = instantiate(composed([*overrides, "model.weights=random"]).model, _convert_="object")  # type: ignore[attr-defined]
    classifier = classifier.to(device)
    classifier.requires_grad_(False)
    data = Samples(facts=classifier.facts)
    data.setup("test")
    images = torch.cat([batch.images for batch in data.test_dataloader()])
    noise = torch.rand(max(0, count - 2 * len(images)), *images.shape[1:], generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, images.flip(3), noise])[:count].to(device)
    with torch.no_grad():
        targets = torch.cat([classifier(part).argmax(1) for part in images.split(8)])
    return Subject(
        classifier, images, targets, classifier.cam_layer or find_cam_layer(classifier, classifier.facts.shape)
    )
