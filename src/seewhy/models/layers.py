"""Finding a layer of a network: by its name, or the one that class activation maps are drawn from.

Where the positions of an image are in the output of a layer: feature maps, channels-last maps and tokens.
"""

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
    """The output of a layer as [batch, channels, rows, columns], or None where it has no grid of positions.

    Known are [batch, channels, rows, columns], [batch, rows, columns, channels] and [batch, tokens, channels], whose
    class and register tokens are dropped. `size` is (height, width) of the images: the grid has its proportions.
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
    """(tokens before those of the patches, rows, columns) of a sequence of that length; None where no grid fits."""
    known = getattr(network, "num_prefix_tokens", None)
    for prefix in range(LARGEST_PREFIX + 1) if known is None else (int(known), 0):
        grid = _token_grid(network, tokens - prefix, size)
        if grid is not None:
            return prefix, *grid
    return None


def _token_grid(network: nn.Module, patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
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


_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], str]] = WeakKeyDictionary()
"""The default layer of a network for each image size: looked for once, not for every batch."""


def find_cam_layer(classifier: Classifier, image: Tensor) -> str:
    """The last module, in the order of execution, whose output still says where in the image something is.

    Its output must have a grid of more than one row and column (maps or tokens) and a gradient somewhere on it:
    behind the last attention of a transformer that reads the class token alone there is none. Not taken are pooling,
    dense layers, and maps of class scores. Found with one pass each way of `image` [1, 3, height, width], which is
    not counted, and then known for this network; Incompatible where there is no such module.
    """
    known = _known.setdefault(classifier.network, {})
    size = (int(image.shape[2]), int(image.shape[3]))
    if size not in known:
        counted = replace(classifier.passes)
        known[size] = _search(classifier, image, size)
        classifier.passes = counted
    return known[size]


def _search(classifier: Classifier, image: Tensor, size: tuple[int, int]) -> str:
    with torch.inference_mode(False), torch.enable_grad(), _outputs(classifier.network) as outputs:
        logits = classifier(image.detach().clone().requires_grad_())
        total = logits.float().sum()
    candidates = _candidates(outputs, classifier.network, logits.shape[1], size)
    if not candidates:
        raise Incompatible(
            "the network has no layer with more than one position at this image size; give larger images or take an "
            "explainer of pixels, such as saliency or occlusion"
        )
    gradients = torch.autograd.grad(total, [tensor for _, tensor in candidates], allow_unused=True)
    useful = [
        name
        for (name, _), gradient in zip(candidates, gradients, strict=True)
        if gradient is not None and bool(_grid(gradient, classifier.network, size).any())
    ]
    return useful[-1] if useful else candidates[-1][0]


@contextmanager
def _outputs(network: nn.Module) -> Iterator[list[tuple[str, nn.Module, Tensor]]]:
    """(name, module, output) of every module that runs inside the block, in the order in which they finish."""
    found: list[tuple[str, nn.Module, Tensor]] = []
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def record(module: nn.Module, arguments: object, output: object) -> None:
            if isinstance(output, Tensor):
                found.append((name, module, output))

        handles.append(module.register_forward_hook(record))

    try:
        for name, module in network.named_modules():
            if name:
                watch(name, module)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _candidates(
    outputs: list[tuple[str, nn.Module, Tensor]], network: nn.Module, classes: int, size: tuple[int, int]
) -> list[tuple[str, Tensor]]:
    """The modules whose output has a grid of positions and is neither pooled nor a map of class scores."""
    pooled = {id(output) for _, module, output in outputs if "Pool" in type(module).__name__}
    last_weights = max((place for place, found in enumerate(outputs) if _has_weights(found[1])), default=0)
    chosen = []
    for place, (name, module, output) in enumerate(outputs):
        passed_on = isinstance(module, nn.Identity | nn.Dropout) or id(output) in pooled
        dense = isinstance(module, nn.Linear) and output.ndim == 3
        grid = None if passed_on or dense else arrange_as_grid(output, network, size)
        if grid is not None and min(grid.shape[2:]) > 1 and (place < last_weights or grid.shape[1] != classes):
            chosen.append((name, output))
    return chosen


def _grid(gradient: Tensor, network: nn.Module, size: tuple[int, int]) -> Tensor:
    """The gradient at the positions of the image alone."""
    grid = arrange_as_grid(gradient, network, size)
    assert grid is not None, "a candidate has a grid"
    return grid


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
