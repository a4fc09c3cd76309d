"""The share of the batches of a run that one of several machines computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from seewhy.core.errors import UserError

Each = TypeVar("Each")


class Shard(NamedTuple):
    """Part `number` of `total`, from 1: every total-th batch, so that all parts take about as long."""

    number: int = 1
    total: int = 1

    @classmethod
    def of(cls, text: str | None) -> Shard:
        """The shard that `i/n` names; all of the run for None. Raises UserError for any other text.

        >>> Shard.of("2/3").part("abcdefg")
        ['b', 'e']
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", str(text))
        if not found or int(found[1]) > int(found[2]):
            raise UserError(
                f"shard={text} must be i/n with i from 1 to n, such as shard=2/8 for the second of eight parts"
            )
        return cls(int(found[1]), int(found[2]))

    def part(self, batches: Sequence[Each]) -> list[Each]:
        """Those of the batches that belong to this shard."""
        return list(batches[self.number - 1 :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"
