"""From attribution values to colours: scale, normalised values, overlay, point cloud and mask."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.plots.colormaps import ColourMap, to_uint8

REFERENCE = 112
"""The blur of a mask is 2 pixels on an image of 224: this many blurs fit into its side."""
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

    With |values| in rising order, it is the first one whose cumulative sum reaches (1 - outlier_percent / 100) of the
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


def compute_point_cloud(attribution: Tensor, scale: float, threshold: float = 0.0) -> NDArray[np.float32]:
    """Compute max(attribution, 0) / scale, and 0 wherever that is not over a threshold.

    Args:
        attribution: [height, width].
        scale: Of `compute_scale`.
        threshold: In [0, 1).

    Returns:
        float32 [height, width] in [0, 1].

    Raises:
        UserError: If `threshold` is out of range.
    """
    _check_share("threshold", threshold)
    cloud = normalise(attribution, scale, signed=False)
    return np.where(cloud > threshold, cloud, np.float32(0))


def compute_mask(
    attribution: Tensor, scale: float, threshold: float = 0.2, blur: float | None = None
) -> NDArray[np.bool_]:
    """Compute where the blurred point cloud is over a share of its peak.

    The cloud is clipped at `scale` first, so that one outlying pixel does not decide the mask.

    Args:
        attribution: [height, width].
        scale: Of `compute_scale`.
        threshold: Share of the peak, in [0, 1).
        blur: Standard deviation in pixels; None: 2 on an image of 224, in proportion for others, at least 1.

    Returns:
        bool [height, width]; nowhere true if nothing is positive.

    Raises:
        UserError: If `threshold` is out of range.
    """
    _check_share("threshold", threshold)
    cloud = compute_point_cloud(attribution, scale)
    sigma = max(1.0, min(cloud.shape) / REFERENCE) if blur is None else blur
    smooth = gaussian_filter(cloud, sigma) if sigma else cloud
    mask: NDArray[np.bool_] = smooth > threshold * smooth.max()
    return mask


def apply_mask(image: Tensor, mask: NDArray[np.bool_], background: float = 0.1) -> NDArray[np.float32]:
    """Dim an image outside a mask.

    Args:
        image: [3, height, width] in [0, 1].
        mask: bool [height, width].
        background: Brightness outside the mask as a share of the image's, in [0, 1).

    Returns:
        float32 [height, width, 3].

    Raises:
        UserError: If `background` is out of range.
    """
    _check_share("background", background)
    return to_rgb(image) * np.where(mask, np.float32(1), np.float32(background))[..., None]


def _check_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise UserError(f"{name}={share:g} must be from 0 to below 1: it is a share of the largest value")


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
            return f"the map has {count:,} {name} value{'s' if count > 1 else ''}"
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
