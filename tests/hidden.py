"""The same small network in forms that hide its modules, or that stand for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

SIZE, CLASSES = 12, 4


def build_plain() -> nn.Sequential:
    """A smooth network with rectifiers, in double precision: what rule-based methods give differs from the gradient."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, CLASSES)).double().eval()


def example(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).double()


def trace(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        traced: nn.Module = torch.jit.trace(network, example())
    return traced


def script(network: Any) -> Any:
    """A module, or a function, in TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(network)


def export(network: nn.Module, count: int | None = None) -> nn.Module:
    """`count`: the number of images that the program is fixed to; None: any."""
    shapes: Any = None if count else ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(network, (example(count or 2),), dynamic_shapes=shapes).module()


def compile_inside(network: nn.Module) -> nn.Module:
    """A network whose child is compiled, and one of whose modules is compiled in place."""
    assert isinstance(network, nn.Sequential)
    network[2].compile(backend=refuse_to_compile)
    return nn.Sequential(torch.compile(network[:4], backend=refuse_to_compile), network[4:])


def refuse_to_compile(graph: Any, inputs: Any) -> Any:
    raise AssertionError("a compiled network was compiled to be explained")


HIDDEN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "traced": trace,
    "scripted": script,
    "exported": export,
    "exported for 3 images": lambda network: export(network, 3),
}
"""Forms whose layers and operations are out of reach."""
STANDING: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": lambda network: torch.compile(network, backend=refuse_to_compile),  # type: ignore[dict-item]
    "compiled inside": compile_inside,
    "for several devices": nn.DataParallel,
    "averaged": AveragedModel,
    "twice": lambda network: nn.DataParallel(torch.compile(network, backend=refuse_to_compile)),  # type: ignore[arg-type]
}
"""Forms that stand for the network inside of them."""


def build(form: str) -> nn.Module:
    """The network in a form; `plain` as it is."""
    return build_plain() if form == "plain" else {**HIDDEN, **STANDING}[form](copy.deepcopy(build_plain()))
