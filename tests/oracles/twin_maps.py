"""Slow twins for methods that no installed peer has: hooks on the attention modules and a loop over images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from oracles.networks import Case


def attention_of(case: Case, row: int) -> tuple[list[Tensor], Tensor]:
    """(attention [heads, tokens, tokens] of every layer, the target's logit) of one image, spelled out by timm."""
    layers: list[Tensor] = []
    handles = []
    for block in case.plain.network.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(lambda *parts: layers.append(parts[2])))
    score = case.plain(case.images[row : row + 1].clone().requires_grad_())[0, int(case.targets[row])]
    for handle in handles:
        handle.remove()
    assert layers and isinstance(case.plain, nn.Module)
    return layers, score


def read(flow: Tensor, case: Case) -> Tensor:
    side = round((len(flow) - 1) ** 0.5)
    size = tuple(case.images.shape[2:])
    return functional.interpolate(flow[0, 1:].view(1, 1, side, side), size, mode="bilinear")[0, 0]


def attention_rollout(case: Case) -> Tensor:
    """Abnar and Zuidema 2020: the product of (mean over heads + I) / 2, last layer first."""
    made = []
    for row in range(len(case.images)):
        flow = torch.eye(attention_of(case, row)[0][0].shape[-1]).to(case.images)
        for layer in attention_of(case, row)[0]:
            flow = (layer[0].detach().mean(0) / 2 + torch.eye(len(flow)).to(flow) / 2) @ flow
        made.append(read(flow, case))
    return torch.stack(made)


def attention_gradient(case: Case) -> Tensor:
    """Chefer et al. 2021, equations 5 and 6."""
    made = []
    for row in range(len(case.images)):
        layers, score = attention_of(case, row)
        flow = torch.eye(layers[0].shape[-1]).to(case.images)
        for layer, gradient in zip(layers, torch.autograd.grad(score, layers), strict=True):
            flow = flow + (gradient[0] * layer[0]).clamp_min(0).mean(0).detach() @ flow
        made.append(read(flow, case))
    return torch.stack(made)
