"""Where the files that come with the project lie: inside an installed package, or in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
"""The top of the checkout, where the package lies in one."""


def find_resources(packaged: str, checkout: str) -> Path:
    """Find a folder of files that are no Python modules.

    Args:
        packaged: Its name below the installed package, such as `configs` for `seewhy.configs`.
        checkout: Its path below the top of a checkout, such as `logbook/images`.

    Returns:
        The folder inside the package where there is one, else that of the checkout, which may not exist.
    """
    folder = Path(str(resources.files("seewhy"))) / packaged
    return folder if folder.is_dir() else CHECKOUT / checkout
