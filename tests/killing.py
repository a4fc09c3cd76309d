"""Commands that are killed while they work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from forked import Command
from seewhy.runs.journal import Journal

SOURCE = Path(__file__).parents[1] / "src"
LONGEST = 300.0


def start(folder: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A command given in `folder`, in a process group of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    given = [sys.executable, str(SOURCE / script), *arguments]
    return subprocess.Popen(
        given,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str] | Command, run: Path, more: int) -> None:
    """Until the run in a folder has finished so many batches more than it has now."""
    journal, end = Journal(run), time.monotonic() + LONGEST
    batches = len(journal.list_numbers()) + more
    while len(journal.list_numbers()) < batches:
        if process.poll() is not None or time.monotonic() > end:
            ended = process.finish() if isinstance(process, Command) else process.communicate()
            raise AssertionError(f"the run ended before it was stopped: {ended}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> tuple[int, str]:
    """(exit code, what was printed as an error) after a signal to the whole process group, or to one process."""
    if signum == signal.SIGTERM:
        process.send_signal(signum)
    else:
        os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=LONGEST)
    return process.returncode, errors
