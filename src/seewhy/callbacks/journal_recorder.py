"""What callbacks share whose files are made from the journal.

Keep what each batch of the test loop gave, and leave out what was kept before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.core.errors import UserError
from seewhy.core.signals import install_handlers
from seewhy.core.types import Batch
from seewhy.data.loading import WholeBatches, partition
from seewhy.models.classifier import Classifier
from seewhy.runs.batch_results import BatchResults, collect_batch_results
from seewhy.runs.journal import Journal
from seewhy.runs.resume_check import check_same_plan
from seewhy.runs.shard import Shard
from seewhy.runs.totals import Totals


class JournalRecorder(Callback):
    """Writes the journal entry of each batch; comes last, so that all other work on the batch is done.

    `config` are the decisive keys of a run that can be taken up again: its finished batches are left out of the loop,
    and a folder that holds another run is refused. None: the journal only lasts for this loop.
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
        self.images = self.done = 0
        """Images of this run or shard, and those among them that were finished before it began."""
        self.batches: list[list[int]] = []
        self.numbers: list[int] | None = None
        """Of the batches in this process; None: all, in order."""
        self.begun = False
        """Whether the journal in the folder is that of this run."""
        self.waiting: deque[tuple[int, BatchResults, Sequence[Future[Any]]]] = deque()
        """Batches that are done but for their figures."""
        self._totals: Totals | None = None

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Choose the batches of this process before any is read."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "test":
            self.journal.begin({})
            return
        self._totals = None
        if data is None:
            self.journal.begin({})
            self.begun = True
            return
        loader = data.test_dataloader()
        whole = [type(part).__name__ for part in trainer.callbacks if getattr(part, "whole_run", False)]  # type: ignore[attr-defined]
        if whole and (trainer.world_size > 1 or self.shard.total > 1):
            raise UserError(
                f"{', '.join(whole)} needs every image in one process: leave out shard= and set trainer.devices=1"
            )
        self.batches = partition(loader) if self.config is not None and not whole else partition(loader, None)
        chosen = self.shard.part(range(len(self.batches)))
        finished = self._begin(self._plan(trainer, pl_module, loader), whole, trainer.is_global_zero)
        self.begun = True
        self.images = sum(len(self.batches[number]) for number in chosen)
        self.done = sum(len(self.batches[number]) for number in finished)
        left = [number for number in chosen if number not in finished]
        self.numbers = left[trainer.global_rank :: trainer.world_size]
        cut = [self.batches[number] for number in self.numbers]
        data.test_dataloader = lambda: WholeBatches(loader, cut)

    def _plan(self, trainer: Trainer, classifier: Classifier, loader: Any) -> dict[str, Any]:
        known = getattr(loader.dataset, "fingerprint", dict)
        return {
            "config": dict(self.config or {}),
            "overrides": self.overrides,
            "weights": classifier.weights_sha256,
            "device": trainer.strategy.root_device.type,
            "images": len(loader.dataset),
            "batches": len(self.batches),
            "data": known() if self.config is not None else {},
            "shard": str(self.shard),
        }

    def _begin(self, plan: dict[str, Any], whole: list[str], first: bool) -> set[int]:
        """The numbers of the batches that need not be computed again; a new journal where there are none."""
        before = self.journal.plan() if self.config is not None and not whole else None
        finished = set(self.journal.finished()) if before else set()
        if before and finished:
            check_same_plan(before, plan, str(self.journal.folder.path))
        elif first:
            self.journal.begin(plan)
        return finished

    def on_test_start(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Lightning has put its own handlers of signals in the place of ours by now."""
        install_handlers(getattr(trainer.strategy, "launcher", None))

    def first(self, batch_idx: int, size: int) -> int:
        """The position in the data set of the first image of a batch of this loop."""
        if self.numbers is None:
            return batch_idx * size
        return self.batches[self.numbers[batch_idx]][0]

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *place: int,
    ) -> None:
        """Keep the batch, which is finished from there on; one whose figures are still being drawn waits for them."""
        if self.numbers is not None and batch_idx >= len(self.numbers):
            return
        number = batch_idx if self.numbers is None else self.numbers[batch_idx]
        self.waiting.append((number, collect_batch_results(pl_module, outputs, batch), outputs.get("pending", [])))
        while self.waiting and all(one.done() for one in self.waiting[0][2]):
            self._keep(*self.waiting.popleft())

    def settle(self) -> None:
        """Keep the batches whose figures were still being drawn."""
        while self.waiting:
            wait(self.waiting[0][2])
            self._keep(*self.waiting.popleft())

    def _keep(self, number: int, entry: BatchResults, pending: Sequence[Future[Any]]) -> None:
        if not any(one.cancelled() or one.exception() for one in pending):
            self.journal.write(number, entry)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Wait for the figures and the other processes, so that the tables hold the batches of all."""
        self.settle()
        trainer.strategy.barrier("journal")
        for name, value in self.totals().logged().items():
            pl_module.log(name, value, sync_dist=trainer.world_size > 1)

    def totals(self) -> Totals:
        """Of all finished images; read once when the loop has ended."""
        self._totals = self._totals or Totals.of(self.journal)
        return self._totals

    def teardown(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Give the data module its own loader back."""
        vars(trainer.datamodule or self).pop("test_dataloader", None)  # type: ignore[attr-defined]


def find_recorder(trainer: Trainer, folder: Path) -> JournalRecorder:
    """The callback of this trainer that keeps the journal; added at the end where there is none yet."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = next((part for part in callbacks if isinstance(part, JournalRecorder)), None)
    if found is None:
        found = JournalRecorder(str(folder))
        callbacks.append(found)
    return found
