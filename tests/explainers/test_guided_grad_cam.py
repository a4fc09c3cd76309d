"""Guided Grad-CAM is the product of its two parts."""

import pytest
import torch

from layer_twin import enlarged, first_cell
from seewhy.core.errors import UserError
from seewhy.explainers.cam import GradCam
from seewhy.explainers.guided_backprop import GuidedBackprop, GuidedGradCam
from tiny import random_images, small_cnn


@pytest.mark.parametrize("reduction", ["sum", "max"])
@pytest.mark.parametrize("layer", [None, "relu1"])
def test_product_of_both(layer: str | None, reduction: str) -> None:
    classifier, images, targets = small_cnn(), random_images(3, 32), torch.tensor([3, 7, 0])
    maps = GuidedGradCam(layer=layer, reduction=reduction, probe_batch_size=2)(classifier, images, targets)
    lines = GuidedBackprop(reduction=reduction, probe_batch_size=2)(classifier, images, targets)
    places = GradCam(layer=layer, probe_batch_size=2)(classifier, images, targets)
    assert float(maps.abs().amax()) > 0
    torch.testing.assert_close(maps, lines * places)


def test_batches_and_passes() -> None:
    classifier, images, targets = small_cnn(), random_images(4, 32), torch.tensor([3, 7, 0, 3])
    whole = GuidedGradCam(probe_batch_size=16)(classifier, images, targets)
    forward, backward = GuidedGradCam().passes_per_image()
    assert (classifier.passes.forward, classifier.passes.backward) == (4 * forward, 4 * backward)
    for size in (1, 3):
        torch.testing.assert_close(GuidedGradCam(probe_batch_size=size)(classifier, images, targets), whole)


def test_bad_reduction() -> None:
    with pytest.raises(UserError, match=r"explainer.reduction=mean must be sum or max"):
        GuidedGradCam(reduction="mean")


def test_equal_to_captum_but_for_the_enlarging() -> None:
    """Captum stretches the map of Grad-CAM over the image; the layer's cells look at its inner pixels."""
    from captum import attr

    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    peer = attr.GuidedBackprop(classifier.network)
    normalised = (images - classifier.mean) / classifier.std
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        lines = (peer.attribute(normalised.requires_grad_(), target=targets) / classifier.std).sum(1).detach()
    small = attr.LayerGradCam(classifier, classifier.find_layer("relu2")).attribute(
        images, target=targets, relu_attributions=True
    )
    coarse = torch.stack([enlarged(each, 32, *first_cell("relu2")) for each in small[:, 0].detach()])
    torch.testing.assert_close(GuidedGradCam(probe_batch_size=2)(classifier, images, targets), lines * coarse)
