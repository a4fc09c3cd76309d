"""A group of a config as an object: its class is one that may be named, its settings fit the class."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

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


WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}
RESERVED = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")
LIST = re.compile(r"(Sequence|list|tuple)\b")


def build_object(config: Any, key: str, convert: str | None = None, **options: Any) -> Any:
    """Build the object that a group of a config describes.

    Args:
        config: The group, with `_target_` and its settings.
        key: Its path in the whole config, for messages.
        convert: How Hydra hands over containers: `all`, `object`, `partial`, or None for its default.
        **options: Further arguments; they replace those of the config.

    Returns:
        What the `_target_` returns.

    Raises:
        UserError: The class has no such setting (the message lists those that it has), declares another type, gets a
            number that is NaN or infinite, or, of another project, refuses its arguments.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    check_arguments(plain, key)
    if convert is not None:
        options["_convert_"] = convert
    try:
        return instantiate(config, **options)
    except InstantiationException as error:
        cause = error.__cause__
        target = str(plain.get("_target_")) if isinstance(plain, Mapping) else ""
        if cause is None or isinstance(cause, UserError) or target.startswith("seewhy."):
            raise
        raise UserError(f"{key}: {cause}") from error


def check_arguments(config: Any, key: str) -> None:
    """Check every nested mapping that has a `_target_`; mappings and lists without one are only passed through."""
    if isinstance(config, list):
        for position, value in enumerate(config):
            check_arguments(value, f"{key}.{position}")
    if not isinstance(config, Mapping):
        return
    arguments = {str(name): value for name, value in config.items() if name not in RESERVED}
    for name, value in arguments.items():
        check_arguments(value, f"{key}.{name}")
        check_finite(value, f"{key}.{name}")
    check_arguments(config.get("_args_"), f"{key}._args_")
    if "_target_" not in config:
        return
    target = _import_target(config["_target_"], key)
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in arguments.items():
        if name in parameters:
            check_type(value, str(parameters[name].annotation), f"{key}.{name}")
        elif not takes_any:
            settings = [setting for setting in parameters if setting != "self"]
            raise UserError(_describe_unknown_setting(name, target, settings, key))


def _import_target(name: str, key: str) -> Callable[..., Any]:
    try:
        target = get_object(name)
    except Exception as error:
        raise UserError(f"{key}._target_={name} cannot be imported ({str(error).splitlines()[0]})") from error
    package = name.split(".")[0]
    if is_trusted(name) and CLASS.fullmatch(name.rpartition(".")[2]):
        home = getattr(target, "__module__", "").split(".")[0]
        if not inspect.isclass(target) or home != package:
            raise UserError(f"{key}._target_={name} is not a class of {package}")
    if not callable(target):
        raise UserError(f"{key}._target_={name} is not a class")
    return target


def _describe_unknown_setting(name: str, target: Callable[..., Any], settings: list[str], key: str) -> str:
    near = difflib.get_close_matches(name, settings, n=1)
    nearest = f"nearest: {near[0]}; " if near else ""
    title = getattr(target, "__name__", str(target))
    return f"{key}.{name} is not a setting of {title}: {nearest}it has {', '.join(settings)}"


def check_finite(value: Any, key: str) -> None:
    """Check that a number, or each in a list, is neither NaN nor infinite."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{key}={value} must be finite")


def check_type(value: Any, annotation: str, key: str) -> None:
    """Check that a plain value is of one of the plain types in an annotation such as `int | None`.

    Annotations with any other type are left to the class. A whole number is a number; true and false are not.
    """
    allowed = [re.sub(r"^<class '(\w+)'>$", r"\1", name.strip()) for name in annotation.split(" | ")]
    lists = [name for name in allowed if LIST.match(name)]
    if any(name not in WORDS and name not in lists and name != "Path" for name in allowed):
        return
    kind = "None" if value is None else type(value).__name__
    if kind in allowed or (kind == "list" and lists):
        return
    if kind == "int" and not {"float", "Path"}.isdisjoint(allowed):  # a folder may be called 2024
        return
    if kind == "bool" and "str" in allowed:  # a word such as target=true
        return
    words = [WORDS.get(name, "a list" if name in lists else "a path") for name in allowed]
    raise UserError(f"{key}={value} must be {' or '.join(dict.fromkeys(words))}")
