"""Quadrature rules against integrals that are known."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers.path_integrals import RULES, compute_quadrature

NODES = {
    "gauss_legendre": [0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5],
    "riemann_left": [0.0, 0.5],
    "riemann_middle": [0.25, 0.75],
    "riemann_right": [0.5, 1.0],
    "trapezoid": [0.0, 1.0],
}
SQUARE = {
    "gauss_legendre": 1 / 3,
    "riemann_left": 1 / 8,
    "riemann_middle": 5 / 16,
    "riemann_right": 5 / 8,
    "trapezoid": 1 / 2,
}


@pytest.mark.parametrize("rule", RULES)
def test_two_nodes_are_where_the_rule_has_them(rule: str) -> None:
    nodes, weights = compute_quadrature(rule, 2)
    assert nodes.tolist() == pytest.approx(NODES[rule])
    assert weights.tolist() == [0.5, 0.5]
    assert float((weights * nodes**2).sum()) == pytest.approx(SQUARE[rule])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_steps", [2, 3, 50, 501])
def test_weights_add_up_to_one_and_nodes_stay_on_the_path(rule: str, n_steps: int) -> None:
    nodes, weights = compute_quadrature(rule, n_steps)
    assert nodes.shape == weights.shape == (n_steps,)
    assert nodes.dtype == weights.dtype == torch.float64
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert 0 <= float(nodes.min()) < float(nodes.max()) <= 1
    assert bool((nodes.diff() > 0).all())


def test_gauss_legendre_is_exact_to_degree_2n_minus_1() -> None:
    nodes, weights = compute_quadrature("gauss_legendre", 5)
    for degree in range(10):
        assert float((weights * nodes**degree).sum()) == pytest.approx(1 / (degree + 1), abs=1e-14)
    assert float((weights * nodes**10).sum()) != pytest.approx(1 / 11, abs=1e-8)


@pytest.mark.parametrize(
    ("rule", "order"), [("riemann_left", 1), ("riemann_right", 1), ("riemann_middle", 2), ("trapezoid", 2)]
)
def test_the_error_shrinks_with_the_order_of_the_rule(rule: str, order: int) -> None:
    errors = []
    for intervals in (50, 100):
        nodes, weights = compute_quadrature(rule, intervals + (rule == "trapezoid"))
        errors.append(abs(float((weights * nodes.exp()).sum()) - (torch.e - 1)))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.02)


def test_one_step_is_enough_except_for_the_trapezoid() -> None:
    assert compute_quadrature("riemann_middle", 1)[0].tolist() == [0.5]
    assert compute_quadrature("gauss_legendre", 1)[1].tolist() == [1.0]
    with pytest.raises(UserError, match="n_steps=1: the trapezoid rule needs both ends"):
        compute_quadrature("trapezoid", 1)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="rule=simpson must be gauss_legendre"):
        compute_quadrature("simpson", 10)
