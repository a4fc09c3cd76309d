"""Errors that a user can mend: each message names the value at fault and the fix."""

from __future__ import annotations


class UserError(Exception):
    """Something in the request cannot be done as asked; shown without a traceback."""


class Incompatible(UserError):
    """The explainer would be silently wrong on this network; the message names the module and an alternative."""


class MissingWeights(UserError):
    """No weights at hand; the message says where they were looked for and how to give them."""


class UnreadableImage(UserError):
    """One image file cannot be used; the run goes on without it and the reason lands in skipped.csv."""
