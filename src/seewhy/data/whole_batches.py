"""Some of the batches of a loader, each as it would be without the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from seewhy.types import Batch

LARGEST = 64
"""Images in a batch that is kept as a whole: what an interruption can cost."""


def partition(loader: DataLoader[Any], largest: int | None = LARGEST) -> list[list[int]]:
    """The positions of each batch in the data set, by position alone and never over `largest` images.

    Which images share a batch can decide the last bits of a value, so this is the same for every way to run them.
    """
    batches = [list(batch) for batch in loader.batch_sampler or ()]
    if largest is None or max(map(len, batches), default=0) <= largest:
        return batches
    positions = [position for batch in batches for position in batch]
    return [positions[start : start + largest] for start in range(0, len(positions), largest)]


class WholeBatches:
    """The batches with the given positions, read as `loader` reads them; one empty batch where there are none.

    Not a DataLoader, so that Lightning neither pads it nor deals its images out to processes; an empty batch, so that
    every process goes through every hook.
    """

    def __init__(self, loader: DataLoader[Any], batches: Sequence[list[int]]) -> None:
        self.dataset = loader.dataset
        self.loader: DataLoader[Batch] = DataLoader(
            loader.dataset,
            batch_sampler=list(batches) or [[]],
            num_workers=loader.num_workers if batches else 0,
            collate_fn=loader.collate_fn,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)
