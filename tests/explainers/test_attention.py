"""Attention matrices are seen as the network computes them, and watching changes nothing."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.explainers.attention import AttentionRecorder, measure_tokens, read_out
from tiny import classifier_of, random_images


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=64, num_classes=5, **options).eval()


def torchvision_vit() -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    nn.init.normal_(network.heads.head.weight)
    return network


def watched(run: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """(result, attention matrices, the gradients of the result's first column with respect to them)."""
    matrices, places = [], []

    def seen(attention: Tensor, place: object) -> None:
        matrices.append(attention.detach())
        places.append(place)

    with torch.enable_grad(), AttentionRecorder(seen):
        result = run()
        gradients = torch.autograd.grad(result[:, 0].sum(), places)
    return result.detach(), matrices, [part.view_as(whole) for part, whole in zip(gradients, matrices, strict=True)]


def spelled_out(network: nn.Module) -> nn.Module:
    """timm's own switch between fused attention and explicit steps."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return network


def test_fused_and_spelled_out_attention_are_seen_alike() -> None:
    images = random_images(2, 64)
    network = vit().double()
    logits, fused, fused_gradients = watched(lambda: network(images))
    torch.testing.assert_close(logits, network(images).detach())
    _, explicit, explicit_gradients = watched(lambda: spelled_out(network)(images))
    assert [tuple(matrix.shape) for matrix in fused] == [(2, 2, 17, 17)] * 6
    for one, other in zip(fused + fused_gradients, explicit + explicit_gradients, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(fused[0].sum(-1), torch.ones(2, 2, 17, dtype=torch.float64))
    assert all(bool(gradient.any()) for gradient in fused_gradients)


def test_multi_head_attention_is_seen_with_its_gradient() -> None:
    network, images = torchvision_vit().double(), random_images(2, 32)
    logits, matrices, gradients = watched(lambda: network(images))
    torch.testing.assert_close(logits, network(images).detach())
    assert [tuple(matrix.shape) for matrix in matrices] == [(2, 2, 17, 17)] * 2
    torch.testing.assert_close(matrices[1].sum(-1), torch.ones(2, 2, 17, dtype=torch.float64))
    expected = []
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_pre_hook(lambda _, arguments: expected.append(arguments[0].detach()))
    network(images)
    last = network.encoder.layers[-1].self_attention
    torch.testing.assert_close(matrices[1], last(*[expected[1]] * 3, average_attn_weights=False)[1].detach())
    # only the class token is read behind the last layer, so that only its row has a gradient
    assert bool(gradients[1][:, :, 0].any()) and not bool(gradients[1][:, :, 1:].any())


def test_the_gradient_of_multi_head_attention_by_hand() -> None:
    torch.manual_seed(0)
    attention, tokens = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.rand(3, 5, 8)
    _, _, (gradient,) = watched(lambda: attention(tokens, tokens, tokens, need_weights=False)[0][:, 0])
    values = tokens @ attention.in_proj_weight[16:].T + attention.in_proj_bias[16:]
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        torch.testing.assert_close(gradient[:, head, 0], values[:, :, part] @ attention.out_proj.weight[0, part])
    assert not bool(gradient[:, :, 1:].any())


def test_the_weights_are_given_where_the_network_asks_for_them() -> None:
    torch.manual_seed(0)
    attention, tokens = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.rand(3, 5, 8)
    for options in ({}, {"average_attn_weights": False}, {"need_weights": False}):
        output, weights = attention(tokens, tokens, tokens, **options)
        with AttentionRecorder(lambda *_: None):
            again, seen = attention(tokens, tokens, tokens, **options)
        torch.testing.assert_close(again, output)
        torch.testing.assert_close(seen, weights) if weights is not None else None
        assert (weights is None) == (seen is None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.tensor([[True, False, True]] * 4)},
        {"attn_mask": torch.tensor([[0.5, -1.0, 0.0]] * 4)},
    ],
    ids=lambda options: "_".join(options) or "plain",
)
def test_the_steps_equal_the_fused_function(options: dict[str, object]) -> None:
    query, key, value = (torch.randn(2, 3, count, 6) for count in (4, 3, 3))
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with AttentionRecorder(lambda *_: None):
        found = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(found, expected)


def test_grouped_queries() -> None:
    query, key, value = (torch.randn(2, heads, 4, 6) for heads in (4, 2, 2))
    expected = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with AttentionRecorder(lambda *_: None):
        found = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(found, expected)


def test_other_softmaxes_are_not_attention() -> None:
    seen: list[Tensor] = []
    with AttentionRecorder(lambda attention, place: seen.append(attention)):
        torch.rand(2, 5).softmax(1)
        torch.rand(2, 3, 4, 4).softmax(1)
        torch.rand(2, 3, 4, 4).softmax(-1)
        torch.softmax(torch.rand(2, 3, 4, 4), dim=3)
        functional.softmax(torch.rand(2, 3, 4, 4), dim=-1)
    assert len(seen) == 3
    torch.rand(2, 3, 4, 4).softmax(-1)
    assert len(seen) == 3, "nothing is seen behind the block"


@pytest.mark.parametrize(
    ("network", "count", "read"),
    [
        (lambda: vit(), 17, [0]),
        (lambda: vit(global_pool="avg"), 17, list(range(1, 17))),
        (lambda: vit(class_token=False, global_pool="avg"), 16, list(range(16))),
        (torchvision_vit, 17, [0]),
        (
            lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=1, num_classes=5),
            18,
            [0, 1],
        ),
    ],
    ids=["class token", "average", "no class token", "torchvision", "distilled"],
)
def test_the_tokens_that_the_outputs_take(network: Callable[[], nn.Module], count: int, read: list[int]) -> None:
    size = 32 if network is torchvision_vit else 64
    tokens = measure_tokens(classifier_of(network(), size, 5), (size, size))
    assert tokens is not None and tokens.read.tolist() == read
    patches = range(count) if tokens.grid.order is None else tokens.grid.order
    assert list(patches) == list(range(count - 16, count)) and tokens.grid.cells == (4, 4)


def test_reading_out() -> None:
    relevance = torch.rand(2, 17, 17)
    tokens = measure_tokens(classifier_of(vit(depth=1), 64, 5), (64, 64))
    assert tokens is not None
    maps = read_out([relevance], tokens, "attention_rollout")
    assert torch.equal(maps, tokens.grid.enlarge(relevance[:, 0, 1:].view(2, 4, 4)))
    steps = [torch.rand(2, 17, 17) for _ in range(3)]
    product = steps[2] @ steps[1] @ steps[0]
    maps = read_out(steps, tokens, "attention_rollout")
    torch.testing.assert_close(maps, tokens.grid.enlarge(product[:, 0, 1:].view(2, 4, 4)))
    averaging = measure_tokens(classifier_of(vit(depth=1, global_pool="avg"), 64, 5), (64, 64))
    averaged = read_out([relevance], averaging, "attention_rollout")
    torch.testing.assert_close(averaged, tokens.grid.enlarge(relevance[:, 1:, 1:].mean(1).view(2, 4, 4)))
    with pytest.raises(Incompatible, match=r"20 tokens.*grad_cam"):
        read_out([torch.rand(1, 20, 20)], None, "attention_rollout")
