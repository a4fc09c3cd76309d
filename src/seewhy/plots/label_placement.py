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
    left_free = list(avoid)
    crowd = [sum(math.dist(one, other) < 150 for other in points) for one in points]
    placed: dict[int, Box] = {}
    for number in sorted(range(len(points)), key=lambda number: (-crowd[number], points[number], number)):
        taken = [*marks, *placed.values()]
        best: tuple[tuple[float, float, float], Box] | None = None
        for box in _around(points[number], sizes[number], marker):
            cost = _cost(box, build_leader(box, points[number]), bounds, taken, left_free)
            if best is None or cost < best[0]:
                best = cost, box
            if not any(cost):
                break
        assert best is not None
        placed[number] = best[1]
        left_free += build_leader(best[1], points[number])
    return [placed[number] for number in range(len(points))]


def _around(point: tuple[float, float], size: tuple[float, float], marker: float) -> list[Box]:
    """Boxes around a point, nearest first, those on its right before the others."""
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


def build_leader(box: Box, point: tuple[float, float], gap: float = 34) -> list[Box]:
    """Small boxes along the line that ties a label to its point where they are more than `gap` apart; else none."""
    end = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
    length = math.dist(end, point)
    if length <= gap:
        return []
    shares = [0.5 + 0.1 * step for step in range(-2, 5)]
    spots = [(point[0] + share * (end[0] - point[0]), point[1] + share * (end[1] - point[1])) for share in shares]
    return [Box(x - 2, y - 2, x + 2, y + 2) for x, y in spots]


def _cost(
    box: Box, tie: Sequence[Box], bounds: Box, taken: Sequence[Box], avoid: Sequence[Box]
) -> tuple[float, float, float]:
    """(forbidden overlap, overlap of the line to the point with others, overlap with what is better left free)."""
    outside = box.area - box.overlap(bounds)
    crossed = sum(spot.overlap(other) for spot in tie for other in taken)
    free = sum(map(box.overlap, avoid))
    return round(outside + sum(map(box.overlap, taken)), 6), round(crossed, 6), round(free, 6)
