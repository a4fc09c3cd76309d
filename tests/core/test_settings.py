"""What a declared type allows, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MinLen, MultipleOf

from seewhy.core.errors import UserError
from seewhy.core.settings import (
    Auto,
    Count,
    OneOf,
    PathNumber,
    PathText,
    Seed,
    Share,
    Target,
    Text,
    check_fields,
    check_value,
    describe,
    list_settings,
)

Word = Annotated[str, OneOf(("max", "sum"))]
Pair = Annotated[Sequence[Count], Len(2, 2)]


@pytest.mark.parametrize(
    ("annotation", "allowed", "refused", "words"),
    [
        (Count, [1, 1_000_000], [0, -1, 1_000_001, True, 1.0, "1", None, []], "a whole number from 1 to 1,000,000"),
        (Count | None, [None, 3], [0, "null", False], "a whole number from 1 to 1,000,000 or null"),
        (Count | Auto, ["auto", 9], ["fast", True, 2.5], "a whole number from 1 to 1,000,000 or auto"),
        (Seed, [0, 4294967295], [4294967296, -1], "a whole number from 0 to 4,294,967,295"),
        (Share, [1, 0.5], [0, 1.5, True, "0.5", float("inf")], "a number above 0 and at most 1"),
        (Annotated[float, Ge(0), Lt(100)], [0, 99.9], [100, -1], "a number from 0 to below 100"),
        (Annotated[float, Gt(0)], [1e300], [0.0, float("nan")], "a number above 0"),
        (Annotated[int, Ge(2), Le(8), MultipleOf(2)], [2, 8], [3, 0, 10], "an even whole number from 2 to 8"),
        (bool, [True, False], [0, 1, "true", None], "true or false"),
        (Text, ["a"], ["", 3, True, None], "text that is not empty"),
        (Word, ["max"], ["mean", "", 1, None, ["max"]], "max or sum"),
        (bool | Literal["warn"], [True, "warn"], ["word", 1], "true or false or warn"),
        (Sequence[Share], [[], [0.5], (1,)], [[0], "a", 0.5, [True]], "a list, each a number above 0 and at most 1"),
        (Annotated[Sequence[Word], MinLen(1)], [["sum"]], [[], ["a"]], "a list that is not empty, each max or sum"),
        (Pair, [[1, 2], (3, 4)], [[1], [1, 2, 3], [0, 1]], "a list of 2, each a whole number from 1 to 1,000,000"),
        (tuple[Share, Share], [[0.1, 0.2]], [[0.1], [0, 1]], "a list, each a number above 0 and at most 1"),
        (
            Mapping[str, Count],
            [{"a": 1}],
            [{"a": 0}, [1]],
            "a mapping, each value a whole number from 1 to 1,000,000",
        ),
        (PathText, ["a", Path("b")], ["", 2024, 1.5, True, None], "a path"),
        (PathNumber, ["a", Path("b"), 2024], ["", -1, 1.5, True, None], "a path"),
        (Target, [0, "cat", True], [-1, "", 1.5, False], "a policy, a class index from 0 or a class name"),
        (np.ndarray | None, [None], ["word", 3], "an object of ndarray (a mapping with its _target_) or null"),
    ],
)
def test_values_and_words(annotation: Any, allowed: list[Any], refused: list[Any], words: str) -> None:
    for value in allowed:
        check_value("key", value, annotation)
    for value in refused:
        with pytest.raises(UserError, match=r"^key(\.a)?=.* must be "):
            check_value("key", value, annotation)
    assert describe(annotation) == words


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("mx", Word, "key=mx must be max or sum; did you mean key=max?"),
        ("ture", bool, "key=ture must be true or false; did you mean key=true?"),
        ("zzz", Word, "key=zzz must be max or sum"),
        (2024, Text, "key=2024 must be text that is not empty; as text: key=\"'2024'\""),
        (None, Text, "key=null must be text that is not empty"),
        ("", Word, "key='' must be max or sum"),
        ("\x1b[2J", Word, r"key=\x1b[2J must be max or sum"),
        (float("nan"), Share, "key=nan must be a finite number above 0 and at most 1"),
        ({"a": 1, "b": 0}, Mapping[str, Count] | None, "key.b=0 must be a whole number from 1 to 1,000,000"),
        ([1, None, True], Count, "key=[1,null,true] must be a whole number from 1 to 1,000,000"),
    ],
)
def test_the_message_names_key_value_and_what_is_meant(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_value("key", value, annotation)
    assert str(refusal.value) == message


@dataclass(frozen=True)
class Base:
    steps: Count = 3

    def __post_init__(self) -> None:
        check_fields(self, "group")


@dataclass(frozen=True)
class Derived(Base):
    steps: Annotated[int, Ge(5)] = 5
    word: Word = "max"
    unknown: Missing = None  # type: ignore[name-defined]  # noqa: F821


def test_a_field_that_a_subclass_declares_anew_is_checked_by_its_own_type() -> None:
    Base(steps=4)
    Derived(steps=5, unknown="anything")
    with pytest.raises(UserError, match=r"group\.steps=4 must be a whole number from 5"):
        Derived(steps=4)
    assert list_settings(Derived)["unknown"] is Any


def test_a_list_among_the_values_of_a_mapping_stands_for_a_tuple() -> None:
    check_value("key", {"a": [], "b": [1, 2]}, Mapping[str, int | Sequence[int]])
    with pytest.raises(UserError, match=r"^key=.* must be a mapping"):
        check_value("key", {1: 2}, Mapping[str, int])
