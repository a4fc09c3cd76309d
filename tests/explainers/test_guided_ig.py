"""Guided IG against its limits, a loop over values, and PAIR's implementation."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.core.errors import UserError
from seewhy.explainers import integrated_gradients
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.guided_path import Goal, advance, advance_batch, find_kth_smallest
from seewhy.explainers.integrated_gradients import GuidedIg, IntegratedGradients
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def slow_twin(explainer: GuidedIg, image: torch.Tensor, target: int) -> torch.Tensor:
    """One image in double precision, one set of values after the other, from black, which no value is nearer than 2^-26."""
    classifier, goal = small_cnn(), image.double().flatten()
    point, attributions = torch.zeros_like(goal), torch.zeros_like(goal)
    for step in range(1, explainer.n_steps + 1):
        share = step / explainer.n_steps
        leaf = point.maximum(2**-26 * goal).view(1, 3, 32, 32).requires_grad_()
        classifier(leaf)[0, target].backward()
        gradient = leaf.grad.flatten()
        strength, before = gradient.abs(), point.clone()
        point = point.maximum(max(share - explainer.max_distance, 0) * goal)
        bound = min(share + explainer.max_distance, 1) * goal
        strength[point >= bound - 1e-12] = math.inf
        while (lack := float((goal - point).sum() - goal.sum() * (1 - share))) > 1e-9 * float(goal.sum()):
            threshold = strength.sort().values[math.floor(explainer.fraction * (len(goal) - 1))]
            chosen = (strength <= threshold) & strength.isfinite()
            part = lack / float((bound - point)[chosen].sum())
            point[chosen] += min(1.0, part) * (bound - point)[chosen]
            strength[chosen] = math.inf
        leaf = point.view(1, 3, 32, 32).requires_grad_()
        classifier(leaf)[0, target].backward()
        mean = gradient if explainer.rule == "riemann_left" else (gradient + leaf.grad.flatten()) / 2
        attributions += (point - before) * mean
    return attributions.view(3, 32, 32).sum(0)


@pytest.mark.parametrize(
    "fields",
    [{}, {"fraction": 0.1, "max_distance": 1.0}, {"fraction": 1.0, "max_distance": 0.1, "rule": "riemann_left"}],
)
def test_it_equals_the_loop(fields: dict) -> None:
    explainer = GuidedIg(n_steps=12, probe_batch_size=16, **fields)
    found = explainer(small_cnn(), IMAGES, TARGETS)
    for row in range(3):
        expected = slow_twin(explainer, IMAGES[row], int(TARGETS[row]))
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize(("rule", "nodes"), [("riemann_left", 15), ("trapezoid", 16)])
def test_without_distance_it_is_the_straight_path(rule: str, nodes: int) -> None:
    straight = IntegratedGradients(n_steps=nodes, rule=rule, baseline="grey", probe_batch_size=16)
    guided = GuidedIg(n_steps=15, rule=rule, max_distance=0, baseline="grey", probe_batch_size=16)
    torch.testing.assert_close(
        guided(small_cnn(), IMAGES, TARGETS), straight(small_cnn(), IMAGES, TARGETS), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("max_distance", [0.02, 1.0])
def test_of_a_linear_network_every_path_gives_the_same(max_distance: float) -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    result = GuidedIg(n_steps=7, max_distance=max_distance, probe_batch_size=16).attribute(classifier, images, targets)
    torch.testing.assert_close(result.maps, (weights[targets] * images).sum(1), rtol=1e-4, atol=1e-6)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-4


def test_a_step_moves_the_weakest_values_and_keeps_to_its_bounds() -> None:
    explainer = GuidedIg(n_steps=10, fraction=0.25, max_distance=0.15)
    lengths, strength = torch.ones(1, 8), torch.tensor([[8.0, 1, 6, 2, 5, 3, 4, 7]])
    position = torch.zeros(1, 8)
    for step in range(10):
        position = explainer._advance(position, strength.clone(), lengths, step)
        assert float(position.mean()) == pytest.approx((step + 1) / 10)
        assert float((position - (step + 1) / 10).abs().max()) <= 0.15 + 1e-6
        if step == 0:
            assert position.tolist()[0] == pytest.approx([0, 0.25, 0, 0.25, 0, 0.15, 0.15, 0])
    assert position.tolist() == [[1.0] * 8]


def test_gradients_that_are_not_numbers_end_as_a_map_that_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    nn.init.constant_(network[1].weight, math.nan)
    maps = GuidedIg(n_steps=3, probe_batch_size=4)(classifier_of(network, 8, 3), random_images(1, 8), torch.tensor([1]))
    assert bool(maps.isnan().all())


def test_values_that_do_not_differ_from_the_baseline_get_nothing() -> None:
    images = IMAGES.clone()
    images[:, :, :8] = 0
    maps = GuidedIg(n_steps=5, probe_batch_size=16)(small_cnn(), images, TARGETS)
    assert not bool(maps[:, :8].any())
    assert bool(maps[:, 8:].any())
    assert not bool(GuidedIg(n_steps=5, probe_batch_size=16)(small_cnn(), images * 0, TARGETS).any())


@pytest.mark.slow
def test_more_steps_shrink_the_gap_and_the_trapezoid_has_the_smaller_one() -> None:
    torch.manual_seed(0)
    smooth = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 3)), 8, 3)
    gaps = {}
    for rule in ("riemann_left", "trapezoid"):
        for n_steps in (10, 20, 200):
            explainer = GuidedIg(n_steps=n_steps, rule=rule, probe_batch_size=16)
            facts = explainer.attribute(smooth, random_images(3, 8), torch.tensor([0, 1, 2])).facts
            gaps[rule, n_steps] = float(facts["completeness_gap"].abs().max())
    assert gaps["riemann_left", 10] > 1.6 * gaps["riemann_left", 20] > 10 * gaps["riemann_left", 200]
    for n_steps in (10, 20, 200):
        assert gaps["trapezoid", n_steps] < gaps["riemann_left", n_steps] / 4


@pytest.mark.parametrize("probe_batch_size", [1, 2, 7])
def test_a_map_does_not_depend_on_its_neighbours_and_the_passes_equal_the_formula(probe_batch_size: int) -> None:
    classifier, explainer = small_cnn(), GuidedIg(n_steps=6, probe_batch_size=probe_batch_size, check_rounding=False)
    together = explainer(classifier, IMAGES, TARGETS)
    assert classifier.passes == Passes(3 * 9, 3 * 7)
    assert explainer.passes_per_image(size=32) == (9, 7)
    assert GuidedIg(n_steps=6, rule="riemann_left", max_distance=0).passes_per_image(size=32) == (8, 6)
    assert GuidedIg().passes_per_image(size=32) is None
    alone = GuidedIg(n_steps=6, probe_batch_size=16)(classifier, IMAGES[1:2], TARGETS[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-9 * float(alone.abs().max()))


def disturbed(
    activation: type[nn.Module], max_distance: float, monkeypatch: pytest.MonkeyPatch, **fields: object
) -> tuple[AttributionResult, Classifier, GuidedIg]:
    """Two images explained in double precision, with a rounding that is set: every machine gives the same verdict."""
    monkeypatch.setattr(integrated_gradients, "estimate_relative_rounding", lambda *_: 1e-4)
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, padding=1), activation(), nn.Conv2d(8, 8, 3, padding=1), activation()]
    network = nn.Sequential(*layers, nn.Conv2d(8, 8, 3), activation(), nn.Flatten(), nn.Linear(8 * 14**2, 4))
    classifier = classifier_of(network, 16, 4)
    explainer = GuidedIg(n_steps=50, max_distance=max_distance, probe_batch_size=8, **fields)
    return explainer.attribute(classifier, random_images(2, 16), torch.tensor([1, 2])), classifier, explainer


def warnings_of(explainer: GuidedIg, result: AttributionResult) -> list[str]:
    """Of both images, without completeness gaps."""
    rows = [{key: float(values[row]) for key, values in result.facts.items()} for row in range(2)]
    return [text for facts in rows for text in explainer.list_warnings(facts) if "completeness" not in text]


def test_a_map_that_rounding_decides_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result, classifier, explainer = disturbed(nn.ReLU, 1.0, monkeypatch)
    assert float(result.facts["rounding_correlation"].max()) < 0.9
    assert float(result.facts["rounding_steps"].max()) < 50, "the second path is left where it is clearly another one"
    assert classifier.passes.backward == 2 * (51 + int(result.facts["rounding_steps"].max()))
    for text in warnings_of(explainer, result):
        assert "rounding decides the map" in text
        assert "of 50 steps); a smaller explainer.max_distance than 1 keeps paths together" in text
    assert len(warnings_of(explainer, result)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "max_distance"), [(nn.Softplus, 1.0), (nn.Softplus, 0.02), (nn.ReLU, 0.001)])
def test_a_map_that_rounding_does_not_decide_has_no_warning(
    activation: type[nn.Module], max_distance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, classifier, explainer = disturbed(activation, max_distance, monkeypatch)
    assert float(result.facts["rounding_correlation"].min()) > 0.999
    assert result.facts["rounding_steps"].tolist() == [50, 50]
    assert warnings_of(explainer, result) == []
    assert classifier.passes.backward == 2 * (51 + 51)


def test_the_second_path_changes_no_map_and_is_not_walked_where_nothing_can_stray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked, _, _ = disturbed(nn.ReLU, 1.0, monkeypatch)
    plain, classifier, explainer = disturbed(nn.ReLU, 1.0, monkeypatch, check_rounding=False)
    assert torch.equal(checked.maps, plain.maps)
    assert "rounding_correlation" not in plain.facts
    assert warnings_of(explainer, plain) == []
    assert classifier.passes.backward == 2 * 51
    straight, classifier, _ = disturbed(nn.ReLU, 0.0, monkeypatch)
    assert "rounding_correlation" not in straight.facts
    assert classifier.passes.backward == 2 * 51


def test_what_is_said_of_an_image_does_not_depend_on_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    together, classifier, explainer = disturbed(nn.ReLU, 1.0, monkeypatch)
    alone = explainer.attribute(classifier, random_images(2, 16)[1:], torch.tensor([2]))
    assert float(alone.facts["rounding_steps"]) == float(together.facts["rounding_steps"][1])
    assert float(alone.facts["rounding_correlation"]) == pytest.approx(
        float(together.facts["rounding_correlation"][1]), abs=1e-6
    )


def test_the_k_th_smallest_is_that_of_a_sort() -> None:
    values = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    values[:, 5:9] = math.inf
    for count in (1, 20, 46, 50):
        assert torch.equal(find_kth_smallest(values, count), values.sort(1).values[:, count - 1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_steps": 0}, "n_steps=0 must be a whole number from 1"),
        ({"fraction": 0}, "fraction=0 must be a number above 0"),
        ({"fraction": 25}, "fraction=25"),
        ({"max_distance": -0.1}, "max_distance=-0.1 must be a number from 0 to 1"),
        ({"rule": "simpson"}, "rule=simpson must be trapezoid or riemann_left"),
        ({"baseline": "zero"}, "baseline=zero must be black"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        GuidedIg(**fields)


@pytest.mark.oracle
@pytest.mark.parametrize(("max_distance", "n_steps"), [(0.02, 30), (0.3, 30), (1.0, 15)])
def test_it_equals_pair(max_distance: float, n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("saliency.core.guided_ig")
    quantile = np.quantile

    def renamed(values: np.ndarray, share: float, interpolation: str) -> np.ndarray:
        return quantile(values, share, method=interpolation)

    monkeypatch.setattr(peer.np, "quantile", renamed)  # NumPy 2.4 has dropped the argument's old name
    classifier = small_cnn()
    explainer = GuidedIg(  # no ties in a flat start
        n_steps=n_steps, max_distance=max_distance, rule="riemann_left", baseline="noise", probe_batch_size=16
    )
    found, starts = explainer(classifier, IMAGES, TARGETS), build_baselines("noise", IMAGES)
    for row, (image, target) in enumerate(zip(IMAGES, TARGETS, strict=True)):

        def gradients(
            pictures: np.ndarray, call_model_args: None, expected_keys: list, chosen: int = int(target)
        ) -> dict:
            leaves = torch.from_numpy(pictures).requires_grad_()
            (gradient,) = torch.autograd.grad(classifier(leaves)[:, chosen].sum(), leaves)
            return {peer.INPUT_OUTPUT_GRADIENTS: gradient.numpy()}

        mask = peer.GuidedIG().GetMask(
            *(image.numpy(), gradients),
            x_baseline=starts[row].numpy(),
            x_steps=n_steps,
            fraction=0.25,
            max_dist=max_distance,
        )
        expected = torch.from_numpy(mask.sum(0))
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_images_one_to_a_core_move_as_those_of_a_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths, strength = torch.rand(3, 500, generator=generator), torch.rand(3, 500, generator=generator)
    strength[:, ::7] = 0.25  # some move together, though more than asked for
    start, goal = torch.rand(3, 500, generator=generator) * 0.2, Goal(0.5, 0.2, 0.7, 125)
    moved = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        moved.append(advance(start, strength.clone(), lengths, goal))
    assert torch.equal(moved[0], moved[1])
    assert torch.equal(moved[0], moved[2])
    torch.testing.assert_close(moved[0], advance_batch(start, strength.clone(), lengths, goal), rtol=0, atol=3e-7)
    covered = (moved[0] * lengths).double().sum(1) / lengths.double().sum(1)
    assert covered.tolist() == pytest.approx([0.5] * 3, abs=2e-6)
