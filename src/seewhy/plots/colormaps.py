"""Colours of pages and of attributions: uniform steps in OKLab, readable with a red-green deficiency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, TypeAlias

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from seewhy.core.errors import UserError

Kind: TypeAlias = Literal["signed", "positive", "negative", "unsigned"]
Colours: TypeAlias = NDArray[np.floating] | NDArray[np.uint8]
"""sRGB [..., 3], in [0, 1] or in 8 bits."""
INK, MUTED, FRAME, GROUND = "#1f1f1f", "#5c5c5c", "#c4c4c4", "#f1f1f1"
RIGHT, WRONG = "#00664f", "#b03400"
ALERT_GROUND, ALERT_EDGE, ALERT_INK = "#fff0d9", "#d98200", "#6b3a00"
NAMES = ("default", "classic")
STEPS = 256

RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

# Ends of the default maps as (lightness, chroma, hue in degrees).
NOTHING = (0.97, 0.0, 0.0)
AGAINST = (0.55, 0.165, 258.0)
FOR = (0.55, 0.165, 40.0)


def to_uint8(colours: Colours) -> NDArray[np.uint8]:
    """Round colours in [0, 1] to 8 bits; leave those in 8 bits as they are."""
    scaled = np.rint(colours * 255) if np.issubdtype(colours.dtype, np.floating) else colours
    return scaled.astype(np.uint8, copy=False)


@dataclass(frozen=True, eq=False)
class ColourMap:
    """Colours of the values from `lowest` to 1.

    Args:
        name: Of the map and the kind of values.
        table: sRGB in [0, 1], [steps, 3], evenly spaced over the values.
        lowest: -1 or 0.
    """

    name: str
    table: NDArray[np.float32]
    lowest: int

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return sRGB float32 [..., 3] in [0, 1] of values [...]."""
        return self.table.take(self._steps(values), axis=0)

    def paint(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return sRGB in 8 bits [..., 3] of values [...]."""
        return self._bytes.take(self._steps(values), axis=0)

    def _steps(self, values: NDArray[np.floating]) -> NDArray[np.intp]:
        share = (np.clip(values, self.lowest, 1) - self.lowest) / (1 - self.lowest)
        steps: NDArray[np.intp] = np.rint(share * (len(self.table) - 1)).astype(np.intp)
        return steps

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return to_uint8(self.table)


@cache
def build_colour_map(name: str, kind: Kind) -> ColourMap:
    """Build the colours of one kind of values.

    `default`: blue (against) - near-white - vermilion (for) with equally light ends, its two arms for the parts, and
    matplotlib's inferno for unsigned maps: laid over photographs its light, saturated peak stays visible on bright and
    on dark ground, which a dark peak does not. `classic`: Captum's red - white - green, Greens, Reds and Blues.

    Args:
        name: default or classic.
        kind: Of values: signed, positive, negative or unsigned.

    Returns:
        The colour map.

    Raises:
        UserError: If there is no such name.
    """
    if name not in NAMES:
        raise UserError(f"no colours are called {name!r}; set callbacks.figures.colours to one of: {', '.join(NAMES)}")
    table = _default(kind) if name == "default" else _classic(kind)
    return ColourMap(f"{name} {kind}", table.astype(np.float32), -1 if kind == "signed" else 0)


def _default(kind: Kind) -> NDArray[np.float64]:
    if kind == "unsigned":
        return _ramp("inferno")
    positive, negative = build_arm(FOR), build_arm(AGAINST)
    if kind == "signed":
        return np.concatenate([negative[::-1], positive[1:]])
    return positive if kind == "positive" else negative


def _classic(kind: Kind) -> NDArray[np.float64]:
    if kind == "signed":
        ramp = LinearSegmentedColormap.from_list("classic", ["red", "white", "green"], 2 * STEPS - 1)
        return np.asarray(ramp(np.linspace(0, 1, 2 * STEPS - 1)))[:, :3]
    return _ramp({"positive": "Greens", "negative": "Reds", "unsigned": "Blues"}[kind])


def _ramp(name: str) -> NDArray[np.float64]:
    return np.asarray(matplotlib.colormaps[name](np.linspace(0, 1, STEPS)))[:, :3]


def build_arm(end: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return sRGB [STEPS, 3] from near-white to `end` (lightness, chroma, hue in degrees), straight in OKLab."""
    stops = np.linspace(0, 1, STEPS)[:, None]
    return convert_oklab_to_srgb((1 - stops) * _cartesian(NOTHING) + stops * _cartesian(end))


def _cartesian(colour: tuple[float, float, float]) -> NDArray[np.float64]:
    lightness, chroma, hue = colour
    return np.array([lightness, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))])


def convert_oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert OKLab to sRGB (Ottosson, A perceptual color space for image processing, 2020).

    Args:
        lab: Lightness in [0, 1], green to red, blue to yellow [..., 3].

    Returns:
        sRGB [..., 3], clipped to [0, 1].
    """
    cones = (lab @ np.linalg.inv(LMS_TO_OKLAB).T) ** 3
    linear = np.clip(cones @ np.linalg.inv(RGB_TO_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
