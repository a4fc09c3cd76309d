"""Average drop and increase in confidence by hand on a sum, and against a loop."""

import math

import pytest
import torch
from torch import nn

from seewhy.core.errors import UserError
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.average_drop import AverageDrop, IncreaseInConfidence
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn

MAP = torch.tensor([[2.0, 1.0], [0.0, -4.0]])
MASKS = ("soft", "binary_logit", "top_half")


def sum_classifier(weight: float = 1.0) -> Classifier:
    """Logits (weight * sum of the red channel, 0): the probability of class 0 is its sigmoid."""
    layer = nn.Linear(12, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :4] = weight
        layer.bias.zero_()
    return classifier_of(nn.Sequential(nn.Flatten(), layer), 2, 2, normalised=False)


def measured(
    metric: AverageDrop | IncreaseInConfidence, maps: torch.Tensor, weight: float = 1.0
) -> dict[str, list[float]]:
    images, targets = torch.ones(len(maps), 3, 2, 2), torch.zeros(len(maps), dtype=torch.int64)
    classifier = sum_classifier(weight)
    context = MetricContext(classifier, images, targets, maps, probe_batch_size=3)
    metric.update(classifier, images, targets, maps, context=context)
    return {label: values.tolist() for label, values in metric.compute().items()}


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize(
    ("mask", "drop", "coverage"),
    [
        ("soft", 100 * (sigmoid(4) - sigmoid(1.5)) / sigmoid(4), 1.5 / 4),
        ("binary_logit", 50, 0.5),
        ("top_half", 100 * (sigmoid(4) - sigmoid(2)) / sigmoid(4), 0.5),
    ],
)
def test_the_drop_of_a_sum_by_hand(mask: str, drop: float, coverage: float) -> None:
    metric = AverageDrop(mask)
    found = measured(metric, MAP[None])
    assert found[metric.name] == [pytest.approx(drop, rel=1e-5)]
    assert found[f"{metric.name}_coverage"] == [coverage]


@pytest.mark.parametrize(("weight", "score"), [(1.0, 0.0), (-1.0, 100.0)])
@pytest.mark.parametrize("mask", MASKS)
def test_confidence_rises_where_what_is_left_out_speaks_against(mask: str, weight: float, score: float) -> None:
    metric = IncreaseInConfidence(mask)
    assert measured(metric, MAP[None], weight)[metric.name] == [score]
    assert measured(AverageDrop(mask), MAP[None], 1.0)[AverageDrop(mask).name][0] > 0


@pytest.mark.parametrize("mask", ["soft", "binary_logit"])
def test_a_map_that_is_positive_everywhere_scores_a_perfect_drop_and_shows_it(mask: str) -> None:
    metric = AverageDrop(mask)
    found = measured(metric, torch.full((1, 2, 2), 0.7))
    assert found == {metric.name: [0.0], f"{metric.name}_coverage": [1.0]}


def test_without_a_positive_value_nothing_is_kept() -> None:
    found = measured(AverageDrop(), torch.stack([0 * MAP, -MAP.abs() - 1]))
    assert found["average_drop"] == [pytest.approx(100 * (sigmoid(4) - 0.5) / sigmoid(4), rel=1e-5)] * 2
    assert found["average_drop_coverage"] == [0, 0]
    assert measured(AverageDrop("binary_logit"), 0 * MAP[None])["average_drop_binary_logit"] == [100.0]


def test_it_is_not_defined_without_a_score_to_lose_or_without_a_map() -> None:
    assert math.isnan(measured(AverageDrop("binary_logit"), MAP[None], -1.0)["average_drop_binary_logit"][0])
    assert math.isnan(measured(AverageDrop(), MAP[None], -10.0)["average_drop"][0])
    broken = MAP.clone()
    broken[0, 0] = torch.nan
    for metric in (AverageDrop(), IncreaseInConfidence()):
        found = measured(metric, torch.stack([broken, MAP]))
        assert [math.isnan(values[0]) for values in found.values()] == [True, True]
        assert not any(math.isnan(values[1]) for values in found.values())


@pytest.mark.parametrize("mask", MASKS)
def test_it_equals_the_loop(mask: str) -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 2])
    maps = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    drops, rises = [], []
    for image, target, attribution in zip(images, targets, maps, strict=True):
        if mask == "soft":
            kept = torch.where(attribution > 0, attribution, 0) / attribution.max()
        elif mask == "binary_logit":
            kept = (attribution > 0).float()
        else:
            kept = (attribution > attribution.median()).float()
        logits = classifier(torch.stack([image, image * kept])).detach()
        y, o = (logits if mask == "binary_logit" else logits.softmax(1))[:, target].tolist()
        drops.append(100 * max(0, y - o) / y if y > 1e-6 else math.nan)
        rises.append(100.0 * (y < o))
    context = MetricContext(classifier, images, targets, maps, probe_batch_size=2)
    earlier = classifier.passes.forward
    found = {}
    for metric in (AverageDrop(mask), IncreaseInConfidence(mask)):
        metric.update(classifier, images, targets, maps, context=context)
        found |= metric.compute()
    assert classifier.passes.forward - earlier == 6, "both share the pass of the image and that of its kept part"
    torch.testing.assert_close(found[AverageDrop(mask).name], torch.tensor(drops), rtol=1e-3, atol=1e-4, equal_nan=True)
    assert found[IncreaseInConfidence(mask).name].tolist() == rises


def test_monotone_changes_of_the_map_leave_the_better_half() -> None:
    maps = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0))
    assert measured(AverageDrop("top_half"), maps) == measured(AverageDrop("top_half"), (5 * maps).exp() - 3)


def test_an_unknown_mask_is_refused() -> None:
    with pytest.raises(UserError, match=r"metric.average_drop.mask=hard must be soft, binary_logit or top_half"):
        AverageDrop("hard")
