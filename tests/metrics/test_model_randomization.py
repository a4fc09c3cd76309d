"""Model randomisation: a loop, the controls, its bounds, and a classifier that is never touched."""

import copy
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from explainer_checks import assert_same, state_of
from seewhy.core.errors import UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.cam import GradCam
from seewhy.explainers.controls import Edges
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.randomisation.model_randomization import (
    EfficientModelRandomization,
    LayerRandomization,
    ModelRandomization,
)
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from seewhy.models.classifier import Classifier
from seewhy.statistics.schema import collect_metric_facts
from tiny import classifier_of, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 2])
GRADIENT = Saliency(reduction="sum", probe_batch_size=8)
LAYERS = ["fc3", "fc2", "fc1", "conv2", "conv1"]


def make_context(classifier: Classifier, explainer: Explainer | None, maps: Tensor | None = None) -> MetricContext:
    known = (explainer or GRADIENT)(classifier, IMAGES, TARGETS) if maps is None else maps
    return MetricContext(classifier, IMAGES, TARGETS, known, explainer=explainer, probe_batch_size=8, seed=5)


def measured(metric: ImageMetric, context: MetricContext) -> dict[str, Tensor]:
    metric.update(context.classifier, IMAGES, TARGETS, context.attributions, context=context)
    return metric.compute()


def correlate(names: list[str], draw: int = 0) -> Tensor:
    """Signed correlations [batch] with the map of a network in which these layers are random."""
    network = RandomizedNetwork(small_cnn(), seed=5, draw=draw)
    network.randomize(*[(name,) for name in names])
    maps = GRADIENT(network.copy, IMAGES, TARGETS)
    pairs = zip(GRADIENT(small_cnn(), IMAGES, TARGETS).flatten(1), maps.flatten(1), strict=True)
    return torch.tensor([stats.spearmanr(first, second).statistic for first, second in pairs]).float()


def test_the_value_is_that_of_fully_random_networks_absolute_and_signed() -> None:
    classifier, metric = small_cnn(), ModelRandomization(n_draws=3)
    context = make_context(classifier, GRADIENT)
    before, expected = classifier.passes.forward, torch.stack([correlate(LAYERS, draw) for draw in range(3)])
    found = measured(metric, context)
    assert list(found) == [metric.name, *(f"{metric.name}_{column}" for column in ("signed", *metric.draw_columns))]
    torch.testing.assert_close(found["model_randomization"], expected.abs().mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["model_randomization_signed"], expected.mean(0), rtol=1e-3, atol=1e-4)
    for draw in range(3):
        column = found[f"model_randomization_draw_{draw + 1}"]
        torch.testing.assert_close(column, expected[draw], rtol=1e-3, atol=1e-4)
    assert expected.min() < 0 < expected.max()
    assert classifier.passes.forward - before == 3 * 3, "the passes of the copy count"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"n_layers": None}, [LAYERS[: count + 1] for count in range(5)]),
        ({"n_layers": 5}, [LAYERS[: count + 1] for count in range(5)]),
        ({"n_layers": 2}, [LAYERS[:2], LAYERS]),
        ({"n_layers": 1}, [LAYERS]),
        ({"n_layers": 7}, [LAYERS[:count] for count in (1, 1, 2, 3, 4, 4, 5)]),
        ({"n_layers": None, "order": "independent"}, [[name] for name in LAYERS]),
        ({"n_layers": 2, "order": "independent"}, [["fc3"], ["conv1"]]),
    ],
)
def test_the_curve_equals_the_loop(fields: dict[str, Any], steps: list[list[str]]) -> None:
    classifier, metric = small_cnn(), LayerRandomization(n_draws=2, **fields)
    context, before = make_context(classifier, GRADIENT), classifier.passes.forward
    found = measured(metric, context)
    once = [names for number, names in enumerate(steps) if names not in steps[:number]]
    assert classifier.passes.forward - before == 2 * 3 * len(once), "the same layers are explained once"
    expected = torch.stack([torch.stack([correlate(names, draw) for names in steps]) for draw in range(2)])
    torch.testing.assert_close(found[metric.name], expected.abs().mean((0, 1)), rtol=1e-3, atol=1e-4)
    for draw in range(2):
        scores = found[f"{metric.name}_draw_{draw + 1}"]
        torch.testing.assert_close(scores, expected[draw].abs().mean(0), rtol=1e-3, atol=1e-4)
    curve = [found[label] for label in found if "_step_" in label]
    assert len(curve) == (fields["n_layers"] or 0)
    for values, step in zip(curve, expected.mean(0), strict=False):
        torch.testing.assert_close(values, step, rtol=1e-3, atol=1e-4)


EVERY = [ModelRandomization(), LayerRandomization(), LayerRandomization("independent")]


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_a_map_that_ignores_the_network_scores_one(metric: ImageMetric) -> None:
    metric, other = copy.deepcopy(metric), copy.deepcopy(metric)
    assert measured(metric, make_context(small_cnn(), Edges()))[metric.name].tolist() == pytest.approx([1] * 3)
    assert measured(other, make_context(small_cnn(), GRADIENT))[other.name].max() < 0.7


def test_an_entropy_that_ignores_the_network_does_not_rise() -> None:
    rise = measured(EfficientModelRandomization(), make_context(small_cnn(), Edges()))
    assert rise["efficient_model_randomization"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_a_map_that_is_reversed_is_no_better_than_one_that_stays(metric: ImageMetric) -> None:
    class Reversing(Saliency):
        def __call__(self, classifier: Classifier, images: Tensor, targets: Any) -> Tensor:
            return -maps

    maps, metric = GRADIENT(small_cnn(), IMAGES, TARGETS), copy.deepcopy(metric)
    found = measured(metric, make_context(small_cnn(), Reversing(), maps))
    assert found[metric.name].tolist() == pytest.approx([1] * 3)
    signed = [values for label, values in found.items() if label.endswith("_signed") or "_step_" in label]
    assert all(values.tolist() == pytest.approx([-1] * 3) for values in signed)


def test_networks_are_the_same_for_every_image_and_differ_between_draws_and_seeds() -> None:
    def weights(seed: int, draw: int) -> Tensor:
        network = RandomizedNetwork(small_cnn(), seed, draw)
        network.randomize(("fc1",))
        return network.copy.network.fc1.weight.detach().clone()

    assert torch.equal(weights(1, 0), weights(1, 0))
    assert len({float(weights(seed, draw)[0, 0]) for seed in (1, 2) for draw in (0, 1)}) == 4


@pytest.mark.parametrize("metric", [ModelRandomization, EfficientModelRandomization])
def test_degenerate_maps(metric: type[ImageMetric]) -> None:
    maps = GRADIENT(small_cnn(), IMAGES, TARGETS)
    maps[0], maps[1, 0, 0] = -0.2, math.nan
    found = measured(metric(), make_context(small_cnn(), GRADIENT, maps))
    assert found[metric().name].isnan().tolist() == [True, True, False]
    with pytest.raises(UserError, match=f"{metric().name} explains again"):
        measured(metric(), make_context(small_cnn(), None))


def test_a_blank_randomised_map_scores_zero_or_loses_all_structure() -> None:
    blank = Saliency(reduction="sum", probe_batch_size=8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 1024, 4, bias=False))
    with torch.no_grad():
        network[1].weight.fill_(0.25)
    classifier = classifier_of(network, 32, 4, normalised=False)
    targets = torch.zeros(3, dtype=torch.int64)
    maps = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = {}
    for metric in (ModelRandomization(), EfficientModelRandomization()):
        context = MetricContext(classifier, IMAGES, targets, maps, explainer=blank, probe_batch_size=8)
        metric.update(classifier, IMAGES, targets, maps, context=context)
        found |= metric.compute()
    assert found["model_randomization"].tolist() == [0, 0, 0]
    assert found["efficient_model_randomization"].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("explainer", [GRADIENT, GradCam(probe_batch_size=8)])
@pytest.mark.parametrize(
    "metric", [ModelRandomization(2), LayerRandomization("independent"), EfficientModelRandomization(n_draws=1)]
)
def test_the_classifier_keeps_every_byte_also_after_an_error(metric: ImageMetric, explainer: Explainer) -> None:
    classifier = small_cnn()
    context = make_context(classifier, explainer)
    before, parameters = state_of(classifier), [id(parameter) for parameter in classifier.parameters()]
    measured(copy.deepcopy(metric), context)
    assert_same(before, state_of(classifier))

    class Broken(type(explainer)):  # type: ignore[misc]
        def _attribute(self, *arguments: Any) -> Any:
            raise ZeroDivisionError

    failing = make_context(classifier, Broken(), context.attributions)
    with pytest.raises(UserError, match=r"explainer broken failed: ZeroDivisionError\n.* in _attribute: raise"):
        measured(copy.deepcopy(metric), failing)
    assert_same(before, state_of(classifier))
    assert parameters == [id(parameter) for parameter in classifier.parameters()]


def test_the_maps_of_random_networks_are_shared() -> None:
    classifier = small_cnn()
    context = make_context(classifier, GRADIENT)
    measured(ModelRandomization(n_draws=2), context)
    counted = classifier.passes.forward
    measured(EfficientModelRandomization(n_draws=2), context)
    measured(LayerRandomization(n_layers=1, n_draws=2), context)
    assert classifier.passes.forward == counted


def test_the_score_is_the_mean_of_its_draws_for_the_interval() -> None:
    table = collect_metric_facts([ModelRandomization(2), LayerRandomization(n_draws=2), EfficientModelRandomization()])
    draws = ("model_randomization_draw_1", "model_randomization_draw_2")
    assert (table["model_randomization"].draws, table["model_randomization"].absolute) == (draws, True)
    assert (table["model_randomization_signed"].draws, table["model_randomization_signed"].absolute) == (draws, False)
    for name in ("model_randomization_cascading", "efficient_model_randomization"):
        assert not table[name].absolute
        assert table[name].draws[:2] == (f"{name}_draw_1", f"{name}_draw_2")


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(UserError, match="order=downwards must be cascading or independent"):
        LayerRandomization("downwards")
    with pytest.raises(UserError, match="n_layers=0 must be a whole number from 1"):
        LayerRandomization(n_layers=0)
    with pytest.raises(UserError, match=r"metric\.model_randomization\.n_draws=0 must be a whole number from 1"):
        ModelRandomization(n_draws=0)
    with pytest.raises(UserError, match="n_bins=1 must be a whole number from 2"):
        EfficientModelRandomization(n_bins=1)
