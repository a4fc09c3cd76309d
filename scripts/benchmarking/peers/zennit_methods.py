"""Zennit: relevance and changed ReLUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarking.peers.captum_methods import mine
from benchmarking.peers.peer import Call, Peer
from benchmarking.peers.zennit_network import canonical
from benchmarking.subject import Plain, Subject
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop
from seewhy.explainers.lrp import Lrp

TINY = 1e-12


def composite(plain: Plain) -> Any:
    """Zennit's composite of the rules that `rule=composite` takes."""
    from zennit import composites, rules
    from zennit.types import Convolution

    low, high = ((value - plain.mean) / plain.std for value in (0.0, 1.0))
    # zennit's z^B rule counts the bias, ours and the paper's does not
    first = [(Convolution, rules.ZBox(low, high, stabilizer=TINY, zero_params="bias"))]
    return composites.EpsilonGammaBox(low, high, 1e-6, 0.25, stabilizer=TINY, first_map=first)


def relevance() -> Call:
    """LRP; the folded network is made once, outside the seconds that are compared."""
    folded: dict[int, nn.Module] = {}

    def maps(subject: Subject) -> Tensor:
        network = folded.setdefault(id(subject.classifier), canonical(subject.plain.network))
        images = subject.plain.normalised(subject.images).requires_grad_()
        with composite(subject.plain).context(network) as modified:
            logits = modified(images)
            start = torch.zeros_like(logits).scatter(
                1, subject.targets[:, None], logits.gather(1, subject.targets[:, None])
            )
            (found,) = torch.autograd.grad(logits, images, start.detach())
        return found.sum(1)

    return maps


def rectified(name: str) -> Call:
    """`GuidedBackprop` or `DeconvNet`."""

    def maps(subject: Subject) -> Tensor:
        from zennit import composites

        images = subject.images.clone().requires_grad_()
        with getattr(composites, name)().context(subject.rectified) as modified:
            (found,) = torch.autograd.grad(modified(images).gather(1, subject.targets[:, None]).sum(), images)
        return found.sum(1)

    return maps


def peers(network: nn.Module) -> list[Peer]:
    """All of them, for this network."""
    note = "ReLU6 rewritten as min(ReLU, 6)" if any(type(module) is nn.ReLU6 for module in network.modules()) else ""
    single = "float32; equality in double precision is tested"
    found = [Peer("lrp", "zennit", "EpsilonGammaBox", mine(Lrp()), relevance(), 5e-2, note=single)]
    changed = {"GuidedBackprop": GuidedBackprop(), "DeconvNet": Deconvolution()}
    for name, ours in changed.items():
        found.append(Peer(ours.name, "zennit", name, mine(ours), rectified(name), 1e-3, note=note, images=16))
    return found
