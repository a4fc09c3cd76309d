"""Backward rules one by one: calls by hand, and block by block the same numbers as in one go."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core import tensors
from seewhy.core.tensors import compute_in_blocks, compute_in_blocks_beside
from seewhy.explainers._backward_rules.calls import Convolution, Dense, parse_elementwise
from seewhy.explainers._backward_rules.deep_lift import ClampRescaleOp
from seewhy.explainers._backward_rules.relevance_rules import Activation, build_gamma_rule
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.lrp import Lrp
from tiny import random_images, small_cnn


@pytest.mark.parametrize("explainer", [DeepLift(probe_batch_size=3), Lrp(probe_batch_size=3)])
def test_maps_do_not_depend_on_the_size_of_a_block(explainer: DeepLift | Lrp, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.arange(3)
    whole = explainer(classifier, images, targets)
    monkeypatch.setattr(tensors, "BLOCK", 7)
    assert torch.equal(explainer(classifier, images, targets), whole)


def test_tensors_in_another_order_are_handed_over_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK", 5)
    parts: list[int] = []

    def add(out: Tensor, values: Tensor) -> None:
        parts.append(out.numel())
        out.add_(values)

    values = torch.arange(24.0).view(1, 2, 3, 4)
    last = torch.zeros_like(values).to(memory_format=torch.channels_last)
    for out, expected in ((torch.zeros_like(values), [5, 5, 5, 5, 4]), (last, [24]), (last[:, :, :, :3], [18])):
        parts.clear()
        given = values[:, :, :, : out.shape[3]]
        out.zero_()
        compute_in_blocks(add, out, given)
        assert parts == expected
        assert torch.equal(out, given)


def test_values_beside_each_image_or_beside_all_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images, other = torch.randn(5, 2, 3, 4, generator=generator), torch.randn(1, 2, 3, 4, generator=generator)

    def add(out: Tensor, values: Tensor, beside: Tensor) -> None:
        torch.add(values, beside, out=out)

    for size in (7, 24, 48, 1000):
        monkeypatch.setattr(tensors, "BLOCK", size)
        for beside in (other, other.expand_as(images).contiguous(), other.to(memory_format=torch.channels_last)):
            out = torch.zeros_like(images)
            compute_in_blocks_beside(add, (out, images), (beside,))
            assert torch.equal(out, images + other)


CALLS = {
    "relu": (functional.relu, (), 0, torch.inf),
    "relu6": (functional.relu6, (), 0, 6),
    "hardtanh": (functional.hardtanh, (-2.0, 1.5), -2, 1.5),
    "clamp_min": (torch.clamp_min, (0.5,), 0.5, torch.inf),
    "clamp_max": (torch.clamp_max, (0.5,), -torch.inf, 0.5),
    "clamp": (torch.clamp, (-1.0, 1.0), -1, 1),
    "crossed": (torch.clamp, (1.0, -1.0), -1, -1),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_share_between_two_bounds_is_the_slope_of_the_line(name: str) -> None:
    func, options, low, high = CALLS[name]
    points = torch.tensor([-9.0, -1.5, -0.75, 0.25, 0.75, 3.0, 8.0])
    image, baseline = (torch.tensor(each) for each in zip(*product(points.tolist(), repeat=2), strict=True))
    found = parse_elementwise(func, (image, *options), {})
    assert found is not None
    assert found.find_clamp_bounds() == (low, high)
    step = ClampRescaleOp((baseline,), found, (low, high))
    torch.testing.assert_close(step.forward(image), func(image, *options), rtol=0, atol=0)
    change = image.double() - baseline.double()
    slope = (func(image.double(), *options) - func(baseline.double(), *options)) / change
    inside = ((image > low) & (image < high)).double()
    expected = torch.where(change == 0, inside, slope)
    torch.testing.assert_close(step.multiplier.double(), expected, rtol=1e-6, atol=1e-6)


def test_bounds_for_each_element_are_no_two_bounds() -> None:
    values = torch.zeros(3)
    for func, options in ((torch.clamp, (torch.arange(3.0),)), (functional.gelu, ()), (torch.abs, ())):
        found = parse_elementwise(func, (values, *options), {})
        assert found is not None
        assert found.find_clamp_bounds() is None


@pytest.mark.parametrize("signs", ["both", "positive inputs", "positive results", "positive"])
def test_the_gamma_rule_is_the_loop_over_its_terms(signs: str) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 4, generator=generator), torch.randn(5, generator=generator)
    values, signal = torch.randn(6, 4, generator=generator), torch.randn(6, 5, generator=generator)
    if signs.startswith("positive") and signs != "positive results":
        values = values.abs()
    result = values @ weight.T + bias
    if signs in ("positive results", "positive"):
        signal = signal * (result > 0)
    found = build_gamma_rule(0.25)(Dense(weight, bias), values, result, signal, None)
    terms = torch.cat([values[:, None] * weight, bias.expand(6, 5)[..., None]], 2).double()
    taken = terms * (1 + 0.25 * (terms.sign() == result.sign()[..., None]))
    relevance = taken[..., :-1] / taken.sum(2, keepdim=True) * (result * signal)[..., None]
    torch.testing.assert_close((found * values).double(), relevance.sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.01, 0.05, 0.25])
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("high", [0.5, torch.inf])
def test_behind_a_rectifier_the_gamma_rule_is_the_loop_over_its_terms(high: float, rising: bool, gamma: float) -> None:
    """Of y = min(max(z, 0), high); from y alone where the inputs are known to be positive and gamma is not tiny."""
    generator = torch.Generator().manual_seed(2)
    weight, bias = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 4), (5,)))
    values, signal = (torch.rand(6, size, generator=generator, dtype=torch.float64) for size in (4, 5))
    values[0] = 0
    layer, rule = Dense(weight, bias, rising=rising), build_gamma_rule(gamma)
    result = values @ weight.T + bias
    active = result.clamp(0, high)
    assert bool((result > high).any()) == (high < 1) and bool((result < 0).any())
    from_result_alone = not rule.needs_argument(layer)
    assert from_result_alone == (rising and gamma >= 0.05)
    kept = active if from_result_alone or high == torch.inf else result
    activation = Activation(torch.relu, torch.inf if from_result_alone else high)
    found = rule(layer, values, kept, signal, activation)
    terms = torch.cat([values[:, None] * weight, bias.expand(6, 5)[..., None]], 2)
    taken = terms * (1 + gamma * (terms > 0))
    share = torch.where(result > 0, active * signal / taken.sum(2), 0)
    expected = (weight * (1 + gamma * (weight > 0)) * share[..., None]).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1), "groups": 2}])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_is_transposed_as_autograd_does(geometry: dict[str, object], last: bool) -> None:
    order = torch.channels_last if last else torch.contiguous_format
    values = random_images(2, 9)[:, :2].to(memory_format=order).requires_grad_()
    weight = torch.randn(4, 2 // int(geometry.get("groups", 1)), 3, 3, dtype=torch.float64)
    layer = Convolution(weight, None, **geometry)
    result = layer.apply(values, weight)
    signal = torch.randn_like(result)
    (expected,) = torch.autograd.grad(result, values, signal)
    torch.testing.assert_close(layer.transpose(signal, weight, values.detach()), expected)
