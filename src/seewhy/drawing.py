"""A page that is laid out: boxes, pictures and words at their places, and the pixels that they give."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seewhy.colours import rgb
from seewhy.words import Words


class Box(NamedTuple):
    """A rectangle without an edge, measured in pixels of the page from its top left corner."""

    x: float
    y: float
    width: float
    height: float
    fill: str

    def inside(self, zoom: float) -> tuple[slice, slice]:
        """Its rows and columns, the page enlarged by `zoom`: an edge in the middle of a pixel goes down."""
        top, bottom = (max(floor(edge * zoom + 0.5), 0) for edge in (self.y, self.y + self.height))
        left, right = (max(floor(edge * zoom + 0.5), 0) for edge in (self.x, self.x + self.width))
        return slice(top, bottom), slice(left, right)

    def paint(self, page: NDArray[np.uint8], resolution: float, zoom: float) -> None:
        """Fill it, row by row."""
        part = page[self.inside(zoom)]
        part[...] = np.broadcast_to(rgb(self.fill), part.shape[1:]).copy()


class Picture(NamedTuple):
    """RGB [rows, columns, 3] in the place of a box: each value a block, never interpolated."""

    box: Box
    values: NDArray[np.uint8]

    def paint(self, page: NDArray[np.uint8], resolution: float, zoom: float) -> None:
        """Paint the blocks."""
        part = page[self.box.inside(zoom)]
        rows, columns = (_taken(*lengths) for lengths in zip(self.values.shape, part.shape[:2], strict=False))
        part[...] = self.values.take(columns, axis=1).take(rows, axis=0)


def _taken(known: int, wanted: int) -> NDArray[np.intp]:
    """Which of `known` values in a row stands at each of `wanted` places."""
    places: NDArray[np.intp] = ((np.arange(wanted) + 0.5) / wanted * known).astype(np.intp)
    return places


Part: TypeAlias = Box | Picture | Words


@dataclass(frozen=True)
class Drawing:
    """A white page of `width` x `height` pixels at `resolution` pixels an inch; later parts cover earlier ones."""

    width: int
    height: int
    resolution: float
    parts: tuple[Part, ...]

    @property
    def words(self) -> list[Words]:
        """All lines of type."""
        return [part for part in self.parts if isinstance(part, Words)]

    def painted(self, resolution: float | None = None) -> NDArray[np.uint8]:
        """RGB [rows, columns, 3], at the drawing's own resolution or at another one."""
        resolution = resolution or self.resolution
        zoom = resolution / self.resolution
        page = np.full((round(self.height * zoom), round(self.width * zoom), 3), 255, np.uint8)
        for part in self.parts:
            part.paint(page, resolution, zoom)
        return page
