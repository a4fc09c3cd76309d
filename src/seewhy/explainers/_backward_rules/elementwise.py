"""The functions of one number that act on every element, by all the names under which torch offers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NAMES = (
    "abs atan celu clamp clamp_max clamp_min clip cos elu erf exp expm1 gelu hardshrink hardsigmoid hardswish hardtanh "
    "leaky_relu log log1p logsigmoid mish pow prelu reciprocal relu relu6 rrelu rsqrt selu sigmoid silu sin softplus "
    "softshrink softsign sqrt square tanh tanhshrink threshold __pow__"
).split()


@dataclass(frozen=True)
class Spelling:
    """One way to call an elementwise function: `pure` never writes into its argument."""

    name: str
    pure: Callable[..., Tensor]
    in_place: bool
    flag: int | None
    """The place of the argument `inplace`, where the function has one."""


@dataclass(frozen=True)
class Elementwise:
    """One call: `function(argument)` is the result, `in_place` whether it is to be written into the argument."""

    name: str
    argument: Tensor
    function: Callable[[Tensor], Tensor]
    in_place: bool


def _spellings() -> dict[Any, Spelling]:
    table: dict[Any, Spelling] = {}
    for owner in (torch, functional, Tensor):
        for name in NAMES:
            pure = getattr(owner, name, None)
            if pure is None:
                continue
            code = getattr(pure, "__code__", None)
            parameters = code.co_varnames[: code.co_argcount] if code else ()
            flag = parameters.index("inplace") if "inplace" in parameters else None
            table[pure] = Spelling(name.strip("_"), pure, False, flag)
            writing = getattr(owner, f"{name}_", None)
            if writing is not None:
                table[writing] = Spelling(name, pure, True, None)
    return table


SPELLINGS = _spellings()


def elementwise(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Elementwise | None:
    """What a call of a torch function means, if it is an elementwise function of one tensor that depends on the image.

    None for any other function, and where a second argument depends on the image as well or `out` is given.
    """
    spelling = SPELLINGS.get(func)
    if spelling is None or "out" in kwargs:
        return None
    options = dict(kwargs)
    rest = list(args)
    argument = rest.pop(0) if rest else options.pop("input", None)
    if not isinstance(argument, Tensor) or any(_varies(value) for value in (*rest, *options.values())):
        return None
    in_place = spelling.in_place
    if spelling.flag is not None:
        in_place = bool(options.pop("inplace", False))
        if len(rest) >= spelling.flag:
            in_place = bool(rest.pop(spelling.flag - 1))
    return Elementwise(spelling.name, argument, lambda values: spelling.pure(values, *rest, **options), in_place)


def derivative(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """f' at every element."""
    with torch.enable_grad():
        leaves = values.detach().requires_grad_()
        result = function(leaves)
        return torch.autograd.grad(result, leaves, torch.ones_like(result))[0]


def _varies(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
