"""Errors that a user can mend: each message names the value at fault and the fix."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something in the request cannot be done as asked; shown without a traceback."""


class Incompatible(UserError):
    """The explainer would be silently wrong on this network; the message names the module and an alternative."""


class MissingWeights(UserError):
    """There are no weights at hand; the message says where they were looked for and how to give them."""


class UnreadableImage(UserError):
    """One image file cannot be used; the run goes on without it and the reason lands in skipped.csv."""


def check_choice(key: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a setting that is none of its choices.

    Args:
        key: The setting as it is written on the command line, such as `explainer.rule`.
        value: What it is set to.
        choices: What it may be.

    Raises:
        UserError: If the value is none of them; the message lists them.
    """
    names = tuple(choices)
    if value not in names:
        raise UserError(f"{key}={value!r} is none of {', '.join(names)}")


def check_whole_number(key: str, value: object, least: int = 1) -> None:
    """Raise UserError where the value of a setting is no whole number from `least`.

    Args:
        key: The setting as a user writes it, such as `explainer.n_samples`.
        value: Its value.
        least: The smallest value that is allowed.

    Raises:
        UserError: `value` is not an int, or smaller than `least`.
    """
    if not isinstance(value, int) or value < least:
        raise UserError(f"{key}={value} must be a whole number from {least}")
