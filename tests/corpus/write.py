"""The corpus as files."""

from __future__ import annotations

import os
from pathlib import Path

from corpus.case import Case
from corpus.damage import DAMAGE
from corpus.names import NAMES
from corpus.pictures import PICTURES

CASES: tuple[Case, ...] = (*PICTURES, *DAMAGE, *NAMES)


def write_corpus(folder: Path) -> list[Case]:
    """Write every case below `folder`; returns those that this file system can hold."""
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        path = folder / os.fsdecode(case.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            case.make(path)
        except (OSError, UnicodeError):
            continue
        written.append(case)
    return written
