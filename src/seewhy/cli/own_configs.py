"""Config folders beside this project's: those that installed packages register, and those that a command names.

A package registers its folder of yaml files, a package of Python itself, in its pyproject.toml:

    [project.entry-points."seewhy.configs"]
    mypackage = "mypackage.configs"
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from seewhy.core.errors import UserError

GROUP = "seewhy.configs"
"""The group of entry points."""


@functools.cache
def find_registered_folders() -> Mapping[str, Path]:
    """Find the config folders of installed packages.

    Returns:
        Each folder by the package that holds it.

    Raises:
        UserError: A package registers a folder that it does not have, or its own code fails.
    """
    folders = {}
    for entry in entry_points(group=GROUP):
        reason = f"has no folder {entry.value}"
        try:
            spec = find_spec(entry.value)
        except ImportError:
            spec = None
        except Exception as error:  # its own code runs
            spec, reason = None, f"cannot be imported ({type(error).__name__}: {error})"
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places:
            raise UserError(
                f"the installed package of the entry point {entry.name} = {entry.value!r} ({GROUP}) {reason}: mend or "
                "uninstall it"
            )
        folders[entry.value.partition(".")[0]] = Path(places[0])
    return folders


class RegisteredConfigs(SearchPathPlugin):
    """Let Hydra look into the folders of installed packages, behind this project's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders.

        Args:
            search_path: Where Hydra looks for yaml files; changed.
        """
        for package, folder in find_registered_folders().items():
            search_path.append(provider=package, path=f"file://{folder}")


@functools.cache
def register_folders() -> None:
    """Make the folders of installed packages known to Hydra, once in a process."""
    if find_registered_folders():
        Plugins.instance().register(RegisteredConfigs)


def list_folders(hydra: Any) -> list[Path]:
    """List the folders that the running command looks into, in its order.

    Args:
        hydra: Hydra's part of the composed config.

    Returns:
        The folders.
    """
    sources = [source for source in hydra.runtime.config_sources if source.schema == "file"]
    return [Path(source.path) for source in sources if source.path]


def list_given_folders(hydra: Any) -> list[str]:
    """List the folders that the command names with --config-dir, or with hydra.searchpath= on the command line.

    Args:
        hydra: Hydra's part of the composed config.

    Returns:
        The folders.
    """
    named = ("command-line", "hydra.searchpath in command-line")
    sources = [source for source in hydra.runtime.config_sources if source.provider in named]
    return [source.path if source.schema == "file" else f"{source.schema}://{source.path}" for source in sources]
