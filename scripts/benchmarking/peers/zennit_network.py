"""A network in the form that zennit's rules need."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarking.peers.plain import sharing_weights


class Residual(nn.Module):
    """A block and its shortcut, added by zennit's module so that its rule for sums applies."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        from zennit.layer import Sum

        block.has_skip = False  # type: ignore[assignment]
        self.block, self.sum = block, Sum()

    def forward(self, features: Tensor) -> Tensor:
        """block(x) + x."""
        return self.sum(torch.stack([self.block(features), features], -1))


def canonical(network: nn.Module) -> nn.Module:
    """The same function with batch norms folded into convolutions and residual sums as modules."""
    network = sharing_weights(network)
    for parent in list(network.modules()):
        before: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            before = (name, child) if isinstance(child, nn.Conv2d) else None
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if getattr(child, "has_skip", False):
                setattr(parent, name, Residual(child))
    return network.eval()
