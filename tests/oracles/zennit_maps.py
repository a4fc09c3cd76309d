"""What zennit makes of the same images: relevance by its rules, and its two changed ReLUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from benchmarking.peers.zennit_network import canonical
from torch import Tensor, nn

from oracles.networks import Case

Maps = Callable[[Case], Tensor]
TINY = 1e-30
"""zennit's stabiliser: in double precision it does not count."""


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
