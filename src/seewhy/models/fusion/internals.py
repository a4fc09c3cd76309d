"""The private parts of torch that the project reads, each behind one function, and whether they may be relied on.

Private names change without notice, so they are used inside `seewhy.models.fusion` alone: other rooms ask here.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.overrides
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from seewhy.core.errors import UserError

__all__ = [
    "TorchDispatchMode",
    "TreeSpec",
    "count_writes",
    "find_base",
    "find_overload",
    "find_storage",
    "has_global_hooks",
    "is_fusion_supported",
    "is_mutating",
    "is_observed",
    "is_view",
    "list_hooks",
    "list_parameters",
    "read_saved",
    "read_schema",
    "reads_values",
    "share_buffers",
    "tree_flatten",
    "tree_unflatten",
]

TESTED_SERIES = "2.14"
"""The series of torch that the fused convolutions are tested with."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""The hooks of a module, by the names under which it holds them."""


@functools.cache
def is_fusion_supported() -> bool:
    """Tell whether convolutions may be fused with what follows them in this process.

    The environment variable SEEWHY_FUSION=off switches fusion off. Outside of the tested series of torch it is off
    too, and one warning says so; results are then the same up to rounding.

    Returns:
        True where they may.

    Raises:
        UserError: SEEWHY_FUSION is neither `on` nor `off`.
    """
    switch = os.environ.get("SEEWHY_FUSION", "on")
    if switch not in ("on", "off"):
        raise UserError(f"SEEWHY_FUSION={switch} must be on or off")
    if switch == "off":
        return False
    if torch.__version__.split(".")[:2] != TESTED_SERIES.split("."):
        logging.getLogger(__name__).warning(
            "convolutions are not fused: tested with torch %s, this is %s; results stay the same, passes take longer",
            TESTED_SERIES,
            torch.__version__,
        )
        return False
    return True


def is_observed(accepts: str, subject: object) -> bool:
    """Tell whether someone looks at the operations of torch that run right now, so that none may be left out.

    Args:
        accepts: Name of a method by which a function mode can say that it does not mind: `accepts(subject)`.
        subject: What would run instead of single operations.

    Returns:
        True under a function mode that minds, a dispatch mode or a transform of `torch.func`.
    """
    modes = torch.overrides._get_current_function_mode_stack()
    return bool(
        any(not getattr(mode, accepts, lambda subject: False)(subject) for mode in modes)
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def count_writes(values: Tensor) -> int | None:
    """Count how often a tensor was written into; None for tensors of inference mode, which do not count.

    Args:
        values: The tensor.

    Returns:
        The number of writes.
    """
    return None if values.is_inference() else values._version


def find_base(values: Tensor) -> Tensor | None:
    """Find the tensor that a view is a view of; None where it is none.

    Args:
        values: The tensor.

    Returns:
        The tensor that owns the memory.
    """
    return values._base


def is_mutating(operation: Any) -> bool:
    """Tell whether an operator writes into its arguments.

    Args:
        operation: An overload of an operator.

    Returns:
        True where it does.
    """
    return bool(operation._schema.is_mutable)


def is_view(values: Tensor) -> bool:
    """Tell whether a tensor is a view of another one.

    Args:
        values: The tensor.

    Returns:
        True for a view.
    """
    return values._is_view()


def list_hooks(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """List the hooks of a module: forward, forward pre-, backward and backward pre-hooks.

    Args:
        module: The module.

    Returns:
        The hooks of each kind by their numbers.
    """
    return tuple(getattr(module, name) for name in HOOKS)


def list_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """List the parameters of modules, without the walk through names that makes `nn.Module.parameters` slow.

    Args:
        modules: The modules; what they contain counts only where it is among them.

    Returns:
        The parameters; one that several modules share is repeated.
    """
    values = (parameter for module in modules for parameter in module._parameters.values())
    return [parameter for parameter in values if parameter is not None]


def share_buffers(source: nn.Module, target: nn.Module) -> None:
    """Let a copy of a module use the buffers of the original.

    Args:
        source: The module.
        target: Its copy.
    """
    if isinstance(target, torch.jit.ScriptModule):  # its buffers can be given other values, not be replaced
        for name, values in source.named_buffers(recurse=False):
            target.get_buffer(name).data = values.data
    else:
        target._buffers.update(source._buffers)


def has_global_hooks() -> bool:
    """Tell whether a hook is set on every module there is."""
    return any(getattr(modules, f"_global{name}") for name in HOOKS)


def read_saved(node: Node, name: str) -> Any:
    """Read what a node of the autograd graph keeps for its backward pass; None where it keeps no such value.

    Args:
        node: The node.
        name: The argument of its function, such as `self` or `min_val`, or `result`.

    Returns:
        The value.
    """
    return getattr(node, f"_saved_{name}", None)


def read_schema(operation: Any) -> Any:
    """Read the schema of an operator: its name, its arguments, and which of them it writes into.

    Args:
        operation: An overload of an operator.

    Returns:
        Its `torch.FunctionSchema`.
    """
    return operation._schema


def find_overload(packet: Any, operation: Any) -> Any:
    """Find the overload of `packet` that has the name of the overload `operation`; None where there is none.

    Args:
        packet: An operator, with all its overloads.
        operation: An overload of another operator.

    Returns:
        The overload of the same name.
    """
    return getattr(packet, operation._overloadname) if operation._overloadname in packet.overloads() else None


def find_storage(values: Tensor) -> int:
    """Identify the memory of a tensor: views of the same memory have the same number.

    Args:
        values: The tensor.

    Returns:
        The number.
    """
    return values.untyped_storage()._cdata


def reads_values(operation: Any) -> bool:
    """Tell whether an operator makes numbers or shapes out of the values of its arguments.

    Args:
        operation: An overload of an operator.

    Returns:
        True where what follows depends on the values.
    """
    return operation in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
