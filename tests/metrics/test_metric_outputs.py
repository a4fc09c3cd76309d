"""Every metric on networks of one logit, of several labels, in a container and on contrasts: the right value by a twin."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_metric_contract import EXPLAINER, IMAGES, MASKS, assert_equal, every_metric, metric_of
from torch import Tensor
from torch.nn import functional

from output_networks import classifier_of, take_logit, weigh_logit
from seewhy.core.errors import Incompatible
from seewhy.core.types import Targets
from seewhy.metrics.base import MetricContext
from seewhy.models.classifier import Classifier

MAPS = EXPLAINER(classifier_of(take_logit, 2, "binary"), IMAGES, torch.tensor([1, 1]))
BY_OTHER_CLASSES = frozenset(("random_logit",))
"""Compares with a class drawn from the others, which these networks do not share; contrasts are refused."""


def measure(path: Path, classifier: Classifier, targets: Any) -> dict[str, Tensor]:
    metric, weighed = metric_of(path), Targets.of(targets)
    options: dict[str, Any] = {"explainer": EXPLAINER, "masks": MASKS, "probe_batch_size": 5}
    context = MetricContext(classifier, IMAGES, weighed, MAPS, **options)
    metric.update(classifier, IMAGES, weighed, MAPS, context=context)
    return metric.compute()


@pytest.mark.slow
@every_metric
def test_one_logit_is_measured_as_two_logits_of_which_one_is_zero(path: Path) -> None:
    if path.stem in BY_OTHER_CLASSES:
        pytest.skip("the other class is the logit with the other sign here, and zero there")
    pair = classifier_of(lambda y: torch.cat([0 * take_logit(y), take_logit(y)], 1), 2, "softmax")
    binary = classifier_of(take_logit, 2, "binary")
    assert_equal(measure(path, binary, torch.tensor([1, 1])), measure(path, pair, torch.tensor([1, 1])))


@pytest.mark.slow
@every_metric
def test_a_label_of_several_is_measured_as_one_logit(path: Path) -> None:
    if path.stem in BY_OTHER_CLASSES:
        pytest.skip("there are other labels here, and one other class there")
    several = classifier_of(lambda y: torch.cat([take_logit(y), y[:, :4]], 1), 5, "sigmoid")
    binary = classifier_of(take_logit, 2, "binary")
    assert_equal(measure(path, several, torch.tensor([0, 0])), measure(path, binary, torch.tensor([1, 1])))


@pytest.mark.slow
@every_metric
def test_scores_inside_of_a_container_are_measured_as_they_are(path: Path) -> None:
    held, plain = (classifier_of(wrap, 10, "softmax") for wrap in (lambda y: {"logits": y}, lambda y: y))
    assert_equal(measure(path, held, torch.tensor([3, 7])), measure(path, plain, torch.tensor([3, 7])))


@pytest.mark.slow
@every_metric
def test_a_contrast_is_measured_as_a_network_that_gives_the_difference(path: Path) -> None:
    classifier, alone = classifier_of(lambda y: y, 10, "none"), classifier_of(take_logit, 1, "none")
    if path.stem in BY_OTHER_CLASSES:
        with pytest.raises(Incompatible, match="one class an image"):
            measure(path, classifier, weigh_logit())
        return
    assert_equal(measure(path, classifier, weigh_logit()), measure(path, alone, torch.tensor([0, 0])))


def test_probabilities_that_a_network_gives_are_measured_as_they_are() -> None:
    path = Path(__file__).parents[2] / "configs" / "metric" / "deletion.yaml"
    inside = classifier_of(lambda y: (20 * y).softmax(1), 10, "softmax", gives_probabilities=True)
    outside = classifier_of(lambda y: 20 * y, 10, "softmax")
    targets = torch.tensor([3, 7])
    assert_equal(measure(path, inside, targets), measure(path, outside, targets))
    with torch.no_grad():
        torch.testing.assert_close(inside(IMAGES), functional.softmax(outside(IMAGES), 1))
