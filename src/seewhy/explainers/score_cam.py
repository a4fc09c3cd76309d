"""Score-CAM: channels weighted by the score of the image seen through each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.explainers.cam import Cam, CamLayer, enlarge, weighted
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class ScoreCam(Cam):
    """ReLU(sum_k w_k A_k), w = softmax over the channels of f_target(image * H_k), enlarged bilinearly.

    H_k is A_k enlarged bilinearly to the image and stretched to [0, 1]; f is the logit, whose value for the black
    image, subtracted in the paper, cancels in the softmax. Channels that are the same everywhere say nothing about
    positions and weigh 0. `channels=k` takes only the k channels of the largest variance over the positions and
    gives the others weight 0. Never negative; not normalised.
    Wang et al.: Score-CAM, CVPR Workshops 2020; few channels: FasterScore-CAM (Li, 2020).
    """

    channels: int | None = None

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise UserError(f"explainer.channels={self.channels} must be at least 1, or null for all channels")

    def coarse(self, probe: Probe, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        """sum_k w_k A_k; the masked images of all channels and images fill the batches."""
        features = self._features(probe, layer, images)
        pairs = varied_channels(features, self.channels)
        scores = features.new_full(features.shape[:2], -torch.inf)
        for chunk in probe.chunks(len(pairs), gradient=False):
            image, channel = pairs[chunk].unbind(1)
            masks = stretch(enlarge(features[image, channel], images.shape[2:]))
            scores[image, channel] = probe.scores(images[image] * masks[:, None], targets[image])
        return weighted(features, scores.softmax(1).nan_to_num(0.0))

    def _features(self, probe: Probe, layer: CamLayer, images: Images) -> Tensor:
        return probe.in_passes(lambda chunk: layer.features(images[chunk])[:1], len(images), gradient=False)[0]

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One forward and one for each channel that is not constant; None where their number depends on the layer."""
        return None if self.channels is None else (self.channels + 1, 0)


def varied_channels(features: Tensor, most: int | None) -> Tensor:
    """(image, channel) [n, 2] of the `most` channels of each image with the largest variance, none of them constant."""
    flat = features.flatten(2)
    varied = flat.amax(2) > flat.amin(2)
    if most is not None and most < varied.shape[1]:
        strongest = flat.var(2).topk(most, dim=1).indices
        varied &= torch.zeros_like(varied).scatter_(1, strongest, True)
    return varied.nonzero()


def stretch(maps: Tensor) -> Tensor:
    """Each map [n, height, width] moved and scaled so that its values run from 0 to 1; constant maps become 0."""
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = highest - lowest
    return (maps - lowest) / torch.where(spread > 0, spread, 1.0)
