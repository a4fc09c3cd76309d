"""Which classes a config may name: a check of words before anything is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError

OWN = ("analyses", "callbacks", "cli", "data", "explainers", "metrics", "models")
"""Rooms of this package whose classes may be named."""
FOREIGN = (
    "albumentations",
    "lightning.pytorch",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "timm.optim",
    "timm.scheduler",
    "torch.nn",
    "torch.optim",
    "torch.optim.lr_scheduler",
    "torchmetrics",
    "torchmetrics.classification",
)
"""Modules of other projects whose classes may be named, by exactly this path and the name of the class."""
FUNCTIONS = ("seewhy.models.build.build_classifier",)
CLASS = re.compile(r"_?[A-Z]\w*")


def check_targets(config: Any, trusted: bool = False) -> None:
    """Check that every `_target_` of a composed config, at any depth, is a class that a config may name.

    A config from elsewhere cannot have `os.system`, `torch.load`, `torch.hub.load` or a module beside it called. A
    target is a class written in a module of OWN, a class directly in a module of FOREIGN, or one of FUNCTIONS: no other
    functions, no attributes of classes, nothing that a module merely imports (`seewhy.cli.instantiate` looks again once
    the class is imported).

    It does not protect from what these classes do with their arguments: files are read and written where the config
    says, a logger may contact its server, a size may fill the memory. Hydra's own nodes (`hydra.launcher`,
    `hydra.sweeper`, `hydra.callbacks`) are instantiated by Hydra before this check.

    Args:
        config: Nested mappings and sequences.
        trusted: Whether to skip the check.

    Raises:
        UserError: A target is outside; the message names its key.
    """
    if trusted:
        return
    for key, target in find_targets(config):
        if not is_trusted(target):
            raise UserError(
                f"{key}={target} is outside what a config may call: classes of seewhy, albumentations, Lightning, "
                "torch.nn, torch.optim, torchmetrics and timm's optimisers; if you know and trust every file of this "
                "config, add trust_config=true to the command"
            )


def find_targets(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Find every `_target_` in nested mappings and sequences.

    >>> list(find_targets({"a": [{"_target_": "x.Y"}]}))
    [('a.0._target_', 'x.Y')]

    Args:
        config: A config as plain containers.
        key: The path of `config` itself.

    Yields:
        (key path, value) of each.
    """
    pairs: Any = ()
    if isinstance(config, Mapping):
        pairs = config.items()
    elif isinstance(config, Sequence) and not isinstance(config, str | bytes):
        pairs = enumerate(config)
    for name, value in pairs:
        path = f"{key}.{name}" if key else str(name)
        if name == "_target_":
            yield path, value
        else:
            yield from find_targets(value, path)


def is_trusted(target: Any) -> bool:
    """Whether a config may name a target, judged by its words alone.

    >>> is_trusted("seewhy.explainers.occlusion.Occlusion"), is_trusted("torch.optim.SGD")
    (True, True)
    >>> is_trusted("torch.optim.sgd.torch.load")
    False
    """
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    if target in FUNCTIONS or (module in FOREIGN and CLASS.fullmatch(name)):
        return True
    return bool(re.fullmatch(rf"seewhy\.({'|'.join(OWN)})(\.[a-z]\w*)*", module)) and _defines_class(module, name)


def _defines_class(module: str, name: str) -> bool:
    """Whether the module's own source defines that class."""
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    return source.is_file() and bool(re.search(rf"^class {re.escape(name)}\b", source.read_text("utf-8"), re.MULTILINE))
