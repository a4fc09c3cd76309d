"""What is known about one decision: the image, the prediction, the target and the attribution map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image. `top` lists the five likeliest (class, probability), best first."""

    index: int
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    label: str = ""
    """The true class in words; empty where it is unknown."""
    correct: bool | None = None
    """None where the true class is unknown or unknown to the classifier."""


@dataclass(frozen=True)
class Target:
    """The class that is explained, its probability, and the policy that chose it."""

    index: int
    name: str
    probability: float
    policy: str


@dataclass(frozen=True)
class Explanation:
    """One image with its prediction and one attribution map for one target."""

    name: str
    """Unique in the run and safe as a file name."""
    path: str
    image: Tensor
    """float32 [3, height, width] in [0, 1], as the classifier saw it."""
    prediction: Prediction
    target: Target
    attribution: Tensor
    """float32 [height, width]: larger supports the target more."""
    explainer: str
    """The name of the method, such as `integrated_gradients`."""
    parameters: str
    """The parameters of the method in words, such as `baseline=black, n_steps=50`."""
    signed: bool
    """Whether negative values of the map mean evidence against the target."""
    classifier: str
    """Network and weights in words, such as `mobilenetv3 (shipped: mobilenetv3.safetensors)`."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about this map, such as `completeness_gap_relative` or the `n_steps` used."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured of this map, such as `deletion`."""
    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting this map, such as `completeness gap 12 % is over 5 %`."""

    def figure(self, **style: Any) -> Image:
        """The figure of a run's figures/<image>.png; `style` goes to `seewhy.figures.panel` (colours, strength, shown)."""
        from seewhy.figures import panel
        from seewhy.png import picture

        return picture(panel(self, **style))

    def _repr_png_(self) -> bytes:
        from seewhy.figures import panel
        from seewhy.png import png

        return png(panel(self))
