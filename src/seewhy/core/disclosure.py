"""What a run tells: without values of the environment, and without characters that steer a terminal."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

SHORTEST = 4
"""Characters of a value that is kept secret: shorter ones stand in every text by chance."""
_SECRETS: dict[str, str] = {}
"""The reference of each value that a config took from the environment."""
SHOWN = frozenset("\n\t")
"""Control characters that a message may hold."""


def remember_secret(name: str, value: str) -> None:
    """Keep a value of the environment out of all that the run tells from now on.

    A number or a truth value is no secret, nor is a path once it exists: tables and commands name it.

    Args:
        name: Of the variable.
        value: Its value.
    """
    plain = re.fullmatch(r"[-+]?[\d.]{1,5}|true|false|null|none", value.strip(), re.IGNORECASE)
    if len(value) >= SHORTEST and not plain:
        _SECRETS[value] = f"${{oc.env:{name}}}"


def forget_secrets() -> None:
    """Forget all values, where another command begins in the same process."""
    _SECRETS.clear()


def mask_secrets(text: str) -> str:
    """Put the reference in the place of each value of the environment.

    >>> remember_secret("KEY", "correct horse")
    >>> mask_secrets("the key is correct horse"), mask_secrets("the correct horseman")
    ('the key is ${oc.env:KEY}', 'the correct horseman')
    >>> forget_secrets()

    Args:
        text: Any.

    Returns:
        The text without the values.
    """
    for value in sorted(_SECRETS, key=len, reverse=True):
        if value in text and not os.path.lexists(value):
            reference = _SECRETS[value].replace("\\", r"\\")
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", reference, text)
    return text


def mask_values(plain: Any, digest: bool = False) -> Any:
    """Mask the secrets of plain containers.

    Args:
        plain: Mappings, lists, texts and numbers.
        digest: Whether a digest stands behind each masked text, by which a changed value is noticed. It takes a
            twentieth of a second to compute, and so long to try a guess.

    Returns:
        The same containers without the values.
    """
    if not _SECRETS:
        return plain
    if isinstance(plain, str):
        masked = mask_secrets(plain)
        return f"{masked} ({_compute_digest(plain)})" if digest and masked != plain else masked
    if isinstance(plain, Mapping):
        return {mask_values(key): mask_values(value, digest) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [mask_values(value, digest) for value in plain]
    return plain


def _compute_digest(text: str) -> str:
    return hashlib.scrypt(text.encode(errors="surrogateescape"), salt=b"seewhy", n=2**14, r=8, p=1, dklen=8).hex()


def clean_message(text: object) -> str:
    r"""Prepare a message for the terminal: secrets masked, control and bidirectional characters as escapes.

    >>> clean_message("a\x1b[31m b\u202ec")
    'a\\x1b[31m b\\u202ec'

    Args:
        text: Of the message.

    Returns:
        Text that moves no cursor and turns no direction.
    """
    masked = mask_secrets(str(text))
    if masked.isprintable():
        return masked
    shown = (each if each in SHOWN or each.isprintable() else ascii(each)[1:-1] for each in masked)
    return "".join(shown)


def print_error(message: object) -> None:
    """Print a message to the standard error.

    Args:
        message: It is cleaned first.
    """
    print(clean_message(message), file=sys.stderr)


def print_line(message: object) -> None:
    """Print a line to the standard output.

    Args:
        message: It is cleaned first.
    """
    print(clean_message(message), flush=True)
