"""Words of messages, titles and file names: counts with their noun, lists of names, names in snake case."""

from __future__ import annotations

import re
from collections.abc import Sequence


def count_noun(count: int, noun: str) -> str:
    """Write a count with its noun, in the plural unless it is one.

    >>> count_noun(1, "image"), count_noun(0, "NaN value"), count_noun(12000, "image")
    ('1 image', '0 NaN values', '12,000 images')

    Args:
        count: From 0.
        noun: In the singular; its plural ends in s.

    Returns:
        Both, with commas between thousands.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_names(names: Sequence[str]) -> str:
    """Name the first three and count the others.

    >>> join_names("abcde"), join_names("ab")
    ('a, b, c and 2 more', 'a, b')

    Args:
        names: Any names.

    Returns:
        Such as: a, b, c and 2 more.
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def write_snake_case(name: str) -> str:
    """Write the name of a class as configs, tables and messages do.

    >>> write_snake_case("InputXGradient"), write_snake_case("HSIC"), write_snake_case("Hardswish0")
    ('input_x_gradient', 'hsic', 'hardswish0')

    Args:
        name: In CamelCase; capitals beside each other stay together up to the last, which begins a word.

    Returns:
        The name in snake_case.
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
