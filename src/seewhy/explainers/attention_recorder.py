"""Reads the attention matrices of a transformer while it runs, without a change to any of its modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, Tensor.softmax, functional.softmax)


class AttentionRecorder(TorchFunctionMode):
    """Inside the block, hands over every attention matrix [batch, heads, queries, keys] in the order of execution.

    Fused attention (`scaled_dot_product_attention`) is computed in explicit steps, which gives the same values;
    `multi_head_attention_forward` is asked for its weights; attention that a network spells out itself is recognised by a
    softmax over the last of four axes.

    Args:
        receive: Called as receive(matrix, edge); `edge` is what `torch.autograd.grad` takes for the gradient with respect
            to the matrix (of the same number of elements).
    """

    def __init__(self, receive: Callable[[Tensor, Tensor | GradientEdge], None]) -> None:
        super().__init__()
        self.receive = receive

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        options = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            return self._attend_explicitly(*args, **options)
        if func is functional.multi_head_attention_forward:
            return self._attend_with_weights(*args, **options)
        result = func(*args, **options)
        if func in SOFTMAX and result.ndim == 4 and (args[1] if len(args) > 1 else options.get("dim")) in (-1, 3):
            self.receive(result, result)
        return result

    def _attend_with_weights(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights where the network asked for them."""
        asked = options | {"need_weights": True, "average_attn_weights": False}
        output, weights = functional.multi_head_attention_forward(*args, **asked)
        assert weights is not None, "they were asked for"
        self.receive(weights, _find_edge(weights))
        if not options.get("need_weights", True):
            return output, None
        return output, weights.mean(1) if options.get("average_attn_weights", True) else weights

    def _attend_explicitly(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """softmax(query key' * scale + mask) value."""
        if enable_gqa:
            key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
        logits = query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale) @ key.mT
        if is_causal:
            future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
            logits = logits.masked_fill(future, -torch.inf)
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        attention = logits.softmax(-1).to(value.dtype)
        if dropout_p:
            attention = functional.dropout(attention, dropout_p)
        self.receive(attention, attention)
        return attention @ value


def _find_edge(weights: Tensor) -> Tensor | GradientEdge:
    """The softmax behind weights [batch, heads, queries, keys] in the graph: they are only a view of it."""
    if weights.grad_fn is None:
        return weights
    node, number = weights.grad_fn.next_functions[0]
    assert node is not None, "a view has a base"
    return GradientEdge(node, number)
