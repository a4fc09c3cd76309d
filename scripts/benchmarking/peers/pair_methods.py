"""PAIR's saliency: NumPy pictures, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarking.peers.captum_methods import mine
from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Subject
from seewhy.explainers.base import Explainer
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import BlurIg, GuidedIg, IntegratedGradients
from seewhy.explainers.noise_tunnel import SmoothGrad
from seewhy.explainers.xrai import Xrai

Picture = np.ndarray


def model(subject: Subject, target: int) -> Callable[..., dict[str, Any]]:
    """What PAIR calls: pictures [n, height, width, 3] -> the target's logit and its gradient."""

    def predict(pictures: Picture, call_model_args: None = None, expected_keys: Any = None) -> dict[str, Any]:
        leaves = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).to(subject.images).requires_grad_()
        scores = subject.plain(leaves)[:, target]
        (gradient,) = torch.autograd.grad(scores.sum(), leaves)
        return {
            "OUTPUT_LAYER_VALUES": scores.detach().cpu().numpy(),
            "INPUT_OUTPUT_GRADIENTS": gradient.permute(0, 2, 3, 1).cpu().numpy(),
        }

    return predict


def each(mask: Callable[[Picture, Callable[..., Any]], Picture]) -> Call:
    """`mask(picture, model)` for every image."""

    def maps(subject: Subject) -> Tensor:
        made = []
        for image, target in zip(subject.images, subject.targets, strict=True):
            picture = image.permute(1, 2, 0).cpu().numpy()
            made.append(torch.from_numpy(np.ascontiguousarray(mask(picture, model(subject, int(target))))).float())
        return torch.stack(made)

    return maps


def one_by_one(explainer: Explainer) -> Call:
    """Ours with one image a pass, as theirs: a network rounds otherwise in a batch, and gates in it may flip."""
    return lambda subject: torch.cat(
        [
            explainer(subject.classifier, image[None], target[None])
            for image, target in zip(subject.images, subject.targets, strict=True)
        ]
    )


def saliency(picture: Picture, call: Callable[..., Any]) -> Picture:
    """The gradient."""
    from saliency.core.gradients import GradientSaliency

    return np.abs(GradientSaliency().GetMask(picture, call)).max(-1)


def smooth_grad(n_samples: int) -> Callable[..., Picture]:
    """The mean gradient of noisy pictures."""

    def mask(picture: Picture, call: Callable[..., Any]) -> Picture:
        from saliency.core.gradients import GradientSaliency

        found = GradientSaliency().GetSmoothedMask(
            picture, call, stdev_spread=0.15, nsamples=n_samples, magnitude=False
        )
        return np.abs(found).max(-1)

    return mask


def integrated(n_steps: int, batch_size: int) -> Callable[..., Picture]:
    """Integrated gradients from black."""

    def mask(picture: Picture, call: Callable[..., Any]) -> Picture:
        from saliency.core.integrated_gradients import IntegratedGradients as Method

        return Method().GetMask(picture, call, x_steps=n_steps, batch_size=batch_size).sum(-1)

    return mask


def guided(n_steps: int) -> Callable[..., Picture]:
    """Guided integrated gradients."""
    quantile = np.quantile

    def mask(picture: Picture, call: Callable[..., Any]) -> Picture:
        from saliency.core import guided_ig as peer

        def renamed(values: Picture, share: float, interpolation: str) -> Picture:
            return quantile(values, share, method=interpolation)  # NumPy 2.4 has dropped the old name

        with patch.object(peer.np, "quantile", renamed):
            return peer.GuidedIG().GetMask(picture, call, x_steps=n_steps, fraction=0.25, max_dist=0.02).sum(-1)

    return mask


def blurred(n_steps: int) -> Callable[..., Picture]:
    """Integrated gradients along a blur."""

    def mask(picture: Picture, call: Callable[..., Any]) -> Picture:
        from saliency.core.blur_ig import BlurIG

        return BlurIG().GetMask(picture, call, max_sigma=50, steps=n_steps).sum(-1)

    return mask


def regions(n_steps: int, batch_size: int) -> Callable[..., Picture]:
    """XRAI with the segments that ours has too."""

    def mask(picture: Picture, call: Callable[..., Any]) -> Picture:
        from saliency.core.xrai import XRAI, XRAIParameters

        return XRAI().GetMask(picture, call, extra_parameters=XRAIParameters(steps=n_steps), batch_size=batch_size)

    return mask


def peers(best: int, quick: bool) -> list[Peer]:
    """All of them."""
    steps, few = (8, 4) if quick else (50, 20)
    nodes = "as many gradients, other nodes: equality is tested on the same ones"
    rows = [
        (Saliency(), "GradientSaliency", saliency, 1e-3, "", 16),
        (SmoothGrad(n_samples=steps), "SmoothGrad", smooth_grad(steps), None, "random numbers of its own", 2),
        (IntegratedGradients(n_steps=steps), f"batch_size={best}", integrated(steps, best), None, nodes, 2),
        (GuidedIg(n_steps=few), "GuidedIG", guided(few), None, "ours takes both ends of a step", 2),
        (BlurIg(n_steps=few), "BlurIG", blurred(few), None, "its blur takes black for what lies outside", 2),
    ]
    if not quick:
        rows.append((Xrai(n_steps=few), f"XRAI, batch_size={best}", regions(few, best), None, nodes, 1))
    return [
        Peer(
            ours.name,
            "saliency",
            name,
            mine(ours),
            each(mask),
            tolerance,
            note=note,
            check=(one_by_one(ours), each(mask)),
            images=images,
        )
        for ours, name, mask, tolerance, note, images in rows
    ]
