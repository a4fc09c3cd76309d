"""Small transformers of every make, with parameters that are neither zero nor one."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.models.classifier import Classifier
from tiny import classifier_of

WIDTH, HEADS = 8, 2


def draw_parameters(network: nn.Module, seed: int = 1) -> nn.Module:
    """Parameters far from those of a fresh network, in which biases and tokens are zero and scales one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 0.5 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + (parameter.ndim == 1))
    return network.eval()


def drop_constants(network: nn.Module) -> nn.Module:
    """Without whatever absorbs relevance: biases, tokens and positions are zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or "token" in name or "pos_embed" in name:
                parameter.zero_()
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "distilled": lambda: timm.models.VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5
    ),
    "registers, scaled layers": lambda: timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5, reg_tokens=2, init_values=0.3
    ),
    "gated, averaged": lambda: timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5, class_token=False,
        global_pool="avg", qk_norm=True, norm_layer=nn.RMSNorm, mlp_layer=timm.layers.SwiGLU,
    ),
    "windows": lambda: timm.models.SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 2), num_classes=5
    ),
    "convolutions": lambda: timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=5),
}  # fmt: skip


class Attention(nn.Module):
    """Attention of the same weights, spelled in one of the ways that networks use."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.first = nn.MultiheadAttention(WIDTH, HEADS, batch_first="sequence" not in spelling)
        self.head = nn.Linear(WIDTH, 3)
        self.register_buffer("mask", torch.zeros(4, 4, dtype=torch.double).index_fill_(1, torch.tensor([1]), -2.0))

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(1).unflatten(1, (4, 12))[..., :WIDTH] - 0.5
        return self.head(tokens.mean(1) + self.attend(tokens).mean(1))

    def attend(self, tokens: Tensor) -> Tensor:
        own, how = self.first, self.spelling
        if how == "module":
            return own(tokens, tokens, tokens, attn_mask=self.mask, need_weights=False)[0]
        if how == "module with weights":
            return own(tokens, tokens, tokens, attn_mask=self.mask)[0]
        if how == "module, sequence first":
            turned = tokens.transpose(0, 1)
            return own(turned, turned, turned, attn_mask=self.mask, need_weights=False)[0].transpose(0, 1)
        packed = functional.linear(tokens, own.in_proj_weight, own.in_proj_bias)
        query, key, value = packed.view(len(tokens), 4, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scale = query.shape[-1] ** -0.5
        mask = self.mask + tokens.sum(2)[:, None, None] if "moving" in how else self.mask
        if "fused" in how:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        elif "operators" in how:
            mixed = functional.softmax((query * scale) @ key.transpose(-2, -1) + mask, dim=-1) @ value
        elif how == "methods":
            weights = query.matmul(key.mT).mul_(scale).add_(self.mask).softmax(-1)
            mixed = functional.dropout(weights, 0.1, training=self.training).matmul(value)
        elif how == "batches":
            query, key, value = (each.flatten(0, 1) for each in (query, key, value))
            logits = torch.baddbmm(self.mask.expand(len(query), 4, 4), query, key.mT, alpha=scale)
            mixed = torch.bmm(torch.softmax(logits, -1), value).unflatten(0, (len(tokens), HEADS))
        else:
            weights = torch.einsum("bhqc,bhkc->bhqk", query * scale, key).add(self.mask).softmax(dim=-1)
            mixed = torch.einsum("bhqk,bhkc->bhqc", weights, value)
        return own.out_proj(mixed.transpose(1, 2).flatten(2))


SPELLINGS = [
    "fused", "operators", "methods", "batches", "einsum", "module", "module with weights", "module, sequence first",
]  # fmt: skip


def attention_classifier(spelling: str) -> Classifier:
    return classifier_of(draw_parameters(Attention(spelling)), 4, 3, normalised=False)
