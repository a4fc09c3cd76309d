"""The optimiser and the learning-rate schedule of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau


@dataclass(frozen=True)
class Optimization:
    """An optimiser and a learning-rate schedule, as a config describes them.

    Args:
        optimizer: Builds the optimiser from the parameters: a class of torch with every other argument.
        schedule: Builds the schedule from the optimiser (and `total_steps` where it is OneCycleLR); None for a
            constant rate.
        monitor: The logged value that a ReduceLROnPlateau schedule watches.
    """

    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    schedule: Callable[..., Any] | None = None
    monitor: str = "val/loss"

    def configure(self, parameters: Iterable[nn.Parameter], total_steps: int) -> dict[str, Any]:
        """Build both for Lightning.

        Args:
            parameters: The parameters of the network.
            total_steps: Number of optimiser steps of the training.

        Returns:
            What `LightningModule.configure_optimizers` returns.
        """
        optimizer = self.optimizer(parameters)
        if self.schedule is None:
            return {"optimizer": optimizer}
        kind = getattr(self.schedule, "func", self.schedule)
        if kind is OneCycleLR:
            schedule = {"scheduler": self.schedule(optimizer, total_steps=total_steps), "interval": "step"}
        else:
            schedule = {"scheduler": self.schedule(optimizer), "interval": "epoch"}
            if kind is ReduceLROnPlateau:
                schedule["monitor"] = self.monitor
        return {"optimizer": optimizer, "lr_scheduler": schedule}
