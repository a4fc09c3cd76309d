"""Which optimiser and learning-rate schedule a training uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau


@dataclass(frozen=True)
class Optimization:
    """`optimizer` and `schedule` are torch classes with every argument but the parameters (and the number of steps).

    `monitor` is the value that a ReduceLROnPlateau schedule watches.
    """

    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    schedule: Callable[..., Any] | None = None
    monitor: str = "val/loss"

    def configure(self, parameters: Iterable[nn.Parameter], total_steps: int) -> dict[str, Any]:
        """What Lightning's `configure_optimizers` returns."""
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
