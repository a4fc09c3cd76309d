"""A convolution with the normalisation and activation after it, found in the autograd graph and run as one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from seewhy.core.precision import find_narrow_type
from seewhy.core.words import write_snake_case
from seewhy.models.fusion.convolution import Activation, can_fuse, convolve_fused, is_fusible, read_activation
from seewhy.models.fusion.internals import count_writes, list_hooks, read_saved

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
        self._narrowed: tuple[dict[str, Tensor | None], dict[str, Tensor | None]] = ({}, {})
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
        narrow = find_narrow_type(values.device.type)
        parameters = self.parameters if narrow is None else self._narrow(narrow)
        values = values if narrow is None or values.dtype != torch.float32 else values.to(narrow)
        weight = parameters["weight"]
        self._activated = self.fused is not None and weight is not None and can_fuse(values, weight, self.fused)
        if self._activated:
            assert self.fused is not None
            output = convolve_fused(self.convolution, parameters, values, self.fused)
        else:
            output = self._convolve_alone(values, parameters)
        self._output, self._version = output, count_writes(output)
        return output

    def _narrow(self, dtype: torch.dtype) -> dict[str, Tensor | None]:
        """The parameters in the type of autocast, converted once for all passes with the same ones."""
        source, narrowed = self._narrowed
        if source is not self.parameters or narrowed["weight"].dtype != dtype:  # type: ignore[union-attr]
            narrowed = {
                key: each.to(dtype) if each is not None and each.dtype == torch.float32 else each
                for key, each in self.parameters.items()
            }
            self._narrowed = self.parameters, narrowed
        return narrowed

    def _convolve_alone(self, values: Tensor, parameters: dict[str, Tensor | None]) -> Tensor:
        module = self.convolution
        own = module._parameters
        module.__dict__["_parameters"] = parameters
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


STRUCTURAL = frozenset(
    "AccumulateGrad Add AdaptiveAvgPool2D AdaptiveAvgPool1D AsStrided Alias AvgPool2D Cat Clone ConstantPadNd "
    "CopyBackwards CopySlices Copy Detach Diagonal Expand Flip Gather Im2Col Col2Im Index IndexSelect MaskedFill Mean "
    "Movedim Narrow Neg Permute PixelShuffle PixelUnshuffle ReflectionPad2D Repeat ReplicationPad2D Reshape "
    "ReshapeAlias Roll Rsub Select Slice Split SplitWithSizes Squeeze Stack Sub Sum Swapaxes T ToCopy Transpose Unbind "
    "Unfold UnsafeSplit UnsafeView Unsqueeze UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest2D "
    "UpsampleNearestExact2D View Where".split()
)
"""Operations that are linear in all of their operands together."""

PRODUCTS = {
    "Addbmm": (1, 2), "Addcmul": (1, 2), "Addmm": (1, 2), "Addmv": (1, 2), "Baddbmm": (1, 2), "Bmm": (0, 1),
    "Convolution": (0, 1), "CudnnConvolution": (0, 1), "Dot": (0, 1), "Linear": (0, 1), "MkldnnConvolution": (0, 1),
    "Mm": (0, 1), "MpsConvolution": (0, 1), "Mul": (0, 1), "Mv": (0, 1), "NativeBatchNorm": (0, 1),
}  # fmt: skip
"""Operations that multiply two operands, and which: linear while only one of them depends on the image."""


def name_operation(node: Node) -> str:
    """Name the operation of a node: `Relu` for `ReluBackward0`.

    Args:
        node: A node of the autograd graph.

    Returns:
        The bare name.
    """
    return re.sub(r"Backward\d*$", "", node.name().removeprefix("torch::autograd::")) or node.name()


def describe_operation(node: Node) -> str:
    """Name the operation as its function is written: `hard_swish` for `HardSwishBackward0`.

    Args:
        node: A node of the autograd graph.

    Returns:
        The name in snake case.
    """
    return write_snake_case(name_operation(node))


def list_sources(node: Node) -> list[Node]:
    """List the nodes whose results this one uses, as far as they depend on the image.

    Args:
        node: A node of the autograd graph.

    Returns:
        The nodes, once for each use.
    """
    return [source for source, _ in node.next_functions if source is not None]


def count_readers(result: Tensor) -> Counter[Node]:
    """Count for each node behind a result how many nodes use its own result.

    Args:
        result: A tensor with its graph.

    Returns:
        The number of uses of each node.
    """
    readers: Counter[Node] = Counter()
    waiting = [result.grad_fn] if result.grad_fn is not None else []
    while waiting:
        read = list_sources(waiting.pop())
        waiting += [source for source in set(read) if source not in readers]
        readers.update(read)
    return readers


def is_product(node: Node) -> bool:
    """Tell whether the node multiplies two results that both depend on the image.

    Args:
        node: A node of the autograd graph.

    Returns:
        True for such a product.
    """
    factors = PRODUCTS.get(name_operation(node), ())
    operands = node.next_functions
    return sum(operands[index][0] is not None for index in factors if index < len(operands)) > 1


def is_linear(node: Node) -> bool:
    """Tell whether the node is linear, or affine, in what depends on the image.

    Args:
        node: A node of the autograd graph.

    Returns:
        True where its derivative does not depend on the image.
    """
    name = name_operation(node)
    if name == "Div":
        return len(node.next_functions) < 2 or node.next_functions[1][0] is None
    if name == "NativeBatchNorm":
        return not read_saved(node, "training") and not is_product(node)
    return name in STRUCTURAL or (name in PRODUCTS and not is_product(node))
