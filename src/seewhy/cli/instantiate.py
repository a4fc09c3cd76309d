"""A group of a config as an object, with its settings checked against the class first."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from seewhy.cli.trusted_targets import CLASS, is_trusted
from seewhy.core.errors import UserError

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
