"""The journal of a run: one file for each finished batch, from which all tables are made and a run is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seewhy.core.disclosure import mask_values
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder, compute_digest
from seewhy.core.types import Explanation
from seewhy.runs.batch_results import BatchResults
from seewhy.runs.resume_check import identify_run
from seewhy.runs.stored_json import VERSION, parse_form, read_form

FOLDER = "journal"
PLAN = f"{FOLDER}/plan.json"


class Journal:
    """`journal/<number>.json` for each finished batch, and `journal/plan.json`: what the run computes.

    The file of a batch is written last, after its maps and figures, whole or not at all. So a batch is finished or was
    never begun, at whatever moment a run is killed, and the tables of an uninterrupted run, of a resumed one, of several
    processes and of merged shards are made from the same results in the same order.

    Nothing that is read is trusted. An entry says which batch of which run it is and ends with its digest; it holds the
    digests of the maps and pictures of its batch, which are compared once for each object of this class. A batch of which
    anything is missing, damaged, edited or of another form is not finished.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)
        self._run: str | None = None
        self._whole: set[int] = set()
        """Batches whose files were compared with their digests."""

    def begin(self, plan: dict[str, Any] | None) -> None:
        """Delete the entries of an earlier run, and nothing else, and write the plan of this one.

        Args:
            plan: What the run computes, as `seewhy.runs.resume_check` compares it; None for a journal that lasts for one
                loop.
        """
        for number in self.list_numbers():
            self.locate(number).unlink(missing_ok=True)
        if plan is None:
            (self.folder.path / PLAN).unlink(missing_ok=True)
        else:
            self.folder.write_json(PLAN, {"version": VERSION, **plan})
        self.join(plan)

    def join(self, plan: dict[str, Any] | None) -> None:
        """Write and read batches of the run with this plan from now on; nothing is deleted.

        Args:
            plan: What the run computes.
        """
        self._run = identify_run(plan)
        self._whole.clear()

    def read_plan(self) -> dict[str, Any] | None:
        """Read the plan.

        Returns:
            What the run of this folder computes; None where none was begun.

        Raises:
            UserError: It is damaged, of another version of seewhy, or gone while there are batches.
        """
        try:
            plan = read_form(self.folder.path / PLAN, "plan")
        except FileNotFoundError:
            if self.list_numbers():
                folder = self.folder.path / FOLDER
                raise UserError(
                    f"{folder} holds finished batches, but no plan.json that says of what run: begin in a new folder"
                ) from None
            return None
        return {key: value for key, value in plan.items() if key != "version"}

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
        content = {"batch": number, "run": self._identify(), **results.to_plain()}
        line = json.dumps(mask_values(content), separators=(",", ":")).encode()
        self.folder.write_bytes(f"{FOLDER}/{number:08d}.json", line + b"\n" + compute_digest(line).encode() + b"\n")
        self._whole.add(number)

    def read(self, number: int) -> BatchResults | None:
        """Read the results of a batch.

        Args:
            number: Of the batch in the data set.

        Returns:
            The results; None where the batch is not finished.
        """
        try:
            with self.folder.open(f"{FOLDER}/{number:08d}.json") as file:
                content = file.read()
            line, _, digest = content.removesuffix(b"\n").rpartition(b"\n")
            if not line or digest != compute_digest(line).encode():
                return None
            plain = parse_form(line, "entry")
            if (plain["batch"], plain["run"]) != (number, self._identify()):
                return None
            results = BatchResults.from_plain(plain)
        except (OSError, ValueError):
            return None
        if number not in self._whole:
            if any(self.folder.compute_digest(name) != digest for name, digest in results.stored.items()):
                return None
            self._whole.add(number)
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

    def read_batch_sizes(self) -> dict[str, int]:
        """Read the measured bounds that the finished batches were computed with.

        Returns:
            Images in one pass by the kind of pass; the last batch decides.
        """
        sizes: dict[str, int] = {}
        for results in self.read_batches():
            sizes |= results.batch_sizes
        return sizes

    def _identify(self) -> str:
        if self._run is None:
            self._run = identify_run(self.read_plan())
        return self._run


def _count_unread(results: BatchResults) -> int:
    """Images that could not be read: those that were only not explained are among `images` too."""
    paths = {image.path for image in results.images}
    return sum(skipped.path not in paths for skipped in results.skipped)
