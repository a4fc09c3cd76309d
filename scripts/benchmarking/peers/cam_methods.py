"""pytorch-grad-cam and torchcam: maps of class activation."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarking.peers.captum_methods import mine
from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Subject
from seewhy.explainers.base import Explainer
from seewhy.explainers.cam import EigenCam, GradCam, GradCamPlusPlus, LayerCam, ScoreCam

EARLY = {"efficientnet_lite0": "blocks.2", "squeezenet": "features.2", "vgg16": "features.4"}
"""Layers of few channels for Score-CAM: each costs a pass on both sides."""


def grad_cam(name: str, early: bool = False) -> Call:
    """A class of pytorch_grad_cam, with its own enlargement and normalisation."""

    def maps(subject: Subject) -> Tensor:
        import pytorch_grad_cam as library
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        layer = EARLY.get(subject.classifier.name, subject.layer) if early else subject.layer
        module = subject.plain.network.get_submodule(layer)
        cam_of, grid = getattr(library, name), to_grid(subject.plain.network)
        with contextlib.redirect_stderr(io.StringIO()), cam_of(subject.plain, [module], reshape_transform=grid) as cam:
            wanted = [ClassifierOutputTarget(int(target)) for target in subject.targets]
            return torch.from_numpy(np.asarray(cam(subject.images.clone().requires_grad_(), wanted)))

    return maps


def to_grid(network: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What pytorch_grad_cam asks of the user for a vision transformer of timm: tokens as a map; None for other networks."""
    first = getattr(network, "num_prefix_tokens", None)
    if first is None:
        return None

    def arrange(tokens: Tensor) -> Tensor:
        patches = tokens[:, first:].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        return patches.reshape(*patches.shape[:2], side, side)

    return arrange


def torchcam(name: str, early: bool = False, **options: Any) -> Call:
    """A class of torchcam, enlarged as ours."""

    def maps(subject: Subject) -> Tensor:
        from torchcam import methods

        layer = EARLY.get(subject.classifier.name, subject.layer) if early else subject.layer
        with getattr(methods, name)(subject.plain, f"network.{layer}", **options) as extractor:
            scores = subject.plain(subject.images.clone().requires_grad_())
            (small,) = extractor(subject.targets.tolist(), scores, normalized=False)
        enlarged = functional.interpolate(
            small.detach()[:, None].relu(), tuple(subject.images.shape[2:]), mode="bilinear"
        )
        return enlarged[:, 0]

    return maps


def score_cam(subject: Subject) -> Tensor:
    """Ours on the same layer."""
    layer = EARLY.get(subject.classifier.name, subject.layer)
    return ScoreCam(layer=layer)(subject.classifier, subject.images, subject.targets)


def peers(quick: bool) -> list[Peer]:
    """All of them."""
    stretched = "stretched to [0, 1] by theirs: compared up to factor and offset"
    methods: dict[str, tuple[Explainer, float | None, str]] = {
        "GradCAM": (GradCam(), 2e-2, f"{stretched}, its enlargement is OpenCV's"),
        "LayerCAM": (LayerCam(), 2e-2, stretched),
        "GradCAMPlusPlus": (GradCamPlusPlus(), None, "1e-6 in its denominators: equality is tested on steep logits"),
        "EigenCAM": (EigenCam(), None, "its sign is the decomposition's"),
    }
    found = [
        Peer(
            ours.name,
            "pytorch_grad_cam",
            name,
            mine(ours),
            grad_cam(name),
            tolerance,
            affine=True,
            note=note,
            images=16,
        )
        for name, (ours, tolerance, note) in methods.items()
    ]
    found += [
        Peer(ours.name, "torchcam", name, mine(ours), torchcam(name), 1e-3, images=16)
        for name, ours in {"GradCAM": GradCam(), "LayerCAM": LayerCam()}.items()
    ]
    note = "its softmax and its stretching differ: equality is tested with these changed"
    for library, theirs in (("pytorch_grad_cam", grad_cam("ScoreCAM", True)), ("torchcam", torchcam("ScoreCAM", True))):
        found.append(Peer("score_cam", library, "ScoreCAM", score_cam, theirs, note=note, images=1 if quick else 2))
    return found
