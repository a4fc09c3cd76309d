"""The random control: standard normal, a function of seed and image."""

import torch

from seewhy.explainers.controls import Random
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images, small_cnn


def test_values_are_standard_normal_and_independent() -> None:
    maps = Random()(linear_classifier(64)[0], random_images(4, 64), torch.zeros(4, dtype=torch.int64))
    assert float(maps.mean((1, 2)).abs().max()) < 0.06
    assert float((maps.std((1, 2)) - 1).abs().max()) < 0.05
    correlations = torch.corrcoef(maps.flatten(1)) - torch.eye(4)
    assert float(correlations.abs().max()) < 0.06


def test_a_map_belongs_to_seed_and_image_alone() -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([0, 1, 2])
    maps = Random(seed=1)(classifier, images, targets)
    assert torch.equal(Random(seed=1)(small_cnn(seed=5), images[2:], targets[:1]), maps[2:])
    assert not torch.equal(Random(seed=2)(classifier, images, targets), maps)
    assert classifier.passes == Passes(*Random().passes_per_image()) == Passes(0, 0)
