"""The journal of a run: one file for each finished batch, from which all tables are made and a run is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation
from seewhy.runs.batch_results import BatchResults

FOLDER = "journal"
PLAN = f"{FOLDER}/plan.json"


class Journal:
    """`journal/<number>.json` for each finished batch, and `journal/plan.json`: what the run computes.

    The file of a batch is written last, after its maps and figures, whole or not at all. So a batch is finished or was
    never begun, at whatever moment a run is killed, and the tables of an uninterrupted run, of a resumed one, of several
    processes and of merged shards are made from the same results in the same order.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)

    def begin(self, plan: dict[str, Any]) -> None:
        """Delete the entries of an earlier run, and nothing else, and write the plan of this one.

        Args:
            plan: What the run computes, as `seewhy.runs.resume_check` compares it.
        """
        for number in self.list_numbers():
            self.locate(number).unlink(missing_ok=True)
        self.folder.write_json(PLAN, plan)

    def read_plan(self) -> dict[str, Any] | None:
        """Read the plan.

        Returns:
            What the run of this folder computes; None where none was begun.
        """
        try:
            plan: dict[str, Any] = json.loads((self.folder.path / PLAN).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return plan

    def locate(self, number: int) -> Path:
        """The file of a batch.

        Args:
            number: Of the batch in the data set.

        Returns:
            Its path, whether the file is there or not.
        """
        return self.folder.path / FOLDER / f"{number:08d}.json"

    def write(self, number: int, results: BatchResults) -> None:
        """Write the results of a finished batch.

        Args:
            number: Of the batch in the data set.
            results: All that the tables take from it.
        """
        self.folder.write_bytes(f"{FOLDER}/{number:08d}.json", results.to_bytes())

    def read(self, number: int) -> BatchResults | None:
        """Read the results of a batch.

        Args:
            number: Of the batch in the data set.

        Returns:
            The results; None where the file of the batch, or a file that it names, is not there or not whole.
        """
        try:
            results = BatchResults.from_bytes(self.locate(number).read_bytes())
            if results is None or any(self._size(name) != size for name, size in results.stored.items()):
                return None
        except FileNotFoundError:
            return None
        return results

    def list_numbers(self) -> list[int]:
        """List the batches that have a file.

        Returns:
            Their numbers in order.
        """
        names = (path.name for path in (self.folder.path / FOLDER).glob("*.json"))
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d{8}\.json", name))

    def count_finished(self) -> dict[int, int]:
        """Count the images of the finished batches.

        Returns:
            Under the number of each finished batch its images, those that were skipped included.
        """
        read = ((number, self.read(number)) for number in self.list_numbers())
        return {number: len(results.images) + _count_unread(results) for number, results in read if results is not None}

    def read_batches(self) -> Iterator[BatchResults]:
        """Read the finished batches in the order of the data set, one in memory at a time.

        Yields:
            The results of each.
        """
        for number in self.list_numbers():
            results = self.read(number)
            if results is not None:
                yield results

    def read_explanations(self) -> Iterator[Explanation]:
        """Read the explanations in the order of the data set.

        Yields:
            Each without its tensors.
        """
        for results in self.read_batches():
            yield from results.explanations

    def _size(self, name: str) -> int:
        return (self.folder.path / name).stat().st_size


def _count_unread(results: BatchResults) -> int:
    """Images that could not be read: those that were only not explained are among `images` too."""
    paths = {image.path for image in results.images}
    return sum(skipped.path not in paths for skipped in results.skipped)
