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
from seewhy.metrics.randomisation.model_randomization import EfficientModelRandomization, ModelRandomization
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from seewhy.models.classifier import Classifier
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


def loop(layers_of_steps: list[list[str]]) -> Tensor:
    """Correlations [steps, batch] with the map of a network in which these layers are random."""
    original, found = GRADIENT(small_cnn(), IMAGES, TARGETS), []
    for names in layers_of_steps:
        network = RandomizedNetwork(small_cnn(), seed=5)
        network.randomize(*[(name,) for name in names])
        maps = GRADIENT(network.copy, IMAGES, TARGETS)
        pairs = zip(original.flatten(1), maps.flatten(1), strict=True)
        found.append(torch.tensor([stats.spearmanr(first, second).statistic for first, second in pairs]))
    return torch.stack(found).float()


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"n_layers": None}, [LAYERS[: count + 1] for count in range(5)]),
        ({"n_layers": 2}, [LAYERS[:2], LAYERS]),
        ({"n_layers": 1}, [LAYERS]),
        ({"n_layers": None, "order": "independent"}, [[name] for name in LAYERS]),
        ({"n_layers": 2, "order": "independent"}, [["fc3"], ["conv1"]]),
    ],
)
def test_it_equals_the_loop(fields: dict[str, Any], steps: list[list[str]]) -> None:
    classifier, metric = small_cnn(), ModelRandomization(**fields)
    context = make_context(classifier, GRADIENT)
    before, expected = classifier.passes.forward, loop(steps)
    found = measured(metric, context)
    torch.testing.assert_close(found[metric.name], expected.mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[f"{metric.name}_last"], expected[-1], rtol=1e-3, atol=1e-4)
    assert classifier.passes.forward - before == 3 * len(steps), "the passes of the copy count"


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_a_map_that_ignores_the_network_scores_one(order: str) -> None:
    metric, other = ModelRandomization(order), ModelRandomization(order)
    assert measured(metric, make_context(small_cnn(), Edges()))[metric.name].tolist() == pytest.approx([1] * 3)
    assert measured(other, make_context(small_cnn(), GRADIENT))[other.name].max() < 0.7
    rise = measured(EfficientModelRandomization(), make_context(small_cnn(), Edges()))
    assert rise["efficient_model_randomization"].tolist() == [0, 0, 0]


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
    "metric", [ModelRandomization(), ModelRandomization("independent"), EfficientModelRandomization()]
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
    with pytest.raises(ZeroDivisionError):
        measured(copy.deepcopy(metric), failing)
    assert_same(before, state_of(classifier))
    assert parameters == [id(parameter) for parameter in classifier.parameters()]


def test_the_fully_randomised_maps_are_made_once() -> None:
    classifier = small_cnn()
    context = make_context(classifier, GRADIENT)
    measured(ModelRandomization(n_layers=1), context)
    counted = classifier.passes.forward
    measured(EfficientModelRandomization(), context)
    assert classifier.passes.forward == counted


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(UserError, match="order='downwards' is none of cascading, independent"):
        ModelRandomization("downwards")
    with pytest.raises(UserError, match="n_layers=0 must be null"):
        ModelRandomization(n_layers=0)
    with pytest.raises(UserError, match="n_bins=1 must be at least 2"):
        EfficientModelRandomization(n_bins=1)
