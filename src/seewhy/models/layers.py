"""The positions of an image in the output of a layer, and the layer that class activation maps are drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

LARGEST_PREFIX = 8
"""Tokens that may precede those of the patches where the network does not say how many there are."""


def arrange_as_grid(features: Tensor, network: nn.Module, size: tuple[int, int]) -> Tensor | None:
    """Arrange the output of a layer by the positions of the image.

    Args:
        features: [batch, channels, rows, columns], [batch, rows, columns, channels], or [batch, tokens, channels],
            whose class and register tokens are dropped.
        network: The network that the layer belongs to.
        size: (height, width) of the images: the grid has its proportions.

    Returns:
        [batch, channels, rows, columns], or None where the output has no grid of positions.
    """
    if features.ndim == 3:
        layout = find_token_grid(network, features.shape[1], size)
        if layout is None:
            return None
        prefix, rows, columns = layout
        return features[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
    if features.ndim != 4:
        return None
    last = _proportional(features.shape[1], features.shape[2], size)
    first = _proportional(features.shape[2], features.shape[3], size)
    if last and (not first or getattr(network, "output_fmt", "NCHW") == "NHWC"):
        return features.permute(0, 3, 1, 2)
    return features if first else None


def find_token_grid(network: nn.Module, tokens: int, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Find the grid of patches in a sequence of tokens.

    Args:
        network: The network, which may say how many tokens precede those of the patches, and how patches lie.
        tokens: Length of the sequence.
        size: (height, width) of the images.

    Returns:
        (tokens before those of the patches, rows, columns); None where no grid fits.
    """
    stated = getattr(network, "num_prefix_tokens", None)
    for prefix in range(LARGEST_PREFIX + 1) if stated is None else (int(stated), 0):
        grid = _patch_grid(network, tokens - prefix, size)
        if grid is not None:
            return prefix, *grid
    return None


def _patch_grid(network: nn.Module, patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(rows, columns) of that many patches: those of the network's own grid, else the proportions of the image."""
    own = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if own is not None and own[0] * own[1] == patches:
        return int(own[0]), int(own[1])
    rows = isqrt(max(0, patches) * size[0] // size[1])
    for candidate in (rows, rows + 1):
        if candidate and patches % candidate == 0 and _proportional(candidate, patches // candidate, size):
            return candidate, patches // candidate
    return None


def _proportional(rows: int, columns: int, size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of the image, up to one row or column where the image is not square."""
    height, width = size
    return abs(rows * width - columns * height) <= (max(height, width) if height != width else 0)


_CAM_LAYERS: WeakKeyDictionary[nn.Module, dict[tuple[int, int], str]] = WeakKeyDictionary()
"""The layer of a network for each image size: looked for once, not for every batch."""


def find_cam_layer(classifier: Classifier, image: Tensor) -> str:
    """Find the last module, in the order of execution, whose output still says where in the image something is.

    Its output must have a grid of more than one row and column (maps or tokens) and a gradient somewhere on it:
    behind the last attention of a transformer that reads the class token alone there is none. Not taken are pooling,
    dense layers, and maps of class scores. One uncounted pass each way finds it, once for a network and image size.

    Args:
        classifier: The classifier.
        image: [1, channels, height, width] in [0, 1].

    Returns:
        The name of the module.

    Raises:
        Incompatible: No module has more than one position at this image size.
    """
    layers = _CAM_LAYERS.setdefault(classifier.network, {})
    size = (int(image.shape[2]), int(image.shape[3]))
    if size not in layers:
        counted = replace(classifier.passes)
        layers[size] = _search(classifier, image, size)
        classifier.passes = counted
    return layers[size]


def _search(classifier: Classifier, image: Tensor, size: tuple[int, int]) -> str:
    with torch.inference_mode(False), torch.enable_grad(), _record_outputs(classifier.network) as outputs:
        logits = classifier(image.detach().clone().requires_grad_())
        total = logits.float().sum()
    candidates = _list_candidates(outputs, classifier.network, logits.shape[1], size)
    if not candidates:
        raise Incompatible(
            "the network has no layer with more than one position at this image size; give larger images or take an "
            "explainer of pixels, such as saliency or occlusion"
        )
    gradients = torch.autograd.grad(total, [tensor for _, tensor in candidates], allow_unused=True)
    useful = [
        name
        for (name, _), gradient in zip(candidates, gradients, strict=True)
        if gradient is not None and bool(_keep_positions(gradient, classifier.network, size).any())
    ]
    return useful[-1] if useful else candidates[-1][0]


@contextmanager
def _record_outputs(network: nn.Module) -> Iterator[list[tuple[str, nn.Module, Tensor]]]:
    """(name, module, output) of every module that runs inside the block, in the order in which they finish."""
    outputs: list[tuple[str, nn.Module, Tensor]] = []
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def record(module: nn.Module, arguments: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, module, output))

        handles.append(module.register_forward_hook(record))

    try:
        for name, module in network.named_modules():
            if name:
                watch(name, module)
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _list_candidates(
    outputs: list[tuple[str, nn.Module, Tensor]], network: nn.Module, classes: int, size: tuple[int, int]
) -> list[tuple[str, Tensor]]:
    """The modules whose output has a grid of positions and is neither pooled nor a map of class scores."""
    pooled = {id(output) for _, module, output in outputs if "Pool" in type(module).__name__}
    last_weights = max((index for index, (_, module, _) in enumerate(outputs) if _has_weights(module)), default=0)
    candidates = []
    for index, (name, module, output) in enumerate(outputs):
        passed_on = isinstance(module, nn.Identity | nn.Dropout) or id(output) in pooled
        dense = isinstance(module, nn.Linear) and output.ndim == 3
        grid = None if passed_on or dense else arrange_as_grid(output, network, size)
        if grid is not None and min(grid.shape[2:]) > 1 and (index < last_weights or grid.shape[1] != classes):
            candidates.append((name, output))
    return candidates


def _keep_positions(gradient: Tensor, network: nn.Module, size: tuple[int, int]) -> Tensor:
    """The gradient at the positions of the image alone."""
    grid = arrange_as_grid(gradient, network, size)
    assert grid is not None, "a candidate has a grid"
    return grid


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
