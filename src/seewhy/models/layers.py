"""Where in the image a layer looks, and the layer that class activation maps are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible
from seewhy.core.types import Images
from seewhy.models.band_responses import find_grid_by_responses, is_contradicted
from seewhy.models.cell_grid import CellGrid, GridAxis
from seewhy.models.grid_search import find_grid
from seewhy.models.receptive_fields import GLOBAL, ReceptiveFields
from seewhy.models.tracing import Output, TracedPass, draw_noise, record_output, trace_pass

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

Result = TypeVar("Result")
_MEASURED: WeakKeyDictionary[nn.Module, dict[object, Any]] = WeakKeyDictionary()


def remember(classifier: Classifier, key: object, measure: Callable[[], Result]) -> Result:
    """Measure something of a network once, not for every batch, and in full precision.

    Args:
        classifier: The classifier, as long as whose network lives the result is kept.
        key: What is measured.
        measure: Called where it was not measured yet.

    Returns:
        The result.
    """
    measured = _MEASURED.setdefault(classifier.network, {})
    if key not in measured:
        with classifier.computing_in_full():
            measured[key] = measure()
    result: Result = measured[key]
    return result


def measure_grid(classifier: Classifier, layer: str, size: tuple[int, int]) -> CellGrid | None:
    """Measure where in the image the cells of a layer look.

    Two images of noise are followed through the network: every element of the layer's output carries the point that it was
    computed from, through windows, heads, tokens in any order, strides and padding. Bands of an image are then changed one
    after the other: where cells clearly respond to other points, or could not be followed, the grid is the one that their
    responses form. Which pixels cells depend on beyond their grid is told by NaN. No pass is counted; all is done once for
    a network, layer and size.

    Args:
        classifier: The classifier.
        layer: Name of a module.
        size: (height, width) of the images in pixels.

    Returns:
        The grid, None where the output has no cells that each look at a point of their own.
    """

    def measure() -> CellGrid | None:
        outputs = trace_pass(classifier, size, layer).outputs
        if not outputs:
            return None
        fields = outputs[-1].fields
        grid = find_grid(fields, size)
        # what attention collects stands for its query, wherever it comes from
        is_collected = float(fields.extent.min()) >= GLOBAL
        if grid is None or min(grid.cells) < 2:
            grid = (
                find_grid_by_responses(classifier, layer, size) if _has_many_cells(outputs[-1].shape) else None
            ) or grid
        elif not is_collected and is_contradicted(classifier, layer, size, grid, _read_extent(grid, fields)):
            grid = find_grid_by_responses(classifier, layer, size)
        if grid is None:
            return None
        return limit_to_seen(
            classifier, size, grid, lambda images: grid.arrange(record_output(classifier, layer, images)[0])
        )

    return remember(classifier, ("grid", layer, size), measure)


def require_grid(classifier: Classifier, layer: str, size: tuple[int, int]) -> CellGrid:
    """Measure the grid of a layer that must have at least 2x2 cells.

    Args:
        classifier: The classifier.
        layer: Name of a module.
        size: (height, width) of the images in pixels.

    Returns:
        The grid.

    Raises:
        Incompatible: If it has none; the message names a layer that has.
    """
    grid = measure_grid(classifier, layer, size)
    if grid is None or min(grid.cells) < 2:
        what = (
            "no grid of cells that each look at a point of their own"
            if grid is None
            else "only {}x{} cells".format(*grid.cells)
        )
        raise Incompatible(
            f"layer {layer!r} has {what} at {size[0]}x{size[1]} pixels, and a map needs at least 2x2; set "
            f"explainer.layer={find_cam_layer(classifier, size)} or model.cam_layer to it"
        )
    return grid


def find_cam_layer(classifier: Classifier, size: tuple[int, int]) -> str:
    """Find the last layer with a grid that every path from the image crosses.

    A layer counts if what the network computes from the image all passes through its output, which has cells in more than
    one row and column that the logits depend on: behind the last attention of a transformer that reads the class token
    alone they do not. Not taken are pooling, dense layers, and maps of class scores. All of it is read from the graph of a
    pass, whatever the values of the weights; no pass is counted, and it is done once for a network and image size.

    Args:
        classifier: The classifier.
        size: (height, width) of the images in pixels.

    Returns:
        The name of the module.

    Raises:
        Incompatible: No module has more than one position at this image size.
    """
    return remember(classifier, ("default", size), lambda: _search(classifier, size))


def _search(classifier: Classifier, size: tuple[int, int]) -> str:
    traced = trace_pass(classifier, size)
    weighted = [number for number, output in enumerate(traced.outputs) if _has_weights(output.module)]
    scored = {output.node for output in traced.outputs[max(weighted, default=0) :]}
    candidates = list(_list_candidates(traced))
    for output in candidates:
        if output.node in traced.cuts and _has_cells(classifier, output, size, output.node in scored):
            return output.name
    crossed = f"more than one position at {size[0]}x{size[1]} pixels that every path from the image crosses"
    pixels = "take an explainer of pixels, such as saliency or occlusion"
    for output in candidates:
        if _has_cells(classifier, output, size, output.node in scored):
            raise Incompatible(
                f"the network has no layer with {crossed}; set explainer.layer={output.name}, the last one of its path, "
                f"whose map tells nothing of the others, or {pixels}"
            )
    raise Incompatible(f"the network has no layer with {crossed}; give larger images, or {pixels}")


def _list_candidates(traced: TracedPass) -> Iterator[Output]:
    """The outputs of the last runs of modules that are neither passed on nor pooled nor dense, the last one first."""
    last_runs = {id(output) for output in {output.name: output for output in traced.outputs}.values()}
    pooled = {output.node for output in traced.outputs if "Pool" in type(output.module).__name__}
    for output in reversed(traced.outputs):
        passed_on = isinstance(output.module, nn.Identity | nn.Dropout) or output.node in pooled
        dense = isinstance(output.module, nn.Linear) and len(output.shape) == 3
        if not passed_on and not dense and id(output) in last_runs:
            yield output


def _has_cells(classifier: Classifier, output: Output, size: tuple[int, int], is_scored: bool) -> bool:
    """Whether an output has a grid that the logits depend on, and is no map of class scores."""
    grid = find_grid(output.fields, size)
    if grid is None and len(output.shape) < 3:
        return False
    if grid is None or min(grid.cells) > 1:
        grid = measure_grid(classifier, output.name, size)
    if grid is None or min(grid.cells) < 2:
        return False
    if is_scored and _count_channels(output, grid) == len(classifier.facts.classes):
        return False
    return _is_read(classifier, output.name, size, grid)


def _count_channels(output: Output, grid: CellGrid) -> int:
    return grid.arrange(torch.empty(output.shape, device="meta")).shape[1]


def _is_read(classifier: Classifier, layer: str, size: tuple[int, int], grid: CellGrid) -> bool:
    """Whether the logits depend on the cells of a layer, not on its class token alone: NaN in them reaches the logits."""
    images = draw_noise(classifier, size, 1)
    _, logits = record_output(classifier, layer, images, lambda output: grid.fill_cells(output, math.nan))
    return bool(logits.isnan().any())


def limit_to_seen(
    classifier: Classifier, size: tuple[int, int], grid: CellGrid, read_cells: Callable[[Images], Tensor]
) -> CellGrid:
    """Note which pixels the cells of a grid depend on, where it does not cover the image: by bisection with NaN.

    Args:
        classifier: The classifier.
        size: (height, width) of the images in pixels.
        grid: The grid.
        read_cells: Computes the cells of images.

    Returns:
        The grid with the first and last pixels that reach a cell.
    """
    if grid.covers:
        return grid

    def find_edges(axis: GridAxis, dimension: int) -> tuple[int, int]:
        def is_seen(start: int, stop: int) -> bool:
            images = draw_noise(classifier, size, 1)
            images.narrow(dimension, start, stop - start).fill_(math.nan)
            return bool(read_cells(images).isnan().any())

        low, high = 0, max(0, math.ceil(axis.start))
        high = 0 if high and is_seen(0, 1) else high
        while low < high:  # the first pixel that is seen lies in [low, high]
            middle = (low + high) // 2
            low, high = (low, middle) if is_seen(0, middle + 1) else (middle + 1, high)
        first, low, high = low, min(axis.size, math.floor(axis.start + axis.stride * axis.cells)), axis.size
        low = high if low < high and is_seen(high - 1, high) else low
        while low < high:  # the end of what is seen lies in [low, high]
            middle = (low + high + 1) // 2
            low, high = (middle, high) if is_seen(middle - 1, axis.size) else (low, middle - 1)
        return first, low

    return grid.limit(find_edges(grid.rows, 2), find_edges(grid.columns, 3))


def _read_extent(grid: CellGrid, fields: ReceptiveFields) -> float:
    """Pixels that the cells of a grid look at to each side of their points, along the channel that sees the most detail."""
    return float(grid.arrange(fields.extent).amin(1).median())


def _has_many_cells(shape: torch.Size) -> bool:
    """Whether an output [batch, ...] has elements besides its channels: two axes behind the batch."""
    return sum(size > 1 for size in shape[1:]) > 1


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
