"""Errors that a user can mend: each message names the value at fault and the fix."""

from __future__ import annotations

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seewhy.core.disclosure import clean_message

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a share of it or a file that may not grow any more."""
UNUSABLE = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EINVAL),
)
"""Errors of a place that cannot be written to."""
SHOWN = 120
"""Characters of a path in a message."""


def describe_failed_write(error: BaseException, folder: Path) -> str | None:
    """Describe an error of the disk that a run met while it wrote.

    Args:
        error: Any error.
        folder: The run folder.

    Returns:
        What the system says and of which file; None where the error is not one of the disk, or of a file elsewhere.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return None
    names = [str(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    inside = any(Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder)) for name in names)
    if error.errno in FULL or (error.errno in UNUSABLE and inside):
        return f"{error.strerror}: {shorten_path(names[0] if names else folder)}"
    return None


def shorten_path(path: Path | str) -> str:
    """Shorten a path for a message.

    Args:
        path: Of any length.

    Returns:
        At most `SHOWN` characters of it.
    """
    text = str(path)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


class UserError(Exception):
    """Something in the request cannot be done as asked; shown without a traceback.

    Its text names values of files and commands: it is clean wherever it is shown.
    """

    def __str__(self) -> str:
        return clean_message(super().__str__())


class Incompatible(UserError):
    """The explainer would be silently wrong on this network; the message names the module and an alternative."""


class MissingWeights(UserError):
    """There are no weights at hand; the message says where they were looked for and how to give them."""


class UnreadableImage(UserError):
    """One image file cannot be used; the run goes on without it and the reason lands in skipped.csv."""


@contextmanager
def name_key(setting: str) -> Iterator[None]:
    """Put the setting at fault in front of the messages that are raised inside of the block.

    Args:
        setting: Key and value as a user writes them, such as `explainer.layer=conv77`.

    Raises:
        UserError: The same with the setting in front.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(f"{setting}: {error}") from error


class OwnCodeFailure(UserError):
    """The user's own explainer, metric or network raised something; the message ends with the last lines of that code."""


FRAMES = 3
"""Lines of own code in a message."""


@contextmanager
def name_own_code(what: str, *parts: object) -> Iterator[None]:
    """Turn what own code raises into one sentence with the last lines of that code; this project's own faults pass.

    Args:
        what: The explainer or metric, as the sentence begins.
        *parts: The object that is called, and those inside of it.

    Raises:
        OwnCodeFailure: A class of `parts` is not of this project, and the block raised something else than a UserError.
    """
    modules = {module for part in parts if not (module := type(part).__module__).startswith("seewhy.")}
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # own code raises what it likes
        if not modules or (isinstance(error, OSError) and error.errno in FULL):
            raise
        raise describe_own_failure(what, error, modules) from error


def describe_own_failure(what: str, error: Exception, modules: Iterable[str]) -> OwnCodeFailure:
    """Describe what own code raised.

    Args:
        what: The explainer, metric or network, as the sentence begins.
        error: What was raised.
        modules: Names of the modules of that code; what lies beside their files counts too.

    Returns:
        One sentence with the last lines of that code.
    """
    packages = {module.partition(".")[0] for module in modules}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    folders = {os.path.dirname(os.path.abspath(file)) for file in files if file}
    frames = [
        frame
        for frame, (scope, _) in zip(
            traceback.extract_tb(error.__traceback__), traceback.walk_tb(error.__traceback__), strict=True
        )
        if str(scope.f_globals.get("__name__")).partition(".")[0] in packages
        or os.path.dirname(os.path.abspath(frame.filename)) in folders
    ]
    lines = [f"\n  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames[-FRAMES:]]
    reason = f"{type(error).__name__}: {error}".removesuffix(": ").split("\n")[0]
    return OwnCodeFailure(f"{what} failed: {reason}{''.join(lines)}")


@contextmanager
def name_images(names: Sequence[str]) -> Iterator[None]:
    """Add the images of a batch to the message of own code that failed on them.

    Args:
        names: At least one.

    Raises:
        OwnCodeFailure: The same with the first image and the number of the others.
    """
    try:
        yield
    except OwnCodeFailure as error:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise OwnCodeFailure(f"image {names[0]}{more}: {error}") from error.__cause__


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
        near = find_nearest(value, names, 1) if isinstance(value, str) and value else []
        hint = f"; did you mean {key}={near[0]}?" if near else ""
        listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else ", ".join(names)
        raise UserError(f"{key}={value} must be {listed}{hint}")


def find_nearest(word: str, words: Iterable[str], count: int = 3) -> list[str]:
    """Find the words that are most like `word`, or hold it as a part; case, `_` and `-` do not matter, `+` is `plus`.

    >>> find_nearest("gradcam", ["grad_cam", "score_cam", "lime"], 1)
    ['grad_cam']
    >>> find_nearest("shap", ["kernel_shap", "gradient_shap", "lime"])
    ['kernel_shap', 'gradient_shap']
    >>> find_nearest("adm", ["adam_plateau", "sgd"])
    ['adam_plateau']

    Args:
        word: What was typed.
        words: What could have been meant.
        count: How many to return at most.

    Returns:
        Those that are like it, the likeliest first.
    """
    plain: dict[str, str] = {}
    for candidate in words:
        plain.setdefault(simplify(candidate), candidate)
    if simplify(word) in plain:
        return [plain[simplify(word)]]
    parts = [each for each in plain.values() if word.lower() in each.lower().replace("-", "_").split("_")]
    if len(word) > 2 and 0 < len(parts) <= count:
        return parts
    near = [plain[match] for match in difflib.get_close_matches(simplify(word), plain, n=count, cutoff=0.6)]
    if near or len(word) < 3:
        return near
    pieces = {piece: each for each in reversed(plain.values()) for piece in each.lower().replace("-", "_").split("_")}
    return [pieces[match] for match in difflib.get_close_matches(word.lower(), pieces, n=count, cutoff=0.8)]


def simplify(word: str) -> str:
    """Reduce a word to what `find_nearest` compares: letters in lower case, without `_` and `-`.

    Args:
        word: A word.

    Returns:
        The reduced word.
    """
    return word.lower().replace("_", "").replace("-", "").replace("+", "plus")
