"""What holds for every class activation map: layers, tokens, batches, passes and a classifier left as it was."""

import pytest
import timm
import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers.cam import Cam, EigenCam, GradCam, GradCamPlusPlus, LayerCam, ScoreCam
from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn

METHODS = [GradCam, GradCamPlusPlus, LayerCam, ScoreCam, EigenCam]
each = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


def transformer(name: str = "test_vit", seed: int = 0, **options: object) -> Classifier:
    torch.manual_seed(seed)
    return classifier_of(timm.create_model(name, img_size=64, num_classes=5, **options), 64, 5)


@each
def test_maps_do_not_depend_on_batches(method: type[Cam]) -> None:
    classifier, images, targets = small_cnn(), random_images(4, 32), torch.tensor([3, 7, 0, 3])
    whole = method(probe_batch_size=16)(classifier, images, targets)
    assert float(whole.amax()) > 0
    for size in (1, 3, 7):
        torch.testing.assert_close(method(probe_batch_size=size)(classifier, images, targets), whole)
    order = [2, 0]
    torch.testing.assert_close(method(probe_batch_size=16)(classifier, images[order], targets[order]), whole[order])


@each
def test_no_hook_stays_also_after_an_error(method: type[Cam]) -> None:
    classifier, images = small_cnn(), random_images(1, 32)
    method(probe_batch_size=16)(classifier, images, torch.tensor([1]))
    assert not any(module._forward_hooks for module in classifier.modules())
    with pytest.raises(Incompatible):
        method(layer="fc1", probe_batch_size=16)(classifier, images, torch.tensor([1]))
    assert not any(module._forward_hooks for module in classifier.modules())


@pytest.mark.slow
@each
@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("test_vit", {}, 4),
        ("test_vit3", {}, 4),
        ("deit_tiny_distilled_patch16_224", {"depth": 2}, 4),
        ("swin_tiny_patch4_window7_224", {"window_size": 2, "depths": (1, 1), "num_heads": (1, 2)}, 8),
    ],
)
def test_transformers_give_a_map_of_their_patches(
    method: type[Cam], name: str, options: dict[str, object], side: int
) -> None:
    classifier = transformer(name, **options)
    images = random_images(2, 64)
    explainer = method(probe_batch_size=16, **({"channels": 4} if method is ScoreCam else {}))
    maps = explainer(classifier, images, torch.tensor([1, 4]))
    assert maps.shape == (2, 64, 64)
    assert float(maps.amax((1, 2)).amin()) > 0
    coarse = maps.unflatten(1, (side, -1)).unflatten(3, (side, -1))
    assert float(coarse.std((2, 4)).amax()) < float(maps.std()) * 2, "smooth inside a patch"


def test_a_patch_of_a_vit_lands_where_it_is_in_the_image() -> None:
    classifier = transformer()
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 16:32, 48:64] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = EigenCam(layer="patch_embed", probe_batch_size=16)(classifier, images, torch.tensor([0]))
    patches = maps[0, 8::16, 8::16]
    odd = (patches - patches.median()).abs()
    assert divmod(int(odd.argmax()), 4) == (1, 3)
    assert int((odd > 0.5 * odd.amax()).sum()) == 1


@pytest.mark.slow
def test_the_class_token_alone_is_refused() -> None:
    classifier = transformer()
    with pytest.raises(Incompatible, match=r"'blocks'.*explainer.layer=blocks.4"):
        GradCam(layer="blocks", probe_batch_size=4)(classifier, random_images(1, 64), torch.tensor([0]))


def test_a_layer_without_positions_names_one_that_has() -> None:
    with pytest.raises(Incompatible, match=r"'fc1'.*1x1 cells at 32x32.*explainer.layer=relu2"):
        GradCam(layer="fc1", probe_batch_size=4)(small_cnn(), random_images(1, 32), torch.tensor([0]))


def test_a_single_position_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(Incompatible, match=r"2x2.*explainer.layer=0 "):
        GradCam(layer="1", probe_batch_size=4)(classifier_of(network, 8, 3), random_images(1, 8), torch.tensor([0]))


def test_a_wrong_layer_lists_candidates() -> None:
    with pytest.raises(UserError, match=r"'relu9'.*relu2"):
        GradCam(layer="relu9", probe_batch_size=4)(small_cnn(), random_images(1, 32), torch.tensor([0]))


class Sidetracked(nn.Module):
    """A network with a layer that does not run, one whose output is lost, and one that gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.lost, self.idle = (nn.Conv2d(3, 4, 3) for _ in range(3))
        self.pair = nn.LSTM(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.lost(images)
        features, _ = self.pair(self.used(images).mean(2).permute(2, 0, 1))
        return self.head(features.mean(0))


@pytest.mark.parametrize(
    ("layer", "message"), [("idle", "no part"), ("lost", "does not depend"), ("pair", "tuple instead of a tensor")]
)
def test_layers_that_cannot_be_explained(layer: str, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(Incompatible, match=message):
        GradCam(layer=layer, probe_batch_size=4)(
            classifier_of(Sidetracked(), 8, 3), random_images(1, 8), torch.tensor([0])
        )


@each
def test_an_activation_in_place_does_not_change_the_recorded_layer(method: type[Cam]) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 8 * 8, 3)]
    nn.Sequential(*layers).double()  # both classifiers normalise in the precision of their network
    apart = classifier_of(nn.Sequential(*layers), 12, 3)
    in_place = classifier_of(nn.Sequential(layers[0], nn.ReLU(inplace=True), *layers[2:]), 12, 3)
    images, targets = random_images(2, 12), torch.tensor([0, 2])
    explainer = method(layer="0", probe_batch_size=4)
    torch.testing.assert_close(explainer(in_place, images, targets), explainer(apart, images, targets))


@each
def test_passes(method: type[Cam]) -> None:
    classifier, images = small_cnn(), random_images(3, 32)
    explainer = ScoreCam(channels=5, probe_batch_size=4) if method is ScoreCam else method(probe_batch_size=4)
    explainer(classifier, images, torch.tensor([0, 1, 2]))
    forward, backward = explainer.passes_per_image(size=32, classes=10) or (0, 0)
    assert (classifier.passes.forward, classifier.passes.backward) == (3 * forward, 3 * backward)


@pytest.mark.slow
def test_the_search_for_a_layer_costs_no_counted_pass() -> None:
    classifier, images = transformer(), random_images(2, 64)
    GradCam(probe_batch_size=4)(classifier, images, torch.tensor([0, 1]))
    assert (classifier.passes.forward, classifier.passes.backward) == (2, 2)


def test_enlarging_keeps_the_place_and_the_value_at_the_centres() -> None:
    small = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    axis = GridAxis(2, 0.0, 3.0, 6, (0, 6))
    large = CellGrid(BatchLayout(), (2, 3), None, axis, axis).enlarge(small)
    torch.testing.assert_close(large[:, [1, 1, 4, 4], [1, 4, 1, 4]], small.flatten(1))
    assert float(large[0, 0, 0]) == 0 and float(large[0, 5, 5]) == 3
