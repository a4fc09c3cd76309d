"""What the tables of a run need of one batch, and its form in a file.

The rows that a measured batch adds to the tables of a run.
From what the callbacks made of a batch to its entry in the journal.
The journal of a run: what each finished batch gave, from which all tables are made.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation
from seewhy.runs.batch_results import BatchResults

FOLDER = "journal"
PLAN = f"{FOLDER}/plan.json"


class Journal:
    """One small file for each finished batch, `journal/<number>.json`, and `journal/plan.json`: what is computed.

    The entry of a batch is written last, after its maps and figures, whole or not at all. So a batch is finished or was
    never begun, at whatever moment a run is killed, and the tables of an uninterrupted run, of one that was taken up
    again, of several processes and of merged shards are made from the same entries in the same order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)

    def write(self, batch: int, entry: BatchResults) -> None:
        """Keep a finished batch."""
        self.folder.write_bytes(f"{FOLDER}/{batch:08d}.json", entry.to_bytes())

    def read(self, batch: int) -> BatchResults | None:
        """The entry of a batch; None where there is none, or it or a file that it names is not whole."""
        try:
            entry = BatchResults.of_bytes(self.path(batch).read_bytes())
            if entry is None or any(self._size(name) != size for name, size in entry.stored.items()):
                return None
        except FileNotFoundError:
            return None
        return entry

    def path(self, batch: int) -> Path:
        """Where the entry of a batch lies."""
        return self.folder.path / FOLDER / f"{batch:08d}.json"

    def _size(self, name: str) -> int:
        return (self.folder.path / name).stat().st_size

    def batches(self) -> list[int]:
        """The numbers of the entries, in order."""
        names = (path.name for path in (self.folder.path / FOLDER).glob("*.json"))
        return sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d{8}\.json", name))

    def finished(self) -> dict[int, int]:
        """{number of a finished batch: its images, those that were skipped included}."""
        entries = ((batch, self.read(batch)) for batch in self.batches())
        return {batch: len(entry.images) + _unread(entry) for batch, entry in entries if entry is not None}

    def entries(self) -> Iterator[BatchResults]:
        """What is finished, in the order of the data set, one batch in memory at a time."""
        for batch in self.batches():
            entry = self.read(batch)
            if entry is not None:
                yield entry

    def explanations(self) -> Iterator[Explanation]:
        """All explanations in the order of the data set, without their pictures."""
        for entry in self.entries():
            yield from entry.explanations()

    def plan(self) -> dict[str, Any] | None:
        """What the run of this folder computes; None where none was begun."""
        try:
            found: dict[str, Any] = json.loads((self.folder.path / PLAN).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def begin(self, plan: dict[str, Any]) -> None:
        """Forget what is there, and write down what will be computed."""
        shutil.rmtree(self.folder.path / FOLDER, ignore_errors=True)
        self.folder.write_json(PLAN, plan)


def _unread(entry: BatchResults) -> int:
    """Images that could not be read: those that were seen and only not explained are among `images` too."""
    seen = {image.path for image in entry.images}
    return sum(one.path not in seen for one in entry.skipped)
