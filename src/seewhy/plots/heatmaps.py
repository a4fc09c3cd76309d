"""From attribution values to colours: uniform colormaps, scale, overlay, point cloud and mask."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, TypeAlias

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.words import count_noun

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


PREVIEW_SIDE = 256
LOSSLESS = 64
"""Up to this side a preview is stored exactly: artefacts of compression would show, and it is small anyway."""


def to_array(map_or_image: Tensor) -> NDArray[np.floating]:
    """Copy a tensor to an array on the host: float32 as it is, anything else as float64."""
    tensor = map_or_image.detach()
    array: NDArray[np.floating] = (tensor if tensor.dtype == torch.float32 else tensor.double()).cpu().numpy()
    return array


def compute_scale(attribution: Tensor, outlier_percent: float = 2.0) -> float:
    """Compute the absolute value at which colours saturate (the rule of Captum's visualisation).

    With |values| in ascending order, it is the first one whose cumulative sum reaches (1 - outlier_percent / 100) of the
    total: the top `outlier_percent` % of the attribution mass, not of the pixels, lies there or above.

    Args:
        attribution: [height, width].
        outlier_percent: In [0, 100).

    Returns:
        The value; 0.0 for a map that is zero everywhere or not finite.

    Raises:
        UserError: If `outlier_percent` is out of range.
    """
    if not 0 <= outlier_percent < 100:
        raise UserError(
            f"outlier_percent={outlier_percent:g}: set callbacks.figures.outlier_percent from 0 to below 100"
        )
    rising = np.sort(np.abs(to_array(attribution)), axis=None)
    mass = np.cumsum(rising, dtype=np.float64)
    if not mass.size or not np.isfinite(mass[-1]) or mass[-1] == 0:
        return 0.0
    return float(rising[np.searchsorted(mass, (100 - outlier_percent) * mass[-1] / 100)])


def normalise(attribution: Tensor, scale: float, signed: bool) -> NDArray[np.float32]:
    """Divide a map by its scale and clip it.

    Args:
        attribution: [height, width].
        scale: Of `compute_scale`.
        signed: Whether negative values mean something.

    Returns:
        float32 [height, width] in [-1, 1] (signed) or [0, 1]; zeros where `scale` is 0.
    """
    if scale == 0:
        return np.zeros(tuple(attribution.shape), np.float32)
    return np.clip(to_array(attribution) / scale, -1 if signed else 0, 1).astype(np.float32, copy=False)


def clip_positive(attribution: Tensor) -> Tensor:
    """Return max(attribution, 0): the evidence for the target."""
    return attribution.clamp(min=0)


def clip_negative(attribution: Tensor) -> Tensor:
    """Return max(-attribution, 0): the evidence against the target, as positive values."""
    return (-attribution).clamp(min=0)


def to_rgb(image: Tensor) -> NDArray[np.float32]:
    """Turn an image into colours.

    Args:
        image: [3, height, width] in [0, 1].

    Returns:
        float32 [height, width, 3], clipped to [0, 1], with 0 where a value is missing.
    """
    return np.fmin(np.fmax(to_array(image), 0), 1).transpose(1, 2, 0).astype(np.float32, copy=False)


def blend_overlay(
    image: Tensor, normalised: NDArray[np.float32], colour_map: ColourMap, strength: float = 0.7
) -> NDArray[np.float32]:
    """Lay colours over the grey image.

    Grey is the mean of the channels; the opacity of a pixel is strength * |normalised|, so the image shows through
    unchanged where the map is zero. The colour is that of the value or, for a signed map, the full colour of its sign:
    pale colours would hide small values in a white haze.

    Args:
        image: [3, height, width] in [0, 1].
        normalised: [height, width] of `normalise`.
        colour_map: Colours of the values.
        strength: Largest opacity, in [0, 1].

    Returns:
        RGB float32 [height, width, 3] in [0, 1].

    Raises:
        UserError: If `strength` is out of range.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength={strength:g}: set callbacks.figures.strength from 0 to 1")
    red, green, blue = to_rgb(image).transpose(2, 0, 1)
    grey = (red + green + blue) / 3
    opacity = strength * np.abs(normalised)
    tint = colour_map(np.sign(normalised) if colour_map.lowest < 0 else normalised)
    ground = (1 - opacity) * grey
    for channel in range(3):
        tint[..., channel] = ground + opacity * tint[..., channel]
    return tint


CELLS = 32
"""Blocks of a side that the overlay of a fine map is averaged over."""
VISIBLE = 0.25
"""From this share of the scale on a pixel of an overlay has a colour that can be seen."""
FINE = 0.15
"""Below this share of blocks that can be seen from afar a map is fine: its overlay would be a grey photograph."""
SPECKLED = 0.5
"""Above this share of its variance within the blocks a map is fine too: single pixels that differ from their neighbours."""


def choose_block(normalised: NDArray[np.float32]) -> int:
    """Choose over how many pixels the overlay of a map is averaged, so that it can be seen.

    Args:
        normalised: [height, width] of `normalise`.

    Returns:
        The side of a block; 1 where the map is not fine, or so small that its pixels are large.
    """
    block = -(-max(normalised.shape) // CELLS)
    if block < 3:
        return 1
    size = np.abs(normalised).astype(np.float64)
    means = _average_blocks(size, block).repeat(block, 0).repeat(block, 1)[: size.shape[0], : size.shape[1]]
    speckled = np.square(size - means).mean() > SPECKLED * max(size.var(), 1e-9)
    return block if speckled or (np.abs(_average_blocks(normalised, block)) >= VISIBLE).mean() < FINE else 1


def average_fine_map(normalised: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average a fine map over blocks, and scale it anew, so that an overlay shows where it lies.

    The values of a block are averaged with their signs, divided by the scale of the averages (`compute_scale`), and
    interpolated bilinearly between the middles of the blocks.

    Args:
        normalised: [height, width] of `normalise`.

    Returns:
        float32 [height, width] in the same range; the map itself where it is not fine (`choose_block`).
    """
    block = choose_block(normalised)
    means = _average_blocks(normalised, block)
    scale = compute_scale(torch.from_numpy(means)) if block > 1 else 0.0
    if not scale:
        return normalised
    for axis, (length, count) in enumerate(zip(normalised.shape, means.shape, strict=True)):
        place = np.clip((np.arange(length) + 0.5) / block - 0.5, 0, count - 1)
        low = np.minimum(place.astype(int), max(count - 2, 0))
        share = np.expand_dims(place - low, 1 - axis)
        means = (1 - share) * means.take(low, axis) + share * means.take(np.minimum(low + 1, count - 1), axis)
    smooth: NDArray[np.float32] = np.clip(means / scale, -1, 1).astype(np.float32)
    return smooth


def _average_blocks(normalised: NDArray[np.floating], block: int) -> NDArray[np.float64]:
    """Means over squares of `block` pixels; those at the right and lower edge are as large as the map leaves."""
    height, width = normalised.shape
    rows, columns = -(-height // block), -(-width // block)
    padded = np.full((rows * block, columns * block), np.nan)
    padded[:height, :width] = normalised
    means: NDArray[np.float64] = np.nanmean(padded.reshape(rows, block, columns, block), axis=(1, 3))
    return means


def paint_overlay_bar(colour_map: ColourMap, size: tuple[int, int], strength: float = 0.7) -> NDArray[np.float32]:
    """Paint the colour bar of an overlay: every colour that a value has over black (left) to white (right).

    Args:
        colour_map: Colours of the values.
        size: (height, width) in pixels; the largest value is at the top.
        strength: Largest opacity, in [0, 1].

    Returns:
        RGB float32 [height, width, 3].
    """
    height, width = size
    values = np.linspace(1, colour_map.lowest, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    ground = torch.linspace(0, 1, width).expand(3, height, width)
    return blend_overlay(ground, values, colour_map, strength)


def describe_flaw(attribution: Tensor) -> str:
    """Say why a map cannot be drawn.

    Args:
        attribution: [height, width].

    Returns:
        That it is zero everywhere, or how many values are NaN or infinite; empty where it can be drawn.
    """
    array = to_array(attribution)
    for name, count in (("NaN", np.isnan(array).sum()), ("infinite", np.isinf(array).sum())):
        if count:
            return f"the map has {count_noun(count, f'{name} value')}"
    return "" if array.any() else "the map is zero everywhere"


def encode_preview(image: Tensor) -> bytes:
    """Encode a small picture of an image as the network saw it: about 12 kB at 224 pixels, 2 kB at 32.

    Args:
        image: float32 [3, height, width] in [0, 1].

    Returns:
        WebP of at most 256 pixels a side.
    """
    picture = Image.fromarray(to_uint8(to_rgb(image)))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="WEBP", lossless=max(picture.size) <= LOSSLESS, quality=82, method=0)
    return content.getvalue()
