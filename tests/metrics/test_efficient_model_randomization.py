"""Efficient model randomisation: the histogram by hand and against Quantus, and the rise against a loop."""

import math

import pytest
import torch

from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import MetricContext
from seewhy.metrics.randomisation.model_randomization import EfficientModelRandomization, histogram_entropy
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from tiny import random_images, small_cnn


def test_it_is_the_relative_rise_of_the_entropy() -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    explainer, metric = Saliency(probe_batch_size=4), EfficientModelRandomization(n_bins=20)
    maps, network = explainer(classifier, images, targets), RandomizedNetwork(small_cnn(), seed=4)
    network.randomize(*network.layers)
    before, after = (histogram_entropy(values, 20) for values in (maps, explainer(network.copy, images, targets)))
    context = MetricContext(classifier, images, targets, maps, explainer=explainer, seed=4, probe_batch_size=4)
    metric.update(classifier, images, targets, maps, context=context)
    found = metric.compute()
    torch.testing.assert_close(found[metric.name], ((after - before) / before).float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[f"{metric.name}_entropy"], before.float())
    assert bool((found[metric.name] != 0).all())


def test_the_histogram_by_hand() -> None:
    maps = torch.tensor([[[0.0, 0.1], [0.6, 1.0]], [[3.0, 3.0], [3.0, 3.0]], [[0.0, math.inf], [0.0, 0.0]]])
    found = histogram_entropy(maps, 2)
    assert found[:2].tolist() == pytest.approx([math.log(2), 0])
    assert math.isnan(found[2])


@pytest.mark.oracle
def test_the_complexity_equals_quantus() -> None:
    functions = pytest.importorskip("quantus.functions.complexity_func")
    maps = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = [functions.discrete_entropy(values.double().numpy(), values.numpy(), n_bins=100) for values in maps]
    assert histogram_entropy(maps, 100).tolist() == pytest.approx(expected, rel=1e-6)
