"""The share of the batches of a run that one of several machines computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from seewhy.core.errors import UserError

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Every total-th batch of a run, so that all shards take about as long.

    Attributes:
        number: Of the shard, from 1.
        total: How many shards the run has.
    """

    number: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Read a shard from a setting.

        Args:
            text: `i/n` with i from 1 to n; None: all of the run.

        Returns:
            The shard.

        Raises:
            UserError: The text has another form.

        >>> Shard.parse("2/3").select("abcdefg")
        ['b', 'e']
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", str(text))
        if not match or int(match[1]) > int(match[2]):
            raise UserError(
                f"shard={text} must be i/n with i from 1 to n, such as shard=2/8 for the second of eight parts"
            )
        return cls(int(match[1]), int(match[2]))

    def select(self, batches: Sequence[Item]) -> list[Item]:
        """Select what belongs to this shard.

        Args:
            batches: All batches of the run.

        Returns:
            Those of the shard, in order.
        """
        return list(batches[self.number - 1 :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"
