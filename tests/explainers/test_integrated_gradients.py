"""Integrated gradients against closed forms, a loop and Captum."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.explainers.baselines import BASELINES, build_baselines
from seewhy.explainers.integrated_gradients import GuidedIg, IntegratedGradients
from seewhy.explainers.path_integrals import RULES, compute_quadrature
from seewhy.models.classifier import Passes
from tiny import classifier_of, double_by_default, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])
CAPTUM = {
    "gauss_legendre": "gausslegendre",
    "riemann_left": "riemann_left",
    "riemann_middle": "riemann_middle",
    "riemann_right": "riemann_right",
    "trapezoid": "riemann_trapezoid",
}


class Squares(nn.Module):
    """Logit c = c * sum of the squares of all values: the gradient is linear on every path."""

    def forward(self, images: Tensor) -> Tensor:
        return images.square().sum((1, 2, 3))[:, None] * torch.arange(3.0)


def slow_twin(rule: str, n_steps: int, baseline: str) -> Tensor:
    classifier, maps = small_cnn(), []
    nodes, weights = compute_quadrature(rule, n_steps)
    for image, target, start in zip(IMAGES, TARGETS, build_baselines(baseline, IMAGES), strict=True):
        average = torch.zeros_like(image)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            leaf = (start + max(node, 2**-26) * (image - start))[None].requires_grad_()
            classifier(leaf)[0, target].backward()
            average += weight * leaf.grad[0]
        maps.append((average * (image - start)).sum(0))
    return torch.stack(maps)


@pytest.mark.parametrize("baseline", BASELINES)
def test_of_a_linear_network_it_is_weight_times_difference(baseline: str) -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    expected = (weights[targets] * (images - build_baselines(baseline, images))).sum(1)
    for n_steps in (3, "auto"):
        result = IntegratedGradients(baseline=baseline, n_steps=n_steps, probe_batch_size=16).attribute(
            classifier, images, targets
        )
        torch.testing.assert_close(result.maps, expected, rtol=1e-4, atol=1e-6)
        assert float(result.facts["completeness_gap_relative"].max()) < 1e-3


class Largest(nn.Module):
    """Logit 0: the sum of the largest values of 2x2 windows; logit 1: the rectified sum of all values."""

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(images, 2).sum((1, 2, 3))
        return torch.stack([pooled, images.sum((1, 2, 3)).relu()], 1)


@pytest.mark.parametrize("baseline", ["black", "white"])
@pytest.mark.parametrize(
    "explainer",
    [
        IntegratedGradients(rule="riemann_left", n_steps=1),
        IntegratedGradients(rule="trapezoid", n_steps=2),
        IntegratedGradients(n_steps="auto"),
        GuidedIg(rule="riemann_left", n_steps=1, max_distance=0),
        GuidedIg(n_steps=2, max_distance=0),
    ],
)
def test_a_start_of_one_colour_hands_its_gradient_to_what_the_image_makes_largest(
    explainer: IntegratedGradients | GuidedIg, baseline: str
) -> None:
    """Of a homogeneous function all gradients of a path are the same, also the first, at which all values are equal."""
    image = random_images(1, 4)
    classifier = classifier_of(Largest(), 4, 2, normalised=False)
    difference = image - float(baseline == "white")
    largest = nn.functional.max_pool2d(image, 2).repeat_interleave(2, 2).repeat_interleave(2, 3) == image
    for target, expected in ((0, difference * largest), (1, difference)):
        if (baseline, target) != ("white", 1):  # the sum falls to 0 at black alone
            found = replace(explainer, baseline=baseline, probe_batch_size=4)(classifier, image, torch.tensor([target]))
            torch.testing.assert_close(found, expected.sum(1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
@pytest.mark.parametrize("rule", RULES)
def test_of_a_sum_of_squares_every_rule_is_known(rule: str, n_steps: int) -> None:
    if (rule, n_steps) == ("trapezoid", 1):
        return
    classifier = classifier_of(Squares(), 4, 3, normalised=False)
    images, targets = random_images(2, 4), torch.tensor([2, 1])
    mean_node = {"riemann_left": (n_steps - 1) / (2 * n_steps), "riemann_right": (n_steps + 1) / (2 * n_steps)}
    explainer = IntegratedGradients(rule=rule, n_steps=n_steps, probe_batch_size=16)
    expected = 2 * mean_node.get(rule, 0.5) * targets[:, None, None] * images.square().sum(1)
    result = explainer.attribute(classifier, images, targets)
    torch.testing.assert_close(result.maps, expected, rtol=1e-6, atol=1e-6)  # a start lies 2^-26 along the path
    change = targets * images.square().sum((1, 2, 3))
    gap = (2 * mean_node.get(rule, 0.5) - 1) * change
    torch.testing.assert_close(result.facts["completeness_gap"], gap, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(result.facts["completeness_gap_relative"], gap.abs() / change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(rule: str, probe_batch_size: int) -> None:
    explainer = IntegratedGradients(rule=rule, n_steps=5, baseline="mean", probe_batch_size=probe_batch_size)
    expected = slow_twin(rule, 5, "mean")
    found = explainer(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_the_gap_shrinks_with_the_steps() -> None:
    gaps = [
        float(
            IntegratedGradients(n_steps=n_steps, probe_batch_size=64)
            .attribute(small_cnn(), IMAGES, TARGETS)
            .facts["completeness_gap"]
            .abs()
            .max()
        )
        for n_steps in (5, 200)
    ]
    assert gaps[1] < gaps[0] / 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auto_is_within_the_tolerance_for_every_image(seed: int) -> None:
    classifier = small_cnn(seed)
    explainer = IntegratedGradients(n_steps="auto", probe_batch_size=16)
    facts = explainer.attribute(classifier, IMAGES, TARGETS).facts
    assert float(facts["completeness_gap_relative"].max()) <= 0.0105
    steps = int(facts["n_steps"].sum())
    assert classifier.passes == Passes(steps + 6, steps)
    assert explainer.passes_per_image(size=32) is None


def test_a_limit_that_is_too_low_shows_in_the_gap() -> None:
    explainer = IntegratedGradients(n_steps="auto", max_steps=9, tolerance=1e-5, probe_batch_size=16)
    facts = explainer.attribute(small_cnn(), IMAGES, TARGETS).facts
    assert int(facts["n_steps"].max()) <= 9
    assert float(facts["completeness_gap_relative"].max()) > 1e-4


def test_strict_makes_a_gap_an_error() -> None:
    explainer = IntegratedGradients(n_steps=2, strict=True, tolerance=1e-4, probe_batch_size=16)
    with pytest.raises(UserError, match=r"integrated_gradients: completeness gap .* explainer.strict=true"):
        explainer(small_cnn(), IMAGES, TARGETS)


def test_the_channels_add_up_to_the_map() -> None:
    from seewhy.models.batched import BatchedEvaluator

    explainer, classifier = IntegratedGradients(n_steps=4, probe_batch_size=16), small_cnn()
    per_channel = explainer.attribute_channels(BatchedEvaluator(classifier, IMAGES[0], 16), IMAGES, TARGETS)
    assert per_channel.shape == IMAGES.shape
    assert classifier.passes == Passes(12, 12), "no pass is spent on completeness"
    torch.testing.assert_close(explainer.reduce(per_channel), explainer(small_cnn(), IMAGES, TARGETS))


def test_the_passes_equal_the_formula_and_neighbours_do_not_matter() -> None:
    classifier, explainer = small_cnn(), IntegratedGradients(n_steps=7, baseline="uniform", probe_batch_size=4)
    maps = explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == (9, 7)
    assert classifier.passes == Passes(27, 21)
    turned = explainer(small_cnn(), IMAGES.flip(0), TARGETS.flip(0)).flip(0)
    torch.testing.assert_close(maps, turned, rtol=0, atol=1e-9 * float(maps.abs().max()))


def test_parameters_say_what_decides_the_map() -> None:
    assert IntegratedGradients().parameters == "baseline=black, n_steps=50, rule=gauss_legendre"
    assert IntegratedGradients(n_steps="auto").parameters == (
        "baseline=black, n_steps=auto, tolerance=0.01, map_tolerance=0.05, max_steps=1000"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_steps": 0}, "n_steps=0 must be a whole number from 1 to 1,000,000 or auto"),
        ({"n_steps": "many"}, "n_steps=many"),
        ({"n_steps": 1, "rule": "trapezoid"}, "needs both ends"),
        ({"rule": "simpson"}, "rule=simpson must be gauss_legendre"),
        ({"baseline": "zero"}, "baseline=zero must be black"),
        ({"max_steps": 8}, "max_steps=8 must be a whole number from 9"),
        ({"tolerance": 0}, "tolerance=0 must be a number above 0"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        IntegratedGradients(**fields)


@pytest.mark.parametrize("rule", RULES)
def test_it_equals_captum(rule: str) -> None:
    from captum import attr

    classifier = small_cnn()
    with double_by_default():
        expected = attr.IntegratedGradients(classifier).attribute(
            IMAGES, baselines=build_baselines("noise", IMAGES), target=TARGETS, n_steps=6, method=CAPTUM[rule]
        )
    # Captum's trapezoid weights of n steps add up to (n - 1) / n
    expected = expected.detach().sum(1) * (6 / 5 if rule == "trapezoid" else 1)
    found = IntegratedGradients(rule=rule, n_steps=6, baseline="noise", probe_batch_size=16)(  # no ties in a flat start
        classifier, IMAGES, TARGETS
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
