"""Attention rollout against its definition, and the networks that it refuses."""

import pytest
import timm
import torch
from torch import Tensor

from layer_twin import enlarged
from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers.attention import AttentionRecorder, AttentionRollout
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


def transformer(name: str = "test_vit", **options: object) -> Classifier:
    torch.manual_seed(0)
    return classifier_of(timm.create_model(name, img_size=64, num_classes=5, **options), 64, 5)


def twin(classifier: Classifier, image: Tensor, discard_ratio: float = 0.0) -> Tensor:
    """Abnar and Zuidema 2020, section 3, layer after layer: R [tokens, tokens]."""
    layers: list[Tensor] = []
    with torch.no_grad(), AttentionRecorder(lambda attention, place: layers.append(attention[0])):
        classifier(image[None])
    flow = torch.eye(layers[0].shape[-1], dtype=torch.float64)
    for layer in layers:
        attention = sum(layer) / len(layer)
        order = attention.flatten().argsort()[: int(discard_ratio * attention.numel())]
        attention = attention.flatten().index_fill(0, order, 0.0).view_as(attention)
        mixed = 0.5 * attention + 0.5 * torch.eye(len(attention))
        flow = torch.stack([row / row.sum() for row in mixed]) @ flow
    return flow


@pytest.mark.parametrize("discard_ratio", [0.0, 0.6])
def test_slow_twin(discard_ratio: float) -> None:
    classifier, images = transformer(), random_images(2, 64)
    explainer = AttentionRollout(discard_ratio=discard_ratio, probe_batch_size=4)
    for image, found in zip(images, explainer(classifier, images, torch.tensor([0, 1])), strict=True):
        flow = twin(classifier, image, discard_ratio)
        torch.testing.assert_close(flow.sum(1), torch.ones_like(flow[0]))
        torch.testing.assert_close(found, enlarged(flow[0, 1:].view(4, 4), 64))


def test_without_a_class_token_the_rows_are_averaged() -> None:
    classifier, images = transformer(global_pool="avg", class_token=False), random_images(1, 64)
    found = AttentionRollout(probe_batch_size=4)(classifier, images, torch.tensor([0]))
    torch.testing.assert_close(found[0], enlarged(twin(classifier, images[0]).mean(0).view(4, 4), 64))


def test_batches_targets_passes_and_modules() -> None:
    classifier, images = transformer("deit_tiny_distilled_patch16_224", depth=2), random_images(4, 64)
    modules = [id(module) for module in classifier.modules()]
    whole = AttentionRollout(probe_batch_size=16)(classifier, images, torch.tensor([0, 1, 2, 3]))
    assert (classifier.passes.forward, classifier.passes.backward) == (4, 0)
    assert AttentionRollout().passes_per_image() == (1, 0)
    for size in (1, 3):
        found = AttentionRollout(probe_batch_size=size)(classifier, images, torch.tensor([4, 4, 0, 0]))
        torch.testing.assert_close(found, whole)
    torch.testing.assert_close(
        AttentionRollout(probe_batch_size=4)(classifier, images[[2]], torch.tensor([0])), whole[[2]]
    )
    assert modules == [id(module) for module in classifier.modules()]
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1


def test_networks_without_attention_are_refused() -> None:
    with pytest.raises(Incompatible, match=r"attention_rollout.*no attention.*explainer=grad_cam"):
        AttentionRollout(probe_batch_size=4)(small_cnn(), random_images(1, 32), torch.tensor([0]))


def test_windows_are_refused() -> None:
    swin = transformer("swin_tiny_patch4_window7_224", window_size=4, depths=(1, 1), num_heads=(1, 2))
    with pytest.raises(Incompatible, match=r"attention_rollout.*windows.*explainer=grad_cam"):
        AttentionRollout(probe_batch_size=4)(swin, random_images(1, 64), torch.tensor([0]))


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_bad_ratio(ratio: float) -> None:
    with pytest.raises(UserError, match=f"explainer.discard_ratio={ratio}"):
        AttentionRollout(discard_ratio=ratio)
