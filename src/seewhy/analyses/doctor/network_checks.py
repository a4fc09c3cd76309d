"""What is wrong inside of a network: layers that answer to nothing, weights that were never trained, maps without values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import blur_gaussian, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers.cam import GradCam
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

LEAST_WEIGHTS, MOST_WEIGHTS = 500, 5000
"""Weights of a tensor that are compared with initialisations: fewer tell nothing, more add nothing."""
UNTRAINED = 0.01
"""p of the Kolmogorov-Smirnov test from which on weights look as at the beginning."""
CELLS = 4
"""Rows and columns of the regions by which layers are compared, and how many of these regions are kept."""


def looks_untrained(weight: Tensor) -> bool:
    """Tell whether weights cannot be told from those that an initialisation draws.

    They are compared with the uniform and normal distributions that torch, torchvision and timm begin with, by
    Kolmogorov and Smirnov's test at 1 %; training widens and skews a distribution, so that thousands of trained weights are
    far from all of them.

    Args:
        weight: [outputs, inputs, ...].

    Returns:
        True where one of them fits; False for fewer than 500 weights.
    """
    values = weight.detach().flatten().double().cpu()
    if len(values) < LEAST_WEIGHTS or weight.ndim < 2 or float(values.std()) == 0:
        return False
    values = values[:: max(1, len(values) // MOST_WEIGHTS)].sort().values
    inputs = weight[0].numel()
    outputs = weight.shape[0] * weight[0, 0].numel()
    widths = (inputs**-0.5, (6 / inputs) ** 0.5, (6 / (inputs + outputs)) ** 0.5, (3 / inputs) ** 0.5)
    spreads = (0.01, 0.02, (2 / inputs) ** 0.5, (2 / outputs) ** 0.5, inputs**-0.5, (2 / (inputs + outputs)) ** 0.5)
    fits = [stats.kstest(values.numpy(), stats.uniform(-width, 2 * width).cdf).pvalue for width in widths]
    fits += [stats.kstest(values.numpy(), stats.norm(0, spread).cdf).pvalue for spread in spreads]
    return max(fits) > UNTRAINED


def measure_untrained_share(network: nn.Module) -> float:
    """Measure which share of a network's large weights looks as an initialisation draws them.

    Args:
        network: The network.

    Returns:
        From 0 to 1; NaN where no tensor is large enough.
    """
    large = [each for each in network.parameters() if each.ndim > 1 and each.numel() >= LEAST_WEIGHTS]
    return float(np.mean([looks_untrained(each) for each in large])) if large else float("nan")


def keeps_initial_statistics(network: nn.Module) -> bool:
    """Tell whether every batch normalisation has mean 0 and variance 1 as at the beginning: none was collected."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    kept = [(norm.running_mean, norm.running_var) for norm in norms if norm.running_mean is not None]
    return bool(kept) and all(
        mean is not None and var is not None and not bool(mean.any()) and bool((var == 1).all()) for mean, var in kept
    )


@contextlib.contextmanager
def with_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisations compute with the statistics of the batch inside the block; nothing of them changes."""

    def renew(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return nn.functional.batch_norm(inputs[0], None, None, module.weight, module.bias, True, 0.0, module.eps)

    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    handles = [module.register_forward_hook(renew) for module in network.modules() if isinstance(module, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class LayerRecord:
    """What a layer was given for the first image and what it made of it, and whether either ever changed."""

    given: Tensor
    returned: Tensor
    given_varies: bool = False
    returned_varies: bool = False


@dataclass
class Inspection:
    """What the layers of a network do while images pass, in the order in which they run."""

    layers: dict[str, LayerRecord] = field(default_factory=dict)
    head: str = ""
    """The last layer with as many outputs as the network."""
    features: list[Tensor] = field(default_factory=list)
    """What the head is given, [n, channels] of each batch."""

    @contextlib.contextmanager
    def watching(self, classifier: Classifier) -> Iterator[None]:
        """Look at every pass inside the block.

        Args:
            classifier: The network whose layers are watched.
        """
        handles = []
        rows: dict[str, Tensor] = {}
        wanted = classifier.facts.output_count

        def look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
                return
            given, returned = inputs[0].detach(), output.detach()
            if name not in self.layers:
                self.layers[name] = LayerRecord(given[:1].clone(), returned[:1].clone())
            record = self.layers[name]
            record.given_varies = record.given_varies or _varies(given, record.given)
            record.returned_varies = record.returned_varies or _varies(returned, record.returned)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[0] == wanted:
                rows[name] = (given.flatten(2).mean(2) if given.ndim == 4 else given).float().cpu()

        for name, module in classifier.network.named_modules():
            if next(module.children(), None) is None:
                handles.append(module.register_forward_hook(lambda *seen, name=name: look(name, *seen)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            if rows:
                self.head = list(rows)[-1]
                if rows[self.head].ndim == 2:
                    self.features.append(rows[self.head])

    def compute_logits(self, classifier: Classifier, images: Images, size: int) -> Tensor:
        """Compute what the network says to images while its layers are watched.

        Args:
            classifier: The network.
            images: [n, channels, height, width].
            size: Images in the network at once.

        Returns:
            Its outputs [n, outputs].
        """
        outputs = []
        for part in images.split(size):
            with self.watching(classifier):
                outputs.append(widen(classifier(part)))
        return torch.cat(outputs)

    def find_dead_layer(self) -> str:
        """Find the first layer that gives the same for every image although it is given different things; empty: none."""
        return next((name for name, each in self.layers.items() if each.given_varies and not each.returned_varies), "")


def _varies(values: Tensor, first: Tensor) -> bool:
    """Whether a row differs from that of the first image by more than rounding; rows of other shapes say nothing."""
    if values.shape[1:] != first.shape[1:] or not values.is_floating_point():
        return False
    scale = float(first.abs().max()) or 1.0
    return float((values - first).abs().max()) > 1e-6 * scale


def measure_feature_accuracy(features: Tensor, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Classify each image by the nearest class mean of the others' features: what the head could know.

    Args:
        features: [n, channels].
        labels: [n]; -1 where it is unknown.

    Returns:
        1 where the nearest mean is that of its class, [n]; NaN for images without label or alone in their class.
    """
    values = (features.double() - features.double().mean(0)) / (features.double().std(0, correction=0) + 1e-9)
    rows = nn.functional.normalize(values, dim=1).numpy()
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = classes[counts > 1]
    right = np.full(len(labels), np.nan)
    if len(classes) < 2:
        return right
    sums = np.stack([rows[labels == each].sum(0) for each in classes])
    sizes = np.array([(labels == each).sum() for each in classes])
    for row in np.flatnonzero(np.isin(labels, classes)):
        own = classes == labels[row]
        means = (sums - own[:, None] * rows[row]) / (sizes - own)[:, None]
        right[row] = float(classes[np.square(means - rows[row]).sum(1).argmin()] == labels[row])
    return right


def measure_empty_maps(classifier: Classifier, images: Images, batch_size: int | str) -> NDArray[np.float64]:
    """Measure for which images Grad-CAM has no positive value, so that its map is empty.

    Args:
        classifier: The network.
        images: [n, channels, height, width] in [0, 1].
        batch_size: Images in the network at once, or `auto`.

    Returns:
        1 where the map of the predicted class is empty, [n].

    Raises:
        Incompatible: The network has no layer with a grid.
    """
    maps = _draw_cam(classifier, images, None, batch_size)
    return (maps.flatten(1).amax(1) <= 0).double().cpu().numpy()


def list_map_layers(inspection: Inspection, most: int = 4) -> list[str]:
    """List convolutions that Grad-CAM could be drawn from, spread over the network.

    Args:
        inspection: Of the layers, after at least one pass.
        most: How many.

    Returns:
        Names of layers with at least 4 x 4 cells, from the image on.
    """
    fine = [
        name
        for name, each in inspection.layers.items()
        if each.returned.ndim == 4 and min(each.returned.shape[2:]) >= CELLS
    ]
    count = min(most, len(fine))
    return [fine[round((number + 1) * len(fine) / count) - 1] for number in range(count)]


def measure_kept(
    classifier: Classifier, images: Images, layers: Sequence[str | None], batch_size: int | str, seed: int = 0
) -> dict[str | None, NDArray[np.float64]]:
    """Measure how much of the prediction the regions keep that Grad-CAM ranks first on some layers, beside random ones.

    Maps are averaged over a grid of 4 x 4 regions, so that layers of any resolution compete for the same regions; the four
    highest are kept, and the rest is blurred.

    Args:
        classifier: The network.
        images: [n, channels, height, width] in [0, 1].
        layers: Their names; None for four regions at random.
        batch_size: Images in the network at once, or `auto`.
        seed: Of the random regions.

    Returns:
        Probability of the predicted class [n] by layer; a layer without a grid is left out.
    """
    size = images.shape[2], images.shape[3]
    evaluator = BatchedEvaluator(classifier, images[0], batch_size)
    classes = evaluator.compute_logits(images).argmax(1)
    window = 2 * (max(size) // 4) + 1
    blurred = blur_gaussian(images, (window, window), max(size) / 5)
    kept: dict[str | None, NDArray[np.float64]] = {}
    for layer in layers:
        if layer is None:
            regions = torch.rand(len(images), CELLS**2, generator=torch.Generator().manual_seed(seed)).to(images.device)
        else:
            try:
                maps = _draw_cam(classifier, images, layer, batch_size)
            except Incompatible:
                continue
            regions = nn.functional.adaptive_avg_pool2d(maps[:, None], CELLS).flatten(1)
        top = regions.argsort(dim=1, descending=True, stable=True)[:, :CELLS]
        mask = torch.zeros(len(images), CELLS**2, device=images.device).scatter_(1, top, 1.0).view(-1, 1, CELLS, CELLS)
        mask = nn.functional.interpolate(mask, size=size, mode="nearest").to(images)
        scores = evaluator.compute_logits(images * mask + blurred * (1 - mask))
        kept[layer] = (
            classifier.facts.compute_probabilities(scores).gather(1, classes[:, None])[:, 0].double().cpu().numpy()
        )
    return kept


def _draw_cam(classifier: Classifier, images: Images, layer: str | None, batch_size: int | str) -> Tensor:
    """Grad-CAM of the predicted classes [n, height, width]."""
    method = GradCam(layer=layer, probe_batch_size=batch_size)
    classes = BatchedEvaluator(classifier, images[0], batch_size).compute_logits(images).argmax(1)
    return method(classifier, images, Targets.of(classes))
