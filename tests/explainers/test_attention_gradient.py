"""Gradient-weighted attention against its definition with finite differences, and the networks that it refuses."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from layer_twin import enlarged
from seewhy.core.errors import Incompatible
from seewhy.explainers.attention import AttentionGradient
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


def transformer(**options: object) -> Classifier:
    torch.manual_seed(0)
    return classifier_of(timm.create_model("test_vit", img_size=64, num_classes=5, **options), 64, 5)


class Shifted(TorchFunctionMode):
    """Adds `shifts[layer]` to the attention matrix of each layer: leaves whose gradient is that of the matrix."""

    def __init__(self, shifts: list[Tensor]) -> None:
        super().__init__()
        self.shifts = shifts
        self.matrices: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        matrix = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        self.matrices.append(matrix.detach())
        return (matrix + self.shifts[len(self.matrices) - 1]) @ value


def twin(classifier: Classifier, image: Tensor, target: int) -> Tensor:
    """Chefer et al. 2021, equations 5 and 6 for self-attention, head after head: R [tokens, tokens]."""
    shifts = [torch.zeros(1, 2, 17, 17, dtype=torch.float64, requires_grad=True) for _ in range(6)]
    with torch.enable_grad(), Shifted(shifts) as mode:
        classifier(image[None])[0, target].backward()
    relevance = torch.eye(17, dtype=torch.float64)
    for shift, matrix in zip(shifts, mode.matrices, strict=True):
        heads = [(shift.grad[0, head] * matrix[0, head]).clamp_min(0) for head in range(2)]  # type: ignore[index]
        relevance = relevance + (heads[0] + heads[1]) / 2 @ relevance
    return relevance


def test_slow_twin() -> None:
    classifier, images, targets = transformer(), random_images(2, 64), torch.tensor([1, 4])
    maps = AttentionGradient(probe_batch_size=4)(classifier, images, targets)
    for image, target, found in zip(images, targets, maps, strict=True):
        relevance = twin(classifier, image, int(target))
        torch.testing.assert_close(found, enlarged(relevance[0, 1:].view(4, 4), 64))


def test_patches_that_are_averaged() -> None:
    classifier, images = transformer(global_pool="avg"), random_images(1, 64)
    found = AttentionGradient(probe_batch_size=4)(classifier, images, torch.tensor([2]))
    expected = twin(classifier, images[0], 2)[1:, 1:].mean(0).view(4, 4)
    torch.testing.assert_close(found[0], enlarged(expected, 64))


def test_torchvision_shows_the_target() -> None:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    classifier, images = classifier_of(network, 32, 5), random_images(2, 32)
    first = AttentionGradient(probe_batch_size=4)(classifier, images, torch.tensor([0, 1]))
    assert float(first.amin()) >= 0 and float(first.amax((1, 2)).amin()) > 0
    assert not torch.allclose(first, AttentionGradient(probe_batch_size=4)(classifier, images, torch.tensor([1, 0])))


def test_batches_and_passes() -> None:
    classifier, images, targets = transformer(), random_images(4, 64), torch.tensor([0, 1, 2, 3])
    whole = AttentionGradient(probe_batch_size=16)(classifier, images, targets)
    forward, backward = AttentionGradient().passes_per_image()
    assert (classifier.passes.forward, classifier.passes.backward) == (4 * forward, 4 * backward)
    for size in (1, 3):
        torch.testing.assert_close(AttentionGradient(probe_batch_size=size)(classifier, images, targets), whole)
    torch.testing.assert_close(AttentionGradient(probe_batch_size=4)(classifier, images[[2]], targets[[2]]), whole[[2]])


def test_networks_without_attention_are_refused() -> None:
    with pytest.raises(Incompatible, match=r"attention_gradient.*no attention.*explainer=grad_cam"):
        AttentionGradient(probe_batch_size=4)(small_cnn(), random_images(1, 32), torch.tensor([0]))


def test_pooled_attention_is_refused() -> None:
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=64, depth=1, embed_dim=64, num_heads=2, num_classes=5
    )
    with pytest.raises(Incompatible, match=r"\[1, 2, 1, 16\].*explainer=grad_cam"):
        AttentionGradient(probe_batch_size=4)(classifier_of(network, 64, 5), random_images(1, 64), torch.tensor([0]))
