"""Metrics of a network that hides its modules have the values of the network itself."""

import pytest
import torch
from test_metric_contract import YAMLS, assert_equal, metric_of
from torch import Tensor, nn

from hidden import CLASSES, SIZE, build, example
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import MetricContext
from tiny import classifier_of

TARGETS = torch.tensor([1, 3])
MASKS = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
MASKS[:, 2:8, 3:9] = True


def measure(name: str, network: nn.Module) -> dict[str, Tensor]:
    classifier, explainer = classifier_of(network, SIZE, CLASSES, normalised=False), Saliency()
    arguments = {"classifier": classifier, "images": example(), "targets": TARGETS}
    arguments["attributions"] = explainer(classifier, example(), TARGETS)
    context = MetricContext(*arguments.values(), explainer=explainer, masks=MASKS, probe_batch_size=5)
    metric = metric_of(next(path for path in YAMLS if path.stem == name))
    metric.update(**arguments, context=context)
    return metric.compute()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["traced", "exported"])
@pytest.mark.parametrize("name", [path.stem for path in YAMLS])
def test_the_values_are_those_of_the_network_itself(name: str, form: str) -> None:
    assert_equal(measure(name, build(form)), measure(name, build("plain")))
