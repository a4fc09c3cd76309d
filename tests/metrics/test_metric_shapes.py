"""Every metric on images of one, four and thirteen channels and of rectangles: against twins of known values."""

from pathlib import Path

import pytest
import torch
from test_metric_contract import every_metric, metric_of
from torch import Tensor

from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.metrics.base import MetricContext
from seewhy.models.classifier import Classifier
from shaped import ignore_further_channels, images_of, same_draws, see_grey, shaped_cnn, transpose

SHAPE = (24, 40)
EXPLAINER = IntegratedGradients(n_steps=4, probe_batch_size=7)
MASKS = torch.zeros(2, *SHAPE, dtype=torch.bool)
MASKS[0, 4:9, 20:38] = True
MASKS[1, 15:, 2:20] = True
OTHER_DRAWS = {
    "max_sensitivity",
    "stability",
    "model_randomization",
    "model_randomization_cascading",
    "model_randomization_independent",
    "efficient_model_randomization",
}
"""Noise or weights are drawn for each channel: more channels draw others."""
SHAPED_DRAWS = OTHER_DRAWS | {
    "f_fidelity",
    "infidelity",
    "infidelity_normalised",
    "faithfulness_correlation",
    "sensitivity_n",
    "road",
    "srg_imputed",
    "srg_noise",
}
"""What is drawn for rows and columns is no other drawing with columns and rows."""


def targets_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Classes whose score is positive and above that of a black image: every metric is defined."""
    logits, black = (classifier(each).detach() for each in (images, 0 * images))
    return (logits - black).masked_fill(logits <= 0, -torch.inf).argmax(1)


def measure(path: Path, classifier: Classifier, images: Tensor, targets: Tensor, masks: Tensor = MASKS) -> Tensor:
    """The value of each image, for maps that twins share."""
    with same_draws():
        maps = EXPLAINER(classifier, images, targets)
        context = MetricContext(classifier, images, targets, maps, explainer=EXPLAINER, masks=masks, probe_batch_size=7)
        metric = metric_of(path)
        metric.update(classifier, images, targets, maps, context=context)
        values = next(iter(metric.compute().values()))
    assert values.shape == (2,)
    assert not bool(values.isnan().all())
    return values


@pytest.mark.slow
@every_metric
@pytest.mark.parametrize("channels", [4, 13])
def test_channels_that_the_network_ignores_change_no_value(path: Path, channels: int) -> None:
    classifier, images = shaped_cnn(3, SHAPE, seed=2), images_of(channels, SHAPE)
    targets = targets_of(classifier, images[:, :3])
    values = measure(path, ignore_further_channels(classifier, channels), images, targets)
    if path.stem not in OTHER_DRAWS:
        expected = measure(path, classifier, images[:, :3], targets)
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.slow
@every_metric
def test_a_grey_image_has_the_value_of_its_three_equal_channels(path: Path) -> None:
    classifier, grey = shaped_cnn(3, SHAPE, seed=2), images_of(1, SHAPE)
    colours = grey.expand(-1, 3, -1, -1).contiguous()
    targets = targets_of(classifier, colours)
    values = measure(path, see_grey(classifier), grey, targets)
    if path.stem not in OTHER_DRAWS | {"road", "srg_imputed", "srg_noise"}:  # their noise is that of each channel
        expected = measure(path, classifier, colours, targets)
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.slow
@every_metric
def test_a_transposed_image_has_the_same_value(path: Path) -> None:
    classifier, images = shaped_cnn(4, SHAPE, seed=2), images_of(4, SHAPE)
    targets = targets_of(classifier, images)
    values = measure(path, transpose(classifier), images.mT.contiguous(), targets, MASKS.mT.contiguous())
    if path.stem not in SHAPED_DRAWS:
        expected = measure(path, classifier, images, targets)
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7, equal_nan=True)
