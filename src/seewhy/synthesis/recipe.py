"""How an image is made to raise the score of a class: two published ways and every number in between."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from seewhy.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides an image beside the network, the class and the seed."""

    parametrization: str
    """`fourier` (Adam on the spectrum) or `pixels` (normalised gradient steps on the pixels)."""
    steps: int
    rate: float
    """Adam's learning rate, or the L2 length of a step in pixels normalised as usual for ImageNet."""
    l2: float
    """Weight of the squared L2 norm of the normalised image, which is taken from the score."""
    jitter: int
    """Most pixels by which an image of 224 pixels is rolled in each step; in proportion at other sizes."""
    rotation: float = 0.0
    """Most degrees by which it is turned."""
    scale: float = 1.0
    """Most by which it is magnified, and the inverse by which it is reduced."""
    blur: float = 0.0
    """Standard deviation in pixels of the blur of `pixels`; 0: none."""
    blur_every: int = 10
    decay: float = 1.0
    """Exponent of the frequency by which `fourier` divides its spectrum."""
    contrast: float = 1.2
    """Bound on the standard deviation of `fourier` before the sigmoid; 1.6 in ImageNet photographs."""
    saturation: float = 1.0
    """Bound on the colours of `fourier` relative to its brightness; 1 in photographs."""

    def __post_init__(self) -> None:
        if self.parametrization not in ("fourier", "pixels"):
            raise UserError(f"synthesis.parametrization={self.parametrization!r} is neither fourier nor pixels")
        for key, least in (("steps", 1), ("jitter", 0), ("blur_every", 1), ("scale", 1), ("l2", 0), ("rotation", 0)):
            if not getattr(self, key) >= least:
                raise UserError(f"synthesis.{key}={getattr(self, key)} must be at least {least}")
        for key in ("rate", "contrast", "saturation"):
            if not getattr(self, key) > 0:
                raise UserError(f"synthesis.{key}={getattr(self, key):g} must be positive")
        if not self.blur >= 0:
            raise UserError(f"synthesis.blur={self.blur:g} must be 0 or more pixels")


VARIANTS = {
    "fourier": Recipe(
        parametrization="fourier", steps=128, rate=0.05, l2=0.0, jitter=24, rotation=15, scale=1.3, decay=1.2
    ),
    "cs231n": Recipe(parametrization="pixels", steps=100, rate=25.0, l2=1e-3, jitter=16, blur=0.5, blur_every=10),
}
"""`fourier`: Olah et al. 2017. `cs231n`: the exercise of the Stanford course, after Simonyan et al. 2014."""


def recipe_of(variant: str, changes: dict[str, Any]) -> Recipe:
    """The recipe of a variant with every given value replaced that is not None."""
    if variant not in VARIANTS:
        raise UserError(f"synthesis.variant={variant!r} is none of {', '.join(VARIANTS)}")
    return dataclasses.replace(VARIANTS[variant], **{key: one for key, one in changes.items() if one is not None})
