"""A network under torch.compile, for passes in which nobody looks at its layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.tensors import is_out_of_memory
from seewhy.models.fusion.internals import has_global_hooks, is_observed, list_hooks

CLOSE, CLOSE_NARROW = 1e-3, 0.05
"""Outputs of the compiled network may differ from the network's by this share of the largest one; under autocast by more,
since compiled code rounds to the shorter type in fewer places."""


class CompiledNetwork:
    """A network and what torch.compile makes of it, which is compiled in the first pass of each kind.

    A pass with a hook, a replaced forward or a mode on is for the network itself: compiled code would not stop for them.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._passes: Callable[..., Any] | None = None
        self._checked: set[bool] = set()

    def is_usable(self) -> bool:
        """Tell whether nobody looks at the layers right now."""
        modules = self.network.modules()
        return not (
            has_global_hooks()
            or is_observed("accepts_compiled", self.network)
            or any("forward" in module.__dict__ or any(list_hooks(module)) for module in modules)
        )

    def run(self, values: Tensor, read: Callable[[Any], Tensor]) -> Tensor:
        """Compute the outputs; the first of each kind, without and with a gradient, are compared with the network's.

        Args:
            values: Normalised images [n, channels, height, width].
            read: Reads the outputs [n, classes] from what the network returns.

        Returns:
            The outputs.

        Raises:
            UserError: The network cannot be compiled here, or computes something else once it is.
        """
        if self._passes is None:
            self._passes = torch.compile(self.network)
        try:
            with torch.compiler.set_stance("default"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of the compiler, which looks at gradients of what is no leaf
                outputs = read(self._passes(values))
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"model.compile=true: torch.compile fails for this network ({type(error).__name__}: {reason[:200]}); it "
                "needs a compiler of C++ on a processor, Triton on a GPU; set model.compile=false"
            ) from error
        kind = outputs.requires_grad
        if kind not in self._checked:
            with torch.no_grad():
                expected = read(self.network(values))
            share = CLOSE_NARROW if torch.is_autocast_enabled(values.device.type) else CLOSE
            if not bool((outputs.detach() - expected).abs().max() <= share * expected.abs().max()):
                raise UserError(
                    "model.compile=true: the compiled network computes other outputs than the network itself; set "
                    "model.compile=false"
                )
            self._checked.add(kind)
        return outputs
