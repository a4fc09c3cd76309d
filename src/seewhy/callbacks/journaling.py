"""Bases of the callbacks that write the results of each batch to the journal and read them when the loop ends."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback, Trainer

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.signals import Stop, install_handlers
from seewhy.core.types import Batch
from seewhy.data.loading import WholeBatches, partition
from seewhy.models.classifier import Classifier
from seewhy.runs.attribution_files import BackgroundWriter, StoredFile
from seewhy.runs.batch_results import BatchResults, collect_batch_results
from seewhy.runs.journal import Journal
from seewhy.runs.resume_check import ChangedRun, Shard, check_same_plan
from seewhy.runs.tables import Totals

Kind = TypeVar("Kind", bound=Callback)


class JournalRecorder(Callback):
    """Writes the journal; comes last, so that all other work on a batch is done.

    Args:
        folder: The run folder.
        config: The decisive keys of a run that can be resumed: its finished batches are left out of the loop, and a
            folder that holds another run is refused. None: the journal only lasts for this loop.
        overrides: Of the command line, to be given again when the run is resumed.
        shard: The batches of this machine; None: all.
    """

    def __init__(
        self,
        folder: str,
        config: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        shard: Shard | None = None,
    ) -> None:
        self.journal = Journal(Path(folder))
        self.config, self.overrides, self.shard = config, list(overrides), shard or Shard()
        self.images = self.finished_images = 0
        """Images of this run or shard, and those among them that were finished before it began."""
        self.batches: list[list[int]] = []
        self.numbers: list[int] | None = None
        """Of the batches in this process; None: all, in order."""
        self.begun = False
        """Whether the journal in the folder is that of this run."""
        self._unwritten: deque[tuple[int, BatchResults, Sequence[Future[StoredFile]]]] = deque()
        """Batches that are done but for their files."""
        self._writer = BackgroundWriter(self.journal.folder)
        self._totals: Totals | None = None

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Choose the batches of this process before any is read."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "test":
            self.journal.begin(None)
            return
        self._totals = None
        if data is None:
            self.journal.begin(None)
            self.begun = True
            return
        loader = data.test_dataloader()
        resumable = self._check_whole_runs(trainer) and self.config is not None
        self.batches = partition(loader) if resumable else partition(loader, None)
        finished = self._begin(self._plan(trainer, pl_module, loader), resumable, trainer.is_global_zero)
        self.begun = True
        if finished:
            pl_module.batch_sizes |= self.journal.read_batch_sizes()
        selected = self.shard.select(range(len(self.batches)))
        self.images = sum(len(self.batches[number]) for number in selected)
        self.finished_images = sum(len(self.batches[number]) for number in finished)
        left = [number for number in selected if number not in finished]
        self.numbers = left[trainer.global_rank :: trainer.world_size]
        cut = [self.batches[number] for number in self.numbers]
        data.test_dataloader = lambda: WholeBatches(loader, cut)

    def _check_whole_runs(self, trainer: Trainer) -> bool:
        """Whether no callback needs all images; UserError where one does and this process does not get them."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        names = [type(callback).__name__ for callback in callbacks if getattr(callback, "whole_run", False)]
        if names and (trainer.world_size > 1 or self.shard.total > 1):
            raise UserError(
                f"{', '.join(names)} needs every image in one process: leave out shard= and set trainer.devices=1"
            )
        return not names

    def _plan(self, trainer: Trainer, classifier: Classifier, loader: Any) -> dict[str, Any]:
        read_fingerprint = getattr(loader.dataset, "fingerprint", dict)
        return {
            "config": dict(self.config or {}),
            "overrides": self.overrides,
            "weights": classifier.weights_sha256,
            **({"code": classifier.code_sha256} if classifier.code_sha256 else {}),
            "device": trainer.strategy.root_device.type,
            "images": len(loader.dataset),
            "batches": len(self.batches),
            "data": read_fingerprint() if self.config is not None else {},
            "shard": str(self.shard),
        }

    def _begin(self, plan: dict[str, Any], resumable: bool, first: bool) -> set[int]:
        """The numbers of the batches that need not be computed again; a new journal where there are none."""
        try:
            before = self.journal.read_plan() if resumable else None
        except UserError as damage:  # the folder keeps its record
            raise ChangedRun(str(damage)) from None
        if before is None:
            (self.journal.begin if first else self.journal.join)(plan)
            return set()
        check_same_plan(before, plan, str(self.journal.folder.path))
        self.journal.join(plan)
        return set(self.journal.count_finished()).intersection(range(len(self.batches)))

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Install the handlers of signals again, as Lightning has replaced them by now."""
        install_handlers(getattr(trainer.strategy, "launcher", None))

    def find_position(self, batch_idx: int, size: int) -> int:
        """Find where in the data set a batch of this loop begins.

        Args:
            batch_idx: Of the batch in this loop; it has at least one image.
            size: Number of its images.

        Returns:
            The position of its first image.
        """
        if self.numbers is None:
            return batch_idx * size
        return self.batches[self.numbers[batch_idx]][0]

    def find_number(self, batch_idx: int) -> int:
        """Find the number in the data set of a batch of this loop.

        Args:
            batch_idx: Of the batch in this loop.

        Returns:
            Its number, which names its files.
        """
        return batch_idx if self.numbers is None else self.numbers[batch_idx]

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *rest: int,
    ) -> None:
        """Write the batch, which is finished from there on; while its files are being written it waits for them."""
        if self.numbers is not None and batch_idx >= len(self.numbers):
            return
        results = collect_batch_results(pl_module, outputs, batch)
        self._unwritten.append((self.find_number(batch_idx), results, outputs.get("pending", [])))
        while self._unwritten and all(future.done() for future in self._unwritten[0][2]):
            self._write(*self._unwritten.popleft())

    def settle(self) -> None:
        """Wait for files that are still being written, and write their batches.

        Raises:
            OSError: An entry could not be written.
        """
        while self._unwritten:
            # the system never tells of a file that was called off before it was begun: `wait` alone would not return
            wait([future for future in self._unwritten[0][2] if not future.done()])
            self._write(*self._unwritten.popleft())
        self._writer.finish()

    def _write(self, number: int, results: BatchResults, pending: Sequence[Future[StoredFile]]) -> None:
        if not any(future.cancelled() or future.exception() for future in pending):
            results.stored.update(future.result() for future in pending)
            self._writer.submit(partial(self.journal.write, number, results))  # a flush takes a while

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Wait for the files and the other processes, so that the tables hold the batches of all."""
        self.settle()
        trainer.strategy.barrier("journal")
        for name, value in self.totals.average_losses().items():
            pl_module.log(name, value, sync_dist=trainer.world_size > 1)

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Write what was finished before the error."""
        with contextlib.suppress(OSError):
            self.settle()

    @property
    def totals(self) -> Totals:
        """Of all finished images; read once when the loop has ended."""
        self._totals = self._totals or Totals.read(self.journal)
        return self._totals

    def teardown(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Give the data module its own loader back."""
        vars(trainer.datamodule or self).pop("test_dataloader", None)  # type: ignore[attr-defined]


def find_callback(trainer: Trainer, kind: type[Kind]) -> Kind | None:
    """Find the first callback of a kind.

    Args:
        trainer: Its callbacks are searched.
        kind: The class.

    Returns:
        The callback; None where there is none.
    """
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]


def find_recorder(trainer: Trainer, folder: Path) -> JournalRecorder:
    """The recorder of a trainer; added at the end of its callbacks where there is none yet."""
    recorder = find_callback(trainer, JournalRecorder)
    if recorder is None:
        recorder = JournalRecorder(str(folder))
        trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
    return recorder


QUICK = 200
"""Batches whose tables are made in the seconds that a scheduler leaves between SIGTERM and SIGKILL."""


class JournalUser(Callback):
    """Finds the recorder of the journal when the loop is set up."""

    folder: RunFolder
    _recorder: JournalRecorder | None = None

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Find the recorder of the journal."""
        self._recorder = find_recorder(trainer, self.folder.path)

    @property
    def recorder(self) -> JournalRecorder:
        """The callback that writes the journal, once the loop is set up."""
        assert self._recorder is not None
        return self._recorder


class FileWriter(JournalUser):
    """Writes files beside the loop; waits for them when it ends, and when it is broken off."""

    writer: BackgroundWriter

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Wait for the files, before anything is made of them."""
        self.writer.finish()

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Finish the files of what was explained before the error."""
        with contextlib.suppress(Exception):
            self.writer.finish()
        super().on_exception(trainer, pl_module, exception)


class JournalReader(JournalUser):
    """Calls `write` in the first process when the loop has ended, or with what is finished when it is broken off."""

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Write the files."""
        if trainer.is_global_zero:
            self.write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Write what was computed before the error, as far as it can be written."""
        if trainer.is_global_zero and self._recorder is not None and self._recorder.begun:
            with contextlib.suppress(OSError):
                self._recorder.settle()
            if Stop.signum == signal.SIGTERM and len(self._recorder.journal.list_numbers()) > QUICK:
                return
            with contextlib.suppress(OSError):
                self.write(trainer, pl_module)

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Write the files of this callback from the journal."""
        raise NotImplementedError
