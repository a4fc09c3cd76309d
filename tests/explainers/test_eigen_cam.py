"""Eigen-CAM against a singular value decomposition, its sign, and another implementation."""

import pytest
import torch

from layer_twin import enlarged, first_cell, signals
from seewhy.explainers.cam import EigenCam, project_on_first_component
from tiny import random_images, small_cnn


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("layer", ["conv1", "relu2"])
def test_slow_twin(layer: str, centred: bool) -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 0])
    maps = EigenCam(layer=layer, centred=centred, probe_batch_size=2)(classifier, images, targets)
    for image, found in zip(images, maps, strict=True):
        activation = signals(classifier, layer, image, 0)[0]
        values = activation.flatten(1).T.double()
        centre = values - values.mean(0) if centred else values
        projected = centre @ torch.linalg.svd(centre)[2][0]
        if float(projected @ values.mean(1)) < 0:
            projected = -projected
        small = projected.clamp_min(0).view(activation.shape[1:])
        torch.testing.assert_close(found, enlarged(small, 32, *first_cell(layer)))


def test_one_pattern_is_found_exactly_whatever_the_shape() -> None:
    pattern = torch.rand(2, 6, 1, generator=torch.Generator().manual_seed(0))
    for channels in (3, 12):
        mixture = torch.linspace(0.1, 1, channels)
        found = project_on_first_component(pattern * mixture, centred=False)
        torch.testing.assert_close(found, pattern[..., 0] * mixture.norm())
        centred = project_on_first_component(pattern * mixture, centred=True)
        torch.testing.assert_close(centred, (pattern - pattern.mean(1, keepdim=True))[..., 0] * mixture.norm())


def test_the_sign_follows_the_mean_activation() -> None:
    values = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(0))
    for centred in (True, False):
        found = project_on_first_component(values, centred)
        assert bool(((found * values.mean(2)).sum(1) >= 0).all())
        flipped = project_on_first_component(-values, centred)
        torch.testing.assert_close(flipped, -found)
    assert bool((project_on_first_component(values.relu(), centred=False) > -1e-5).all())


def test_constant_activations_give_a_flat_map() -> None:
    assert not bool(project_on_first_component(torch.ones(1, 4, 3), centred=True).any())


def test_the_target_does_not_matter() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    explainer = EigenCam(probe_batch_size=4)
    first = explainer(classifier, images, torch.tensor([0, 1]))
    assert torch.equal(first, explainer(classifier, images, torch.tensor([5, 9])))


@pytest.mark.oracle
def test_equal_to_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    classifier, image = small_cnn(), random_images(1, 32)
    layer = classifier.find_layer("relu2")
    activation = signals(classifier, "relu2", image[0], 3)[0]
    with library.EigenCAM(model=classifier, target_layers=[layer]) as cam:
        small = torch.tensor(cam.get_cam_image(image, layer, None, activation[None].numpy(), None, False)[0])
    if float((small * activation.mean(0)).sum()) < 0:
        small = -small  # the library leaves the sign to the decomposition
    maps = EigenCam(probe_batch_size=2)(classifier, image, torch.tensor([3]))
    torch.testing.assert_close(
        maps[0], enlarged(small.relu(), 32, *first_cell("relu2")).double(), rtol=1e-5, atol=1e-6
    )  # theirs is float32
