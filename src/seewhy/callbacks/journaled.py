"""What callbacks share whose files are made from the journal."""

from __future__ import annotations

import contextlib
import signal

from lightning.pytorch import Callback, Trainer

from seewhy.callbacks.journaling import Journaling, journaling
from seewhy.classifier import Classifier
from seewhy.interrupt import Stop
from seewhy.run_folder import RunFolder

QUICK = 200
"""Batches whose tables are made in the seconds that a scheduler leaves between SIGTERM and SIGKILL."""


class Journaled(Callback):
    """Calls `write` in the first process when the loop has ended, or with what is finished when it is broken off."""

    folder: RunFolder
    journaling: Journaling | None = None

    def setup(self, trainer: Trainer, pl_module: Classifier, stage: str) -> None:  # type: ignore[override]
        """Join the journal."""
        self.journaling = journaling(trainer, self.folder.path)

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
    def kept(self) -> Journaling:
        """The callback that keeps the journal, once the loop is set up."""
        assert self.journaling is not None
        return self.journaling
