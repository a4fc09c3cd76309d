"""What class activation maps share: the layer, its grid of positions, and the way back to the size of the image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.errors import Incompatible
from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.layer_signals import activation, activation_and_gradient
from seewhy.models.layers import default_cam_layer
from seewhy.models.positions import as_grid
from seewhy.probe import Probe
from seewhy.types import Attributions, Images, Targets


class CamLayer:
    """The layer that a map is drawn from, with its output as [batch, channels, rows, columns].

    Incompatible where the output has no grid of at least two rows and columns.
    """

    def __init__(self, probe: Probe, images: Images, name: str | None) -> None:
        self.classifier = probe.classifier
        self.name = name or probe.classifier.cam_layer or default_cam_layer(probe.classifier, images[:1])
        self.module: nn.Module = probe.classifier.layer(self.name)

    def features(self, images: Images) -> tuple[Tensor, Tensor]:
        """(activations, logits [batch, classes]), without gradients."""
        features, logits = activation(self.classifier, self.module, images)
        return self._grid(features, images), logits

    def features_and_gradient(self, images: Images, targets: Targets) -> tuple[Tensor, Tensor]:
        """(activations, d logit_target / d activation).

        Incompatible where the class token alone counts behind the layer, so that the patches have no gradient.
        """
        features, gradient = activation_and_gradient(self.classifier, self.module, images, targets)
        grids = self._grid(features, images), self._grid(gradient, images)
        if features.ndim == 3 and bool(gradient.any()) and not bool(grids[1].any()):
            raise Incompatible(
                f"behind layer {self.name!r} only the class token counts, so that the patches have no gradient; set "
                f"explainer.layer={default_cam_layer(self.classifier, images[:1])} or model.cam_layer to it"
            )
        return grids

    def _grid(self, features: Tensor, images: Images) -> Tensor:
        height, width = images.shape[2:]
        grid = as_grid(features, self.classifier.network, (height, width))
        if grid is None or min(grid.shape[2:]) < 2:
            raise Incompatible(
                f"layer {self.name!r} gives {list(features.shape)} for images of {height}x{width} pixels, no grid of "
                f"at least 2x2 positions; set explainer.layer={default_cam_layer(self.classifier, images[:1])} or "
                "model.cam_layer to it"
            )
        return grid


@dataclass(frozen=True, kw_only=True)
class Cam(Explainer):
    """ReLU of a coarse map over the positions of `layer`, enlarged bilinearly; never negative, not normalised.

    `layer=None` is the classifier's `cam_layer`, and where that is None too the last layer with positions. Feature
    maps and tokens will do (class and register tokens are dropped).
    """

    layer: str | None = None
    signed: ClassVar[bool] = False

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        layer = CamLayer(probe, images, self.layer)
        return Attributed(enlarge(self.coarse(probe, layer, images, targets).relu(), images.shape[2:]))

    @abstractmethod
    def coarse(self, probe: Probe, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        """The map [batch, rows, columns] before the ReLU."""


@dataclass(frozen=True, kw_only=True)
class GradientCam(Cam):
    """Class activation maps from the activations of a layer and their gradient: one pass each way."""

    def coarse(self, probe: Probe, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        """The combination of activations and gradient, batch by batch."""

        def one(chunk: Tensor) -> tuple[Tensor]:
            return (self.combine(*layer.features_and_gradient(images[chunk], targets[chunk])),)

        return probe.in_passes(one, len(images), gradient=True)[0]

    @abstractmethod
    def combine(self, features: Tensor, gradient: Tensor) -> Tensor:
        """Activations and gradient [batch, channels, rows, columns] -> map [batch, rows, columns] before the ReLU."""

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1


def weighted(features: Tensor, weights: Tensor) -> Tensor:
    """Sum over channels of weights [batch, channels] times features: [batch, rows, columns]."""
    return torch.einsum("bkij,bk->bij", features, weights)


def enlarge(maps: Tensor, size: torch.Size | tuple[int, int]) -> Attributions:
    """Bilinear enlargement of maps [batch, rows, columns] to `size`."""
    return functional.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
