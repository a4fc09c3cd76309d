"""Libra-Grad: whoever takes a gradient of the network gets one whose backward paths are pruned and scaled.

Inside `balance_gradients` the gradient is that of `balanced` with constant attention. It is FullGrad-complete: inputs,
biases and tokens, each times its gradient, add up to the score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from seewhy.explainers._backward_rules.balanced import AttentionRule, BalancedMode


class LibraMode(BalancedMode):
    """A block in which each pass of the network is one of `BalancedMode`; between passes torch works as ever."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, "libra_grad", "integrated_gradients", AttentionRule.CONSTANT)
        self._running = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if not self._running:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def begin(self, network: nn.Module, args: object) -> None:
        """Begin a pass; the one before it is forgotten, and its graph with it."""
        self._running = True
        self._mark = object()
        self._gates.clear()

    def end(self, network: nn.Module, args: object, returned: object) -> None:
        """End a pass, whether it was complete or not."""
        self._running = False
        self.check_outputs(returned)


@contextmanager
def balance_gradients(network: nn.Module) -> Iterator[None]:
    """Make every gradient of a network that of Libra-Grad inside the block.

    Args:
        network: The network, frozen.

    Yields:
        Nothing.

    Raises:
        Incompatible: In a pass, at an operation without a rule.
    """
    mode = LibraMode(network)
    hooks = network.register_forward_pre_hook(mode.begin), network.register_forward_hook(mode.end, always_call=True)
    try:
        with mode:
            yield
    finally:
        for hook in hooks:
            hook.remove()
