"""The parts of --help that come from the yaml files: groups with their choices, keys with their values."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seewhy.cli.config import CONFIGS
from seewhy.cli.own_configs import list_folders
from seewhy.cli.program import find_command

KEYS_OF = ("audit", "synthesis", "model", "data", "explainer", "optimization")
"""The groups whose keys are listed."""
COMMENTED = re.compile(r"^(\w+):[^#\n]*? +# (.+)$", re.MULTILINE)
INDENT = 28
LONGEST = 70
"""Characters of what is chosen; of a longer list the first members are shown."""


def register_resolvers() -> None:
    """Resolve ${command:<task>}, ${choices:<task>} and ${keys:<task>}; texts are wrapped to the terminal."""
    for name, write in (("choices", list_choices), ("keys", list_keys)):

        def resolve(task: str, _root_: DictConfig, write: Any = write) -> str:
            return str(write(task, _root_)).replace("$", "$$")

        OmegaConf.register_new_resolver(name, resolve, replace=True)
    OmegaConf.register_new_resolver("command", _write_command, replace=True)


def _write_command(task: str) -> str:
    """Write the shortest command of a task: the console command, or the script as in the folder of the checkout."""
    return f"python src/{task}.py" if find_command(task)[-1].endswith(".py") else f"seewhy {task}"


def list_choices(task: str, cfg: DictConfig) -> str:
    """List each group of a task with what is chosen, and what can be.

    Args:
        task: The name of its primary config.
        cfg: The composed config with Hydra's part.

    Returns:
        One entry per group.
    """
    current: dict[str, Any] = {}
    for name, value in cfg.hydra.runtime.choices.items():
        group, _, package = name.partition("@")
        current[group] = [*current.get(group, []), value] if package.startswith(f"{group}s.") else value
    entries = []
    for group in list_groups(task, cfg):
        files = [path for folder in list_folders(cfg.hydra) for path in sorted((folder / group).glob("*.yaml"))]
        if group == "experiment":
            files = [path for path in files if f"src/{task}.py" in path.read_text()]
        if files:
            value = current[group] if group in current else list(cfg.get(group) or [])  # the members of a list
            chosen = f"{group}={_format_value(value)}"
            chosen = chosen if len(chosen) <= LONGEST else f"{chosen[:LONGEST].rpartition(',')[0]},...]"
            entries.append(_format_entry(chosen, ", ".join(path.stem for path in files)))
    return "\n".join(entries)


def list_groups(task: str, cfg: DictConfig) -> list[str]:
    """List the groups in the defaults of a primary config, and `corruption` where there is one."""
    primary: Any = OmegaConf.load(CONFIGS / f"{task}.yaml")
    names = [str(next(iter(entry))).partition("@")[0] for entry in primary.defaults if isinstance(entry, DictConfig)]
    groups = list(dict.fromkeys(name for name in names if "hydra" not in name))
    return groups if "corruption" not in cfg else [*groups, "corruption"]


def list_keys(task: str, cfg: DictConfig) -> str:
    """List each key that its yaml explains: the value in the composed config, and the words beside it.

    Args:
        task: The name of its primary config.
        cfg: The composed config with Hydra's part.

    Returns:
        One entry per key.
    """
    entries = _list_explained(CONFIGS / f"{task}.yaml", cfg, "")
    for group in list_groups(task, cfg):
        if group in KEYS_OF and group in cfg:
            name = f"{cfg.hydra.runtime.choices[group]}.yaml"
            folders = [folder for folder in list_folders(cfg.hydra) if (folder / group / name).is_file()]
            path = (folders or [CONFIGS])[0] / group / name
            entries += _list_explained(path, cfg[group], f"{group}.")
    return "\n".join(entries)


def _list_explained(path: Path, config: DictConfig, prefix: str) -> list[str]:
    if not path.is_file():  # a choice of the user's own folder (--config-dir)
        return []
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return [
        _format_entry(f"{prefix}{key}={_format_value(plain[key])}", words)
        for key, words in COMMENTED.findall(path.read_text())
        if key in plain and not isinstance(plain[key], dict)
    ]


def _format_value(value: Any) -> str:
    """Write a value as it is given on the command line."""
    if isinstance(value, list | ListConfig):
        return f"[{','.join(map(_format_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _format_entry(name: str, words: str) -> str:
    """Put `name` into the left column and the wrapped words into the right one, below it where the name is long."""
    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = textwrap.wrap(words, width - INDENT, break_on_hyphens=False, break_long_words=False) or [""]
    head = f"  {name}"
    if len(head) < INDENT:
        head = (head.ljust(INDENT) + lines.pop(0)).rstrip()
    return "\n".join([head, *(" " * INDENT + line for line in lines)])
