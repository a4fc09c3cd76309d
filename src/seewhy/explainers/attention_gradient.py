"""Attention weighted by its gradient: which patches the target's score was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from seewhy.explainers.attention import WatchAttention, check_global, read_out
from seewhy.explainers.base import Attributed, Explainer
from seewhy.explainers.cam import enlarge
from seewhy.precision import widen
from seewhy.probe import Probe
from seewhy.types import Images, Targets


@dataclass(frozen=True, kw_only=True)
class AttentionGradient(Explainer):
    """The class token's row of R: R = I, then R += mean over heads of ReLU(d logit / d A * A) R for each layer.

    A is the attention of a layer, in the order of execution. Without a class token the mean of the patches' rows.
    Enlarged bilinearly; never negative, not normalised. Incompatible for networks without attention or with attention
    in windows.
    Chefer, Gur, Wolf: Generic attention-model explainability, ICCV 2021.
    """

    signed: ClassVar[bool] = False

    def _attribute(self, probe: Probe, images: Images, targets: Targets) -> Attributed:
        size = (images.shape[2], images.shape[3])

        def one(chunk: Tensor) -> tuple[Tensor]:
            steps = self._steps(probe, images[chunk], targets[chunk])
            return (enlarge(read_out(steps, probe.classifier.network, size, self.name), size),)

        return Attributed(probe.in_passes(one, len(images), gradient=True)[0])

    def _steps(self, probe: Probe, images: Images, targets: Targets) -> list[Tensor]:
        """I + mean over heads of ReLU(d logit / d A * A) [batch, tokens, tokens] of every layer: R is their product."""
        matrices: list[Tensor] = []
        places: list[Tensor | GradientEdge] = []

        def seen(attention: Tensor, place: Tensor | GradientEdge) -> None:
            check_global(attention, len(images), matrices[0].shape[-1] if matrices else None, self.name)
            matrices.append(attention.detach())
            places.append(place)

        with torch.enable_grad(), WatchAttention(seen):
            score = widen(probe.classifier(images.detach().requires_grad_())).gather(1, targets[:, None]).sum()
        gradients = torch.autograd.grad(score, places, allow_unused=True) if places else ()  # type: ignore[arg-type]
        steps = []
        for attention, gradient in zip(matrices, gradients, strict=True):
            if gradient is not None:
                step = (widen(gradient.view_as(attention)) * widen(attention)).relu().mean(1)
                step.diagonal(dim1=1, dim2=2).add_(1.0)
                steps.append(step)
        return steps

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
