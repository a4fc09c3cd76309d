"""Elementwise arithmetic of many steps, block by block, so that what lies between two steps stays in the cache.

The autograd graph of a forward pass: what was really computed, whatever modules or functions it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

BLOCK = 2**17
"""Numbers of a block: with three or four tensors, what the caches of two cores hold."""


def in_blocks(compute: Callable[..., None], *values: Tensor) -> None:
    """`compute(*values)`, which acts on every element alone and writes into some of the tensors, block by block.

    Tensors on other devices than the CPU, small ones, and those of different shapes or
    orders in memory are handed over whole: the result is the same.
    """
    if values[0].device.type != "cpu" or values[0].numel() <= BLOCK or not _alike(values):
        compute(*values)
        return
    flat = [each.as_strided((each.numel(),), (1,)) for each in values]
    for parts in zip(*(each.split(BLOCK) for each in flat), strict=True):
        compute(*parts)


def in_blocks_beside(compute: Callable[..., None], values: Sequence[Tensor], beside: Sequence[Tensor]) -> None:
    """`in_blocks(compute, *values, *beside)` where those beside may be [1, ...]: the same for every image [n, ...]."""
    shape, other = values[0].shape, beside[0].shape
    if shape == other or values[0].device.type != "cpu" or other != (1, *shape[1:]):
        in_blocks(compute, *values, *beside)
        return
    count = max(1, BLOCK // beside[0].numel())
    for parts in zip(*(each.split(count) for each in values), strict=True):
        in_blocks(compute, *parts, *beside)


def _alike(values: Sequence[Tensor]) -> bool:
    """Whether the elements of all lie in the same order without gaps."""
    shapes = {each.shape for each in values}
    return len(shapes) == 1 and (
        all(each.is_contiguous() for each in values)
        or (values[0].ndim == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in values))
    )


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
"""Operations that multiply the two operands at these places: linear while only one depends on the image."""


def operation(node: Node) -> str:
    """The bare name of a node: `Relu` for `ReluBackward0`."""
    return re.sub(r"Backward\d*$", "", node.name().removeprefix("torch::autograd::")) or node.name()


def spoken(node: Node) -> str:
    """The name of a node as a person would write the function: `hard_swish` is `hardswish`, `Softmax` is `softmax`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation(node)).lower()


def sources(node: Node) -> list[Node]:
    """The nodes whose results this one uses, as far as they depend on the image."""
    return [source for source, _ in node.next_functions if source is not None]


def is_product(node: Node) -> bool:
    """Whether the node multiplies two results that both depend on the image."""
    places = PRODUCTS.get(operation(node), ())
    return sum(node.next_functions[place][0] is not None for place in places if place < len(node.next_functions)) > 1


def is_linear(node: Node) -> bool:
    """Whether the node is linear (or affine) in what depends on the image."""
    name = operation(node)
    if name == "Div":
        return len(node.next_functions) < 2 or node.next_functions[1][0] is None
    if name == "NativeBatchNorm":
        return not node._saved_training and not is_product(node)  # type: ignore[attr-defined]
    return name in STRUCTURAL or (name in PRODUCTS and not is_product(node))
