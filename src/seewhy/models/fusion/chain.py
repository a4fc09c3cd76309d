"""A convolution with what follows it, run as one: normalisation with fixed statistics, then an activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from seewhy.models.fusion.convolution import Activation, can_fuse, convolve_fused, is_fusible, read_activation
from seewhy.models.fusion.internals import count_writes, list_hooks

FOREACH = all(hasattr(torch, f"_foreach_{name}") for name in ("add", "add_", "mul", "mul_", "neg_", "rsqrt_"))
"""Whether this torch has the operations on lists of tensors, which fold all layers of a network at once."""


class NetworkChanged(Exception):
    """The network did not run as it did when its chains were found."""


class Chain:
    """A convolution, the normalisation and the activation that are each the only one to read what is before them.

    In evaluation mode BN(w * x + b) = (s w) * x + (s b + t) with s = gamma / sqrt(variance + eps), t = beta - s mean.

    Attributes:
        parameters: The parameters to convolve with, see `fold_parameters`.
        fused: The activation that the convolution computes itself, None where it does not.
        remember: Whether the result of the next pass is kept, for `was_written`.

    Args:
        convolution: The convolution.
        normalisation: The normalisation behind it, None for none.
        activation: The activation behind both, None for none or where the normalisation contains it, as timm's does.
        around: The modules that hold a module of the chain but not its end: what they return lies inside of it.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        normalisation: nn.BatchNorm2d | None = None,
        activation: nn.Module | None = None,
        around: Sequence[nn.Module] = (),
    ) -> None:
        self.convolution = convolution
        self.normalisation = normalisation
        self.activation = activation
        self.around = around
        self.parameters: dict[str, Tensor | None] = {}
        self.remember = False
        self.inner = find_inner_activation(normalisation) if activation is None else None
        self.fused: Activation | None = None
        if is_fusible(convolution) and (self.inner is None or type(normalisation.drop) is nn.Identity):  # type: ignore[union-attr]
            self.fused = read_activation(self.inner if activation is None else activation)
        self._output: Tensor | None = None
        self._version: int | None = None
        self._activated = False
        self._remembered: Tensor | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """The convolution and what follows it."""
        return [each for each in (self.convolution, self.normalisation, self.activation) if each is not None]

    @property
    def is_useful(self) -> bool:
        """Whether it saves anything beside the modules run after each other."""
        return self.normalisation is not None or self.fused is not None

    def copy_to(self, twins: dict[nn.Module, Any]) -> Chain:
        """Build the same chain of other modules.

        Args:
            twins: The module of a copied network for each module of this one.

        Returns:
            The chain, without parameters yet.
        """
        normalisation = None if self.normalisation is None else twins[self.normalisation]
        activation = None if self.activation is None else twins[self.activation]
        chain = Chain(twins[self.convolution], normalisation, activation, [twins[each] for each in self.around])
        chain.fused = self.fused
        return chain

    def is_watched(self) -> bool:
        """Tell whether someone looks at its modules: the values between them are then computed as they are."""
        return any(_is_watched(each) for each in (*self.modules, *self.around, self.inner) if each is not None)

    def begin(self) -> None:
        """Run convolution and normalisation as one from now on, until `end`; the activation hands over to `activate`."""
        self._output = None
        self.convolution.__dict__["forward"] = self._convolve
        if self.normalisation is not None:
            self.normalisation.__dict__["forward"] = self._normalise

    def end(self) -> bool:
        """Run the modules as themselves again; return whether each has read the result before it."""
        for each in self.modules:
            each.__dict__.pop("forward", None)
        finished, self._output = self._output is None, None
        return finished

    def activate(self, values: Tensor) -> Tensor | None:
        """Compute the activated values of what this chain has computed; None for other values."""
        if values is not self._output:
            return None
        self._read(values)
        assert self.activation is not None, "only chains that have one are asked"
        result: Tensor = values if self._activated else type(self.activation).forward(self.activation, values)
        return self._finish(result)

    def was_written(self) -> bool:
        """Tell whether someone wrote into the result of the pass that was remembered, and forget that result."""
        result, self._remembered = self._remembered, None
        return result is not None and count_writes(result) != self._version

    def _convolve(self, values: Tensor) -> Tensor:
        if self._output is not None:
            raise NetworkChanged
        weight = self.parameters["weight"]
        self._activated = self.fused is not None and weight is not None and can_fuse(values, weight, self.fused)
        if self._activated:
            assert self.fused is not None
            output = convolve_fused(self.convolution, self.parameters, values, self.fused)
        else:
            output = self._convolve_alone(values)
        self._output, self._version = output, count_writes(output)
        return output

    def _convolve_alone(self, values: Tensor) -> Tensor:
        module = self.convolution
        own = module._parameters
        module.__dict__["_parameters"] = self.parameters
        try:
            output: Tensor = type(module).forward(module, values)
        finally:
            module.__dict__["_parameters"] = own
        return output

    def _normalise(self, values: Tensor) -> Tensor:
        self._read(values)
        if self.activation is not None:
            self._output = values  # the activation is still to come
            return values
        if self.inner is None or self._activated:
            return self._finish(values)
        activated: Tensor = self.normalisation.act(self.normalisation.drop(values))  # type: ignore[union-attr,operator]
        return self._finish(activated)

    def _read(self, values: Tensor) -> None:
        if values is not self._output or count_writes(values) != self._version:
            raise NetworkChanged
        self._output = None

    def _finish(self, result: Tensor) -> Tensor:
        if self.remember:
            self._remembered, self._version = result, count_writes(result)
        return result


def find_inner_activation(normalisation: Any) -> Any:
    """Find the activation inside of timm's normalisation; None for torch's."""
    return None if normalisation is None or type(normalisation) is nn.BatchNorm2d else normalisation.act


def _is_watched(module: nn.Module) -> bool:
    """Whether a hook or another forward is set on a module."""
    return "forward" in vars(module) or any(list_hooks(module))


@torch.no_grad()
def fold_parameters(chains: Sequence[Chain]) -> None:
    """Set the parameters of each chain from its modules as they are now, the normalisation folded into the convolution.

    Where torch cannot compute on lists of tensors, `torch.nn.utils.fusion` folds layer by layer.

    Args:
        chains: The chains of a network.
    """
    for chain in chains:
        chain.parameters = dict(chain.convolution._parameters)
    normalised = [chain for chain in chains if chain.normalisation is not None]
    if normalised and FOREACH:
        _fold_at_once([_require(chain.normalisation) for chain in normalised], normalised)
    elif normalised:
        for chain in normalised:
            _fold_alone(chain, _require(chain.normalisation))


def _fold_at_once(normalisations: list[nn.BatchNorm2d], chains: Sequence[Chain]) -> None:
    scales = torch._foreach_add(
        [_require(each.running_var) for each in normalisations], [each.eps for each in normalisations]
    )
    torch._foreach_rsqrt_(scales)
    affine = [index for index, each in enumerate(normalisations) if each.affine]
    if affine:
        torch._foreach_mul_([scales[index] for index in affine], [normalisations[index].weight for index in affine])
    shifts = torch._foreach_mul([_require(each.running_mean) for each in normalisations], scales)
    torch._foreach_neg_(shifts)
    if affine:
        torch._foreach_add_([shifts[index] for index in affine], [normalisations[index].bias for index in affine])
    weights = [chain.convolution.weight for chain in chains]
    folded = torch._foreach_mul(weights, [scale.view(-1, 1, 1, 1) for scale in scales])
    for chain, weight, scale, shift in zip(chains, folded, scales, shifts, strict=True):
        bias = chain.convolution.bias
        chain.parameters = {"weight": weight, "bias": shift if bias is None else shift + bias * scale}


def _fold_alone(chain: Chain, normalisation: nn.BatchNorm2d) -> None:
    weight, bias = fuse_conv_bn_weights(
        chain.convolution.weight,
        chain.convolution.bias,
        _require(normalisation.running_mean),
        _require(normalisation.running_var),
        normalisation.eps,
        normalisation.weight,
        normalisation.bias,
    )
    chain.parameters = {"weight": weight.detach(), "bias": bias.detach()}


def _require(member: Any) -> Any:
    assert member is not None, "only a normalisation with fixed statistics is folded"
    return member
