"""Names of images that are unique, safe as file names, and the same whatever the order of the files."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

MAX_CHARACTERS = 100
MAX_BYTES = 180
"""File systems allow 255 bytes for a name; the rest is for what a run appends."""


def name_images(paths: Sequence[Path], root: Path) -> list[str]:
    """Name images by their paths: unique, whatever their order, and safe as file names.

    A name is the path below `root` without its suffix, `__` between folders, and `_` for whatever is neither a letter,
    a digit, `.`, `_` nor `-`. Files that would share a name (upper and lower case count as equal) have their suffix
    appended, and a hash of their path below `root` where that is not enough. `[a/1.png]` is called `a__1`.

    Args:
        paths: Different paths.
        root: The folder that they lie below.

    Returns:
        A name for each path.
    """
    relative = [_below(path, root) for path in paths]
    names = [_fit(_clean(path.with_suffix("")), path) for path in relative]
    for longer in (_with_suffix, _with_hash):
        count = Counter(name.casefold() for name in names)
        while any(number > 1 for number in count.values()):
            changed = [
                longer(path) if count[name.casefold()] > 1 else name for path, name in zip(relative, names, strict=True)
            ]
            if changed == names:
                break
            names, count = changed, Counter(name.casefold() for name in changed)
    return names


def _below(path: Path, root: Path) -> Path:
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return path.relative_to(root) if path.is_relative_to(root) and path != root else path.relative_to(path.anchor)


def _clean(path: Path) -> str:
    text = unicodedata.normalize("NFC", "__".join(path.parts))
    safe = "".join(character if character.isalnum() or character in "._-" else "_" for character in text)
    return "_" + safe[1:] if safe.startswith(".") else safe or "_"


def _with_suffix(path: Path) -> str:
    return _fit(f"{_clean(path.with_suffix(''))}_{_clean(Path(path.suffix[1:]))}", path)


def _with_hash(path: Path) -> str:
    return _fit(f"{_clean(path.with_suffix(''))}_{_clean(Path(path.suffix[1:]))}", path, always=True)


def _fit(name: str, path: Path, always: bool = False) -> str:
    """The name, cut to its greatest length; a name that was cut, and every name if `always`, ends in a hash."""
    if not always and len(name) <= MAX_CHARACTERS and len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:8]
    short = name[: MAX_CHARACTERS - 9].encode()[: MAX_BYTES - 9].decode(errors="ignore")
    return f"{short}_{digest}"
