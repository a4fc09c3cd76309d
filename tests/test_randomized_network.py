"""A randomised copy: its layers, its numbers, and parameters that come back."""

import pytest
import torch
from scipy import stats
from torch import nn

from seewhy.metrics.randomized_network import RandomizedNetwork, layers_of
from tiny import small_cnn

LAYERS = ["fc3", "fc2", "fc1", "conv2", "conv1"]


def test_layers_are_weights_with_what_follows_them_nearest_the_output_first() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.LayerNorm(5)
    )
    assert layers_of(network) == [("4", "5"), ("0", "1", "2")]
    assert layers_of(small_cnn().network) == [(name,) for name in LAYERS]


def test_random_parameters_keep_mean_and_spread_and_belong_to_the_seed() -> None:
    networks = [RandomizedNetwork(small_cnn(), seed) for seed in (1, 1, 2)]
    for network in networks:
        network.randomize(("fc1",))
    first, same, other = (network.copy.network.fc1.weight.detach() for network in networks)
    original = small_cnn().network.fc1.weight.detach()
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert abs(stats.pearsonr(first.flatten(), original.flatten()).statistic) < 0.05
    assert float(first.std()) == pytest.approx(float(original.std()), rel=0.02)
    assert torch.equal(networks[0].copy.network.fc2.weight, small_cnn().network.fc2.weight)
    networks[0].restore(("fc1",))
    assert torch.equal(networks[0].copy.network.fc1.weight, original)
