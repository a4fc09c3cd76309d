"""Captum: as it comes, and with the batch sizes that run fastest."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Subject
from seewhy.explainers.base import Explainer
from seewhy.explainers.cam import GradCam
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop, GuidedGradCam
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.noise_tunnel import NoiseTunnel, SmoothGrad
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.superpixels import segment_images
from seewhy.explainers.surrogates import KernelShap, Lime

LIBRARY = "captum"
TUNNELS = {"smoothgrad": "mean", "smoothgrad_sq": "mean_of_squares", "vargrad": "variance"}
OWN_NUMBERS = "random numbers of its own: equality with ours is tested"


def mine(explainer: Explainer) -> Call:
    """Our explainer on the subject."""
    return lambda subject: explainer(subject.classifier, subject.images, subject.targets)


def largest(values: Tensor) -> Tensor:
    """The largest magnitude over the channels."""
    return values.abs().amax(1).detach()


def total(values: Tensor) -> Tensor:
    """The sum over the channels."""
    return values.sum(1).detach()


def call(make: Callable[[Any, Subject], Any], reduce: Callable[[Tensor], Tensor], **options: Any) -> Call:
    """`attribute` of the method that `make(captum.attr, subject)` builds."""

    def maps(subject: Subject) -> Tensor:
        import captum.attr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = make(captum.attr, subject).attribute(
                subject.images.clone().requires_grad_(), target=subject.targets, **options
            )
        return reduce(found)

    return maps


def one_pass(network: nn.Module) -> list[Peer]:
    """Methods of one pass forwards and backwards: Captum has no batch size for them.

    Its DeepLift is wrong on batches that pass a max pooling, and left out there.
    """
    kinds = {type(module) for module in network.modules()}
    clipped, normalised = nn.ReLU6 in kinds, any(issubclass(kind, nn.LayerNorm) for kind in kinds)
    rewritten = "ReLU6 rewritten as min(ReLU, 6), else it is passed over" if clipped else ""
    multipliers = _peer(DeepLift(), "DeepLift", deep_lift, note="given a rule for ReLU6" if clipped else "")
    if normalised:
        multipliers = replace(
            multipliers, tolerance=None, note="has no rule for attention and layer normalisation: other values"
        )
    return [
        _peer(Saliency(), "Saliency", call(lambda attr, s: attr.Saliency(s.plain), largest)),
        _peer(InputXGradient(), "InputXGradient", call(lambda attr, s: attr.InputXGradient(s.plain), total)),
        _peer(
            GuidedBackprop(),
            "GuidedBackprop",
            call(lambda attr, s: attr.GuidedBackprop(s.rectified), total),
            note=rewritten,
        ),
        _peer(
            Deconvolution(),
            "Deconvolution",
            call(lambda attr, s: attr.Deconvolution(s.rectified), total),
            note=rewritten,
        ),
        *([] if nn.MaxPool2d in kinds else [multipliers]),
        _peer(GradCam(), "LayerGradCam", grad_cam),
        _peer(
            GuidedGradCam(),
            "GuidedGradCam",
            call(
                lambda attr, s: attr.GuidedGradCam(s.rectified, s.rectified.network.get_submodule(s.layer)),
                total,
                interpolate_mode="bilinear",
            ),
            note=rewritten,
        ),
    ]


def _peer(explainer: Explainer, setting: str, theirs: Call, note: str = "") -> Peer:
    return Peer(explainer.name, LIBRARY, f"{setting}, defaults", mine(explainer), theirs, 1e-3, note=note, images=16)


def deep_lift(subject: Subject) -> Tensor:
    """With a rule for ReLU6."""
    from captum.attr._core import deep_lift as peer

    rules = {**peer.SUPPORTED_NON_LINEAR, nn.ReLU6: peer.nonlinear}
    black = torch.zeros_like(subject.images)
    with patch.object(peer, "SUPPORTED_NON_LINEAR", rules):
        return call(lambda attr, s: attr.DeepLift(s.plain), total, baselines=black)(subject)


def grad_cam(subject: Subject) -> Tensor:
    """Enlarged to the image."""
    import captum.attr

    layer = subject.plain.network.get_submodule(subject.layer)
    small = captum.attr.LayerGradCam(subject.plain, layer).attribute(
        subject.images.clone().requires_grad_(), target=subject.targets, relu_attributions=True
    )
    return captum.attr.LayerAttribution.interpolate(small, tuple(subject.images.shape[2:]), "bilinear")[:, 0].detach()


def both(
    explainer: Explainer,
    name: str,
    make: Callable[[Any, Subject], Any],
    at_once: int,
    tuned: dict[str, Any],
    **rest: Any,
) -> list[Peer]:
    """With its defaults, which hold all points of all images at once, and with the fastest batch sizes."""
    options, reduce = rest.pop("options"), rest.pop("reduce", total)
    words = ", ".join(f"{key}={value}" for key, value in tuned.items())
    settings = ((f"{name}, defaults", {}, at_once), (f"{name}, {words}", tuned, 0))
    return [
        Peer(
            explainer.name,
            LIBRARY,
            setting,
            mine(explainer),
            call(make, reduce, **options, **more),
            rest.get("tolerance"),
            at_once=count,
            images=rest.get("images", 2),
            note=rest.get("note", ""),
        )
        for setting, more, count in settings
    ]


def paths(best: int, quick: bool) -> list[Peer]:
    """Methods of many gradients."""
    steps, samples = (12, 12) if quick else (50, 20)
    ig = {"n_steps": steps, "baselines": 0.0}
    found = both(
        IntegratedGradients(n_steps=steps), "IntegratedGradients", lambda attr, s: attr.IntegratedGradients(s.plain),
        steps, {"internal_batch_size": best}, options=ig, tolerance=5e-3,
        images=4, note="ours measures the gap of completeness too: two passes more an image",
    )  # fmt: skip
    found += both(
        SmoothGrad(n_samples=samples), "NoiseTunnel of Saliency", lambda attr, s: attr.NoiseTunnel(attr.Saliency(s.plain)),
        samples, {"nt_samples_batch_size": max(1, best // 2)}, reduce=largest, note=OWN_NUMBERS,
        options={"nt_type": "smoothgrad", "nt_samples": samples, "stdevs": 0.15, "abs": False},
    )  # fmt: skip
    for kind in ("smoothgrad_sq",) if quick else TUNNELS:
        found.append(tunnel(kind, steps, 2 if quick else 10, "defaults", steps * (2 if quick else 10), {}))
        tuned = {"nt_samples_batch_size": 1, "internal_batch_size": best}
        found.append(tunnel(kind, 10, 2 if quick else 4, "in batches of " + str(best), 0, tuned))
    return [*found, shap(samples)]


def tunnel(kind: str, steps: int, samples: int, words: str, at_once: int, tuned: dict[str, Any]) -> Peer:
    """Noisy copies of integrated gradients; with the defaults all points of all copies are in the network at once."""
    options = {"n_steps": steps, "baselines": 0.0, "nt_type": kind, "nt_samples": samples, "stdevs": 0.2, **tuned}
    ours = NoiseTunnel(explainer=IntegratedGradients(n_steps=steps), n_samples=samples, combine=TUNNELS[kind])
    theirs = call(lambda attr, s: attr.NoiseTunnel(attr.IntegratedGradients(s.plain)), total, **options)
    setting = f"NoiseTunnel of IntegratedGradients, {kind}, {steps} x {samples}, {words}"
    return Peer(ours.name, LIBRARY, setting, mine(ours), theirs, at_once=at_once, note=OWN_NUMBERS, images=2)


def shap(samples: int) -> Peer:
    """Captum has no batch size for it."""

    def theirs(subject: Subject) -> Tensor:
        options = {"baselines": torch.zeros_like(subject.images[:1]), "n_samples": samples, "stdevs": 1e-4}
        return call(lambda attr, s: attr.GradientShap(s.plain), total, **options)(subject)

    explainer = GradientShap(n_samples=samples)
    return Peer(
        "gradient_shap", LIBRARY, "GradientShap, defaults", mine(explainer), theirs,
        at_once=samples, note=OWN_NUMBERS, images=2,
    )  # fmt: skip


def regions(best: int, quick: bool, window: int, stride: int) -> list[Peer]:
    """Methods that cover parts of the image."""
    shape = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride), "baselines": 0}
    found = [
        _occlusion(Occlusion(window=window, stride=stride), shape, "perturbations_per_eval=1 (default)", {}),
        _occlusion(
            Occlusion(window=window, stride=stride),
            shape,
            f"perturbations_per_eval={best}",
            {"perturbations_per_eval": best},
        ),
    ]
    samples = 50 if quick else 300
    for explainer, name in ((Lime(n_samples=samples), "Lime"), (KernelShap(n_samples=samples), "KernelShap")):
        for words, per_pass in (("perturbations_per_eval=1 (default)", 1), (f"perturbations_per_eval={best}", best)):
            theirs = superpixels(name, samples, per_pass)
            note = f"{OWN_NUMBERS}; the superpixels are ours and part of its time; {samples} samples"
            found.append(
                Peer(explainer.name, LIBRARY, f"{name}, {words}", mine(explainer), theirs, note=note, images=1)
            )
    return found


def _occlusion(explainer: Occlusion, shape: dict[str, Any], words: str, tuned: dict[str, Any]) -> Peer:
    def theirs(subject: Subject) -> Tensor:
        with torch.no_grad():
            return call(lambda attr, s: attr.Occlusion(s.plain), lambda found: found[:, 0], **shape, **tuned)(subject)

    return Peer("occlusion", LIBRARY, f"Occlusion, {words}", mine(explainer), theirs, 1e-3, images=2)


def superpixels(name: str, samples: int, per_pass: int) -> Call:
    """Lime or KernelShap over our superpixels, one image at a time as Captum asks."""

    def theirs(subject: Subject) -> Tensor:
        import captum.attr

        method, made = getattr(captum.attr, name)(subject.plain), []
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            for image, target in zip(subject.images, subject.targets, strict=True):
                mask = segment_images(image[None], 50)[0][None]
                made.append(
                    method.attribute(
                        image[None], target=int(target), feature_mask=mask, n_samples=samples,
                        perturbations_per_eval=per_pass, baselines=0,
                    )
                )  # fmt: skip
        return torch.cat(made)[:, 0]

    return theirs


def peers(best: int, quick: bool, size: int, network: nn.Module) -> list[Peer]:
    """All of them; `best` is the batch size of the fastest bare pass of the network."""
    window, stride = (size // 4, size // 8) if quick else (max(4, size // 14), max(2, size // 14))
    return [*one_pass(network), *paths(best, quick), *regions(best, quick, window, stride)]
