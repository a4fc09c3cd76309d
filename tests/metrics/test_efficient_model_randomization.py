"""Efficient model randomisation: the histogram by hand and against Quantus, and the rise against a loop."""

import math

import pytest
import torch

from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import MetricContext
from seewhy.metrics.randomisation.model_randomization import EfficientModelRandomization, compute_histogram_entropy
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from tiny import random_images, small_cnn


def test_it_is_the_mean_relative_rise_of_the_entropy() -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    explainer, metric = Saliency(probe_batch_size=4), EfficientModelRandomization(n_bins=20, n_draws=3)
    maps, rises = explainer(classifier, images, targets), []
    before = compute_histogram_entropy(maps, 20)
    for draw in range(3):
        network = RandomizedNetwork(small_cnn(), seed=4, draw=draw)
        network.randomize(*network.layers)
        after = compute_histogram_entropy(explainer(network.copy, images, targets), 20)
        rises.append((after - before) / before)
    context = MetricContext(classifier, images, targets, maps, explainer=explainer, seed=4, probe_batch_size=4)
    metric.update(classifier, images, targets, maps, context=context)
    found = metric.compute()
    torch.testing.assert_close(found[metric.name], torch.stack(rises).mean(0).float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[f"{metric.name}_entropy"], before.float())
    for draw, rise in enumerate(rises, 1):
        torch.testing.assert_close(found[f"{metric.name}_draw_{draw}"], rise.float(), rtol=1e-3, atol=1e-4)
    assert len({tuple(rise.tolist()) for rise in rises}) == 3


def test_the_histogram_by_hand() -> None:
    maps = torch.tensor([[[0.0, 0.1], [0.6, 1.0]], [[3.0, 3.0], [3.0, 3.0]], [[0.0, math.inf], [0.0, 0.0]]])
    found = compute_histogram_entropy(maps, 2)
    assert found[:2].tolist() == pytest.approx([math.log(2), 0])
    assert math.isnan(found[2])


@pytest.mark.oracle
def test_the_complexity_equals_quantus() -> None:
    functions = pytest.importorskip("quantus.functions.complexity_func")
    maps = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = [functions.discrete_entropy(values.double().numpy(), values.numpy(), n_bins=100) for values in maps]
    assert compute_histogram_entropy(maps, 100).tolist() == pytest.approx(expected, rel=1e-6)
