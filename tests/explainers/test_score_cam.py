"""Score-CAM against a slow twin, its channels, its passes and another implementation."""

import contextlib
import io

import pytest
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.core.errors import UserError
from seewhy.explainers.cam import ScoreCam, select_varied_channels, stretch
from seewhy.models.classifier import Classifier
from seewhy.models.layers import measure_grid
from tiny import classifier_of, looked_over, random_images, small_cnn


def twin(classifier: Classifier, layer: str, image: Tensor, target: int, chosen: list[int] | None = None) -> Tensor:
    """Wang et al. 2020, algorithm 1, one channel after the other, with the black image as the baseline."""
    activation = signals(classifier, layer, image, target)[0]
    channels = [k for k in chosen or range(len(activation)) if activation[k].amax() > activation[k].amin()]
    with torch.no_grad():
        black = classifier(torch.zeros_like(image)[None])[0, target]
        increases = []
        for channel in channels:
            mask = enlarged(activation[channel], image.shape[-1], *first_cell(layer))
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            increases.append(classifier((image * mask)[None])[0, target] - black)
    weights = torch.stack(increases).exp() / torch.stack(increases).exp().sum()
    small = sum(weight * activation[channel] for weight, channel in zip(weights, channels, strict=True))
    return enlarged(torch.as_tensor(small).clamp_min(0), image.shape[-1], *first_cell(layer))


def steep_cnn() -> Classifier:
    """Logits far enough apart that the softmax over the channels is far from uniform."""
    classifier = small_cnn()
    classifier.network.fc3.weight.data.mul_(50)  # type: ignore[union-attr]
    return classifier


def test_slow_twin() -> None:
    classifier, images, targets = steep_cnn(), random_images(2, 32), torch.tensor([3, 7])
    maps = ScoreCam(probe_batch_size=5)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        torch.testing.assert_close(found, twin(classifier, "relu2", image, int(target)), rtol=1e-4, atol=1e-6)


def test_the_channels_that_vary_most() -> None:
    classifier, image = steep_cnn(), random_images(1, 32)
    variances = signals(classifier, "relu2", image[0], 3)[0].flatten(1).var(1)
    chosen = sorted(variances.argsort(descending=True)[:3].tolist())
    found = ScoreCam(channels=3, probe_batch_size=5)(classifier, image, torch.tensor([3]))
    torch.testing.assert_close(found[0], twin(classifier, "relu2", image[0], 3, chosen), rtol=1e-4, atol=1e-6)
    everything = ScoreCam(probe_batch_size=5)(classifier, image, torch.tensor([3]))
    more = ScoreCam(channels=99, probe_batch_size=5)(classifier, image, torch.tensor([3]))
    assert torch.equal(more, everything)


def test_constant_channels_are_left_out() -> None:
    features = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    features[0, 2] = 5.0
    features[1] = 0.0
    assert select_varied_channels(features, None).tolist() == [[0, 0], [0, 1], [0, 3]]


def test_a_dead_layer_gives_an_empty_map_without_a_pass_for_masks() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3)
    convolution.bias.data.fill_(-100.0)  # type: ignore[union-attr]
    network = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    classifier = classifier_of(network, 8, 3)
    maps = ScoreCam(layer="1", probe_batch_size=4)(classifier, random_images(2, 8), torch.tensor([0, 1]))
    assert not bool(maps.any())
    assert classifier.passes.forward == 2


def test_masks_run_from_0_to_1() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[2.0, 2.0], [2.0, 2.0]]])
    assert torch.equal(stretch(maps)[0], torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert not bool(stretch(maps)[1].any())


def test_batches_are_filled_and_bounded() -> None:
    classifier, images = looked_over(small_cnn()), random_images(3, 32)
    measure_grid(classifier, "relu2", (32, 32))
    sizes: list[int] = []
    handle = classifier.network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    ScoreCam(probe_batch_size=7)(classifier, images, torch.tensor([0, 1, 2]))
    handle.remove()
    masks = sum(sizes) - 3
    assert sizes == [3, *[7] * (masks // 7), *([masks % 7] if masks % 7 else [])]
    assert 30 <= masks <= 48


def test_bad_channels() -> None:
    with pytest.raises(UserError, match=r"explainer.channels=0"):
        ScoreCam(channels=0)


@pytest.mark.oracle
def test_equal_to_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    output_of = pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    torch.manual_seed(0)
    # as large as the image: the library enlarges its masks with aligned corners
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 64, 3))
    classifier, image = classifier_of(network, 8, 3), random_images(1, 8)
    layer = classifier.find_layer("0")
    activation = signals(classifier, "0", image[0], 1)[0][None].numpy()
    with contextlib.redirect_stderr(io.StringIO()), library.ScoreCAM(model=classifier, target_layers=[layer]) as cam:
        small = cam.get_cam_image(image, layer, [output_of(1)], activation, None, False)
    maps = ScoreCam(layer="0", probe_batch_size=4)(classifier, image, torch.tensor([1]))
    torch.testing.assert_close(maps[0], torch.tensor(small[0]).relu(), rtol=1e-4, atol=1e-6)
