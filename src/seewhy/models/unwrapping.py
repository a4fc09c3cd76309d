"""Networks in other forms: wrapped for several devices, compiled, TorchScript, exported programs.

A wrapper and a compiled module stand for the module inside of them, which is explained. Into TorchScript and into exported
programs nobody can look: their outputs and gradients are those of the network, its layers and operations are out of reach.
The layers of the others are found by their names.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.parallel import DataParallel, DistributedDataParallel

from seewhy.core.errors import UserError, describe_own_failure
from seewhy.core.tensors import is_out_of_memory

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPERATOR = type(torch.ops.aten.relu.default)
"""What an exported program calls in place of torch's functions."""
INSTEAD = (
    "use saliency, integrated_gradients or occlusion, or give the network as the torch.nn.Module that it was made of"
)

LIBRARIES = ("builtins", "seewhy", "torch", "torchvision", "timm", "transformers")
"""Packages whose modules are not the user's own."""


def unwrap_network(network: nn.Module | ExportedProgram) -> nn.Module:
    """Take off what was put around a network: DataParallel, DistributedDataParallel, AveragedModel, `torch.compile`.

    Args:
        network: A module, or what `torch.export` returns.

    Returns:
        The module inside; an exported program as a module. A module in none of these forms is returned as it is.

    Raises:
        UserError: The parameters are spread over processes (FullyShardedDataParallel).
    """
    if not isinstance(network, nn.Module):
        network = network.module()
    while True:
        inner = _find_inner(network)
        if inner is None:
            batch = find_fixed_batch(network)
            return network if batch is None else FixedBatch(network, batch)
        network = inner


def _find_inner(network: nn.Module) -> nn.Module | None:
    if type(network).__name__ == "FullyShardedDataParallel":
        raise UserError(
            "the parameters of a FullyShardedDataParallel lie in several processes: gather them, and give the module that "
            "was wrapped"
        )
    averaged = sys.modules.get("torch.optim.swa_utils")
    if isinstance(network, DataParallel | DistributedDataParallel) or (
        averaged is not None and isinstance(network, averaged.AveragedModel)
    ):
        inner: nn.Module = network.module
        return inner
    original = getattr(network, "_orig_mod", None)
    return original if isinstance(original, nn.Module) else None


def is_exported(module: nn.Module) -> bool:
    """Tell whether a module runs the operators of an exported program, not torch's functions.

    Args:
        module: Any module.

    Returns:
        True for what `ExportedProgram.module()` and the parts of what `torch.export.unflatten` return.
    """
    graph = getattr(module, "graph", None)
    return isinstance(graph, fx.Graph) and any(isinstance(node.target, OPERATOR) for node in graph.nodes)


def describe_hidden(network: nn.Module) -> str:
    """Describe the part of a network that hides its operations.

    Args:
        network: The network.

    Returns:
        Form and name of the first such module; empty where all of the network can be seen.
    """
    for name, module in network.named_modules():
        form = "TorchScript" if isinstance(module, torch.jit.ScriptModule) else "an exported program"
        if form == "TorchScript" or is_exported(module):
            return f"its module {name!r} is {form}" if name and not isinstance(network, FixedBatch) else f"it is {form}"
    return ""


def has_visible_layers(network: nn.Module) -> bool:
    """Tell whether hooks on modules of a network are called: not on those of TorchScript or of a flat exported program.

    Args:
        network: The network.

    Returns:
        True where at least its own children are called as modules.
    """
    flat = isinstance(network, fx.GraphModule) and is_exported(network)
    return not (flat or isinstance(network, FixedBatch | torch.jit.ScriptModule))


def find_hidden_names(network: nn.Module) -> set[str]:
    """Find the modules on which no hook is called, because what holds them is TorchScript or a flat exported program.

    Args:
        network: The network.

    Returns:
        Their names, as in `named_modules`.
    """
    holders = [name for name, module in network.named_modules() if not has_visible_layers(module)]
    names = [name for name, _ in network.named_modules()]
    scripts = {name for name, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)}
    return scripts | {name for name in names for holder in holders if name.startswith(f"{holder}." if holder else "")}


def set_mode(module: nn.Module, training: bool) -> None:
    """Set a module to training or evaluation; an exported program inside stays in the mode of its export.

    Args:
        module: The module.
        training: Whether to train.
    """
    try:
        module.train(training)
    except NotImplementedError:  # of an exported program
        module.training = training
        for child in module.children():
            set_mode(child, training)


@contextlib.contextmanager
def interpret() -> Iterator[None]:
    """Run compiled modules and TorchScript operation by operation inside the block: no waiting, the same values each time.

    Yields:
        Nothing.
    """
    with contextlib.ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # whoever compiled something has imported it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        yield


def find_fixed_batch(network: nn.Module) -> int | None:
    """Find the number of images that an exported program was exported for.

    Args:
        network: Any module.

    Returns:
        The number; None where it is free, or the module is no exported program.
    """
    if not (isinstance(network, fx.GraphModule) and is_exported(network)):
        return None
    for node in network.graph.nodes:
        if node.op == "placeholder" and isinstance(node.meta.get("val"), Tensor):
            count = node.meta["val"].shape[0]
            return count if isinstance(count, int) else None
    return None


class FixedBatch(nn.Module):
    """A network that takes one number of images, for any number: in pieces, the last filled up with its last image.

    Args:
        network: The network.
        batch: The number of images that it takes.
    """

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self.network = network
        self.batch = batch

    def forward(self, images: Tensor) -> Any:
        """Compute the outputs [n, ...] of images [n, channels, height, width]."""
        missing = -len(images) % self.batch
        filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
        return _join([self.network(piece) for piece in filled.split(self.batch)], len(images))


def _join(pieces: list[Any], count: int) -> Any:
    """The outputs of consecutive pieces as one, cut to `count` images."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {key: _join([piece[key] for piece in pieces], count) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_join([piece[index] for piece in pieces], count) for index in range(len(first)))
    return torch.cat(pieces)[:count]


@contextlib.contextmanager
def name_own_network(name: str, network: nn.Module) -> Iterator[None]:
    """Turn what the user's own modules raise into one sentence with the last lines of their code.

    What this project's hooks raise while a module calls them passes, as does memory that ran out.

    Args:
        name: Of the network.
        network: It or its parts may be of the user's own classes.

    Raises:
        OwnCodeFailure: The block raised something else than a UserError in the forward, or the gradient, of such a module.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # own code raises what it likes
        own = {id(part): type(part).__module__ for part in network.modules() if not _is_of_library(type(part))}
        calls = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        owners = [_find_module(frame.f_locals.get("self"), own) for frame in calls]
        modules = {module for module in owners if module}
        inside = calls[max(number for number, module in enumerate(owners) if module) :] if modules else []
        if not modules or is_out_of_memory(error) or any(_is_ours(frame.f_globals) for frame in inside):
            raise
        raise describe_own_failure(f"the network {name}", error, modules) from error


def _is_of_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES


def _is_ours(names: Mapping[str, Any]) -> bool:
    return str(names.get("__name__")).startswith("seewhy.")


def _find_module(caller: object, own: Mapping[int, str]) -> str | None:
    """The Python module of an own part of the network, or of an own function whose gradient is computed."""
    function = getattr(caller, "_forward_cls", None) if isinstance(caller, BackwardCFunction) else None
    if function is not None and not _is_of_library(function):
        return str(function.__module__)
    return own.get(id(caller))


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Find a submodule of a network by its name.

    Args:
        network: The network.
        name: As in `named_modules`, such as `features.12`.

    Returns:
        The module.

    Raises:
        UserError: There is none; the message lists the nearest names.
    """
    modules = dict(network.named_modules())
    modules.pop("", None)
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5)
    convolutions = [key for key, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
    children = [key for key, _ in network.named_children()]
    hint = f"nearest: {', '.join(near)}; " if near else ""
    raise UserError(
        f"the network has no layer {name!r}; {hint}its parts: {', '.join(children[-12:])}; "
        f"its last convolutions and dense layers: {', '.join(convolutions[-8:])}"
    )
