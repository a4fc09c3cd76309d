"""The record of a run, run.json: what was run, on what, and how it ended."""

from __future__ import annotations

import functools
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.runs.stored_json import VERSION, read_form

CODE = (":/src", ":/configs", ":/scripts")
"""Where in the repository new files change what runs; pictures of one's own beside them do not."""
PACKAGES = (
    "seewhy",
    "torch",
    "torchvision",
    "lightning",
    "captum",
    "timm",
    "albumentations",
    "hydra-core",
    "numpy",
    "pillow",
)


class RunRecord:
    """run.json, written when the run starts (status `running`) and again whenever more is known.

    Status ends as `completed`, `failed` or `refused` (with the reason; a method that the network does not allow), or
    `interrupted`. `earlier` lists earlier attempts in the same folder.

    Args:
        folder: The run folder.
        task: Name of the command, such as `explain`.
        overrides: Those of the command line.
        seed: Of the run.
        writes: Whether this process writes the file, which only the first of several does.
        command: The words that repeat the run.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        overrides: list[str],
        seed: int,
        writes: bool = True,
        command: Sequence[str] = (),
    ) -> None:
        self.folder = RunFolder(folder)
        self.writes = writes
        self.before = _read_record(folder / "run.json")
        self.started = datetime.now()
        self.content: dict[str, Any] = {
            "version": VERSION,
            "status": "running",
            "task": task,
            "command": shlex.join(command),
            "overrides": overrides,
            "seed": seed,
            "started": self.started.isoformat(timespec="seconds"),
            **describe_process(),
        }
        if task == "explain" and self.before:
            self.content["earlier"] = _list_attempts(self.before)
        self.update()

    def seconds(self) -> float:
        """Measure the time since the run started.

        Returns:
            Seconds, rounded to milliseconds.
        """
        return round((datetime.now() - self.started).total_seconds(), 3)

    def update(self, **values: Any) -> None:
        """Add or replace values and write the file anew.

        Args:
            values: By key.
        """
        self.content |= values
        self.content["seconds"] = self.seconds()
        if self.writes:
            self.folder.write_json("run.json", self.content)

    def restore(self) -> None:
        """Put back the record that was there before."""
        if self.writes and self.before:
            self.folder.write_json("run.json", self.before)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return read_form(path, "record")
    except (FileNotFoundError, UserError):
        return {}


def _list_attempts(before: dict[str, Any]) -> list[dict[str, Any]]:
    """When the run was begun before in the same folder, and how that ended; `running` where it was killed."""
    last = {key: before.get(key) for key in ("started", "seconds", "status")}
    return [*before.get("earlier", []), last]


@functools.cache
def describe_process() -> Mapping[str, Any]:
    """Describe what runs: the code of a process is what its files were when it began, so they are looked at once.

    Returns:
        Commit, Python, platform and versions.
    """
    return {
        **read_git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": read_installed_versions(),
    }


def read_git_state(folder: Path) -> dict[str, Any]:
    """Read the commit of the repository that tracks a folder.

    Args:
        folder: Of the sources.

    Returns:
        `git_commit`, and whether it lacks what runs (`git_dirty`): tracked files were changed since, or sources or configs
        were added; None outside a repository.
    """
    if not _run_git(folder, "ls-files"):  # an installed package may lie below a repository of someone else
        return {"git_commit": None, "git_dirty": None}
    commit = _run_git(folder, "rev-parse", "HEAD")
    changes = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    added = _run_git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", "--", *CODE)
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes or added)}


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def read_installed_versions() -> dict[str, str]:
    """Read the versions of the packages that decide the numbers.

    Returns:
        The version of each that is installed.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
