"""Attention rollout: which patches the output could have read, through all layers of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from seewhy.errors import UserError
from seewhy.explainers.attention import WatchAttention, check_global, read_out
from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.cam import enlarge
from seewhy.precision import widen
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class AttentionRollout(Explainer):
    """The class token's row of R = B_L ... B_1, B = (mean over heads of A + I), rows scaled to sum 1; enlarged.

    Does not depend on the target: it shows where the network looks, not what for. Without a class token the mean of
    the patches' rows. `discard_ratio` sets that share of each layer's mean attention, its smallest values, to 0. In
    [0, 1]. Incompatible for networks without attention or with attention in windows.
    Abnar, Zuidema: Quantifying attention flow in transformers, ACL 2020.
    """

    discard_ratio: float = 0.0
    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.discard_ratio < 1:
            raise UserError(f"explainer.discard_ratio={self.discard_ratio} must be in [0, 1): a share, such as 0.9")

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        size = (images.shape[2], images.shape[3])

        def one(chunk: Tensor) -> tuple[Tensor]:
            steps = self._steps(probe, images[chunk])
            return (enlarge(read_out(steps, probe.classifier.network, size, self.name), size),)

        return Attributed(probe.in_passes(one, len(images), gradient=False)[0])

    def _steps(self, probe: Probe, images: Images) -> list[Tensor]:
        """B_1 ... B_L [batch, tokens, tokens]."""
        steps: list[Tensor] = []

        def seen(attention: Tensor, place: object) -> None:
            check_global(attention, len(images), steps[0].shape[-1] if steps else None, self.name)
            steps.append(self._step(widen(attention).mean(1)))

        with torch.no_grad(), WatchAttention(seen):
            probe.classifier(images)
        return steps

    def _step(self, attention: Tensor) -> Tensor:
        """B of one layer from its attention [batch, tokens, tokens], averaged over the heads."""
        discarded = int(self.discard_ratio * attention[0].numel())
        if discarded:
            smallest = attention.flatten(1).topk(discarded, dim=1, largest=False).indices
            attention = attention.flatten(1).scatter(1, smallest, 0.0).view_as(attention)
        attention.diagonal(dim1=1, dim2=2).add_(1.0)
        return attention / attention.sum(2, keepdim=True)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward."""
        return 1, 0
