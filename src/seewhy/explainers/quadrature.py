"""Nodes and weights on [0, 1] for the integral along a path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import UserError

RULES = ("gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid")


def check_rule(rule: str) -> None:
    """UserError that lists the rules where `rule` is none of them."""
    if rule not in RULES:
        raise UserError(f"explainer.rule={rule!r} is none of {', '.join(RULES)}")


def quadrature(rule: str, n_steps: int) -> tuple[Tensor, Tensor]:
    """(nodes, weights), each float64 [n_steps], of a rule for the integral from 0 to 1; the weights sum to 1."""
    check_rule(rule)
    if rule == "gauss_legendre":
        places, shares = np.polynomial.legendre.leggauss(n_steps)
        return torch.from_numpy((places + 1) / 2), torch.from_numpy(shares / 2)
    if rule == "trapezoid":
        if n_steps < 2:
            raise UserError(f"explainer.n_steps={n_steps}: the trapezoid rule needs both ends, so at least 2 steps")
        halved = torch.full((n_steps,), 1.0 / (n_steps - 1), dtype=torch.float64)
        halved[[0, -1]] /= 2
        return torch.linspace(0, 1, n_steps, dtype=torch.float64), halved
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    nodes = (torch.arange(n_steps, dtype=torch.float64) + shift) / n_steps
    return nodes, torch.full((n_steps,), 1.0 / n_steps, dtype=torch.float64)
