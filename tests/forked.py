"""Commands in processes of their own, without the seconds in which each would import the same libraries.

They are forked from a process that has imported the libraries and nothing of the package. What depends on the imports
themselves, or on signals before they end, is begun with `subprocess` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["hydra", "torch", "lightning.pytorch"])


class Command:
    """A command that has begun: the words of `python`, in a folder, with further variables of the environment."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200", **variables}
        self.words = words
        self._told = tempfile.TemporaryDirectory()
        given = (words, str(folder), environment, self._told.name)
        self._process = SERVER.Process(target=_execute, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def finish(self, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"{self.words} did not end in {timeout} s"
        told = [Path(self._told.name, str(number)).read_text() for number in (1, 2)]
        self._told.cleanup()
        return subprocess.CompletedProcess(self.words, code, *told)


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of `python words`, given in a folder."""
    return Command(folder, *words, **variables).finish()


def _execute(words: tuple[str, ...], folder: str, environment: dict[str, str], told: str) -> None:
    """Become `python words`: what pytest put on the path is not on that of the command."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number in (1, 2):
        os.dup2(os.open(f"{told}/{number}", os.O_WRONLY | os.O_CREAT), number)
    paths = [path for path in sys.path if "site-packages" in path or not Path(path or ".").is_relative_to(ROOT)]
    sys.path[:] = [*environment["PYTHONPATH"].split(os.pathsep), *paths]
    del sys.modules[__name__]
    if words[0] == "-m":
        sys.path.insert(0, folder)
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")
