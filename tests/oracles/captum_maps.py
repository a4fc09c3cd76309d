"""What captum makes of the same images, in the conventions of our maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from oracles.cam_maps import place
from oracles.networks import Case
from seewhy.core.random import seed_generator
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.superpixels import segment_images

Maps = Callable[[Case], Tensor]


def captum() -> Any:
    import captum.attr

    return captum.attr


def gradients(name: str, reduce: Callable[[Tensor], Tensor], **options: Any) -> Maps:
    """A gradient method of captum by name."""

    def maps(case: Case) -> Tensor:
        method = getattr(captum(), name)(case.plain)
        return reduce(method.attribute(case.images.clone().requires_grad_(), target=case.targets, **options))

    return maps


def rectified(name: str) -> Maps:
    """Guided backprop or deconvolution: its ReLU is the module nn.ReLU."""

    def maps(case: Case) -> Tensor:
        with quiet():
            found = getattr(captum(), name)(case.rectified).attribute(
                case.images.clone().requires_grad_(), target=case.targets
            )
        return found.sum(1)

    return maps


def noise_tunnel(name: str, kind: str, n_samples: int, noise: float, **options: Any) -> Maps:
    """NoiseTunnel with the noise that belongs to our (seed, image)."""

    def maps(case: Case) -> Tensor:
        drawn = torch.cat([noise_of(image, "noise", n_samples) for image in case.images])
        with patch.object(torch, "normal", lambda mean, deviation: drawn * deviation):
            method = captum().NoiseTunnel(getattr(captum(), name)(case.plain))
            return method.attribute(
                case.images, nt_type=kind, nt_samples=n_samples, stdevs=noise, target=case.targets, **options
            )

    return maps


def noise_of(image: Tensor, purpose: str, n_samples: int) -> Tensor:
    generator = seed_generator(0, image, purpose)
    drawn = [torch.randn(image.shape, generator=generator, dtype=torch.float32) for _ in range(n_samples)]
    return torch.stack(drawn).to(image)


def gradient_shap(explainer: GradientShap) -> Maps:
    def maps(case: Case) -> Tensor:
        count = explainer.n_samples
        drawn = torch.cat([noise_of(image, "gradient_shap noise", count) for image in case.images])
        positions = explainer._draw(case.images, 1)[1].flatten().numpy()
        with (
            patch.object(torch, "normal", lambda mean, deviation: drawn * deviation),
            patch.object(np.random, "uniform", lambda low, high, size: positions),
        ):
            found = (
                captum()
                .GradientShap(case.plain)
                .attribute(
                    case.images,
                    baselines=torch.zeros_like(case.images[:1]),
                    n_samples=count,
                    stdevs=explainer.noise,
                    target=case.targets,
                )
            )
        return found.sum(1)

    return maps


def deep_lift(case: Case) -> Tensor:
    """One image at a time, with a rule for ReLU6, pools that see a copy, and an unpooling that adds up.

    From our baseline `noise`: table.py says why.
    """
    from captum.attr._core import deep_lift as peer

    maps = []
    network = case.copied()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.Sequential(Copy(), child))
    rules = {**peer.SUPPORTED_NON_LINEAR, nn.ReLU6: peer.nonlinear}
    with (
        quiet(),
        patch.object(peer, "SUPPORTED_NON_LINEAR", rules),
        patch.object(functional, "max_unpool2d", adding_unpool),
    ):
        for image, target in zip(case.images, case.targets, strict=True):
            baseline = build_baselines("noise", image[None])
            maps.append(captum().DeepLift(network).attribute(image[None], baseline, int(target)).sum(1))
    return torch.cat(maps).detach()


class Copy(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.clone()


def adding_unpool(values: Tensor, places: Tensor, kernel: Any, stride: Any, padding: Any, shape: list[int]) -> Tensor:
    flat = values.new_zeros(*shape[:2], shape[2] * shape[3])
    return flat.scatter_add_(2, places.flatten(2), values.flatten(2)).view(shape)


def grad_cam(case: Case) -> Tensor:
    layer = case.plain.network.get_submodule(case.layer)
    small = (
        captum()
        .LayerGradCam(case.plain, layer)
        .attribute(case.images.clone().requires_grad_(), target=case.targets, relu_attributions=True)
    )
    return place(small, case)[:, 0]


def guided_grad_cam(case: Case) -> Tensor:
    layer = case.rectified.network.get_submodule(case.layer)
    placing = patch.object(captum().LayerAttribution, "interpolate", lambda small, *size, **mode: place(small, case))
    with quiet(), placing:
        found = (
            captum()
            .GuidedGradCam(case.rectified, layer)
            .attribute(case.images.clone().requires_grad_(), target=case.targets, interpolate_mode="bilinear")
        )
    return found.sum(1)


def lrp_epsilon(epsilon: float) -> Maps:
    """The epsilon rule in every layer: captum's gamma rule leaves biases as they are, ours and zennit's do not."""

    def maps(case: Case) -> Tensor:
        from captum.attr._core import lrp as peer
        from captum.attr._utils.lrp_rules import EpsilonRule

        # its pools divide by z + 1e-9, which counts beside small activations
        exact = partial(EpsilonRule, 1e-30)
        known = dict.fromkeys([*peer.SUPPORTED_LAYERS_WITH_RULES, nn.Flatten], exact)
        for module in case.plain.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.rule = EpsilonRule(epsilon=epsilon)  # type: ignore[assignment]
        normalised = case.plain.normalised(case.images).requires_grad_()
        case.plain.requires_grad_(True)
        with quiet(), patch.object(peer, "SUPPORTED_LAYERS_WITH_RULES", known):
            return captum().LRP(case.plain.network).attribute(normalised, target=case.targets).sum(1)

    return maps


def occlusion(window: int, stride: int) -> Maps:
    def maps(case: Case) -> Tensor:
        with torch.no_grad():
            found = (
                captum()
                .Occlusion(case.plain)
                .attribute(
                    case.images,
                    sliding_window_shapes=(3, window, window),
                    strides=(3, stride, stride),
                    target=case.targets,
                    baselines=0,
                    perturbations_per_eval=8,
                )
            )
        return found[:, 0]

    return maps


def lime(n_segments: int, n_samples: int, kernel_width: float) -> Maps:
    """LimeBase with our superpixels, samples and weights, and scikit-learn's ridge regression."""

    def maps(case: Case) -> Tensor:
        pytest.importorskip("sklearn")
        from captum._utils.models.linear_model import SkLearnRidge

        made = []
        for image, target in zip(case.images, case.targets, strict=True):
            labels = segment_images(image[None], n_segments)[0][0]
            count = int(labels.max()) + 1
            generator = seed_generator(0, image, "lime")
            shown = (torch.rand(n_samples, count, generator=generator, dtype=torch.float32) < 0.5).double()
            shown[0] = 1
            queue: Iterator[Tensor] = iter(shown[:, None])

            def similarity(original: Any, perturbed: Any, row: Tensor, **ignored: Any) -> Tensor:
                distance = 1 - functional.cosine_similarity(row, torch.ones_like(row))
                return torch.exp(-(distance**2) / kernel_width**2).sqrt()

            peer = captum().LimeBase(
                case.plain,
                SkLearnRidge(alpha=1.0),
                similarity,
                lambda *ignored, queue=queue, **options: next(queue),
                perturb_interpretable_space=True,
                from_interp_rep_transform=lambda row, original, labels=labels, **options: original * row[0][labels],
                to_interp_rep_transform=None,
            )
            found = peer.attribute(image[None], target=int(target), n_samples=n_samples, perturbations_per_eval=16)
            made.append(found.flatten()[labels])
        return torch.stack(made)

    return maps


def shapley_values(n_segments: int) -> Maps:
    """All orders of the superpixels: the values that our regression gives where all coalitions are evaluated."""

    def maps(case: Case) -> Tensor:
        made = []
        for image, target in zip(case.images, case.targets, strict=True):
            labels = segment_images(image[None], n_segments)[0][0]
            with torch.no_grad():
                found = (
                    captum()
                    .ShapleyValues(case.plain)
                    .attribute(
                        image[None], feature_mask=labels[None, None], target=int(target), perturbations_per_eval=8
                    )
                )
            made.append(found[0, 0] / torch.bincount(labels.flatten())[labels])
        return torch.stack(made)

    return maps


@contextmanager
def quiet() -> Iterator[None]:
    """Captum announces each hook that it sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
