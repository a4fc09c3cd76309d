"""What zennit makes of the same images: relevance by its rules, and its two changed ReLUs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oracles.networks import Case

Maps = Callable[[Case], Tensor]
TINY = 1e-12
"""zennit's stabiliser: in double precision it does not count."""


class Residual(nn.Module):
    """A block and its shortcut, added by zennit's module so that its rule for sums applies."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        from zennit.layer import Sum

        block.has_skip = False  # type: ignore[assignment]
        self.block, self.sum = block, Sum()

    def forward(self, features: Tensor) -> Tensor:
        return self.sum(torch.stack([self.block(features), features], -1))


def canonical(network: nn.Module) -> nn.Module:
    """The same function with batch norms folded into convolutions and residual sums as modules."""
    network = copy.deepcopy(network, {id(value): value for value in network.parameters()})
    for parent in list(network.modules()):
        convolution: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None:
                setattr(parent, convolution[0], fuse_conv_bn_eval(convolution[1], child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            convolution = (name, child) if isinstance(child, nn.Conv2d) else None
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if getattr(child, "has_skip", False):
                setattr(parent, name, Residual(child))
    return network.eval()


def relevance(rule: str, epsilon: float = 1e-6, gamma: float = 0.25) -> Maps:
    """LRP with the composite that corresponds to our rule of that name."""

    def maps(case: Case) -> Tensor:
        network = canonical(case.plain.network)
        normalised = case.plain.normalised(case.images).requires_grad_()
        with composite(case, rule, epsilon, gamma).context(network) as modified:
            logits = modified(normalised)
            start = torch.zeros_like(logits).scatter(1, case.targets[:, None], logits.gather(1, case.targets[:, None]))
            (found,) = torch.autograd.grad(logits, normalised, start.detach())
        return found.sum(1)

    return maps


def composite(case: Case, rule: str, epsilon: float, gamma: float) -> Any:
    from zennit import composites, rules
    from zennit.types import Convolution

    shared = composites.layer_map_base(TINY)
    if rule == "composite":
        plain = case.plain
        low, high = ((value - plain.mean) / plain.std for value in (0.0, 1.0))
        # zennit's z^B rule counts the bias, ours and the paper's does not
        first = [(Convolution, rules.ZBox(low, high, stabilizer=TINY, zero_params="bias"))]
        return composites.EpsilonGammaBox(low, high, epsilon, gamma, stabilizer=TINY, first_map=first)
    made = {
        "epsilon": rules.Epsilon(epsilon),
        "gamma": rules.Gamma(gamma, stabilizer=TINY),
        # zennit's z+ rule counts positive biases, ours does not
        "z_plus": rules.ZPlus(stabilizer=TINY, zero_params="bias"),
    }[rule]
    return composites.LayerMapComposite([*shared, ((Convolution, nn.Linear), made)])


def rectified(name: str) -> Maps:
    """`GuidedBackprop` or `DeconvNet`."""

    def maps(case: Case) -> Tensor:
        from zennit import composites

        images = case.images.clone().requires_grad_()
        with getattr(composites, name)().context(case.rectified) as modified:
            (found,) = torch.autograd.grad(modified(images).gather(1, case.targets[:, None]).sum(), images)
        return found.sum(1)

    return maps
