"""The grid that the receptive fields of a layer's output form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis
from seewhy.models.receptive_fields import NEAR, PAIRED, ReceptiveFields, drop_repeats

ALIKE = 0.25
"""Share of the distance between cells by which channels of a cell may look at different points."""
WIDE = 0.49
"""Share of the image's longer side from which on an extent is that of a sum over the image, beside details."""


def find_grid(fields: ReceptiveFields, size: tuple[int, int], largest_extent: float = PAIRED) -> CellGrid | None:
    """Find the grid that receptive fields form.

    Elements without a position, such as class tokens, are left out; where the rest is no grid, so are those that look at
    half of the image beside others that look at details, such as a mean of all tokens that stands among them.

    Args:
        fields: Of the output for two images.
        size: (height, width) of the images in pixels.
        largest_extent: Elements whose extent is this or more count as without a position.

    Returns:
        The grid of its cells; None where they are none, where two look at the same point, and where images are mixed or
        have cells of their own.
    """
    layout = find_layout(fields.image)
    if layout is None:
        return None
    divided = fields.each(lambda values: drop_repeats(layout.divide(values)))
    if not all(_is_alike(plane, 0) for plane in (divided.rows, divided.columns, divided.extent)):
        return None
    slim = divided.each(lambda values: values[:1])
    rows, columns, extent = torch.broadcast_tensors(slim.rows, slim.columns, slim.extent)
    placed, wide = extent < largest_extent, extent >= WIDE * max(size)
    grid = _search(rows, columns, placed, size, layout)
    if grid is None and bool((placed & wide).any()) and bool((placed & (extent < WIDE / 2 * max(size))).any()):
        grid = _search(rows, columns, placed & ~wide, size, layout)
    return grid


def find_layout(image: Tensor) -> BatchLayout | None:
    """Find which elements of an output belong to which of two images.

    Args:
        image: Float, of the output's shape: 0 or 1, the image that an element depends on; NaN or -1 where it is unknown.

    Returns:
        The layout; None where the images are mixed.
    """
    unknown = image.isnan() | (image < 0)
    if bool(unknown.all()):
        return None
    for axis, size in enumerate(image.shape):
        if size % 2 or (axis and size != 2):
            continue
        index = torch.arange(size, device=image.device)
        for images_first, owner in ((True, index // (size // 2)), (False, index % 2)):
            shaped = owner.view([-1 if number == axis else 1 for number in range(image.ndim)])
            if bool(((image == shaped) | unknown).all()):
                return BatchLayout(axis, size // 2, images_first)
    return None


def _search(
    rows: Tensor, columns: Tensor, placed: Tensor, size: tuple[int, int], layout: BatchLayout
) -> CellGrid | None:
    """The grid of one image's centres [1, entries, ...]; channels may look at slightly different points."""
    apart = 0.0
    while True:
        grid = _arrange_cells(rows, columns, placed, size, layout)
        if grid is not None:
            return grid if apart <= ALIKE * min(grid.rows.stride, grid.columns.stride) else None
        spreads = {axis: spread for axis in range(1, rows.ndim) if (spread := _spread(rows, columns, placed, axis)) > 0}
        if len(spreads) < 2:
            return None
        closest = min(spreads, key=lambda axis: spreads[axis])
        apart += spreads[closest]
        rows, columns = (values.mean(closest, keepdim=True) for values in (rows, columns))
        placed = placed.all(closest, keepdim=True)


def _spread(rows: Tensor, columns: Tensor, placed: Tensor, axis: int) -> float:
    """Pixels by which centres along an axis differ at most."""
    most = 0.0
    for values in (rows, columns):
        high = torch.where(placed, values, -math.inf).amax(axis)
        low = torch.where(placed, values, math.inf).amin(axis)
        most = max(most, float((high - low).amax()))
    return most


def _is_alike(plane: Tensor, axis: int) -> bool:
    """Whether a plane is the same along an axis."""
    return torch.allclose(plane, plane.narrow(axis, 0, 1).expand_as(plane), rtol=0, atol=NEAR, equal_nan=True)


def _arrange_cells(
    rows: Tensor, columns: Tensor, placed: Tensor, size: tuple[int, int], layout: BatchLayout
) -> CellGrid | None:
    axes = tuple(
        axis
        for axis in range(1, rows.ndim)
        if rows.shape[axis] > 1 and (_spread(rows, columns, placed, axis) > NEAR or not _is_alike(placed.float(), axis))
    )
    index = tuple(slice(None) if axis in axes or axis == 0 else slice(0, 1) for axis in range(rows.ndim))
    centres = [values[index].flatten() for values in (rows, columns)]
    chosen = placed[index].flatten().nonzero().flatten()
    if not len(chosen):
        return None
    ranked = [_rank(values[chosen]) for values in centres]
    count = [len(levels) for _, levels in ranked]
    cell = ranked[0][0] * count[1] + ranked[1][0]
    order = cell.argsort()
    if len(cell) != count[0] * count[1] or not torch.equal(cell[order], torch.arange(len(cell), device=cell.device)):
        return None
    grid_axes = [GridAxis.of_centres(levels.double(), side) for (_, levels), side in zip(ranked, size, strict=True)]
    if grid_axes[0] is None or grid_axes[1] is None:
        return None
    cells = chosen[order].tolist()
    is_in_order = cells == list(range(centres[0].numel()))
    return CellGrid(layout, axes, None if is_in_order else tuple(cells), grid_axes[0], grid_axes[1])


def _rank(values: Tensor) -> tuple[Tensor, Tensor]:
    """(number of each value's level, the levels in order): values that differ by rounding are of one level."""
    ordered = values.sort().values
    levels = ordered[torch.cat([ordered.new_ones(1, dtype=torch.bool), ordered.diff() > 10 * NEAR])]
    return torch.searchsorted(levels, values + 5 * NEAR, right=True) - 1, levels
