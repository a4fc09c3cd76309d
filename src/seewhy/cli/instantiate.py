"""One part of a config as an object, with its arguments checked first.

Which classes a config may name.
"""

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


def build_object(part: Any, key: str, convert: str | None = None, **given: Any) -> Any:
    """The object that the part of a config under `key` describes; `given` are further arguments.

    UserError names a setting that the class does not have (with those that it has), a value of another type than the
    class declares, a number that is NaN or infinite, and what a class of another project says against its arguments.
    """
    plain = OmegaConf.to_container(part, resolve=True)
    check_arguments(plain, key)
    options = given if convert is None else {**given, "_convert_": convert}
    try:
        return instantiate(part, **options)
    except InstantiationException as error:
        cause = error.__cause__
        target = str(plain.get("_target_")) if isinstance(plain, Mapping) else ""
        if cause is None or isinstance(cause, UserError) or target.startswith("seewhy."):
            raise
        raise UserError(f"{key}: {cause}") from error


def check_arguments(part: Any, key: str) -> None:
    """Check every nested mapping that has a `_target_`; mappings and lists without one are only passed through."""
    if isinstance(part, list):
        for position, value in enumerate(part):
            check_arguments(value, f"{key}.{position}")
    if not isinstance(part, Mapping):
        return
    arguments = {str(name): value for name, value in part.items() if name not in RESERVED}
    for name, value in arguments.items():
        check_arguments(value, f"{key}.{name}")
        check_finite(value, f"{key}.{name}")
    check_arguments(part.get("_args_"), f"{key}._args_")
    if "_target_" not in part:
        return
    target = _target(part["_target_"], key)
    parameters = inspect.signature(target).parameters
    free = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    for name, value in arguments.items():
        if name in parameters:
            check_type(value, str(parameters[name].annotation), f"{key}.{name}")
        elif not free:
            raise UserError(_unknown(name, target, [one for one in parameters if one != "self"], key))


def _target(name: str, key: str) -> Callable[..., Any]:
    try:
        found = get_object(name)
    except Exception as error:
        raise UserError(f"{key}._target_={name} cannot be found ({str(error).splitlines()[0]})") from error
    package = name.split(".")[0]
    if is_trusted(name) and CLASS.fullmatch(name.rpartition(".")[2]):
        home = getattr(found, "__module__", "").split(".")[0]
        if not inspect.isclass(found) or home != package:
            raise UserError(f"{key}._target_={name} is not a class of {package}")
    if not callable(found):
        raise UserError(f"{key}._target_={name} is not a class")
    return found


def _unknown(name: str, target: Callable[..., Any], settings: list[str], key: str) -> str:
    near = difflib.get_close_matches(name, settings, n=1)
    nearest = f"nearest: {near[0]}; " if near else ""
    title = getattr(target, "__name__", str(target))
    return f"{key}.{name} is not a setting of {title}: {nearest}it has {', '.join(settings)}"


def check_finite(value: Any, key: str) -> None:
    """UserError where a number, also one in a list, is NaN or infinite."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise UserError(f"{key}={value} must be finite")


def check_type(value: Any, annotation: str, key: str) -> None:
    """UserError where a plain value is of none of the plain types in an annotation such as `int | None`.

    Annotations with any other type are left to the class. A whole number is a number; true and false are not.
    """
    allowed = [re.sub(r"^<class '(\w+)'>$", r"\1", one.strip()) for one in annotation.split(" | ")]
    lists = [one for one in allowed if LIST.match(one)]
    if any(one not in WORDS and one not in lists and one != "Path" for one in allowed):
        return
    kind = "None" if value is None else type(value).__name__
    if kind in allowed or (kind == "list" and lists):
        return
    if kind == "int" and not {"float", "Path"}.isdisjoint(allowed):  # a folder may be called 2024
        return
    if kind == "bool" and "str" in allowed:  # a word such as target=true
        return
    words = [WORDS.get(one, "a list" if one in lists else "a path") for one in allowed]
    raise UserError(f"{key}={value} must be {' or '.join(dict.fromkeys(words))}")
