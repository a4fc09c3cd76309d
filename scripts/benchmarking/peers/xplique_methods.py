"""xplique with its wrapper of networks in torch: TensorFlow around the same passes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarking.peers.captum_methods import OWN_NUMBERS, mine
from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Subject
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.noise_tunnel import SmoothGrad
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.rise import Rise

LIBRARY = "xplique"


def call(name: str, **options: Any) -> Call:
    """A class of xplique.attributions, with its own batch size and what `options` say."""

    def maps(subject: Subject) -> Tensor:
        from xplique import attributions
        from xplique.wrappers import TorchWrapper

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = TorchWrapper(subject.plain, subject.device)
            classes = len(subject.classifier.facts.classes)
            wanted = functional.one_hot(subject.targets, classes).float().cpu().numpy()
            pictures = subject.images.permute(0, 2, 3, 1).cpu().numpy()
            found = getattr(attributions, name)(wrapped, **options).explain(pictures, wanted)
        return torch.from_numpy(found.numpy())[..., 0]

    return maps


def peers(quick: bool, size: int) -> list[Peer]:
    """All of them."""
    steps, samples, masks = (12, 12, 48) if quick else (50, 20, 400)
    side = size // 8  # of windows that cover the image exactly: ours add one at a border that is left over
    rows: list[tuple[Any, str, dict[str, Any], float | None, int]] = [
        (Saliency(), "Saliency", {}, 1e-3, 16),
        (InputXGradient(), "GradientInput", {"reducer": "sum"}, 1e-3, 16),
        (IntegratedGradients(n_steps=steps, rule="trapezoid"), "IntegratedGradients",
         {"steps": steps, "reducer": "sum"}, 5e-3, 4),
        (SmoothGrad(n_samples=samples), "SmoothGrad", {"nb_samples": samples}, None, 2),
        (Occlusion(window=side, stride=side), "Occlusion", {"patch_size": side, "patch_stride": side}, 1e-3, 2),
        (Rise(n_masks=masks), "Rise", {"nb_samples": masks}, None, 1),
    ]  # fmt: skip
    return [
        Peer(ours.name, LIBRARY, name, mine(ours), call(name, **options), tolerance, images=images,
             note="" if tolerance else OWN_NUMBERS.split(":")[0])
        for ours, name, options, tolerance, images in rows
    ]  # fmt: skip
