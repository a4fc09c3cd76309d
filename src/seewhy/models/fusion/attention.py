"""Attention of torch over tokens that lie in the order in which it multiplies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def find_attentions(network: nn.Module) -> list[nn.MultiheadAttention]:
    """Find the attention of a network that takes [batch, tokens, channels] and turns it around before it multiplies.

    Args:
        network: The network.

    Returns:
        Modules of exactly torch's type, since a subclass may do something else.
    """
    return [each for each in network.modules() if type(each) is nn.MultiheadAttention and each.batch_first]


@contextmanager
def tokens_in_order(modules: Sequence[nn.MultiheadAttention]) -> Iterator[None]:
    """Hand self-attention its tokens in the order of memory that it works in, inside the block.

    torch turns [batch, tokens, channels] around, as a view, and then multiplies the tokens of one place at a time: the
    weights of the projection are read once for each of them. In order, one product does for all. Values agree to rounding.

    Args:
        modules: See `find_attentions`; one whose `forward` was replaced stays as it is.

    Yields:
        Nothing.
    """
    own = [each for each in modules if "forward" not in each.__dict__]
    for module in own:
        module.__dict__["forward"] = partial(_attend, module)
    try:
        yield
    finally:
        for module in own:
            module.__dict__.pop("forward", None)


def _attend(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    if query is key is value and query.ndim == 3 and query.requires_grad and torch.is_grad_enabled():
        # passes without a gradient are computed by an operation of torch that needs no other order
        query = key = value = query.transpose(0, 1).contiguous().transpose(0, 1)
    return type(module).forward(module, query, key, value, *args, **kwargs)
