"""LXT's relevance and torchcam's LeGrad, on torchvision's vit_b_16, for which both are written."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarking.peers.captum_methods import mine
from benchmarking.peers.peer import Peer
from benchmarking.subject import Subject, build
from seewhy.explainers.le_grad import LeGrad
from seewhy.explainers.libra_grad import LibraGrad
from seewhy.explainers.lrp import Lrp

MODEL = "torchvision:vit_b_16"
QUICK = (96, "+model.arguments.image_size=96")
"""The side of the images in a quick run, and what builds the network for it."""


def build_subject(count: int, device: str, quick: bool) -> Subject:
    """`vit_b_16`; torchvision draws its last layer as zeros, under which every map is zero: it gets weights of its own."""
    size, *overrides = QUICK if quick else (None,)
    subject = build(MODEL, count, device, size, *overrides)
    head = subject.classifier.get_submodule("network.heads.head")
    if not head.weight.any():
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.05)
            targets = subject.classifier(subject.images).argmax(1)
        subject = replace(subject, targets=targets)
    return subject


@contextmanager
def patched(gamma: bool) -> Iterator[None]:
    """Torchvision's layers with the rules that LXT gives them, and zennit's hooks where `gamma`; both as before behind it.

    LXT imports language models of transformers 4 before its vision part, which needs none of them.
    """
    spared = "lxt.efficient.models"
    if spared not in sys.modules:
        stand_in = types.ModuleType(spared)
        places = importlib.util.find_spec("lxt").submodule_search_locations  # type: ignore[union-attr]
        stand_in.__path__ = [f"{place}/efficient/models" for place in places or ()]
        stand_in.get_default_map = None  # type: ignore[attr-defined]
        sys.modules[spared] = stand_in
    from lxt.efficient import monkey_patch, monkey_patch_zennit
    from lxt.efficient.models.vit_torch import cp_LRP
    from torchvision.models import vision_transformer
    from zennit.core import BasicHook

    before = {patient: dict(vars(patient)) for patient in (*cp_LRP, BasicHook)}
    try:
        monkey_patch(vision_transformer, cp_LRP)
        if gamma:
            monkey_patch_zennit()
        yield
    finally:
        for patient, attributes in before.items():
            for name in [name for name in vars(patient) if name not in attributes]:
                delattr(patient, name)
            for name in ("forward", "backward"):
                if name in attributes:
                    setattr(patient, name, attributes[name])


def lxt(gamma: bool, normalised: bool = True) -> Any:
    """Input x gradient of the patched network, with zennit's gamma rule in its layers or without it.

    Its input is what the network itself sees, or the image in [0, 1].
    """

    def maps(subject: Subject) -> Tensor:
        images = (subject.plain.normalised(subject.images) if normalised else subject.images.clone()).requires_grad_()
        with patched(gamma), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            composite = _gamma() if gamma else None
            if composite:
                composite.register(subject.plain.network)
            try:
                network = subject.plain.network if normalised else subject.plain
                score = network(images).gather(1, subject.targets[:, None]).sum()
                (found,) = torch.autograd.grad(score, images)
            finally:
                if composite:
                    composite.remove()
        return (found * images.detach()).sum(1)

    return maps


def _gamma() -> Any:
    from zennit.composites import LayerMapComposite
    from zennit.rules import Gamma

    ours = Lrp(rule="cp_lrp")
    return LayerMapComposite([(nn.Conv2d, Gamma(ours.gamma)), (nn.Linear, Gamma(ours.dense_gamma))])


def le_grad(subject: Subject) -> Tensor:
    """Of all blocks, enlarged as ours."""
    from torchcam.methods import LeGrad as Peer

    network: Any = subject.plain.network
    with Peer(network, list(network.encoder.layers)) as extractor:
        scores = network(subject.plain.normalised(subject.images).requires_grad_())
        (small,) = extractor(subject.targets.tolist(), scores, normalized=False)
    return functional.interpolate(small.detach()[:, None], tuple(subject.images.shape[2:]), mode="bilinear")[:, 0]


def peers() -> list[Peer]:
    """All of them."""
    plain = Lrp(rule="cp_lrp", gamma=0, dense_gamma=0, epsilon=0)
    beyond = "its gamma rule reaches layers that are modules, ours the projections of attention too"
    return [
        Peer("libra_grad", "lxt", "its map for vit_b_16", mine(LibraGrad()), lxt(False, False), 1e-3, images=4),
        Peer("lrp", "lxt", "its map for vit_b_16", mine(plain), lxt(False), 1e-3, note="rule=cp_lrp", images=4),
        Peer("lrp", "lxt", "its map for vit_b_16, gamma", mine(Lrp(rule="cp_lrp")), lxt(True), note=beyond, images=4),
        Peer("le_grad", "torchcam", "LeGrad of all blocks", mine(LeGrad()), le_grad, 1e-3, images=4),
    ]
