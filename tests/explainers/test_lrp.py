"""Layer-wise relevance propagation: rules by hand, conservation, what is refused."""

import pytest
import timm
import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers._backward_rules.balanced import ActivationOp
from seewhy.explainers._backward_rules.calls import Convolution
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.lrp import Lrp
from tiny import classifier_of, random_images, small_cnn


def two_layers(bias: bool) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=bias), nn.ReLU(), nn.Linear(7, 3, bias=bias))
    return network, random_images(2, 2, seed=3)


def by_hand(network: nn.Sequential, image: Tensor, target: int, rule: str) -> Tensor:
    """R_i = sum_j t_ij / (sum_i t_ij) R_j over the terms t of each rule, unit by unit, for one image."""
    layers = [network[1], network[3]]
    entry = image.flatten()
    hidden = layers[0](entry).relu()
    relevance = torch.zeros(3)
    relevance[target] = layers[1](hidden)[target]
    for values, layer in ((hidden, layers[1]), (entry, layers[0])):
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        handed = torch.zeros_like(values)
        for unit, share in enumerate(relevance.tolist()):
            terms, shift = values * layer.weight[unit], bias[unit]
            if rule == "gamma":
                sign = 1.0 if terms.sum() + shift >= 0 else -1.0
                terms, shift = (each + 0.25 * sign * (sign * each).clamp_min(0) for each in (terms, shift))
            if rule == "z_plus":
                terms, shift = terms.clamp_min(0), torch.zeros(())
            if share and terms.sum() + shift != 0:
                handed += terms / (terms.sum() + shift) * share
        relevance = handed
    return relevance.view(3, 2, 2).sum(0).detach()


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z_plus"])
@pytest.mark.parametrize("bias", [False, True])
def test_each_rule_equals_the_loop_over_layers(rule: str, bias: bool) -> None:
    network, images = two_layers(bias)
    classifier = classifier_of(network.eval(), 2, 3, normalised=False)
    targets = torch.tensor([0, 2])
    settings = {"epsilon": 1e-9} if rule == "epsilon" else {}  # the others do not read it
    maps = Lrp(rule=rule, probe_batch_size=1, **settings)(classifier, images, targets)
    for image, target, found in zip(images, targets.tolist(), maps, strict=True):
        expected = by_hand(network, image, target, rule)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()) + 1e-7)


def test_without_biases_the_epsilon_rule_is_input_times_gradient_and_conserves() -> None:
    network, images = two_layers(bias=False)
    classifier = classifier_of(network.eval(), 2, 3, normalised=False)
    targets = torch.tensor([0, 2])
    result = Lrp(rule="epsilon", epsilon=1e-9, probe_batch_size=4).attribute(classifier, images, targets)
    expected = InputXGradient(probe_batch_size=4)(classifier, images, targets)
    torch.testing.assert_close(result.maps, expected, rtol=1e-3, atol=1e-6)
    assert float(result.facts["conservation_gap_relative"].max()) < 1e-4


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050"])
def test_timm_networks_get_a_map(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=5).eval()
    maps = Lrp(probe_batch_size=2)(classifier_of(network, 64, 5), random_images(1, 64), torch.tensor([1]))
    assert bool(maps.isfinite().all())
    assert bool(maps.any())


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("high", [6.0, 0.5])
def test_the_ratio_of_a_cut_off_function_is_that_of_any_other(high: float, in_place: bool) -> None:
    values, signal = torch.tensor([-2.0, -0.0, 0.0, 1e-9, 0.25, 0.5, 3.0, 6.0, 9.0]), torch.arange(1.0, 10.0)
    steps = (ActivationOp(lambda x: x.clamp(0, high), in_place, each) for each in (None, high))
    (result, relevance), (expected, expected_relevance) = (
        (step.forward(values.clone()), *step.backward(signal)) for step in steps
    )
    assert torch.equal(result, expected)
    assert torch.equal(relevance, expected_relevance)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("last", [False, True])
def test_several_products_at_once_are_those_one_by_one(groups: int, last: bool) -> None:
    torch.manual_seed(0)
    order = torch.channels_last if last else torch.contiguous_format
    values = torch.randn(2, 4, 5, 6).to(memory_format=order)
    weights = [torch.randn(6, 4 // groups, 3, 3) for _ in range(2)]
    layer = Convolution(weights[0], None, padding=1, groups=groups)
    signals = [torch.randn_like(layer.apply(values, weight)) for weight in weights]
    total = layer.transpose_sum(signals, weights, values)
    expected = sum(layer.transpose(signal, weight, values) for signal, weight in zip(signals, weights, strict=True))
    torch.testing.assert_close(total, expected)
    for weight, found in zip(weights, layer.transpose_each(signals[0], weights, values), strict=True):
        torch.testing.assert_close(found, layer.transpose(signals[0], weight, values))


def test_rules_give_different_maps() -> None:
    images, targets = random_images(1, 32), torch.tensor([3])
    maps = [
        Lrp(rule=rule, probe_batch_size=2)(small_cnn(), images, targets) for rule in ("composite", "epsilon", "z_plus")
    ]
    assert not torch.allclose(maps[0], maps[1])
    assert not torch.allclose(maps[1], maps[2])


def test_a_transformer_and_a_wrong_rule_are_refused() -> None:
    network = timm.create_model("test_vit", pretrained=False, num_classes=5).eval()
    size = network.patch_embed.img_size[0]
    with pytest.raises(Incompatible, match=r"use explainer\.rule=attn_lrp or integrated_gradients"):
        Lrp(probe_batch_size=2)(classifier_of(network, size, 5), random_images(1, size), torch.tensor([0]))
    with pytest.raises(UserError, match=r"explainer\.rule=alpha must be composite"):
        Lrp(rule="alpha")
