"""The base of callbacks that write files from the journal when the loop ends."""

from __future__ import annotations

import contextlib
import signal

from lightning.pytorch import Callback, Trainer

from seewhy.callbacks.journal_recorder import JournalRecorder, find_recorder
from seewhy.core.files import RunFolder
from seewhy.core.signals import Stop
from seewhy.models.classifier import Classifier

QUICK = 200
"""Batches whose tables are made in the seconds that a scheduler leaves between SIGTERM and SIGKILL."""


class JournalReader(Callback):
    """Calls `write` in the first process when the loop has ended, or with what is finished when it is broken off."""

    folder: RunFolder
    journaling: JournalRecorder | None = None

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Join the journal."""
        self.journaling = find_recorder(trainer, self.folder.path)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Write what the loop gave."""
        if trainer.is_global_zero:
            self.write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Keep what was computed before the error, as far as it can be written."""
        if trainer.is_global_zero and self.journaling is not None and self.journaling.begun:
            with contextlib.suppress(OSError):
                self.journaling.settle()
            if Stop.signum == signal.SIGTERM and len(self.journaling.journal.batches()) > QUICK:
                return
            with contextlib.suppress(OSError):
                self.write(trainer, pl_module)

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Make the files of this callback from the journal."""
        raise NotImplementedError

    @property
    def kept(self) -> JournalRecorder:
        """The callback that keeps the journal, once the loop is set up."""
        assert self.journaling is not None
        return self.journaling
