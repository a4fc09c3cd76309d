"""Signals of the operating system: ending a run in order when someone, or a scheduler, asks for it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

from seewhy.core.disclosure import mask_secrets

DEATH_OF_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""
INTERVAL = 1.0
"""Seconds after which a process looks for its parent again where the system does not tell."""
PATIENCE = 60.0
"""Seconds in which the jobs of a sweep end in order before they are left to themselves."""


class Stop:
    """How the run of this process was ended."""

    signum: int | None = None
    """The signal; None while nobody has asked for it."""
    parent: int | None = None
    """The process that began this one and ends it with itself; None in a command that a person began."""

    @classmethod
    def is_orphan(cls) -> bool:
        """Tell whether the process that began this one is gone.

        Returns:
            False where a person began it.
        """
        return cls.parent is not None and os.getppid() != cls.parent


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


def _pass_over(signum: int, frame: object) -> None:
    """Answer a signal by nothing: with SIG_IGN Python complains of one that has just arrived, and children inherit it."""


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
            signal.signal(each, _pass_over)
        for process in getattr(launcher, "procs", ()):
            process.send_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end)


def end_with_parent(parent: int) -> None:
    """End this process in order, by SIGTERM, when the process that began it dies, in whatever way.

    On Linux the system sends the signal; elsewhere a thread looks every second. A process that something else began, such
    as a scheduler on another machine, is left alone.

    Args:
        parent: Its number.
    """
    if os.getppid() != parent or Stop.parent == parent:
        return
    Stop.parent = parent
    with contextlib.suppress(OSError, AttributeError):
        if sys.platform == "linux" and not ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGTERM, 0, 0, 0):
            if Stop.is_orphan():  # it died in the meantime
                os.kill(os.getpid(), signal.SIGTERM)
            return

    def watch() -> None:
        while not Stop.is_orphan():
            time.sleep(INTERVAL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def end_idle_workers_with_parent() -> None:
    """Let the processes of joblib end with this one from their first moment on, also while they wait for a job.

    One that reads a job whose sender was killed halfway through would wait for the rest for ever.
    """
    from joblib import parallel, register_parallel_backend

    backend = parallel.BACKENDS["loky"]
    if not isinstance(backend, functools.partial):
        told = {"initializer": end_with_parent, "initargs": (os.getpid(),)}
        register_parallel_backend("loky", functools.partial(backend, **told))


def end_sweep_in_order(explain: Callable[[str], None]) -> None:
    """At SIGTERM or SIGINT, end the processes of a sweep in order, wait for them, and then end this one.

    Args:
        explain: Called with the reason, `SIGTERM` or `Ctrl-C`, when they have ended.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def end(signum: int, frame: object) -> NoReturn:
        if os.getpid() != owner:  # a process that was forked
            os._exit(128 + signum)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _pass_over)
        jobs = multiprocessing.active_children()
        for job in jobs:
            job.terminate()
        until = time.monotonic() + PATIENCE
        for job in jobs:
            job.join(max(0.0, until - time.monotonic()))
        explain("SIGTERM" if signum == signal.SIGTERM else "Ctrl-C")
        raise SystemExit(128 + signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, end)


class _Outlet(io.FileIO):
    """A standard stream that is nobody's any more once nobody reads it."""

    def write(self, content: Any) -> int:
        """Write, or pass over what cannot be written from here on."""
        try:
            return super().write(content)
        except BlockingIOError:
            raise
        except OSError as error:
            _discard(self.fileno())
            if error.errno != errno.EPIPE and self.fileno() == 1:
                print(f"the output cannot be written ({error.strerror}); the run goes on without it", file=sys.stderr)
            return len(content)


def outlive_readers() -> None:
    """Let the end of whoever reads the output (`| head -1`, a closed terminal, a full disk) end the output, not the run."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:  # it was closed before the command began: no other file shall get its number
            _discard(number)
            encoding, errors, lines = "utf-8", "backslashreplace", False
        else:
            try:
                if isinstance(stream, _Text) or stream.fileno() != number:
                    continue
                stream.flush()
            except (OSError, ValueError):
                continue
            encoding, errors = stream.encoding, stream.errors or "strict"
            lines = stream.isatty() or number == 2
        buffer = io.BufferedWriter(_Outlet(number, "w", closefd=False))
        setattr(sys, name, _Text(buffer, encoding=encoding, errors=errors, line_buffering=lines))


def _discard(descriptor: int) -> None:
    """Let what is written to a descriptor go nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)


class _Text(io.TextIOWrapper):
    """The text of an outlet, in which no value of the environment stands, whoever writes it."""

    def write(self, text: str) -> int:
        """Write a text with its secrets masked."""
        super().write(mask_secrets(text))
        return len(text)


def is_first_process() -> bool:
    """Tell whether this process writes what belongs to the whole run: the others of a `trainer=ddp` do not.

    Read from what launchers set, before anything that talks between processes is imported.

    Returns:
        True in the first process, and where there is only one.
    """
    names = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)
