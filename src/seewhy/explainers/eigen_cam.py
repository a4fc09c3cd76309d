"""Eigen-CAM: the strongest pattern in the activations of a layer, whatever the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seewhy.explainers.cam import Cam, CamLayer
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class EigenCam(Cam):
    """ReLU(A v), v = first principal component of the activations A [positions, channels], enlarged bilinearly.

    Does not depend on the target. A has each channel's mean over the positions taken off first, which suits layers
    with negative activations too; `centred=false` takes the singular vector of A as it is, as in the paper. The sign
    of v is the one for which A v and the activations' mean over the channels have an inner product >= 0: with ReLU'd
    activations and `centred=false`, A v then has no negative value. Never negative; not normalised.
    Muhammad, Yeasin: Eigen-CAM, IJCNN 2020.
    """

    centred: bool = True

    def coarse(self, probe: Probe, layer: CamLayer, images: Images, targets: Targets) -> Tensor:
        """A v for each image."""

        def one(chunk: Tensor) -> tuple[Tensor]:
            features, _ = layer.features(images[chunk])
            flat = features.flatten(2).transpose(1, 2)
            return (first_component(flat, self.centred).unflatten(1, features.shape[2:]),)

        return probe.in_passes(one, len(images), gradient=False)[0]

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward."""
        return 1, 0


def first_component(activations: Tensor, centred: bool) -> Tensor:
    """Activations [batch, positions, channels] projected on their first right singular vector: [batch, positions].

    From the eigenvectors of the smaller of A A' and A' A, in double precision.
    """
    values = activations.double()
    means = values.mean(2)
    if centred:
        values = values - values.mean(1, keepdim=True)
    if values.shape[1] <= values.shape[2]:
        eigenvalues, vectors = torch.linalg.eigh(values @ values.mT)
        projected = vectors[..., -1] * eigenvalues[:, -1:].clamp_min(0).sqrt()
    else:
        vectors = torch.linalg.eigh(values.mT @ values).eigenvectors
        projected = (values @ vectors[..., -1:])[..., 0]
    alike = (projected * means).sum(1, keepdim=True)
    return torch.where(alike < 0, -projected, projected).to(activations)
