"""Zennit: relevance and changed ReLUs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarking.peers.captum_methods import mine
from benchmarking.peers.peer import Call, Peer
from benchmarking.subject import Plain, Subject
from seewhy.explainers.deconvolution import Deconvolution
from seewhy.explainers.guided_backprop import GuidedBackprop
from seewhy.explainers.lrp import Lrp

TINY = 1e-12


class Residual(nn.Module):
    """A block and its shortcut, added by zennit's module so that its rule for sums applies."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        from zennit.layer import Sum

        block.has_skip = False  # type: ignore[assignment]
        self.block, self.sum = block, Sum()

    def forward(self, features: Tensor) -> Tensor:
        """block(x) + x."""
        return self.sum(torch.stack([self.block(features), features], -1))


def canonical(plain: Plain) -> nn.Module:
    """The same function with batch norms folded into convolutions and residual sums as modules."""
    network = copy.deepcopy(plain.network, {id(value): value for value in plain.network.parameters()})
    for parent in list(network.modules()):
        before: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            before = (name, child) if isinstance(child, nn.Conv2d) else None
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if getattr(child, "has_skip", False):
                setattr(parent, name, Residual(child))
    return network.eval()


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
        network = folded.setdefault(id(subject.classifier), canonical(subject.plain))
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


def peers() -> list[Peer]:
    """All of them."""
    single = "float32; equality in double precision is tested"
    found = [Peer("lrp", "zennit", "EpsilonGammaBox", mine(Lrp()), relevance(), 5e-2, note=single)]
    changed = {"GuidedBackprop": GuidedBackprop(), "DeconvNet": Deconvolution()}
    for name, ours in changed.items():
        note = "ReLU6 rewritten as min(ReLU, 6)"
        found.append(Peer(ours.name, "zennit", name, mine(ours), rectified(name), 1e-3, note=note, images=16))
    return found
