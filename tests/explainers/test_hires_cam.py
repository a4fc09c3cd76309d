"""HiResCAM against its closed form, a slow twin and its degenerate case."""

import pytest
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.core.types import Targets
from seewhy.explainers.cam import CamLayer, GradCam, HiresCam
from seewhy.models.batched import BatchedEvaluator
from tiny import classifier_of, random_images, small_cnn


def twin(activation: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020, equation 5, one cell after the other."""
    summed = torch.zeros_like(activation[0])
    for row in range(summed.shape[0]):
        for column in range(summed.shape[1]):
            cells = zip(gradient[:, row, column].tolist(), activation[:, row, column].tolist(), strict=True)
            summed[row, column] = max(0.0, sum(slope * value for slope, value in cells))
    return summed


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_slow_twin(layer: str) -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    maps = HiresCam(layer=layer, probe_batch_size=2)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        small = twin(*signals(classifier, layer, image, int(target)))
        torch.testing.assert_close(found, enlarged(small, 32, *first_cell(layer)))


def test_cells_before_a_dense_layer_add_up_to_the_score_without_its_bias() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(4 * 6 * 6, 3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), dense)
    classifier, images, targets = classifier_of(network, 8, 3), random_images(2, 8), torch.tensor([0, 2])
    evaluator = BatchedEvaluator(classifier, images[0], 2)
    layer = CamLayer(evaluator, images, "1")
    coarse = HiresCam(layer="1")._compute_coarse(evaluator, layer, images, Targets(targets))
    scores = classifier(images)[torch.arange(2), targets] - dense.bias[targets]
    torch.testing.assert_close(coarse.sum((1, 2)), scores.detach())


def test_equal_to_grad_cam_where_a_channel_has_the_same_gradient_in_every_cell() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    classifier, images, targets = classifier_of(network, 10, 3), random_images(2, 10), torch.tensor([0, 2])
    maps = HiresCam(layer="1", probe_batch_size=4)(classifier, images, targets)
    assert bool(maps.any())
    torch.testing.assert_close(maps, GradCam(layer="1", probe_batch_size=4)(classifier, images, targets))
