"""What a map keeps of its image: its positive points, and the image seen through them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from seewhy.errors import UserError
from seewhy.views import normalise, photograph

REFERENCE = 112
"""The blur is 2 pixels on an image of 224: this many blurs fit into its side."""


def point_cloud(attribution: Tensor, scale: float, threshold: float = 0.0) -> NDArray[np.float32]:
    """max(attribution, 0) / scale in [0, 1], [height, width], and 0 wherever that is not over `threshold`."""
    _check("threshold", threshold)
    share = normalise(attribution, scale, signed=False)
    return np.where(share > threshold, share, np.float32(0))


def binary_mask(
    attribution: Tensor, scale: float, threshold: float = 0.2, blur: float | None = None
) -> NDArray[np.bool_]:
    """[height, width]: where the blurred point cloud is over `threshold` of its peak; nowhere if nothing is positive.

    `blur` is the standard deviation in pixels; None: 2 pixels on an image of 224, in proportion for others, at least 1.
    The cloud is clipped at `scale` first, so that one outlying pixel does not decide the mask.
    """
    _check("threshold", threshold)
    cloud = point_cloud(attribution, scale)
    sigma = max(1.0, min(cloud.shape) / REFERENCE) if blur is None else blur
    smooth = gaussian_filter(cloud, sigma) if sigma else cloud
    kept: NDArray[np.bool_] = smooth > threshold * smooth.max()
    return kept


def masked_photograph(image: Tensor, mask: NDArray[np.bool_], background: float = 0.1) -> NDArray[np.float32]:
    """The image [height, width, 3], as bright as it is inside the mask and dimmed to `background` outside."""
    _check("background", background)
    shown: NDArray[np.float32] = photograph(image) * np.where(mask, 1, background).astype(np.float32)[..., None]
    return shown


def _check(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise UserError(f"{name}={share:g} must be from 0 to below 1: it is a share of the largest value")
