"""The autograd graph of a forward pass: what was really computed, whatever modules or functions it was written with."""

from __future__ import annotations

import re
from collections import Counter

from torch import Tensor
from torch.autograd.graph import Node

from seewhy.models.fusion.internals import read_saved

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
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name_operation(node)).lower()


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
