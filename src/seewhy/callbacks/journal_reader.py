"""The bases of callbacks that use the journal: during the loop, and when it ends."""

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
