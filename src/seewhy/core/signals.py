"""Ending a run in order when someone, or a scheduler, asks for it.

Several processes of one run.
"""

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


class Stop:
    """The signal that ended the run in this process; None while nobody has asked for it."""

    signum: int | None = None


def exit_while_starting() -> None:
    """From now on Ctrl-C ends a command with one line and exit code 130: nothing has begun that must be closed.

    A run sets its own handlers while it works, see `signals`.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def end(signum: int, frame: object) -> None:
        print("\ninterrupted (Ctrl-C)", file=sys.stderr)
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGINT, end)


@contextmanager
def handle_signals() -> Iterator[None]:
    """SIGTERM ends what is inside the block as Ctrl-C does; the handlers are as before after it."""
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
    """SIGTERM and SIGINT raise KeyboardInterrupt, once, and are passed on to the other processes of the run."""
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
    """Whether this process writes what belongs to the whole run: the others of a `trainer=ddp` do not.

    Known from what launchers set, before anything that talks between processes is imported.
    """
    names = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)
