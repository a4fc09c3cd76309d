"""Receptive fields: where in the image every element of a tensor looks, carried along with a pass through the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PLACELESS = math.inf
"""Extent of what looks nowhere in particular: class tokens, and the results of functions without a rule here."""
PAIRED = 1e6
"""Extent of an entry of an attention matrix, which looks where its query and its key look; its position is the query's."""
GLOBAL = 1e5
"""Extent of what attention collects from the whole image for one query."""
NEAR = 1e-3
"""Pixels up to which two positions are the same."""


@dataclass(frozen=True)
class ReceptiveFields:
    """Centre and extent of what each element looks at: four tensors of its shape, stride 0 where nothing changes.

    Args:
        rows: Centre of what an element looks at, in pixels from the top; the first pixel is 0.
        columns: The same from the left.
        extent: Half the side of what it looks at in pixels along the shortest path, which tells a detail from a sum over
            the image.
        image: Index of the image in the batch.
    """

    rows: Tensor
    columns: Tensor
    extent: Tensor
    image: Tensor

    @classmethod
    def of_images(cls, images: Tensor) -> ReceptiveFields:
        """Build those of images [batch, channels, height, width]: every pixel looks at itself."""
        count, _, height, width = images.shape
        rows, columns, image = (torch.arange(size, device=images.device).float() for size in (height, width, count))
        shaped = rows[:, None], columns, torch.full((), 0.5, device=images.device), image[:, None, None, None]
        return cls(*(values.expand(images.shape) for values in shaped))

    @classmethod
    def nowhere(cls, tensor: Tensor) -> ReceptiveFields:
        """Build those of a tensor that looks nowhere in particular."""
        planes = (0.0, 0.0, PLACELESS, math.nan)
        return cls(*(torch.full((), value, device=tensor.device).expand(tensor.shape) for value in planes))

    @property
    def planes(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, columns, extent and image."""
        return self.rows, self.columns, self.extent, self.image

    def each(self, change: Callable[[Tensor], Tensor]) -> ReceptiveFields:
        """Apply a function to each of the four tensors."""
        return ReceptiveFields(*(change(plane) for plane in self.planes))

    def expand(self, shape: Sequence[int]) -> ReceptiveFields:
        """Broadcast to a shape, without a copy."""
        return self.each(lambda values: drop_repeats(values).expand(tuple(shape)))

    def is_even(self, axis: int) -> bool:
        """Tell whether centres advance by the same number of pixels all along an axis.

        Args:
            axis: The axis.

        Returns:
            True for a side of an image and for what does not depend on the place; False for tokens row by row.
        """
        for values in (drop_repeats(self.rows), drop_repeats(self.columns)):
            if values.shape[axis] > 2:
                steps = values.diff(dim=axis)
                if bool(((steps - steps.narrow(axis, 0, 1)).abs() > NEAR).any()):
                    return False
        return True

    def contract(self, axes: Sequence[int]) -> ReceptiveFields:
        """Combine the elements along some axes, which stay with length 1: those that see the most detail decide.

        The position is the mean of theirs, and the extent grows by what lies between them.
        """
        kept = [axis % self.rows.ndim for axis in axes]
        slim = self.each(drop_repeats)
        image = slim.image
        for axis in kept:
            image = image.nan_to_num(-1).amax(axis, keepdim=True)
        if all(values.shape[axis] == 1 for values in (slim.rows, slim.columns, slim.extent) for axis in kept):
            paired = slim.extent.isfinite() & (slim.extent >= PAIRED)
            return replace(slim, extent=torch.where(paired, GLOBAL, slim.extent), image=image)
        rows, columns, extent = torch.broadcast_tensors(slim.rows, slim.columns, slim.extent)
        least = extent.amin(kept, keepdim=True)
        chosen = (extent <= least + NEAR) | least.isinf()
        count = chosen.sum(kept, keepdim=True)
        means, spread = [], torch.zeros_like(least)
        for values in (rows, columns):
            means.append(torch.where(chosen, values, 0.0).sum(kept, keepdim=True) / count)
            high = torch.where(chosen, values, -math.inf).amax(kept, keepdim=True)
            low = torch.where(chosen, values, math.inf).amin(kept, keepdim=True)
            spread = torch.maximum(spread, (high - low) / 2)
        extent = torch.where(least.isinf(), least, torch.where(least >= PAIRED, GLOBAL, least + spread))
        return ReceptiveFields(means[0], means[1], extent, image)


def drop_repeats(values: Tensor) -> Tensor:
    """Take the first element along every axis of stride 0, along which all are the same."""
    for axis, stride in enumerate(values.stride()):
        if stride == 0 and values.shape[axis] > 1:
            values = values.narrow(axis, 0, 1)
    return values


def join(operands: Sequence[ReceptiveFields], shape: Sequence[int]) -> ReceptiveFields:
    """Combine the operands of a function of single elements: the one that sees more detail decides, else their mean."""
    first = operands[0]
    if all(other is first for other in operands[1:]) and first.rows.shape == torch.Size(shape):
        return first
    result = first.each(drop_repeats)
    for operand in operands[1:]:
        other = operand.each(drop_repeats)
        nearer, level = other.extent < result.extent - NEAR, (other.extent - result.extent).abs() <= NEAR
        level = level | (other.extent.isinf() & result.extent.isinf())

        def select(ours: Tensor, theirs: Tensor, nearer: Tensor = nearer, level: Tensor = level) -> Tensor:
            return torch.where(level, (ours + theirs) / 2, torch.where(nearer, theirs, ours))

        apart = torch.maximum((result.rows - other.rows).abs(), (result.columns - other.columns).abs()) / 2
        image = torch.where(nearer | result.image.isnan(), other.image, result.image)
        extent = torch.minimum(result.extent, other.extent)
        extent = torch.where(level & extent.isfinite(), extent + apart, extent)
        result = ReceptiveFields(select(result.rows, other.rows), select(result.columns, other.columns), extent, image)
    return result.expand(shape)


def multiply(left: ReceptiveFields | None, right: ReceptiveFields | None, shape: Sequence[int]) -> ReceptiveFields:
    """Combine the factors of a matrix product [..., n, k] @ [..., k, m], each of which may hold nothing of the image."""
    if left is None or right is None:
        only = left.contract([-1]) if left is not None else None
        only = right.contract([-2]) if only is None and right is not None else only
        assert only is not None, "a factor looks at the image"
        return only.expand(shape)
    row, column = left.contract([-1]), right.contract([-2])
    by_row, by_column = _varies(row, -2), _varies(column, -1)
    if by_row and by_column:
        extent = torch.where(row.extent.isinf(), row.extent, PAIRED)
        return ReceptiveFields(row.rows, row.columns, extent, row.image).expand(shape)
    if by_row or by_column:
        return (row if by_row else column).expand(shape)
    return join([row, column], shape)


def _varies(fields: ReceptiveFields, axis: int) -> bool:
    """Whether elements along an axis look at several places."""
    placed = fields.extent.isfinite()
    for values in (fields.rows, fields.columns):
        high = torch.where(placed, values, -math.inf).amax(axis)
        low = torch.where(placed, values, math.inf).amin(axis)
        if bool((high - low > NEAR).any()):
            return True
    return False


def slide(fields: ReceptiveFields, axis: int, centres: Tensor, reach: float = 0.0) -> ReceptiveFields:
    """Take the fields at (fractional) indices along an axis; those beyond its ends continue as the last two.

    Args:
        fields: Those of the input.
        axis: The axis.
        centres: Index into the input for each element of the output.
        reach: How many elements a window takes to each side of its centre.

    Returns:
        Fields of the output.
    """
    slim = fields.each(drop_repeats)

    def take(values: Tensor) -> Tensor:
        if values.shape[axis] == 1:
            return values.expand([len(centres) if number == axis else size for number, size in enumerate(values.shape)])
        low = centres.floor().clamp(0, values.shape[axis] - 2)
        share = (centres - low).view([-1 if number == axis else 1 for number in range(values.ndim)])
        lower, upper = (values.index_select(axis, (low + more).long()) for more in (0, 1))
        return lower + (upper - lower) * share

    def take_nearest(values: Tensor) -> Tensor:
        index = centres.floor().clamp(0, values.shape[axis] - 1).long()
        return values.index_select(axis, index if values.shape[axis] > 1 else index.clamp_max(0))

    step = 0.0
    for values in (slim.rows, slim.columns):
        if values.shape[axis] > 1:
            step = max(step, float(values.diff(dim=axis).abs().mean()))
    extent = take_nearest(slim.extent) + reach * step
    return ReceptiveFields(take(slim.rows), take(slim.columns), extent, take_nearest(slim.image))


def slide_windows(
    fields: ReceptiveFields,
    shape: Sequence[int],
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
) -> ReceptiveFields:
    """Combine windows over the last axes, as convolutions (whose channels are combined before) and pooling do."""
    for number in range(len(kernel)):
        axis = len(shape) - len(kernel) + number
        index = torch.arange(shape[axis], device=fields.rows.device).float()
        reach = (kernel[number] - 1) * dilation[number] / 2
        if transposed:
            centres = (index + padding[number] - reach) / stride[number]
            reach = reach / stride[number]
        else:
            centres = index * stride[number] - padding[number] + reach
        fields = slide(fields, axis, centres, reach)
    return fields.expand(shape)


def resize(fields: ReceptiveFields, shape: Sequence[int], axes: int, corners: bool = False) -> ReceptiveFields:
    """Combine what falls together, or divide it, where the last axes are pooled to a size or enlarged.

    Args:
        fields: Those of the input.
        shape: Shape of the output.
        axes: How many of the last axes change their size.
        corners: Whether the centres of the outermost elements stay where they are, not their outer edges.

    Returns:
        Fields of the output.
    """
    sizes = fields.rows.shape
    for axis in range(len(shape) - axes, len(shape)):
        before, after = sizes[axis], shape[axis]
        if after == 1:
            fields = fields.contract([axis])
            continue
        ratio = before / after
        index = torch.arange(after, device=fields.rows.device).float()
        centres = index * ((before - 1) / (after - 1)) if corners else (index + 0.5) * ratio - 0.5
        reach = (ratio - 1) / 2 if ratio >= 1 else 1 - ratio / 2  # between two elements an enlargement reads both
        fields = slide(fields, axis, centres, reach)
    return fields.expand(shape)
