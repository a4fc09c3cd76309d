"""Finding a layer of a network by its name."""

from __future__ import annotations

import difflib

from torch import nn

from seewhy.errors import UserError


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The submodule called `name` (as in `named_modules`); UserError that lists the nearest names otherwise."""
    modules = dict(network.named_modules())
    modules.pop("", None)
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5)
    convolutions = [key for key, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
    hint = f"nearest: {', '.join(near)}; " if near else ""
    raise UserError(
        f"the network has no layer {name!r}; {hint}its last convolutions and dense layers: "
        f"{', '.join(convolutions[-8:])}"
    )
