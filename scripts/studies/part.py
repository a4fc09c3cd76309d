"""One command of a study: what it needs, how it is written on the page and how it is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

FACTS = "_facts"
"""How places of settings end, which may be none."""
PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Part:
    """A command with places in braces for what the user gives (`{cifar10}`) and for folders of earlier parts."""

    name: str
    command: str

    @property
    def places(self) -> tuple[str, ...]:
        """The names in braces."""
        return tuple(dict.fromkeys(PLACE.findall(self.command)))

    @property
    def shown(self) -> str:
        """The command as a page shows it: a place is its name in capitals, no path of this machine."""
        return PLACE.sub(lambda found: found[1].upper(), self.command)

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """The words of the command with every place filled; KeyError for a place without a value.

        A word that is a place of settings (`{..._facts}`) becomes as many words as there are.
        """
        words: list[str] = []
        for word in shlex.split(self.command):
            place = PLACE.fullmatch(word)
            if place and place[1].endswith(FACTS):
                words += shlex.split(values[place[1]])
            else:
                words.append(PLACE.sub(lambda found: values[found[1]], word))
        return words

    @property
    def sweep(self) -> bool:
        """Whether the command is a sweep of several runs."""
        return "-m" in shlex.split(self.command)


@dataclass(frozen=True)
class NotRun:
    """A part that was not run, and what it needs."""

    part: Part
    needs: str
    """In words, such as `CIFAR-10 (give it by cifar10=FOLDER)`."""


@dataclass(frozen=True)
class Study:
    """One study: the name of its experiment and of its page, and its commands in order."""

    name: str
    title: str
    parts: tuple[Part, ...]
    original: Mapping[str, float] = field(default_factory=dict)
    """Numbers that the study itself states, by name."""
