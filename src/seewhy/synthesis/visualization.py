"""One class's image on its way from noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

STRIP = (0.01, 0.25, 0.5, 0.75, 1.0)
"""Shares of the steps that the strip shows."""
ANIMATED = 40
"""Frames of the animation."""


class Frame(NamedTuple):
    """The image after a step, and what the classifier says of it."""

    step: int
    pixels: Tensor
    """uint8 [3, size, size]."""
    score: float
    """The class's logit for these pixels, unmoved."""
    probability: float


@dataclass(frozen=True)
class Visualization:
    """The frames of one class, the last one the result."""

    index: int
    name: str
    frames: list[Frame]

    @property
    def strip(self) -> list[Frame]:
        """The frames at the shares of the steps that `STRIP` names."""
        shown = strip_steps(self.frames[-1].step)
        return [frame for frame in self.frames if frame.step in shown]


def strip_steps(steps: int) -> list[int]:
    """The steps of the strip, without repetition: 1, 25, 50, 75 and 100 of 100."""
    return sorted({max(1, round(share * steps)) for share in STRIP})


def frame_steps(steps: int) -> list[int]:
    """The steps after which a frame is kept: those of the strip and about `ANIMATED` more, evenly spaced."""
    every = max(1, -(-steps // ANIMATED))
    return sorted({*strip_steps(steps), *range(every, steps + 1, every)})
