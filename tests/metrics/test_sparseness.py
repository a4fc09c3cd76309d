"""Sparseness and complexity: values by hand, bounds, degenerate maps, and Quantus."""

import math

import pytest
import torch

from seewhy.metrics.base import ImageMetric
from seewhy.metrics.complexity import Complexity, Sparseness
from tiny import random_images, small_cnn

MAPS = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))


def scores(metric: ImageMetric, maps: torch.Tensor) -> list[float]:
    images, targets = torch.rand(len(maps), 3, *maps.shape[1:]), torch.zeros(len(maps), dtype=torch.int64)
    classifier = small_cnn()
    metric.update(classifier, images, targets, maps)
    assert classifier.passes.forward == 0
    return metric.compute()[metric.name].tolist()


def test_gini_by_hand() -> None:
    """|a| = 0, 1, 2, 5 and weights -3, -1, 1, 3: (-1 + 2 + 15) / (4 * 8)."""
    assert scores(Sparseness(), torch.tensor([[[-2.0, 0.0], [5.0, 1.0]]])) == [0.5]


def test_entropy_by_hand() -> None:
    found = scores(Complexity(), torch.tensor([[[-1.0, 0.0], [2.0, 1.0]]]))
    assert found == [pytest.approx(0.5 * math.log(4) + 0.5 * math.log(2))]


def test_bounds() -> None:
    one_pixel = torch.zeros(1, 8, 8)
    one_pixel[0, 3, 3] = -7
    assert scores(Sparseness(), one_pixel) == [pytest.approx(1 - 1 / 64)]
    assert scores(Complexity(), one_pixel) == [0]
    assert scores(Sparseness(), torch.full((1, 8, 8), -0.3)) == [pytest.approx(0, abs=1e-12)]
    assert scores(Complexity(), torch.full((1, 8, 8), -0.3)) == [pytest.approx(math.log(64))]


@pytest.mark.parametrize("metric", [Sparseness, Complexity])
def test_sign_and_scale_do_not_count_and_undefined_is_nan(metric: type[ImageMetric]) -> None:
    assert scores(metric(), -250 * MAPS) == pytest.approx(scores(metric(), MAPS))
    undefined = torch.stack([torch.zeros(8, 8), torch.full((8, 8), torch.nan), torch.full((8, 8), torch.inf)])
    assert all(math.isnan(value) for value in scores(metric(), undefined))


@pytest.mark.oracle
@pytest.mark.parametrize(("metric", "name"), [(Sparseness, "Sparseness"), (Complexity, "Complexity")])
def test_it_equals_quantus(metric: type[ImageMetric], name: str) -> None:
    quantus = pytest.importorskip("quantus")
    theirs = getattr(quantus, name)(abs=True, normalise=False, disable_warnings=True)
    expected = theirs(
        model=small_cnn(),
        x_batch=random_images(3, 32).numpy(),
        y_batch=torch.zeros(3, dtype=torch.int64).numpy(),
        a_batch=MAPS[:, None].numpy(),
        device="cpu",
    )
    assert scores(metric(), MAPS) == pytest.approx(expected, rel=1e-4)
