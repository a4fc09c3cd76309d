"""Ablation-CAM against its closed form and a slow twin, on networks that a layer cuts in two and on others."""

import pytest
import timm
import torch
from torch import Tensor, nn

from layer_twin import enlarged, first_cell, signals
from seewhy.core.errors import Incompatible
from seewhy.core.types import Targets
from seewhy.explainers.cam import AblationCam, GradCam
from seewhy.explainers.layer_signals import record_activation
from seewhy.models.classifier import Classifier
from seewhy.models.layers import measure_grid
from tiny import classifier_of, looked_over, random_images, small_cnn

TARGETS = torch.tensor([3, 7])


def measure_drops(
    classifier: Classifier, layer: str, image: Tensor, target: int, cells: slice = slice(0, None)
) -> Tensor:
    """f - f_k of every channel k, one full pass each; channels are the second axis, of tokens the last."""
    channels = signals(classifier, layer, image, target)[0].shape
    count = channels[0] if len(channels) == 3 else channels[-1]
    drops = []
    with torch.no_grad():
        score = classifier(image[None])[0, target]
        for channel in range(count):

            def ablate(module: nn.Module, arguments: object, output: Tensor, channel: int = channel) -> Tensor:
                changed = output.clone()
                if output.ndim == 4:
                    changed[:, channel] = 0
                else:
                    changed[:, cells, channel] = 0
                return changed

            handle = classifier.find_layer(layer).register_forward_hook(ablate)
            drops.append(score - classifier(image[None])[0, target])
            handle.remove()
    return torch.stack(drops)


@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_slow_twin(layer: str) -> None:
    """Desai and Ramaswamy 2020, equations 2 and 3, without the division by the score."""
    classifier, images = small_cnn(), random_images(2, 32)
    maps = AblationCam(layer=layer, probe_batch_size=5)(classifier, images, TARGETS)
    for image, target, found in zip(images, TARGETS.tolist(), maps, strict=True):
        drops = measure_drops(classifier, layer, image, target)
        small = (drops[:, None, None] * signals(classifier, layer, image, target)[0]).sum(0).clamp_min(0)
        torch.testing.assert_close(found, enlarged(small, 32, *first_cell(layer)))


def test_a_linear_head_weighs_channels_with_grad_cam_times_their_sum() -> None:
    """f - f_k = w_k mean(A_k): the weight of Grad-CAM times the sum of the channel."""
    torch.manual_seed(0)
    dense = nn.Linear(5, 3)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    classifier, images, targets = classifier_of(network, 10, 3), random_images(2, 10), torch.tensor([0, 2])
    maps = AblationCam(layer="1", probe_batch_size=4)(classifier, images, targets)
    for image, target, found in zip(images, targets.tolist(), maps, strict=True):
        features = signals(classifier, "1", image, target)[0]
        weights = dense.weight.detach()[target] * features.mean((1, 2))
        torch.testing.assert_close(found, enlarged((weights[:, None, None] * features).sum(0).relu(), 10, 1.0, 1.0))


def test_a_negative_score_does_not_turn_the_map_over() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    maps = AblationCam(probe_batch_size=8)(classifier, images, TARGETS)
    classifier.network.fc3.bias.data -= 100.0  # type: ignore[union-attr,operator]
    assert bool((classifier(images) < 0).all())
    torch.testing.assert_close(AblationCam(probe_batch_size=8)(classifier, images, TARGETS), maps, rtol=1e-6, atol=1e-9)


class Bypassed(nn.Module):
    """Something passes `layer` by, and it may run twice."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.layer = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head, self.runs = nn.Linear(4, 10), runs

    def forward(self, images: Tensor) -> Tensor:
        first = self.stem(images).relu()
        features = first
        for _ in range(self.runs):
            features = self.layer(features).sin()
        return self.head((features + first).relu().mean((2, 3)))


def test_where_something_passes_the_layer_by_every_row_runs_as_a_whole() -> None:
    classifier, images = classifier_of(Bypassed(1), 12, 10), random_images(2, 12)
    maps = AblationCam(layer="layer", probe_batch_size=3)(classifier, images, TARGETS)
    for image, target, found in zip(images, TARGETS.tolist(), maps, strict=True):
        drops = measure_drops(classifier, "layer", image, target)
        small = (drops[:, None, None] * signals(classifier, "layer", image, target)[0]).sum(0).clamp_min(0)
        torch.testing.assert_close(found, enlarged(small, 12))
    assert bool(maps.any())


def test_of_a_layer_that_runs_twice_the_last_run_is_ablated() -> None:
    classifier, images = classifier_of(Bypassed(2), 12, 10), random_images(1, 12)
    found = AblationCam(layer="layer", probe_batch_size=3)(classifier, images, TARGETS[:1])
    network = classifier.network
    normalised = (images - classifier.mean) / classifier.std
    with torch.no_grad():
        first = network.stem(normalised).relu()
        features = network.layer(network.layer(first).sin())
        score = network.head((features.sin() + first).relu().mean((2, 3)))[0, 3]
        drops = []
        for channel in range(4):
            changed = features.clone()
            changed[:, channel] = 0
            drops.append(score - network.head((changed.sin() + first).relu().mean((2, 3)))[0, 3])
    small = (torch.stack(drops)[:, None, None] * features[0]).sum(0).relu()
    torch.testing.assert_close(found[0], enlarged(small, 12))


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_tokens(pool: str) -> None:
    """The channels of the patches are ablated, not that of the class token."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit", img_size=64, num_classes=10, global_pool=pool)
    classifier, images, layer = classifier_of(network, 64, 10), random_images(1, 64), "blocks.4"
    found = AblationCam(layer=layer, probe_batch_size=16)(classifier, images, TARGETS[:1])
    tokens = signals(classifier, layer, images[0], 3)[0]
    drops = measure_drops(classifier, layer, images[0], 3, slice(network.num_prefix_tokens, None))
    small = (tokens[network.num_prefix_tokens :] @ drops).view(4, 4).clamp_min(0)
    torch.testing.assert_close(found[0], enlarged(small, 64), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_behind_the_last_attention_only_the_class_token_counts() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(timm.create_model("test_vit", img_size=64, num_classes=10), 64, 10)
    with pytest.raises(Incompatible, match="only the class token counts"):
        AblationCam(layer="blocks.5", probe_batch_size=16)(classifier, random_images(1, 64), TARGETS[:1])


def test_batches_are_filled_and_bounded_and_channels_that_are_zero_cost_nothing() -> None:
    classifier, images = looked_over(small_cnn()), random_images(2, 32)
    measure_grid(classifier, "relu2", (32, 32))
    AblationCam(probe_batch_size=7)(classifier, images, TARGETS)
    sizes: list[int] = []
    handle = classifier.network.fc1.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))  # type: ignore[union-attr]
    classifier.network.conv2.bias.data[:4] = -100.0  # type: ignore[union-attr,index]
    AblationCam(probe_batch_size=7)(classifier, images, TARGETS)
    handle.remove()
    features = record_activation(classifier, classifier.find_layer("relu2"), images)[0]
    alive = int((features != 0).flatten(2).any(2).sum())
    assert alive <= 24
    bound = 7 * (6 * 28 * 28 // (16 * 10 * 10))  # what the largest map below takes for seven images
    full, rest = divmod(alive, bound)
    assert sizes == [2, 2, *[bound] * full, *([rest] if rest else [])], "the images, the check of the cut, the channels"


def test_a_pass_takes_as_many_rows_as_fit_into_the_memory_of_its_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 40, 8, stride=8), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10)
    )
    classifier, images = looked_over(classifier_of(network, 32, 10)), random_images(2, 32)
    explainer = AblationCam(layer="1", probe_batch_size=3)
    maps = explainer(classifier, images, TARGETS)
    sizes: list[int] = []
    handle = network[4].register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    passes = classifier.passes.forward
    torch.testing.assert_close(explainer(classifier, images, TARGETS), maps, rtol=0, atol=0)
    handle.remove()
    assert sizes == [2, 2, 12, 12, 12, 12, 12, 12, 8], (
        "3 x 32 x 32 values of an image are 4.8 x 40 x 4 x 4 at the layer"
    )
    assert classifier.passes.forward - passes == 2 + 1 + 7
    torch.testing.assert_close(AblationCam(layer="1", probe_batch_size=100)(classifier, images, TARGETS), maps)


def test_a_contrast_and_a_dead_layer() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    weights = torch.zeros(2, 10).double()
    weights[:, 3], weights[:, 7] = 1.0, -1.0
    maps = AblationCam(probe_batch_size=8)(classifier, images, Targets(weights))
    assert bool(maps.any()) and not torch.allclose(
        maps, GradCam(probe_batch_size=8)(classifier, images, Targets(weights))
    )
    classifier.network.conv2.bias.data.fill_(-100.0)  # type: ignore[union-attr,operator]
    assert not bool(AblationCam(probe_batch_size=8)(classifier, images, TARGETS).any())
