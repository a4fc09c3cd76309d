"""What the cells of a layer respond to: bands of the image are changed one after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis
from seewhy.models.grid_search import find_layout
from seewhy.models.tracing import draw_noise, record_output

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

SHARP = 0.9
"""Share of a cell's response that lies near one point where the cell looks at that point alone."""
MISSED = 0.1
"""Share of a sharp response that lies near a point which the cell does not look at."""
FAINT = 1e-9
"""Share of the median response (squared changes) of cells below which a response is rounding."""
SPREAD = 0.2
"""Standard deviation of a response, as a share of the side, from which on a cell looks at no point (everywhere: 0.29)."""
LARGEST = 2**26
"""Numbers that the responses of single elements may be."""
FINEST = 32
"""Bands of a side where nothing is known of a layer's grid."""
SMALL = 0.1
"""Share of the way from an image to another one that changes as a derivative does."""
ROUNDING = 16
"""Units in the last place of an output that its rounding may come to."""
BATCH = 8
"""Images of a pass."""


@dataclass(frozen=True)
class Bands:
    """Equal bands across one side of the image.

    Args:
        axis: -2 for bands of rows, -1 for bands of columns.
        size: Pixels of the side.
        count: How many.
    """

    axis: int
    size: int
    count: int

    @property
    def width(self) -> float:
        """Pixels of a band."""
        return self.size / self.count

    def compute_centres(self) -> Tensor:
        """Compute their centres in pixels, float64 [count]."""
        return (torch.arange(self.count, dtype=torch.float64) + 0.5) * self.width - 0.5

    def change(self, image: Tensor, other: Tensor) -> Iterator[Tensor]:
        """Yield the image [channels, height, width] with each band taken from another one."""
        for band in range(self.count):
            start, stop = round(band * self.width), round((band + 1) * self.width)
            changed = image.clone()
            changed.narrow(self.axis, start, stop - start).copy_(other.narrow(self.axis, start, stop - start))
            yield changed


def cut_bands(size: tuple[int, int], most: int) -> tuple[Bands, Bands]:
    """Cut both sides of an image into at most so many bands: (of rows, of columns)."""
    return Bands(-2, size[0], min(size[0], most)), Bands(-1, size[1], min(size[1], most))


def is_contradicted(classifier: Classifier, layer: str, size: tuple[int, int], grid: CellGrid, extent: float) -> bool:
    """Tell whether cells of a layer look elsewhere than their grid says.

    Bands of rows and of columns are changed one after the other. A cell contradicts the grid where nearly all of its
    response comes from near one point, which it should not look at. One point of those that it should look at may count
    more than all others, as behind an enlargement, whose cells are each computed from two beside them: that contradicts
    the grid where most cells with such a point have it elsewhere, as behind kernels that look beside their centres. Cells
    that respond to much of the image, as behind many layers, contradict nothing.

    Args:
        classifier: The classifier; the passes are not counted.
        layer: Name of a module.
        size: (height, width) of the images in pixels.
        grid: What is to be checked.
        extent: Pixels to each side of its own point that a cell looks at.

    Returns:
        True where a cell contradicts the grid.
    """
    sides = cut_bands(size, 16 if max(size) <= 64 else 8)
    for bands, axis, energy in zip(
        sides, (grid.rows, grid.columns), measure_energy(classifier, layer, grid, sides), strict=True
    ):
        total = energy.sum(0)
        shares = energy / total.clamp_min(torch.finfo(torch.float64).tiny)
        centres, own = bands.compute_centres(), axis.compute_centres().view((-1, 1) if axis is grid.rows else (1, -1))
        reach = axis.stride / 2 + bands.width
        apart = (centres.view(-1, 1, 1) - own).abs()
        windows = ((centres[:, None] - centres).abs() <= reach).double()
        sharpest = torch.einsum("wb,bij->wij", windows, shares).amax(0)
        is_sharp = (sharpest >= SHARP) & (total > FAINT * total.median())
        beside, beyond = (
            is_sharp & ((shares * (apart <= most)).sum(0) <= MISSED)
            for most in (reach, max(reach, extent + bands.width))
        )
        if bool(beyond.any()) or 2 * int(beside.sum()) > int(is_sharp.sum()):
            return True
    return False


def measure_energy(
    classifier: Classifier, layer: str, grid: CellGrid, sides: tuple[Bands, Bands]
) -> tuple[Tensor, Tensor]:
    """Measure how much each cell of a layer changes when bands of an image change.

    Args:
        classifier: The classifier; the passes are not counted.
        layer: Name of a module.
        grid: Its grid.
        sides: Bands of rows, and of columns.

    Returns:
        Squared changes, summed over the channels, float64 [bands, rows, columns]: by bands of rows, and of columns. Those
        that rounding can make are 0.
    """
    image, other = draw_pairs(classifier, (sides[0].size, sides[1].size))[0]
    other = torch.lerp(image, other, SMALL)
    output = record_output(classifier, layer, image[None])[0]
    floor = grid.arrange(output).double().cpu().square().sum(1) * (ROUNDING * torch.finfo(output.dtype).eps) ** 2
    by_rows, by_columns = (
        torch.cat([chunk.sum(1) for chunk in _measure(classifier, layer, bands, grid.arrange, image, other)])
        for bands in sides
    )
    return by_rows * (by_rows > floor), by_columns * (by_columns > floor)


def find_grid_by_responses(classifier: Classifier, layer: str, size: tuple[int, int]) -> CellGrid | None:
    """Find the grid of a layer from what its elements respond to, whatever the network computes in between.

    Args:
        classifier: The classifier; the passes are not counted.
        layer: Name of a module.
        size: (height, width) of the images in pixels.

    Returns:
        The grid; None where its elements do not each look at a point of their own, or where they are too many to tell.
    """
    layout = _measure_layout(classifier, layer, size)
    if layout is None:
        return None
    sides, responses = cut_bands(size, FINEST), []
    for bands in sides:
        responses.append(torch.zeros(()))
        for pair in draw_pairs(classifier, size):  # cells that are silent on one image may answer on another
            chunks = []
            for chunk in _measure(classifier, layer, bands, layout.divide, *pair):
                if chunk[0].numel() * bands.count > LARGEST:
                    return None
                chunks.append(chunk)
            responses[-1] = responses[-1] + torch.cat(chunks)
    shape = responses[0].shape
    subsets = [axes for count in range(1, len(shape)) for axes in itertools.combinations(range(1, len(shape)), count)]
    for axes in sorted(subsets, key=lambda subset: math.prod(shape[axis] for axis in subset)):
        grid = _group_cells(responses, sides, axes, layout)
        if grid is not None:
            return grid
    return None


def draw_pairs(classifier: Classifier, size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Draw pairs of images [channels, height, width]: noise and other noise, dark and bright, and each the other way."""
    noise, other, dark, bright = draw_noise(classifier, size, 4)
    dark, bright = dark / 2, (bright + 1) / 2
    return [(noise, other), (dark, bright), (bright, dark), (other, noise)]


def _measure(
    classifier: Classifier, layer: str, bands: Bands, arrange: Callable[[Tensor], Tensor], image: Tensor, other: Tensor
) -> Iterator[Tensor]:
    """Yield squared changes by some of the bands, [bands, ...]; `arrange` makes [images, ...] of the layer's output."""
    before = arrange(record_output(classifier, layer, image[None])[0]).double().cpu()
    for batch in torch.stack(list(bands.change(image, other))).split(BATCH):
        yield (arrange(record_output(classifier, layer, batch)[0]).double().cpu() - before).square()


def _measure_layout(classifier: Classifier, layer: str, size: tuple[int, int]) -> BatchLayout | None:
    """Which elements respond to which of two images."""
    _, (dark, bright), *_ = draw_pairs(classifier, size)
    pairs = ((dark, dark), (bright, dark), (dark, bright))
    outputs = [record_output(classifier, layer, torch.stack(pair))[0] for pair in pairs]
    if len({output.shape for output in outputs}) > 1 or outputs[0].ndim < 2:
        return None
    first, second = ((output - outputs[0]).abs() for output in outputs[1:])
    owner = (second > first).to(outputs[0].dtype)
    return find_layout(torch.where((first == 0) & (second == 0), torch.nan, owner))


def _group_cells(
    responses: list[Tensor], sides: tuple[Bands, Bands], axes: tuple[int, ...], layout: BatchLayout
) -> CellGrid | None:
    """The grid that elements along some axes form, if each responds to a point of its own."""
    others = [axis for axis in range(1, responses[0].ndim) if axis not in axes]
    profiles = [(each.sum(others) if others else each).flatten(1) for each in responses]
    totals = profiles[0].sum(0)
    centres, is_sharp = [], totals > FAINT * totals.median()
    for profile, bands in zip(profiles, sides, strict=True):
        shares, points = profile / profile.sum(0).clamp_min(1e-300), bands.compute_centres()[:, None]
        centres.append((shares * points).sum(0))
        is_sharp &= (shares * (points - centres[-1]).square()).sum(0).sqrt() <= SPREAD * bands.size
    cells = is_sharp.nonzero().flatten()
    count = len(cells)
    if not count or int(cells[-1] - cells[0]) != count - 1:  # class tokens stand before the patches or behind them
        return None
    for rows in (number for number in range(2, count // 2 + 1) if count % number == 0):
        grid_axes, ranks = [], []
        for values, profile, bands, number in zip(centres, profiles, sides, (rows, count // rows), strict=True):
            order = values[cells].argsort()
            levels = values[cells][order].view(number, -1)
            axis = GridAxis.of_centres(levels.mean(1), bands.size)
            if axis is None or bool(((levels - levels.mean(1, keepdim=True)).abs() > axis.stride / 2).any()):
                break
            ranks.append(order.argsort() // (count // number))
            near = (bands.compute_centres()[:, None] - levels.mean(1)[ranks[-1]]).abs() <= axis.stride + bands.width
            if bool(((profile[:, cells] * near).sum(0) < SHARP * profile[:, cells].sum(0)).any()):
                break
            grid_axes.append(axis.snap())
        if len(grid_axes) == 2:
            cell = ranks[0] * (count // rows) + ranks[1]
            order = cell.argsort()
            if torch.equal(cell[order], torch.arange(count)):
                arranged = cells[order].tolist()
                is_in_order = arranged == list(range(len(is_sharp)))
                return CellGrid(layout, axes, None if is_in_order else tuple(arranged), grid_axes[0], grid_axes[1])
    return None
