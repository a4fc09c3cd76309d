"""The parts of --help that come from the yaml files: groups with their choices, keys with their values."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from seewhy.cli.config import CONFIGS

KEYS_OF = ("synthesis", "model", "data", "explainer", "optimization")
"""The groups whose keys are listed."""
COMMENTED = re.compile(r"^(\w+):[^#\n]*? +# (.+)$", re.MULTILINE)
INDENT = 28


def register_resolvers() -> None:
    """Make ${choices:<task>} and ${keys:<task>} known; the texts are wrapped to the terminal."""
    for name, text in (("choices", list_choices), ("keys", list_keys)):

        def resolve(task: str, _root_: DictConfig, text: Any = text) -> str:
            return str(text(task, _root_)).replace("$", "$$")

        OmegaConf.register_new_resolver(name, resolve, replace=True)


def list_choices(task: str, cfg: DictConfig) -> str:
    """One entry per group of the task: what is chosen, and what can be."""
    chosen = cfg.hydra.runtime.choices
    shown = []
    for group in list_groups(task, cfg):
        files = sorted((CONFIGS / group).glob("*.yaml"))
        if group == "experiment":
            files = [path for path in files if f"src/{task}.py" in path.read_text()]
        if files:
            known = {name.partition("@")[0]: value for name, value in chosen.items()}
            value = known[group] if group in known else list(cfg.get(group) or [])  # of a list, its parts
            shown.append(_entry(f"{group}={_written(value)}", ", ".join(path.stem for path in files)))
    return "\n".join(shown)


def list_groups(task: str, cfg: DictConfig) -> list[str]:
    """The groups in the defaults of a primary config, and `corruption` where there is one."""
    primary: Any = OmegaConf.load(CONFIGS / f"{task}.yaml")
    defaults = primary.defaults
    names = [str(next(iter(one))) for one in defaults if isinstance(one, DictConfig)]
    found = [name for name in names if "hydra" not in name]
    return found if "corruption" not in cfg else [*found, "corruption"]


def list_keys(task: str, cfg: DictConfig) -> str:
    """One entry per key that its yaml explains: the value in the composed config, and the words beside it."""
    found = _explained(CONFIGS / f"{task}.yaml", cfg, "")
    for group in list_groups(task, cfg):
        if group in KEYS_OF:
            found += _explained(CONFIGS / group / f"{cfg.hydra.runtime.choices[group]}.yaml", cfg[group], f"{group}.")
    return "\n".join(found)


def _explained(path: Path, part: DictConfig, prefix: str) -> list[str]:
    plain = OmegaConf.to_container(part, resolve=False)
    assert isinstance(plain, dict)
    found = []
    for key, words in COMMENTED.findall(path.read_text()):
        value = plain.get(key)
        if key in plain and not isinstance(value, dict):
            found.append(_entry(f"{prefix}{key}={_written(value)}", words))
    return found


def _written(value: Any) -> str:
    """A value as it is given on the command line."""
    if isinstance(value, list | ListConfig):
        return f"[{','.join(map(_written, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _entry(name: str, words: str) -> str:
    """`name` in the left column and the wrapped words in the right one, below it where the name is long."""
    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = textwrap.wrap(words, width - INDENT, break_on_hyphens=False, break_long_words=False) or [""]
    head = f"  {name}"
    if len(head) < INDENT:
        lines[0] = head.ljust(INDENT) + lines[0]
        rest = lines[1:]
        return "\n".join([lines[0].rstrip(), *(" " * INDENT + line for line in rest)])
    return "\n".join([head, *(" " * INDENT + line for line in lines)])
