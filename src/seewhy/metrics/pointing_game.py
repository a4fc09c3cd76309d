"""Pointing game: whether the map is largest on the object."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from seewhy.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.evidence import Evidence


class PointingGame(ImageMetric):
    """1 where the largest attribution lies within `tolerance` pixels of the object, 0 where it does not.

    Of several largest pixels, the share that hits: a constant map scores by chance. From 0 to 1, higher is better; the
    column `chance`, the share of the image that counts as a hit, is what a random map scores. The paper allows 15 pixels
    around objects in photographs of their original size. Needs masks (UserError without); NaN for an image with an
    empty mask and where a value of the map is not finite.
    Zhang, Bargal, Lin, Brandt, Shen, Sclaroff: Top-down neural attention by excitation backprop, IJCV 2018.
    """

    higher_is_better = True
    needs_masks = True
    columns = ("chance",)

    def __init__(self, tolerance: float = 0) -> None:
        super().__init__()
        if not tolerance >= 0:
            raise UserError(f"metric.pointing_game.tolerance={tolerance} must be 0 or a number of pixels above")
        self.tolerance = tolerance

    @property
    def variant(self) -> str:
        """What counts as a hit."""
        return f"largest signed attribution within {self.tolerance:g} pixels of the mask; ties: share that hits"

    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """Without any pass."""
        masks, (maps, finite) = evidence.need_masks(self.name), evidence.finite_maps()
        defined = finite & masks.flatten(1).any(1)
        near = torch.stack([self._near(mask) for mask in masks])
        largest = maps == maps.amax((1, 2), keepdim=True)
        hits = (largest & near).double().sum((1, 2)) / largest.double().sum((1, 2))
        return {
            "score": hits.where(defined, torch.nan),
            "chance": near.double().mean((1, 2)).where(masks.flatten(1).any(1), torch.nan),
        }

    def _near(self, mask: Tensor) -> Tensor:
        if not self.tolerance or not bool(mask.any()):
            return mask
        distances = distance_transform_edt((~mask).cpu().numpy())
        return torch.from_numpy(distances <= self.tolerance).to(mask.device)
