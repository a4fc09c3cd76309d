"""Pictures seen through a map: its positive values, the image where it is large, and what is enough for the prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation
from seewhy.plots.heatmaps import normalise, to_rgb
from seewhy.statistics.conformal import SIZES

REFERENCE = 112
"""The blur of a mask is 2 pixels on an image of 224: this many blurs fit into its side."""

FINE = 336
"""Pixels of the longer side up to which a picture is enlarged before a border is drawn in it."""


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


def find_sufficient_region(explanation: Explanation) -> NDArray[np.bool_] | None:
    """Find the pixels of an image that are enough for its prediction, where the metric `sufficient_region` was measured.

    Args:
        explanation: With the size of the region among its metrics.

    Returns:
        bool [height, width]; None where it was not measured, is nothing or everything, or where pixels inside and outside
        have the same attribution, so that their order is chance.
    """
    share, values = explanation.metrics.get(SIZES, np.nan), explanation.attribution.flatten()
    count = round(share * len(values)) if np.isfinite(share) else 0
    if not 0 < count < len(values):
        return None
    ordered, order = values.sort(descending=True, stable=True)
    if bool(ordered[count - 1] == ordered[count]):
        return None
    region = np.zeros(len(values), dtype=bool)
    region[order[:count].numpy()] = True
    return region.reshape(explanation.attribution.shape)


def outline_region(picture: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Draw the border of a region: its pixels that touch the rest, white where the picture is dark and black where light.

    Args:
        picture: RGB [height, width, 3] in [0, 1].
        region: bool [height, width].

    Returns:
        The picture with the border; a small one enlarged by a whole factor, so that the border does not hide what it
        surrounds.
    """
    factor = max(1, FINE // max(region.shape))
    picture = picture.repeat(factor, 0).repeat(factor, 1)
    region = region.repeat(factor, 0).repeat(factor, 1)
    around = np.pad(region, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    border, drawn = region & ~inner, picture.copy()
    drawn[border] = np.where(picture[border].mean(-1, keepdims=True) < 0.5, 1, 0)
    return drawn
