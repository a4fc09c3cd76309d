"""Which lines of the package a process executes; as `sitecustomize` of a child process it writes them down at its end."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections import defaultdict
from types import CodeType, FrameType
from typing import Any

SOURCE, FOLDER = "MUTANTS_SOURCE", "MUTANTS_FOLDER"
"""Environment variables: the folder `src`, and where child processes leave their lines."""


class Executed:
    """The lines that were executed since the last `take`, by file below the source folder."""

    def __init__(self, source: str) -> None:
        self.source = os.path.join(source, "")
        self.lines: dict[str, set[int]] = defaultdict(set)
        self.left: dict[CodeType, set[int]] = {}

    def start(self) -> None:
        """Watch this process and the threads that it starts."""
        threading.settrace(self.enter)
        sys.settrace(self.enter)

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Watch a frame of the package that has lines that were not seen."""
        code = frame.f_code
        if not code.co_filename.startswith(self.source):
            return None
        if code not in self.left:
            self.left[code] = {line for *_, line in code.co_lines() if line}
            self.step(frame, event, argument)
        return self.step if self.left[code] else None

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Note a line."""
        self.lines[frame.f_code.co_filename].add(frame.f_lineno)
        self.left.setdefault(frame.f_code, set()).discard(frame.f_lineno)
        return self.step

    def take(self) -> dict[str, set[int]]:
        """The lines since the last call."""
        taken = {file.removeprefix(self.source): lines for file, lines in self.lines.items()}
        self.lines, self.left = defaultdict(set), {}
        return taken


def merge(lines: dict[str, set[int]], more: dict[str, Any]) -> dict[str, set[int]]:
    """Both, in a new table."""
    return {file: lines.get(file, set()) | set(more.get(file, ())) for file in lines.keys() | more.keys()}


def take_from_children() -> dict[str, set[int]]:
    """The lines of the child processes that ended since the last call."""
    lines: dict[str, set[int]] = {}
    for entry in os.scandir(os.environ[FOLDER]):
        if entry.name.endswith(".new"):
            continue
        with open(entry.path) as file:
            lines = merge(lines, json.load(file))
        os.remove(entry.path)
    return lines


if __name__ == "sitecustomize" and FOLDER in os.environ:
    executed = Executed(os.environ[SOURCE])

    def write() -> None:
        """Leave the lines for the parent."""
        lines = {file: sorted(lines) for file, lines in executed.take().items()}
        path = os.path.join(os.environ[FOLDER], str(os.getpid()))
        with open(f"{path}.new", "w") as file:
            json.dump(lines, file)
        os.replace(f"{path}.new", path)

    atexit.register(write)
    executed.start()
