"""Finding a layer of a network: by its name, or the one that class activation maps are drawn from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seewhy.errors import Incompatible, UserError
from seewhy.models.positions import as_grid

if TYPE_CHECKING:
    from seewhy.classifier import Classifier

_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], str]] = WeakKeyDictionary()
"""The default layer of a network for each image size: looked for once, not for every batch."""


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The submodule called `name` (as in `named_modules`); UserError that lists the nearest names otherwise."""
    modules = dict(network.named_modules())
    modules.pop("", None)
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5)
    convolutions = [key for key, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
    parts = [key for key, _ in network.named_children()]
    hint = f"nearest: {', '.join(near)}; " if near else ""
    raise UserError(
        f"the network has no layer {name!r}; {hint}its parts: {', '.join(parts[-12:])}; "
        f"its last convolutions and dense layers: {', '.join(convolutions[-8:])}"
    )


def default_cam_layer(classifier: Classifier, image: Tensor) -> str:
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
        grid = None if passed_on or dense else as_grid(output, network, size)
        if grid is not None and min(grid.shape[2:]) > 1 and (place < last_weights or grid.shape[1] != classes):
            chosen.append((name, output))
    return chosen


def _grid(gradient: Tensor, network: nn.Module, size: tuple[int, int]) -> Tensor:
    """The gradient at the positions of the image alone."""
    grid = as_grid(gradient, network, size)
    assert grid is not None, "a candidate has a grid"
    return grid


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
