"""Labels beside points, without overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DIRECTIONS = 16
REACHES = (8, 14, 22, 34, 50, 70, 95, 125, 160)


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    avoid: Sequence[Box] = (),
    marker: float = 12,
) -> list[Box]:
    """A box of the given (width, height) for each point: inside `bounds`, off the other boxes and all markers, near.

    `marker` is half the side of a point's mark; `avoid` holds further places that are better left free. Labels that have
    the least room are placed first; where no place is free the one with the least overlap is taken.
    """
    marks = [Box(x - marker, y - marker, x + marker, y + marker) for x, y in points]
    crowd = [sum(math.dist(one, other) < 150 for other in points) for one in points]
    placed: dict[int, Box] = {}
    for number in sorted(range(len(points)), key=lambda number: (-crowd[number], points[number], number)):
        taken = [*marks, *placed.values()]
        choices = _around(points[number], sizes[number], marker)
        costs = [_cost(box, bounds, taken, avoid) for box in choices]
        placed[number] = choices[min(range(len(choices)), key=lambda choice: (costs[choice], choice))]
    return [placed[number] for number in range(len(points))]


def _around(point: tuple[float, float], size: tuple[float, float], marker: float) -> list[Box]:
    """Boxes around a point, nearest first, those to its right before the others."""
    (x, y), (width, height) = point, size
    boxes = []
    turns = sorted(range(DIRECTIONS), key=lambda turn: (min(turn, DIRECTIONS - turn), turn))
    for reach in REACHES:
        for turn in turns:
            across, down = math.cos(2 * math.pi * turn / DIRECTIONS), math.sin(2 * math.pi * turn / DIRECTIONS)
            left = x + across * (marker + reach + width / 2) - width / 2
            top = y + down * (marker + reach + height / 2) - height / 2
            boxes.append(Box(left, top, left + width, top + height))
    return boxes


def _cost(box: Box, bounds: Box, taken: Sequence[Box], avoid: Sequence[Box]) -> tuple[float, float]:
    outside = box.area - box.overlap(bounds)
    return round(outside + sum(map(box.overlap, taken)), 6), round(sum(map(box.overlap, avoid)), 6)
