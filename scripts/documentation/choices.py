"""A choice of a config group as the documentation shows it: its yaml, the class that it names, and what both say."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from seewhy.core.settings import describe, list_settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CONFIGS = ROOT / "configs"
HIDDEN = ("seed", "probe_batch_size")
"""Keys that every method has, and that stand in the settings of the task."""
PAPER = re.compile(
    r"(?!Facts?:|Columns:)[A-ZÀ-Ž][\w'-]+((, [A-ZÀ-Ž][\w'-]+)*| et al\.): .*\d{4}( \([^)]*\))?[.:;]", re.DOTALL
)


@dataclass(frozen=True)
class Setting:
    """A key of a yaml file."""

    key: str
    value: Any
    comment: str
    """The words behind it in the yaml or, where there are none, those of the docstring."""
    takes: str
    """What it may be, as an error message would say; empty where no class declares it."""


@dataclass(frozen=True)
class Choice:
    """One yaml file of a group.

    Args:
        path: The file.
        wrapped: Whether its settings stand below a key with the name of the choice, as for metrics.
    """

    path: Path
    wrapped: bool = False

    @property
    def name(self) -> str:
        """What is written on the command line."""
        return self.path.stem

    @cached_property
    def text(self) -> str:
        """The text of the file, without the key that wraps it."""
        text = self.path.read_text()
        if not self.wrapped:
            return text
        return re.sub(r"^  ", "", re.sub(rf"^{self.name}:\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)

    @property
    def summary(self) -> str:
        """The first comment, which --help shows."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("# "))
        return " ".join(lines)

    @cached_property
    def values(self) -> dict[str, Any]:
        """What the yaml sets."""
        return yaml.safe_load(self.text) or {}

    @property
    def digest(self) -> str:
        """Changes with what the yaml sets, not with its comments."""
        return hashlib.sha256(repr(self.values).encode()).hexdigest()[:12]

    @cached_property
    def target(self) -> Any:
        """The class or function; None where the yaml names none, or one of a library that is not installed."""
        module, _, name = self.values.get("_target_", "").rpartition(".")
        if not module:
            return None
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            return None

    @cached_property
    def instance(self) -> Any:
        """The object with the settings of the yaml."""
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        task = {"seed": 0, "probe_batch_size": "auto", "choice": self.values}
        return instantiate(OmegaConf.create(task).choice, _convert_="object")

    @cached_property
    def formula(self) -> str:
        """The first paragraph of the docstring."""
        return " ".join(self._paragraphs[0].split())

    @cached_property
    def body(self) -> str:
        """The other paragraphs, without sections and without papers."""
        text = "\n\n".join(self._paragraphs[1:])
        return text.replace(self._paper_text, "").strip()

    @property
    def paper(self) -> str:
        """The papers that the docstring ends with; empty where it names none."""
        return " ".join(self._paper_text.split())

    @cached_property
    def _paper_text(self) -> str:
        lines = "\n\n".join(self._paragraphs[1:]).splitlines()
        for start in range(len(lines)):
            tail = "\n".join(lines[start:])
            if PAPER.match(tail):
                return tail
        return ""

    @cached_property
    def _paragraphs(self) -> list[str]:
        docstring = re.split(r"\n\n(?:Args|Attributes|Raises|Returns):\n", inspect.getdoc(self.target) or "")[0]
        return docstring.split("\n\n")

    @cached_property
    def settings(self) -> list[Setting]:
        """Each key of the yaml beside `_target_`, with what is said of it."""
        declared = list_settings(self.target) if self.target and _is_own(self.target) else {}
        described = _read_arguments(self.target) if self.target and _is_own(self.target) else {}
        found = []
        for key, value in self.values.items():
            if key in ("_target_", "defaults") or (key in HIDDEN and str(value).startswith("${")):
                continue
            match = re.search(rf"^{key}:[^#\n]*?(?:  +# (.+))?$", self.text, re.MULTILINE)
            comment = (match and match.group(1)) or described.get(key, "")
            takes = describe(declared[key]) if key in declared and declared[key] is not Any else ""
            found.append(Setting(key, value, comment, takes))
        return found


def _is_own(target: Any) -> bool:
    return target.__module__.startswith("seewhy")


def _read_arguments(target: Any) -> dict[str, str]:
    """{argument: its words} of the docstrings of a class and its bases."""
    words: dict[str, str] = {}
    for owner in reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]:
        sections = re.split(r"^Args:\n", inspect.cleandoc(owner.__doc__ or ""), flags=re.MULTILINE)[1:]
        for section in sections:
            section = section.split("\n\n")[0]
            for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
                words[name] = " ".join(text.split())
    return words


def list_choices(group: str) -> list[Choice]:
    """List the choices of a group, sorted by name.

    Args:
        group: A folder of configs.

    Returns:
        Those whose yaml names a class; of metrics without `all`, which names the others.
    """
    paths = sorted((CONFIGS / group).glob("*.yaml"))
    choices = [Choice(path, wrapped=group == "metric") for path in paths]
    return (
        [choice for choice in choices if "_target_" in choice.values] if group in ("explainer", "metric") else choices
    )
