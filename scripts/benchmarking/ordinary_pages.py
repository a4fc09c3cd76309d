"""Peers run as they come: without the large pages that seewhy asks torch for."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

THP_DISABLE = 41
"""Of prctl(2)."""


@contextmanager
def ordinary_pages() -> Iterator[None]:
    """Inside the block Linux gives this process pages of 4 kB alone, as it does where nobody asks for others."""
    if not sys.platform.startswith("linux"):
        yield
        return
    library = ctypes.CDLL(None)
    library.prctl(THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(THP_DISABLE, 0, 0, 0, 0)
