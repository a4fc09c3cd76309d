"""Figures and other pictures made and written beside the loop that makes what they show."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from seewhy.core.files import RunFolder
from seewhy.plots.canvas import Drawn, encode_figure

WAITING = 16
"""Figures that may wait to be drawn; their number bounds the memory."""


class BackgroundWriter:
    """One thread that draws figures in the order given: the same files as without it, while the network goes on.

    An error while drawing or writing is raised by the next `add` or by `finish`, which must be called before the
    files are read or anything else is drawn.
    """

    def __init__(self, folder: RunFolder, waiting: int = WAITING) -> None:
        self.folder = folder
        self.waiting = waiting
        self._pending: deque[Future[Path]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def add(self, name: str, draw: Callable[[], Drawn]) -> Future[Path]:
        """Write what `draw` returns under `name`; waits while too many figures are not yet drawn."""
        return self.run(lambda: self.folder.write_bytes(name, encode_figure(draw())))

    def run(self, write: Callable[[], Path]) -> Future[Path]:
        """Let `write` make a file; waits as `add` does."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= self.waiting):
            self._pending.popleft().result()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._pending.append(self._thread.submit(write))
        return self._pending[-1]

    def finish(self) -> None:
        """Wait until every figure is written; the first error that was not yet raised is."""
        thread, self._thread = self._thread, None
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._pending.clear()
            if thread is not None:
                thread.shutdown(cancel_futures=True)
