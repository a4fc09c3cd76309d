"""Signals of the operating system: ending a run in order when someone, or a scheduler, asks for it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk, or a share of it, that is full."""


class Stop:
    """How the run of this process was ended."""

    signum: int | None = None
    """The signal; None while nobody has asked for it."""


def exit_while_starting() -> None:
    """End a command at Ctrl-C with one line and exit code 130, while nothing has begun that must be closed.

    A run sets its own handlers while it works, see `handle_signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def end(signum: int, frame: object) -> None:
        print("\ninterrupted (Ctrl-C)", file=sys.stderr)
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGINT, end)


@contextmanager
def handle_signals() -> Iterator[None]:
    """End what is inside the block at SIGTERM as at Ctrl-C; the handlers are as before after it.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    Stop.signum = None
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    install_handlers()
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def install_handlers(launcher: Any = None) -> None:
    """Raise KeyboardInterrupt at SIGTERM and SIGINT, once, and pass them on to the other processes of the run.

    Args:
        launcher: Lightning's launcher of those processes; None where there are none.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def end(signum: int, frame: object) -> None:
        if os.getpid() != owner:  # a worker that was forked
            raise KeyboardInterrupt
        Stop.signum = signum
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        for process in getattr(launcher, "procs", ()):
            process.send_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end)


def is_first_process() -> bool:
    """Tell whether this process writes what belongs to the whole run: the others of a `trainer=ddp` do not.

    Read from what launchers set, before anything that talks between processes is imported.

    Returns:
        True in the first process, and where there is only one.
    """
    names = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)
