"""Attention over tokens in the order in which torch multiplies: the same values, whoever reads them on the way back."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.explainers.attention import AttentionGradient, AttentionRollout
from seewhy.explainers.base import Explainer
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.full_grad import FullGrad
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.le_grad import LeGrad
from seewhy.explainers.libra_grad import LibraGrad
from seewhy.explainers.lrp import Lrp
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import TorchDispatchMode, is_fusion_supported
from tiny import classifier_of, random_images
from transformer_networks import draw_parameters

pytestmark = pytest.mark.skipif(not is_fusion_supported(), reason="fusion is off")


class Projections(TorchFunctionMode):
    """Whether the turned tokens of each attention lie in order."""

    def __init__(self) -> None:
        super().__init__()
        self.in_order: list[bool] = []

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.multi_head_attention_forward:
            assert args[0] is args[1] is args[2]
            self.in_order.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


class Products(TorchDispatchMode):
    """Multiplications in products of two matrices, which gradients of linear layers are."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mm.default:
            self.total += result.numel() * args[0].shape[1]
        return result


def transformer() -> Classifier:
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    return classifier_of(draw_parameters(network), 32, 5).double()


def gradient(classifier: Classifier, images: Tensor) -> Tensor:
    leaves = images.clone().requires_grad_()
    with classifier.frozen():
        return torch.autograd.grad(classifier(leaves)[:, 1].sum(), leaves)[0]


def test_tokens_lie_in_order_while_a_gradient_is_computed() -> None:
    classifier, images = transformer(), random_images(2, 32).double()
    with Projections() as seen:
        found = gradient(classifier, images)
    assert seen.in_order == [True, True]
    with classifier.folding.off(), Projections() as seen:
        expected = gradient(classifier, images)
    assert seen.in_order == [False, False]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert not any("forward" in vars(module) for module in classifier.modules())


def test_a_copy_has_attention_of_its_own() -> None:
    classifier, images = transformer(), random_images(2, 32).double()
    with classifier.frozen():
        twin = copy.deepcopy(classifier.network)
        folding = classifier.folding.copy_to(twin)
    for parameter in twin.parameters():
        parameter.data.mul_(0.9)
    leaves = images.clone().requires_grad_()
    with Projections() as seen:
        found = folding.run(leaves)
    assert seen.in_order == [True, True]
    torch.testing.assert_close(found, twin(leaves), rtol=1e-10, atol=1e-12)


def test_a_forward_of_ones_own_stays() -> None:
    classifier, images = transformer(), random_images(2, 32).double()
    own = next(module for module in classifier.modules() if isinstance(module, nn.MultiheadAttention))
    called = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        called.append(len(args))
        return nn.MultiheadAttention.forward(own, *args, **kwargs)

    own.forward = forward  # type: ignore[method-assign]
    with Projections() as seen:
        gradient(classifier, images)
    assert called and own.__dict__["forward"] is forward
    assert seen.in_order[0] is False and seen.in_order[-1] is True


def test_a_hook_sees_the_tokens_of_the_network() -> None:
    classifier, images = transformer(), random_images(2, 32).double()
    shapes = []
    for module in classifier.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(lambda module, args, output: shapes.append((args[0].shape, output[0].shape)))
    gradient(classifier, images)
    assert shapes == [((2, 17, 16), (2, 17, 16))] * 2


EXPLAINERS = [
    InputXGradient(),
    Lrp(rule="attn_lrp"),
    Lrp(rule="cp_lrp"),
    LibraGrad(),
    DeepLift(),
    FullGrad(),
    LeGrad(),
    AttentionGradient(),
    AttentionRollout(),
]


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda each: f"{each.name}-{getattr(each, 'rule', '')}")
def test_every_way_back_gives_the_same_map(explainer: Explainer) -> None:
    classifier, images, targets = transformer(), random_images(3, 32).double(), torch.tensor([0, 1, 4])
    found = explainer(classifier, images, targets)
    with classifier.folding.off():
        expected = explainer(classifier, images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "explainer", [LibraGrad(), Lrp(rule="cp_lrp", gamma=0, dense_gamma=0)], ids=["libra_grad", "lrp"]
)
def test_constant_attention_multiplies_nothing_back_through_queries_and_keys(explainer: Explainer) -> None:
    classifier, images, targets = transformer(), random_images(2, 32).double(), torch.tensor([0, 3])

    def multiply_back(chosen: Explainer) -> int:
        with Products() as counter:
            chosen(classifier, images, targets)
        return counter.total

    of_gradient = multiply_back(InputXGradient())
    tokens, channels, blocks = 2 * 17, 16, 2
    spared = blocks * tokens * channels * 2 * channels  # as many queries and keys as channels
    assert multiply_back(explainer) == of_gradient - spared
