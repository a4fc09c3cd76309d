"""AttnLRP and CP-LRP: one block by the equations of the papers, every spelling of an operation, conservation."""

import math

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.explainers.lrp import Lrp
from tiny import classifier_of, random_images, small_cnn
from transformer_networks import (
    HEADS,
    NETWORKS,
    SPELLINGS,
    WIDTH,
    attention_classifier,
    draw_parameters,
    drop_constants,
)

PLAIN = {"gamma": 0.0, "dense_gamma": 0.0, "epsilon": 0.0, "probe_batch_size": 4}
"""The basic rule everywhere: no stabiliser, no gamma."""


def vision_transformer(**options: object) -> nn.Module:
    settings = {"img_size": 4, "patch_size": 2, "embed_dim": WIDTH, "depth": 1, "num_heads": HEADS, "num_classes": 3}
    return draw_parameters(timm.models.VisionTransformer(**{**settings, **options}).double())


def by_the_papers(network: nn.Module, image: Tensor, target: int, rule: str) -> tuple[Tensor, Tensor]:
    """(relevance of the patches [4, 12], everything that was absorbed), layer by layer in relevances."""
    block, attention = network.blocks[0], network.blocks[0].attn
    absorbed: list[Tensor] = []

    def share(terms: Tensor, relevance: Tensor) -> Tensor:
        """Terms [out, in] and the relevance [out] of their sum with what else is in it: that of the terms [in]."""
        return (terms / terms_sum(terms) * relevance[:, None]).sum(0)

    def terms_sum(terms: Tensor) -> Tensor:
        return terms.sum(1, keepdim=True)

    def linear(values: Tensor, layer: nn.Linear, relevance: Tensor) -> Tensor:
        """[n, out] -> [n, in]; the bias is one more term."""
        rows = []
        for row, handed in zip(values, relevance, strict=True):
            shared = share(torch.cat([row * layer.weight, layer.bias[:, None]], 1), handed)
            absorbed.append(shared[-1])
            rows.append(shared[:-1])
        return torch.stack(rows)

    def normalise(values: Tensor, layer: nn.LayerNorm, relevance: Tensor) -> Tensor:
        """The shift is a term, division by the spread and weighing are identities, the mean is a linear layer."""
        result, rows = layer(values), []
        kept = (result - layer.bias) / result * relevance
        absorbed.append((relevance - kept).sum())
        centring = torch.eye(WIDTH).double() - 1 / WIDTH
        for row, handed in zip(values, kept, strict=True):
            rows.append(share(row * centring, handed))
        return torch.stack(rows)

    def attend(relevance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[tokens, width] of the heads' outputs -> that of queries, keys and values."""
        handed = [torch.zeros_like(query) for _ in range(3)]
        for head in range(HEADS):
            columns = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            q, k, v, r = (each[:, columns] for each in (query, key, value, relevance))
            logits = q @ k.T / math.sqrt(WIDTH // HEADS)
            weights = logits.softmax(1)
            terms = weights[:, :, None] * v / (weights @ v)[:, None] * r[:, None]  # [queries, keys, channels]
            if rule == "cp_lrp":
                handed[2][:, columns] = terms.sum(0)
                continue
            handed[2][:, columns] = terms.sum(0) / 2
            of_weights = terms.sum(2) / 2
            of_logits = logits * (of_weights - weights * of_weights.sum(1, keepdim=True))
            absorbed.append(of_weights.sum() - of_logits.sum())
            pairs = q[:, None] * k / (q @ k.T)[..., None] * of_logits[..., None] / 2
            handed[0][:, columns], handed[1][:, columns] = pairs.sum(1), pairs.sum(0)
        return handed[0], handed[1], handed[2]

    def add(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        total = first + second
        return first / total * relevance, second / total * relevance

    patches = functional.unfold(image[None], 2, stride=2)[0].T
    embedding = nn.Linear(12, WIDTH).double()
    embedding.weight.data, embedding.bias.data = (
        network.patch_embed.proj.weight.flatten(1),
        network.patch_embed.proj.bias,
    )
    tokens = torch.cat([network.cls_token[0], embedding(patches)]) + network.pos_embed[0]
    before = block.norm1(tokens)
    query, key, value = attention.qkv(before).chunk(3, 1)
    heads = attention(before[None])
    mixed = functional.scaled_dot_product_attention(
        *(each.unflatten(1, (HEADS, -1)).transpose(0, 1) for each in (query, key, value))
    )
    mixed = mixed.transpose(0, 1).flatten(1)
    attended = tokens + heads[0]
    between = block.norm2(attended)
    inside = block.mlp.fc1(between)
    active = functional.gelu(inside)
    output = attended + block.mlp.fc2(active)
    final = network.norm(output)
    scores = network.head(final[:1])

    chosen = torch.zeros_like(scores).index_fill_(1, torch.tensor([target]), 1)
    relevance = linear(final[:1], network.head, chosen * scores)
    relevance = torch.cat([relevance, torch.zeros(4, WIDTH).double()])
    relevance = normalise(output, network.norm, relevance)
    skipped, through = add(attended, output - attended, relevance)
    through = linear(active, block.mlp.fc2, through)
    through = normalise(attended, block.norm2, linear(between, block.mlp.fc1, through))
    skipped, through = add(tokens, heads[0], skipped + through)
    of_heads = torch.cat(attend(linear(mixed, attention.proj, through)), 1)
    through = normalise(tokens, block.norm1, linear(before, attention.qkv, of_heads))
    embedded, of_positions = add(
        tokens - network.pos_embed[0], network.pos_embed[0].expand_as(tokens), skipped + through
    )
    absorbed += [of_positions.sum(), embedded[0].sum()]
    return linear(patches, embedding, embedded[1:]), torch.stack(absorbed).sum()


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
def test_a_block_equals_the_equations_of_the_papers(rule: str) -> None:
    network = vision_transformer()
    images, targets = random_images(2, 4, seed=5), torch.tensor([0, 2])
    result = Lrp(rule=rule, **PLAIN).attribute(classifier_of(network, 4, 3, normalised=False), images, targets)
    for image, target, found, gap in zip(
        images, targets.tolist(), result.maps, result.facts["conservation_gap_relative"], strict=True
    ):
        with torch.no_grad():
            patches, absorbed = by_the_papers(network, image, target, rule)
            score = network(image[None])[0, target]
        torch.testing.assert_close(patches.sum() + absorbed, score, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gap, (absorbed / score).abs(), rtol=1e-7, atol=1e-9)
        expected = functional.fold(patches.T[None], (4, 4), 2, stride=2)[0].sum(0)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("spelling", [*SPELLINGS[1:], "operators, moving mask"])
def test_attention_is_the_same_however_it_is_spelled(spelling: str, rule: str) -> None:
    images, targets = random_images(3, 4, seed=2), torch.tensor([0, 2, 1])
    explainer = Lrp(rule=rule, probe_batch_size=4)
    fused = "fused, moving mask" if "moving" in spelling else "fused"
    expected = explainer(attention_classifier(fused), images, targets)
    found = explainer(attention_classifier(spelling), images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


class Normalised(nn.Module):
    """A normalisation of channels, spelled in one of several ways, and a gated layer."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        self.first, self.head = nn.Linear(12, 4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images.flatten(1).unflatten(1, (4, 12)))
        return self.head(self.normalise(values).mean(1))

    def normalise(self, values: Tensor) -> Tensor:
        how = self.spelling
        if how == "layer":
            return functional.layer_norm(values, (4,), self.weight, self.bias, 1e-3)
        if how == "layer by hand":
            centred = values - values.mean(-1, keepdim=True)
            return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-3) * self.weight + self.bias
        if how == "layer by variance":
            variance = values.var(-1, unbiased=False, keepdim=True)
            return (values - values.mean(-1, keepdim=True)) * torch.rsqrt(variance + 1e-3) * self.weight + self.bias
        if how == "layer by both":
            variance, mean = torch.var_mean(values, dim=-1, unbiased=False, keepdim=True)
            return (values - mean) * torch.rsqrt(variance + 1e-3) * self.weight + self.bias
        if how == "group":
            return functional.group_norm(values.flatten(0, 1), 1, self.weight, self.bias, 1e-3).view_as(values)
        if how == "root":
            return functional.rms_norm(values, (4,), self.weight, 1e-3)
        if how == "root by hand":
            return self.weight * (values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-3))
        if how == "length":
            return functional.normalize(values, dim=-1)
        if how == "length by hand":
            return values / values.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        if how == "swish":
            return functional.silu(values)
        if how == "swish by hand":
            return values * torch.sigmoid(values)
        if how == "square":
            return values.square()
        assert how == "square by hand"
        return values * values.clone()


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize(
    ("spelling", "same"),
    [
        ("layer by hand", "layer"),
        ("layer by variance", "layer"),
        ("layer by both", "layer"),
        ("group", "layer"),
        ("root by hand", "root"),
        ("length by hand", "length"),
        ("swish by hand", "swish"),
        ("square by hand", "square"),
    ],
)
def test_a_function_written_by_hand_is_the_same(spelling: str, same: str, rule: str) -> None:
    images, targets = random_images(2, 4, seed=3), torch.tensor([0, 2])
    maps = [
        Lrp(rule=rule, probe_batch_size=4)(
            classifier_of(draw_parameters(Normalised(how)), 4, 3, normalised=False), images, targets
        )
        for how in (spelling, same)
    ]
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-10 * float(maps[1].abs().max()))


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
def test_without_attention_both_are_the_gamma_rule(rule: str) -> None:
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    expected = Lrp(rule="gamma", gamma=0.1, probe_batch_size=2)(small_cnn(), images, targets)
    found = Lrp(rule=rule, gamma=0.1, dense_gamma=0.1, probe_batch_size=2)(small_cnn(), images, targets)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_without_biases_nothing_is_lost(name: str, gamma: float) -> None:
    network = drop_constants(draw_parameters(NETWORKS[name]()))
    explainer = Lrp(rule="cp_lrp", gamma=gamma, dense_gamma=gamma / 5, epsilon=0, probe_batch_size=2)
    result = explainer.attribute(
        classifier_of(network, 32, 5, normalised=False), random_images(2, 32), torch.tensor([1, 4])
    )
    assert float(result.facts["conservation_gap_relative"].max()) < 1e-5
    assert bool(result.maps.any())


def test_what_cannot_hand_relevance_on_is_refused() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(48, 6), nn.Linear(6, 3)

        def forward(self, images: Tensor) -> Tensor:
            values = self.first(images.flatten(1))
            return self.head(values + values.softmax(-1))

    class Ended(Added):
        def forward(self, images: Tensor) -> Tensor:
            return self.first(images.flatten(1))[:, :3].softmax(-1)

    images, targets = random_images(1, 4), torch.tensor([0])
    for network in (Added(), Ended()):
        with pytest.raises(Incompatible, match="use integrated_gradients"):
            Lrp(rule="cp_lrp", probe_batch_size=1)(classifier_of(network, 4, 3), images, targets)
