"""The frame of every command: a page for --help, and one message for what Hydra cannot compose.

Silence for messages of libraries that a user cannot act on; everything else stays visible.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException

from seewhy.cli import help
from seewhy.cli.config import CONFIGS
from seewhy.cli.suggestions import explain_mistake

FULL = "HYDRA_FULL_ERROR"


def command(start: Callable[[], None]) -> Callable[[], None]:
    """`start`, decorated with `hydra.main`: a typo ends as one message with the nearest names and exit code 2.

    With HYDRA_FULL_ERROR=1 in the environment errors are shown as they are.
    """

    @functools.wraps(start)
    def started() -> None:
        help.register_resolvers()
        if FULL in os.environ:
            return start()
        os.environ[FULL] = "1"  # Hydra then hands its errors on instead of printing them
        try:
            start()
        except HydraException as error:
            mistake = explain_mistake(error, CONFIGS, Path(sys.argv[0]).stem)
            print(wrapped(f"error: {mistake}"), file=sys.stderr)
            raise SystemExit(2) from None
        finally:
            del os.environ[FULL]

    return started


def wrapped(message: str) -> str:
    """Each line folded to the terminal, with what is folded indented."""
    width = max(40, min(100, shutil.get_terminal_size().columns))
    fold = functools.partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    return "\n".join(fold(line, subsequent_indent=" " * 4) for line in message.split("\n"))
