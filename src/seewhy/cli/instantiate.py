"""A group of a config as an object: its class is one that may be named, its settings fit the class."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections import abc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from seewhy.cli.foreign import FOREIGN_SETTINGS
from seewhy.cli.own_configs import find_registered_folders
from seewhy.core.errors import UserError, find_nearest
from seewhy.core.settings import OneOf, Text, check_value, describe, list_settings, write_value

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
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it logs it raises too


def check_targets(config: Any, trusted: bool = False) -> None:
    """Check that every `_target_` of a composed config, at any depth, is a class that a config may name.

    A config from elsewhere cannot have `os.system`, `torch.load`, `torch.hub.load` or a module beside it called. A
    target is a class written in a module of OWN, a class directly in a module of FOREIGN, a class of an installed package
    that registers a config folder (`seewhy.cli.own_configs`), or one of FUNCTIONS: no other
    functions, no attributes of classes, nothing that a module merely imports (`seewhy.cli.instantiate` looks again once
    the class is imported).

    It does not protect from what these classes do with their arguments: files are read and written where the config
    says, a logger may contact its server, a size may fill the memory. Hydra's own node (`hydra.launcher`,
    `hydra.sweeper`, `hydra.callbacks`) is used before this check, and has one of its own (`seewhy.cli.references`).

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


def check_own_code(config: Any, overrides: Sequence[str], trusted: bool = False) -> None:
    """Check that code of a network of the user's own was named on the command line: a file cannot choose what runs.

    Args:
        config: Nested mappings and sequences.
        overrides: Those of the command.
        trusted: Whether to skip the check.

    Raises:
        UserError: A file names the code, not the command.
    """
    typed = [parse_value(text, "model.build") for text in overrides]
    for build in () if trusted else find_own_code(config):
        if isinstance(build, str) and build not in typed:
            raise UserError(
                f"{build} builds the network of this config, and its code would run: add model.build={build} to the command "
                "if you know and trust it"
            )


def parse_value(override: str, key: str) -> Any:
    """Parse the value that an override gives to a key.

    >>> parse_value("++model.build='mynet:MyNet'", "model.build"), parse_value("model.size=8", "model.build")
    ('mynet:MyNet', None)

    Args:
        override: As typed, or as Hydra writes it.
        key: The key.

    Returns:
        The value; None where the override is of another key, or none at all.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError):
        return None
    value = parsed.value() if parsed.key_or_group == key else None
    return str(value) if isinstance(value, QuotedString) else value


def find_own_code(config: Any) -> Iterator[Any]:
    """Find what networks of the user's own are built by, in nested mappings and sequences.

    >>> list(find_own_code({"model": {"architecture": {"_target_": "seewhy.models.imported.Imported", "build": "a:B"}}}))
    ['a:B']

    Args:
        config: A config as plain containers.

    Yields:
        Each `module:name`.
    """
    if isinstance(config, Mapping):
        if config.get("_target_") == "seewhy.models.imported.Imported":
            yield config.get("build")
        for value in config.values():
            yield from find_own_code(value)
    elif isinstance(config, Sequence) and not isinstance(config, str | bytes):
        for value in config:
            yield from find_own_code(value)


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
    for path, described in list_objects(config, key):
        yield f"{path}._target_".lstrip("."), described["_target_"]


def list_objects(config: Any, key: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """List every object that nested mappings and sequences describe.

    >>> [path for path, _ in list_objects({"a": [{"_target_": "x.Y", "z": {"_target_": "x.Z"}}]})]
    ['a.0', 'a.0.z']

    Args:
        config: A config as plain containers.
        key: The path of `config` itself.

    Yields:
        (key path, mapping with a `_target_`) of each.
    """
    pairs: Any = ()
    if isinstance(config, Mapping):
        pairs = config.items()
        if "_target_" in config:
            yield key, config
    elif isinstance(config, Sequence) and not isinstance(config, str | bytes):
        pairs = enumerate(config)
    for name, value in pairs:
        if name != "_target_":
            yield from list_objects(value, f"{key}.{name}" if key else str(name))


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
    if module.partition(".")[0] in find_registered_folders() and CLASS.fullmatch(name):
        return True
    return bool(re.fullmatch(rf"seewhy\.({'|'.join(OWN)})(\.[a-z]\w*)*", module)) and _defines_class(module, name)


def _defines_class(module: str, name: str) -> bool:
    """Whether the module's own source defines that class."""
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    return source.is_file() and bool(re.search(rf"^class {re.escape(name)}\b", source.read_text("utf-8"), re.MULTILINE))


RESERVED: dict[str, Any] = {
    "_target_": Text,
    "_partial_": bool,
    "_args_": list[Any],
    "_convert_": Annotated[str, OneOf(("none", "partial", "object", "all"))],
    "_recursive_": bool,
}
"""Hydra's own keys of a mapping that describes an object."""


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
    """Check the settings of every object that a config describes, at any depth, against the types that its class declares.

    Args:
        config: Plain containers; those without `_target_` are only passed through.
        key: The path of `config`, for messages.

    Raises:
        UserError: A class has no such setting, or a value does not fit; the message names key, value and what is allowed.
    """
    if isinstance(config, list):
        for position, value in enumerate(config):
            check_arguments(value, f"{key}.{position}")
    if not isinstance(config, Mapping):
        return
    if "_target_" in config:
        _check_object(config, key)
        return
    for name, value in config.items():
        check_arguments(value, f"{key}.{name}")


def _check_object(config: Mapping[Any, Any], key: str) -> None:
    for name in RESERVED.keys() & config.keys():
        check_value(f"{key}.{name}", config[name], RESERVED[name])
    check_arguments(config.get("_args_"), f"{key}._args_")
    target = _import_target(config["_target_"], key)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(target).parameters.values())
    declared, ranges = dict(list_settings(target)), FOREIGN_SETTINGS.get(config["_target_"], {})
    declared |= {name: ranges[name] for name in ranges if takes_any or name in declared}
    for name, value in config.items():
        if name in RESERVED:
            continue
        if name in declared:
            check_setting(f"{key}.{name}", value, declared[name])
        elif takes_any:
            check_arguments(value, f"{key}.{name}")
        else:
            settings = [setting for setting in declared if setting != "self"]
            raise UserError(_describe_unknown_setting(str(name), target, settings, key))


def check_setting(key: str, value: Any, annotation: Any) -> None:
    """Check one setting, which may be an object, or a list or mapping of objects, that the config describes.

    Args:
        key: Its path.
        value: Plain containers.
        annotation: The type that is declared for it.

    Raises:
        UserError: It does not fit.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        _check_object(value, key)
        _check_class(value, key, annotation)
    elif isinstance(value, Mapping | list) and _holds_object(value):
        members = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, member in members:
            check_setting(f"{key}.{name}", member, _find_member_type(annotation))
    else:
        check_value(key, value, annotation)


def _holds_object(value: Any) -> bool:
    members = value.values() if isinstance(value, Mapping) else value
    return any(isinstance(member, Mapping) and "_target_" in member for member in members)


def _find_member_type(annotation: Any) -> Any:
    """The type of the members of a list or mapping; of alternatives that of the first that has members."""
    for each in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]:
        arguments = get_args(each)
        if inspect.isclass(get_origin(each)) and issubclass(get_origin(each), Collection) and arguments:
            return arguments[1] if issubclass(get_origin(each), Mapping) else arguments[0]
    return Any


def _check_class(config: Mapping[Any, Any], key: str, annotation: Any) -> None:
    """Check that a described object is of a declared class; a partial one is a function of what is still missing."""
    target = _import_target(config["_target_"], key)
    origins = {get_origin(each) for each in (annotation, *get_args(annotation))}
    if abc.Callable in origins and inspect.isclass(target) and not config.get("_partial_"):
        raise UserError(
            f"{key}._partial_={write_value(config.get('_partial_'))} must be true: what is missing is given later"
        )
    kinds = [
        each for each in (get_args(annotation) or [annotation]) if inspect.isclass(each) and each is not type(None)
    ]
    if (
        not inspect.isclass(target)
        or config.get("_partial_")
        or not kinds
        or Any in (annotation, *get_args(annotation))
    ):
        return
    if not issubclass(target, tuple(kinds)):
        raise UserError(f"{key}._target_={config['_target_']} must be {describe(annotation)}")


def _import_target(name: str, key: str) -> Callable[..., Any]:
    try:
        target = get_object(name)
    except Exception as error:
        raise UserError(f"{key}._target_={name}: {_describe_failed_import(name, error)}") from error
    package = name.split(".")[0]
    if is_trusted(name) and CLASS.fullmatch(name.rpartition(".")[2]):
        home = getattr(target, "__module__", "").split(".")[0]
        if not inspect.isclass(target) or home != package:
            raise UserError(f"{key}._target_={name} is not a class of {package}")
    if not callable(target):
        raise UserError(f"{key}._target_={name} is not a class")
    return target


def _describe_failed_import(name: str, error: Exception) -> str:
    """Why a dotted name could not be imported: no such module, one that fails, or one that has no such class."""
    cause, parts = error.__cause__ or error, name.split(".")
    if not all(parts) or len(parts) < 2:
        return "write module.Class"
    prefixes = [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    module = next((prefix for prefix in prefixes if prefix in sys.modules), None)
    absent = cause.name if isinstance(cause, ModuleNotFoundError) else None
    if absent is not None and absent != name and not name.startswith(f"{absent}."):
        return f"it imports {absent}, which is not installed"
    if absent is None and not isinstance(cause, AttributeError):
        return f"importing it failed: {type(cause).__name__}: {cause}"
    if module is None:
        return f"there is no module {absent!r}"
    from seewhy.models.imported import list_builders

    rest = name.removeprefix(f"{module}.")
    return f"{module} has no {rest}; it has {list_builders(sys.modules[module])}"


def _describe_unknown_setting(name: str, target: Callable[..., Any], settings: list[str], key: str) -> str:
    near = find_nearest(name, settings, 1)
    nearest = f"nearest: {near[0]}; " if near else ""
    title = getattr(target, "__name__", str(target))
    return f"{key}.{name} is not a setting of {title}: {nearest}it has {', '.join(settings)}"
