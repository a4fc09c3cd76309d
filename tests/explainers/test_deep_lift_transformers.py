"""DeepLift is exact for transformers: attention however it is spelled, softmax and normalisation by themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seewhy.explainers._backward_rules.differences import NormalisationDifferenceOp, SoftmaxDifferenceOp
from seewhy.explainers._backward_rules.rule_mode import RuleOp
from seewhy.explainers._backward_rules.transformer_calls import Normalisation
from seewhy.explainers.deep_lift import DeepLift
from tiny import classifier_of, random_images
from transformer_networks import NETWORKS, SPELLINGS, attention_classifier, draw_parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("baseline", ["black", "noise"])
def test_transformers_are_complete(name: str, baseline: str) -> None:
    classifier = classifier_of(draw_parameters(NETWORKS[name]()), 32, 5)
    explainer = DeepLift(baseline=baseline, probe_batch_size=2)
    images, targets = random_images(3, 32), torch.tensor([1, 4, 0])
    result = explainer.attribute(classifier, images, targets)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-6, (
        "the slope of GELU near a point is its derivative"
    )
    torch.testing.assert_close(explainer(classifier, images[2:], targets[2:]), result.maps[2:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_attention_is_complete_and_the_same_however_it_is_spelled(spelling: str) -> None:
    images, targets = random_images(3, 4, seed=2), torch.tensor([0, 2, 1])
    explainer = DeepLift(probe_batch_size=2)
    result = explainer.attribute(attention_classifier(spelling), images, targets)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-9
    expected = explainer(attention_classifier("operators"), images, targets)
    torch.testing.assert_close(result.maps, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


def test_differences_of_softmax_and_normalisation_are_exact_and_end_at_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    image, other, signal = (torch.randn(3, 4, 6, generator=generator).double() for _ in range(3))
    image[0, 0, 1] = other[0, 0, 1] = -torch.inf
    weight, bias = torch.randn(6, generator=generator).double(), torch.randn(6, generator=generator).double()

    def build(call: str, baseline: Tensor) -> tuple[RuleOp, Callable[[Tensor], Tensor]]:
        if call == "softmax":
            return SoftmaxDifferenceOp(baseline, -1, lambda values: values.softmax(-1)), lambda x: x.softmax(-1)
        arguments = (6,), weight, bias if call == "layer" else None, 1e-5
        function = functional.layer_norm if call == "layer" else lambda x, n, w, _, e: functional.rms_norm(x, n, w, e)
        return (
            NormalisationDifferenceOp(baseline, Normalisation(image, *arguments[1:], 1, centred=call == "layer")),
            lambda x: function(x, *arguments),
        )

    for call in ("softmax", "layer", "root"):
        values, baseline = (each if call == "softmax" else each.nan_to_num(neginf=0.5) for each in (image, other))
        op, function = build(call, baseline)
        torch.testing.assert_close(op.forward(values), function(values))
        change = (values - baseline).nan_to_num(0)
        (multiplier,) = op.backward(signal)
        expected = (signal * (function(values) - function(baseline))).sum(-1)
        torch.testing.assert_close((multiplier * change).sum(-1), expected, rtol=1e-11, atol=1e-13)
        near, _ = build(call, values)
        near.forward(values)
        leaves = values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaves), leaves, signal)
        torch.testing.assert_close(near.backward(signal)[0], gradient, rtol=1e-10, atol=1e-12)
