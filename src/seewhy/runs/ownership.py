"""A run folder belongs to one run: who may begin in a folder, and the lock that is held while a run writes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError, shorten_path
from seewhy.runs.stored_json import read_form

try:
    import fcntl
except ImportError:  # no POSIX locks on this system: two runs in one folder are then told apart by their records alone
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
PRELIMINARY = frozenset({".hydra", LOCK})
"""What lies in a folder before its run has written anything."""
BEGINNINGS = re.compile(
    r"run\.json|journal/plan\.json|\.hydra/(config|hydra|overrides)\.yaml"
    r"|tensorboard/(hparams\.yaml|events\.out\.tfevents\.[\w.-]+)|csv/(hparams\.yaml|metrics\.csv|run\.csv)"
)
"""Files that a run writes before its first batch."""
TABLES = ("predictions.csv", "metrics.csv", "skipped.csv")
PLACES = ("hydra.", "output=", "resume=")
"""Overrides that say where a run is written, not what it computes."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EROFS)


def check_folder_name(name: str, key: str) -> None:
    """Refuse a name that a config would read as a reference, or that no file system has.

    Args:
        name: Of a folder.
        key: The setting that names it.

    Raises:
        UserError: The name, or that of the working folder, holds `${`, or the name holds a control character.
    """
    if "${" in os.path.abspath(name):
        raise UserError(
            f"a folder whose path holds ${{ cannot be used: {shorten_path(os.path.abspath(name))}; see {key}="
        )
    if any(ord(character) < 32 for character in name):
        raise UserError(f"{key}={name[:120]!a} holds a control character; name another folder")


def check_folder_is_free(folder: Path, task: str, overrides: Sequence[str] | None = None) -> None:
    """Refuse a folder that a run of this task must not write to.

    A run writes into a new or empty folder, or into one that the same task began. `explain` compares its plan with that
    of the journal; the other tasks begin again only with the same overrides.

    Args:
        folder: The run folder; it need not exist.
        task: Name of the command, such as `explain`.
        overrides: Those of the command line; None where they are compared elsewhere.

    Raises:
        UserError: The path is a file, or the folder holds something that this task did not begin with these settings.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"the run folder {folder} is a file; name a folder with hydra.run.dir=")
    refuse_links(folder, "hydra.run.dir")
    names = sorted(path.name for path in folder.iterdir() if not _is_preliminary(path.name))
    if not names:
        return
    try:
        record = read_form(folder / "run.json", "record")
    except UserError as error:
        raise UserError(f"{error}; nothing was changed. Name another folder with hydra.run.dir=") from None
    except FileNotFoundError:
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise UserError(
            f"the folder {folder} holds files that no run wrote ({listed}); nothing was changed. Name a new or an empty "
            "folder with hydra.run.dir="
        ) from None
    if record["task"] != task:
        raise UserError(
            f"the folder {folder} belongs to a run of {record['task']}; nothing was changed. Name another folder for "
            f"{task} with hydra.run.dir="
        )
    if overrides is None or task == "explain":
        return
    before, now = _select_settings(record.get("overrides") or ()), _select_settings(overrides)
    if before != now:
        changed = ", ".join(sorted(before ^ now))
        raise UserError(
            f"the folder {folder} belongs to a run of {task} with other settings ({changed}); nothing was changed. Name "
            "another folder with hydra.run.dir="
        )


def refuse_links(folder: Path, key: str) -> None:
    """Refuse a folder with a link out of it, through which Hydra, a logger or a checkpoint would replace a file elsewhere.

    Args:
        folder: Of a run or a sweep.
        key: The setting that names it.

    Raises:
        UserError: It holds such a link, at any depth.
    """
    home = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in sorted((*folders, *files))):
            if path.is_symlink() and not _leads_inside(path, home):
                raise UserError(
                    f"the folder {folder} holds a link out of it ({path.relative_to(folder)}), which no run writes; "
                    f"nothing was changed. Remove the link, or name another folder with {key}="
                )


def _leads_inside(link: Path, home: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a circle
        return False


def is_new(folder: Path) -> bool:
    """Whether no run has written to a folder yet.

    Args:
        folder: It need not exist.

    Returns:
        True where it holds nothing, or only what Hydra and the lock put there.
    """
    return not folder.is_dir() or all(_is_preliminary(path.name) for path in folder.iterdir())


def discard_beginnings(folder: Path) -> None:
    """Remove what a run writes before its first batch, from a folder that holds nothing else; else leave all of it.

    Args:
        folder: Of a run that was refused, in which it was the first. The folder itself stays.
    """
    if not folder.is_dir():
        return
    inside = [path for path in folder.rglob("*") if path.name != LOCK]
    files = [path for path in inside if path.is_symlink() or not path.is_dir()]
    if not all(_is_beginning(path, path.relative_to(folder).as_posix()) for path in files):
        return
    for path in files:
        path.unlink(missing_ok=True)
    for path in sorted((path for path in inside if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()


def _is_beginning(path: Path, name: str) -> bool:
    """Whether a run writes a file before its first batch; tables do not count where they hold more than their header."""
    if name in TABLES and path.is_file() and path.stat().st_size < 1000:
        return path.read_bytes().count(b"\n") <= 1
    return bool(BEGINNINGS.fullmatch(name))


def _is_preliminary(name: str) -> bool:
    """Whether a name is Hydra's, the lock's or that of a file which a process is about to put in its place."""
    return name in PRELIMINARY or bool(re.fullmatch(r"\..*\.\d+\.part", name))


def _select_settings(overrides: Sequence[Any]) -> set[str]:
    return {str(override) for override in overrides if not str(override).lstrip("+~").startswith(PLACES)}


def create_new_folder(wanted: Path) -> Path:
    """Create a folder that no other process has, also where several begin in the same second.

    Args:
        wanted: Its path.

    Returns:
        The path, or the same with `_2`, `_3`, ... behind it.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number, folder = 1, wanted
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")
        else:
            return folder


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder for as long as the block lasts; the system frees it when the process dies.

    Args:
        folder: The run folder; it is created where it does not exist.

    Raises:
        UserError: Another process is writing to the folder, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"the run folder {folder} is a file; name a folder with hydra.run.dir=") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"the run folder {shorten_path(folder)} cannot be created ({reason}); name another with hydra.run.dir="
        ) from None
    descriptor = _acquire(folder) if fcntl else None
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
            os.close(descriptor)


def _acquire(folder: Path) -> int | None:
    """Open and lock the file; None where the file system has no locks."""
    path = folder / LOCK
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise UserError(
                f"the run folder {shorten_path(folder)} cannot be written to ({error.strerror}); name another with "
                "hydra.run.dir="
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _describe_holder(path)
            os.close(descriptor)
            if error.errno in NO_LOCKS:
                return None
            raise UserError(
                f"the folder {folder} is being written by another run ({holder}); wait until it has ended, or name "
                "another folder with hydra.run.dir="
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:  # not a file that its holder has just removed
                break
        os.close(descriptor)
    lines = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now().isoformat(timespec="seconds")}
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(lines) + "\n").encode(), 0)
    return descriptor


def _describe_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {int(holder['pid'])} on {str(holder['host'])[:80]!a}, since {str(holder['since'])[:19]!a}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just begun"
