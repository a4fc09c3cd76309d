"""A thread that draws and writes pictures while the network goes on."""

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
    """One thread that writes files in the order given, the same as without it.

    An error while drawing or writing is raised by the next `add` or by `finish`, which must be called before the
    files are read or anything else is drawn.

    Args:
        folder: Where the files are written.
        waiting: The most files that wait to be written, which bounds the memory.
    """

    def __init__(self, folder: RunFolder, waiting: int = WAITING) -> None:
        self.folder = folder
        self.waiting = waiting
        self._pending: deque[Future[Path]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def add(self, name: str, draw: Callable[[], Drawn]) -> Future[Path]:
        """Draw a figure and write it as a PNG file; waits while too many files are not yet written.

        Args:
            name: Of the file, in the folder.
            draw: Returns the figure.

        Returns:
            Done when the file is written.
        """
        return self.run(lambda: self.folder.write_bytes(name, encode_figure(draw())))

    def run(self, write: Callable[[], Path]) -> Future[Path]:
        """Write any file; waits as `add` does.

        Args:
            write: Writes the file and returns its path.

        Returns:
            Done when the file is written.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= self.waiting):
            self._pending.popleft().result()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._pending.append(self._thread.submit(write))
        return self._pending[-1]

    def finish(self) -> None:
        """Wait until every file is written, and raise the first error that was not yet raised."""
        thread, self._thread = self._thread, None
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._pending.clear()
            if thread is not None:
                thread.shutdown(cancel_futures=True)
