"""Completeness: zero for an exact map, the gap by hand otherwise, against the baseline of the explainer."""

import math

import pytest
import torch

from seewhy.explainers.base import Explainer
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.average_drop import Completeness
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 8), torch.tensor([2, 0, 1])


def measured(maps: torch.Tensor, explainer: Explainer | None) -> dict[str, torch.Tensor]:
    classifier, metric = linear_classifier()[0], Completeness()
    context = MetricContext(classifier, IMAGES, TARGETS, maps, explainer=explainer, probe_batch_size=4)
    metric.update(classifier, IMAGES, TARGETS, maps, context=context)
    return metric.compute()


def exact(baseline: str) -> torch.Tensor:
    return (linear_classifier()[1][TARGETS] * (IMAGES - build_baselines(baseline, IMAGES))).sum(1)


@pytest.mark.parametrize("baseline", ["black", "white", "blurred"])
def test_an_exact_map_has_no_gap_against_the_baseline_of_its_explainer(baseline: str) -> None:
    found = measured(exact(baseline), IntegratedGradients(baseline=baseline, probe_batch_size=4))
    assert found["completeness"].max() < 1e-5
    torch.testing.assert_close(found["completeness_change"], exact(baseline).sum((1, 2)).float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("explainer", [None, InputXGradient()])
def test_any_other_map_is_held_against_black(explainer: Explainer | None) -> None:
    assert measured(exact("black"), explainer)["completeness"].max() < 1e-5
    assert measured(exact("white"), explainer)["completeness"].min() > 1e-3


def test_the_gap_by_hand_and_the_value_of_degenerate_maps() -> None:
    change = exact("black").sum((1, 2))
    found = measured(3 * exact("black"), None)
    torch.testing.assert_close(found["completeness"], 2 * change.abs().float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["completeness_relative"], torch.full((3,), 2.0), rtol=1e-3, atol=1e-3)
    nothing = measured(torch.zeros(3, 8, 8), None)
    torch.testing.assert_close(nothing["completeness"], change.abs().float(), rtol=1e-4, atol=1e-5)
    assert nothing["completeness_relative"].tolist() == pytest.approx([1] * 3)
    broken = exact("black")
    broken[1, 0, 0] = math.nan
    assert measured(broken, None)["completeness"].isnan().tolist() == [False, True, False]


def test_the_gap_of_a_real_network_is_the_one_that_the_explainer_reports() -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([1, 2])
    explainer, metric = IntegratedGradients(n_steps=3, rule="riemann_left", probe_batch_size=4), Completeness()
    attributed = explainer.attribute(classifier, images, targets)
    context = MetricContext(classifier, images, targets, attributed.maps, explainer=explainer, probe_batch_size=4)
    metric.update(classifier, images, targets, attributed.maps, context=context)
    torch.testing.assert_close(
        metric.compute()["completeness"], attributed.facts["completeness_gap"].abs().float(), rtol=1e-4, atol=1e-6
    )
    assert metric.compute()["completeness"].min() > 1e-4
