"""Pointing game, relevance mass and relevance rank: a planted patch, values by hand, chance, and Quantus."""

import math

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.localisation import PointingGame, RelevanceMass, RelevanceRank
from tiny import classifier_of, random_images, small_cnn

EVERY = [PointingGame, RelevanceMass, RelevanceRank]
MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0]]).bool()
"""Chance: 2 of 9."""


def measured(metric: ImageMetric, maps: Tensor, masks: Tensor | None) -> dict[str, list[float]]:
    images, targets = random_images(len(maps), maps.shape[-1]), torch.zeros(len(maps), dtype=torch.int64)
    classifier = small_cnn()
    context = MetricContext(classifier, images, targets, maps, masks=masks)
    metric.update(classifier, images, targets, maps, context=context)
    assert classifier.passes.forward == 0
    return {label: values.tolist() for label, values in metric.compute().items()}


def score(metric: ImageMetric, attribution: Tensor, mask: Tensor = MASK) -> float:
    return measured(metric, attribution[None], mask[None])[metric.name][0]


def test_the_detector_of_a_planted_patch_is_found() -> None:
    """Logit 0 sums the pixels of the patch: input x gradient is zero elsewhere."""
    patch = torch.zeros(8, 8, dtype=torch.bool)
    patch[2:5, 4:7] = True
    layer = nn.Linear(3 * 64, 2, bias=False)
    with torch.no_grad():
        layer.weight[0] = patch.float().repeat(3, 1, 1).flatten()
    classifier = classifier_of(nn.Sequential(nn.Flatten(), layer), 8, 2, normalised=False)
    images, targets = random_images(2, 8), torch.zeros(2, dtype=torch.int64)
    maps = InputXGradient(probe_batch_size=4)(classifier, images, targets)
    for metric in EVERY:
        name = metric().name
        found = measured(metric(), maps, patch.expand(2, -1, -1))
        assert found == {name: [1, 1], f"{name}_chance": [9 / 64] * 2}
        assert measured(metric(), maps, ~patch.expand(2, -1, -1))[name][0] < (0.9 if metric is RelevanceRank else 1e-9)


def test_values_by_hand() -> None:
    attribution = torch.tensor([[3.0, -5.0, 4.0], [1.0, 0.0, 0.0], [0.0, -9.0, 0.0]])
    assert score(PointingGame(), attribution) == 0
    assert score(PointingGame(tolerance=1), attribution) == 1
    assert score(RelevanceMass(), attribution) == 3 / 8
    assert score(RelevanceRank(), attribution) == 1 / 2


def test_the_tolerance_is_a_distance_and_raises_chance() -> None:
    diagonal = torch.zeros(3, 3)
    diagonal[1, 2] = 1
    assert score(PointingGame(tolerance=1), diagonal) == 0
    assert score(PointingGame(tolerance=1.5), diagonal) == 1
    found = measured(PointingGame(tolerance=1), diagonal[None], MASK[None])
    assert found["pointing_game_chance"] == [pytest.approx(5 / 9)]


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_a_constant_map_scores_by_chance(metric: type[ImageMetric], value: float) -> None:
    found = score(metric(), torch.full((3, 3), value))
    if metric is RelevanceMass and value <= 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(2 / 9)


def test_ties_hit_in_proportion() -> None:
    attribution = torch.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert score(PointingGame(), attribution) == 0.5
    mask = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 0, 0]]).bool()
    assert score(RelevanceRank(), attribution, mask) == pytest.approx((1 + 1 * 2 / 3) / 3)


@pytest.mark.parametrize("metric", [PointingGame, RelevanceRank])
def test_monotone_changes_of_the_map_change_nothing(metric: type[ImageMetric]) -> None:
    maps = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0))
    masks = MASK.expand(4, -1, -1)
    assert measured(metric(), maps, masks) == measured(metric(), maps.exp() - 5, masks)


@pytest.mark.parametrize("metric", EVERY)
def test_an_image_without_an_object_has_no_value_and_no_masks_at_all_is_a_mistake(metric: type[ImageMetric]) -> None:
    maps, name = torch.rand(3, 3, 3), metric().name
    maps[2, 1, 1] = torch.nan
    found = measured(metric(), maps, torch.stack([MASK & False, MASK, MASK]))
    assert [math.isnan(value) for value in found[name]] == [True, False, True]
    assert [math.isnan(value) for value in found[f"{name}_chance"]] == [True, False, False]
    with pytest.raises(UserError, match=rf"{name}.*data\.masks"):
        measured(metric(), maps, None)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(UserError, match=r"tolerance=-1 must be a number from 0"):
        PointingGame(tolerance=-1)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (PointingGame, "PointingGame"),
        (RelevanceMass, "RelevanceMassAccuracy"),
        (RelevanceRank, "RelevanceRankAccuracy"),
    ],
)
def test_it_equals_quantus(metric: type[ImageMetric], name: str) -> None:
    quantus = pytest.importorskip("quantus")
    generator = torch.Generator().manual_seed(3)
    maps, masks = torch.rand(6, 32, 32, generator=generator), torch.zeros(6, 32, 32, dtype=torch.bool)
    masks[:, 3:25, 4:28] = True
    theirs = getattr(quantus, name)(abs=False, normalise=False, disable_warnings=True)
    expected = theirs(
        model=small_cnn(),
        x_batch=random_images(6, 32).numpy(),
        y_batch=torch.zeros(6, dtype=torch.int64).numpy(),
        a_batch=maps[:, None].numpy(),
        s_batch=masks[:, None].numpy(),
        device="cpu",
    )
    found = measured(metric(), maps, masks)[metric().name]
    assert found == pytest.approx([float(value) for value in expected], rel=1e-5)
    assert len(set(found)) > 1
