"""What the value of a setting may be: types with their ranges, the check, and the words for it.

A field says once what it takes (`n_masks: Count = 4000`); configs are checked by it before anything is built, objects made
in Python when they are made.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen, MultipleOf

from seewhy.core.disclosure import clean_message
from seewhy.core.errors import UserError, find_nearest
from seewhy.core.words import write_snake_case


@dataclass(frozen=True)
class OneOf:
    """Marks a text that is one of a closed set of words.

    Args:
        words: The words; a mapping stands for its keys.
    """

    words: Iterable[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Build pydantic's schema: that of a text, then membership."""
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self._select, handler(source))

    def _select(self, word: str) -> str:
        if word not in self.words:
            raise ValueError
        return word

    def __hash__(self) -> int:
        return hash(tuple(self.words))


@dataclass(frozen=True)
class Words:
    """What a type is called in messages, where its own words would be too many.

    Args:
        text: To be read behind "must be".
    """

    text: str


MANY = 1_000_000
"""The largest count of samples, steps, masks or epochs: more is a slip of the keyboard."""
LARGEST_SEED = 2**32 - 1

Seed = Annotated[int, Ge(0), Le(LARGEST_SEED)]
Count = Annotated[int, Ge(1), Le(MANY)]
CountFrom2 = Annotated[int, Ge(2), Le(MANY)]
Amount = Annotated[int, Ge(0)]
"""How many of what there is: 0 for none, more than there is for all."""
ImageCount = Annotated[int, Ge(1)]
"""How many images to use, where none would leave nothing."""
Processes = Annotated[int, Ge(0), Le(1024)]
Threads = Annotated[int, Ge(1), Le(1024)]
Pixels = Annotated[int, Ge(1), Le(MANY)]
BatchSize = Annotated[int, Ge(1), Le(65_536)]
Radius = Annotated[int, Ge(0), Le(1000)]
Positive = Annotated[float, Gt(0), Le(MANY)]
NonNegative = Annotated[float, Ge(0), Le(MANY)]
LearningRate = Annotated[float, Gt(0), Le(1000)]
Penalty = Annotated[float, Ge(0), Le(1000)]
"""The weight of a penalty on the size of weights."""
Share = Annotated[float, Gt(0), Le(1)]
UnitInterval = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, MinLen(1)]
Auto = Annotated[str, OneOf(("auto",))]
ProbeBatchSize = Count | Auto
PathText = Annotated[Text | Path, Words("a path")]
"""The path of a file or folder."""
PathNumber = Annotated[Text | Path | Annotated[int, Ge(0)], Words("a path")]
"""The same where a folder may be called 2024 without quotes."""
Folder = Annotated[Text, Words("a path")]
"""A path that is text for those who get it."""
Target = Annotated[
    Annotated[int, Ge(0)] | Text | Literal[True], Words("a policy, a class index from 0 or a class name")
]
"""The target class; the command line's target=true is a boolean."""
TargetList = Annotated[
    Target | Sequence[Target], Words("a policy, a class, a contrast such as 'dog - cat', or a list of those")
]
"""One or several targets, see `seewhy.core.target_choice.parse_targets`."""


def check_value(key: str, value: object, annotation: Any) -> None:
    """Check the value of a setting against the type that its field declares.

    True and false are no numbers, whole numbers are numbers, NaN and infinity are none; a list stands for a tuple.

    Args:
        key: The setting as a user writes it, such as `explainer.n_masks`.
        value: Its value.
        annotation: A type, with ranges as `typing.Annotated` and `annotated_types` write them. One that pydantic cannot
            check allows everything.

    Raises:
        UserError: The value does not fit; the message says what is allowed.
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | list | tuple):
        value = list(value)  # such as the lists of a config
    validate = _build_validator(_Key(annotation))
    if validate is None or validate(value):
        return
    if isinstance(value, list) and validate(tuple(value)):
        return
    member = _find_member_type(annotation) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and member is not None:
        for name, each in value.items():
            check_value(f"{key}.{name}", each, member)  # the message names the setting, not all of the mapping
        if all(isinstance(name, str) for name in value):
            return  # a list among the values stands for a tuple there too
    hint = _suggest(key, value, list_words(annotation))
    if isinstance(value, int | float) and validate(str(value)):
        hint = f"; as text: {key}=\"'{write_value(value)}'\""
    allowed = describe(annotation)
    if any(
        isinstance(each, float) and not math.isfinite(each) for each in (value if isinstance(value, list) else [value])
    ):
        allowed = allowed.replace("a number", "a finite number")
    raise UserError(f"{key}={write_value(value)} must be {allowed}{hint}")


def _find_member_type(annotation: Any) -> Any:
    """The type of the values of a mapping that an annotation allows; None where it allows no mapping."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if inspect.isclass(origin) and issubclass(origin, Mapping) and len(arguments) == 2:
        return arguments[1]
    if origin is Annotated or _is_union(annotation):
        members = [_find_member_type(each) for each in (arguments[:1] if origin is Annotated else arguments)]
        return next((each for each in members if each is not None), None)
    return None


def _suggest(key: str, value: object, words: Sequence[str]) -> str:
    """The nearest of a closed set of words, for a text or for the first member of a list that is none of them."""
    wrong = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str) and each]
    near = next((near for each in wrong if each not in words for near in find_nearest(each, words, 1)), None)
    if near is None:
        return ""
    return f"; did you mean {f'{key}={near}' if isinstance(value, str) else near}?"


def check_fields(instance: Any, group: str) -> None:
    """Check every field of a dataclass instance against its declared type.

    Args:
        instance: The instance, from its `__post_init__`.
        group: What its settings are called on the command line, such as `explainer`.

    Raises:
        UserError: A value does not fit.
    """
    kind: Any = type(instance)
    declared = list_settings(kind)
    for field in dataclasses.fields(instance):
        if field.init:
            check_value(f"{group}.{field.name}", getattr(instance, field.name), declared[field.name])


def refuse_unread(instance: Any, group: str, names: Collection[str], reason: str) -> None:
    """Refuse fields of a dataclass instance that were set although nothing reads them.

    Args:
        instance: The instance, from its `__post_init__`.
        group: What its settings are called on the command line, such as `explainer`.
        names: The fields that are not read.
        reason: Why, to be read behind "is not read".

    Raises:
        UserError: One of them is not what it is where nobody sets it.
    """
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if field.name in names and value != field.default:
            words = f"{group}.{field.name}={write_value(value)} is not read {reason}"
            raise UserError(f"{words}: leave it at {write_value(field.default)}")


Kind = TypeVar("Kind", bound=type)


def check_when_made(group: str) -> Callable[[Kind], Kind]:
    """Let the objects of a class check what they are made with against what its `__init__` declares.

    A class that extends it and has an `__init__` of its own is asked for its own arguments, and no class twice.

    Args:
        group: What its settings are called on the command line, such as `data`; `{}` stands for the name of the class.

    Returns:
        A decorator of classes.
    """

    def decorate(kind: Kind) -> Kind:
        create: Any = vars(kind)["__init__"]
        signature = inspect.signature(create)

        @functools.wraps(create)
        def check_and_create(self: Any, *arguments: Any, **options: Any) -> None:
            if type(self).__init__ is check_and_create:
                made: Any = type(self)
                declared = list_settings(made)
                name = write_snake_case(made.__name__)
                for setting, value in signature.bind(self, *arguments, **options).arguments.items():
                    parameter = signature.parameters[setting]
                    if setting in declared and parameter.kind is not parameter.VAR_KEYWORD:
                        check_value(f"{group.format(name)}.{setting}", value, declared[setting])
            create(self, *arguments, **options)

        setattr(kind, "__init__", check_and_create)  # noqa: B010
        return kind

    return decorate


@functools.cache
def list_settings(target: Any) -> Mapping[str, Any]:
    """List the arguments of a class or function with their declared types.

    Args:
        target: A class or a function.

    Returns:
        The type of each; `typing.Any` where none is declared or it cannot be read, such as one that is imported for type
        checkers alone.
    """
    parameters = inspect.signature(target).parameters
    if dataclasses.is_dataclass(target):
        bases = reversed(inspect.getmro(target))  # type: ignore[arg-type]
        owners = {name: vars(sys.modules[base.__module__]) for base in bases for name in inspect.get_annotations(base)}
    else:
        names = getattr(inspect.unwrap(target), "__globals__", {})
        if inspect.isclass(target):  # a metaclass, such as Albumentations', may have wrapped what its module wrote
            owner = next(base for base in inspect.getmro(target) if "__init__" in vars(base))
            written = inspect.unwrap(vars(owner)["__init__"])
            names = getattr(written, "__globals__", {}) | vars(sys.modules[owner.__module__])
        owners = dict.fromkeys(parameters, names)
    return {name: _resolve(each.annotation, owners.get(name, {})) for name, each in parameters.items()}


def _resolve(annotation: Any, names: Mapping[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))  # what the source of a module says, never what a config says
    except (NameError, AttributeError, TypeError):
        return Any


@dataclass(frozen=True)
class _InstanceOf:
    """Marks a value that must be an instance of a class; pydantic would look into the fields of a dataclass."""

    kind: type

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import is_instance_schema

        return is_instance_schema(self.kind)


def _guard_classes(annotation: Any) -> Any:
    """The same type with each class that is none of Python's own as a test for its instances."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated.__class_getitem__((_guard_classes(arguments[0]), *arguments[1:]))
    if _is_union(annotation):
        return Union[tuple(map(_guard_classes, arguments))]  # noqa: UP007
    if inspect.isclass(origin) and issubclass(origin, Collection) and arguments:
        members = tuple(each if each is Ellipsis else _guard_classes(each) for each in arguments)
        return origin[members]  # type: ignore[index]
    if origin is None and inspect.isclass(annotation) and annotation.__module__ not in STANDARD:
        return Annotated[Any, _InstanceOf(annotation)]
    return annotation


STANDARD = ("builtins", "collections.abc", "datetime", "pathlib", "types", "typing")


class _Key:
    """An annotation as the key of a cache: by identity, for metadata need not be hashable."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    def __hash__(self) -> int:
        return id(self.annotation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.annotation is self.annotation


@functools.cache
def _build_validator(key: _Key) -> Callable[[object], bool] | None:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    options = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(_guard_classes(key.annotation), config=options)
    except (PydanticUserError, NameError, TypeError):
        return None

    def fits(value: object) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return fits


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def describe(annotation: Any) -> str:
    """Describe in words what a type allows.

    >>> describe(Count | None), describe(Share), describe(Annotated[str, OneOf(("max", "sum"))])
    ('a whole number from 1 to 1,000,000 or null', 'a number above 0 and at most 1', 'max or sum')

    Args:
        annotation: See `check_value`.

    Returns:
        The words, to be read behind "must be".
    """
    choices = list(dict.fromkeys(_describe_each(annotation)))
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]


PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    Path: "a path",
}


def _describe_each(annotation: Any, limits: Sequence[Any] = ()) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        named = [each.text for each in arguments if isinstance(each, Words)]
        if named:
            return named
        return _describe_each(arguments[0], [*arguments[1:], *limits])
    if _is_union(annotation):
        return [words for each in arguments for words in _describe_each(each, limits)]
    if origin is Literal:
        return [write_value(each) for each in arguments]
    words = [word for limit in limits if isinstance(limit, OneOf) for word in limit.words]
    if words:
        return words
    if annotation is None or annotation in PLAIN:
        return [_add_limits("null" if annotation is None else PLAIN[annotation], limits)]
    kind = origin or annotation
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        values = f", each value {describe(arguments[1])}" if arguments and arguments[1] is not Any else ""
        return [f"a mapping{values}"]
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        members = [each for each in arguments if each is not Ellipsis]
        inner = f", each {describe(members[0])}" if members and members[0] is not Any else ""
        length = next((f" of {limit.min_length}" for limit in limits if isinstance(limit, Len)), "")
        length = length or (" that is not empty" if any(isinstance(each, MinLen) for each in limits) else "")
        return [f"a list{length}{inner}"]
    return [f"an object of {getattr(kind, '__name__', str(kind))} (a mapping with its _target_)"]


def _add_limits(words: str, limits: Sequence[Any]) -> str:
    if any(isinstance(limit, MinLen) for limit in limits):
        return f"{words} that is not empty"
    if any(isinstance(limit, MultipleOf) for limit in limits):
        words = words.replace("a whole", "an even whole")
    least = next((f" from {limit.ge:,}" for limit in limits if isinstance(limit, Ge)), "")
    least = least or next((f" above {limit.gt:,}" for limit in limits if isinstance(limit, Gt)), "")
    most = next((f"{limit.le:,}" for limit in limits if isinstance(limit, Le)), "")
    below = next((f"{limit.lt:,}" for limit in limits if isinstance(limit, Lt)), "")
    if most:
        return (
            f"{words}{least} to {most}" if " from" in least else f"{words}{least}{' and' * bool(least)} at most {most}"
        )
    if below:
        return f"{words}{least}{' to' if ' from' in least else ' and' * bool(least)} below {below}"
    return words + least


def list_words(annotation: Any) -> list[str]:
    """List the closed set of words that a type takes."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [each for each in get_args(annotation) if isinstance(each, str)]
    if isinstance(annotation, OneOf):
        return list(annotation.words)
    return [word for each in get_args(annotation) for word in list_words(each)]


def write_value(value: object) -> str:
    r"""Write a value as the command line does, without secrets and control characters, and cut where it is long.

    >>> write_value([None, True, "a\x1b", 0.5])
    '[null,true,a\\x1b,0.5]'

    Args:
        value: Plain containers.

    Returns:
        One line.
    """
    text = clean_message(_write(value)).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= 120 else f"{text[:117]}..."


def _write(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_write, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}: {_write(each)}' for key, each in value.items())}}}"
    return "''" if value == "" else str(value)
