"""Labels beside points, without overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DIRECTIONS = 16
REACHES = (8, 14, 22, 34, 50, 70, 95, 125, 160)
"""Distances in pixels at which a label is tried, nearest first."""
CROWD = 150
"""Points within this distance in pixels crowd each other."""


class Rectangle(NamedTuple):
    """A rectangle in pixels, y downwards.

    Attributes:
        left: Smallest x.
        top: Smallest y.
        right: Largest x.
        bottom: Largest y.
    """

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Rectangle) -> float:
        """Compute the shared area.

        Args:
            other: Another rectangle.

        Returns:
            Square pixels; 0 where they do not overlap.
        """
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
    bounds: Rectangle,
    avoid: Sequence[Rectangle] = (),
    marker: float = 12,
) -> list[Rectangle]:
    """Place a label beside each point: inside the bounds, off other labels and all marks, as near as possible.

    Labels that have the least room are placed first; where nothing is free the least overlap decides.

    Args:
        points: (x, y) of each point in pixels.
        sizes: (width, height) of each label in pixels.
        bounds: Where labels may lie.
        avoid: What is better left free.
        marker: Half the side of the mark of a point in pixels.

    Returns:
        The rectangle of each label.
    """
    marks = [Rectangle(x - marker, y - marker, x + marker, y + marker) for x, y in points]
    spared = list(avoid)
    neighbours = [sum(math.dist(point, other) < CROWD for other in points) for point in points]
    placed: dict[int, Rectangle] = {}
    for number in sorted(range(len(points)), key=lambda number: (-neighbours[number], points[number], number)):
        taken = [*marks, *placed.values()]
        best: tuple[tuple[float, float, float], Rectangle] | None = None
        for box in _list_candidates(points[number], sizes[number], marker):
            cost = _rate(box, build_leader(box, points[number]), bounds, taken, spared)
            if best is None or cost < best[0]:
                best = cost, box
            if not any(cost):
                break
        assert best is not None
        placed[number] = best[1]
        spared += build_leader(best[1], points[number])
    return [placed[number] for number in range(len(points))]


def _list_candidates(point: tuple[float, float], size: tuple[float, float], marker: float) -> list[Rectangle]:
    """Rectangles around a point, nearest first, those on its right before the others."""
    (x, y), (width, height) = point, size
    boxes = []
    turns = sorted(range(DIRECTIONS), key=lambda turn: (min(turn, DIRECTIONS - turn), turn))
    for reach in REACHES:
        for turn in turns:
            across, down = math.cos(2 * math.pi * turn / DIRECTIONS), math.sin(2 * math.pi * turn / DIRECTIONS)
            left = x + across * (marker + reach + width / 2) - width / 2
            top = y + down * (marker + reach + height / 2) - height / 2
            boxes.append(Rectangle(left, top, left + width, top + height))
    return boxes


def build_leader(box: Rectangle, point: tuple[float, float], gap: float = 34) -> list[Rectangle]:
    """Cover the line that ties a label to its point with small rectangles.

    Args:
        box: Of the label.
        point: (x, y) in pixels.
        gap: Up to this distance in pixels there is no line.

    Returns:
        The rectangles, which are none where there is no line.
    """
    end = (min(max(point[0], box.left), box.right), min(max(point[1], box.top), box.bottom))
    length = math.dist(end, point)
    if length <= gap:
        return []
    shares = [0.5 + 0.1 * step for step in range(-2, 5)]
    spots = [(point[0] + share * (end[0] - point[0]), point[1] + share * (end[1] - point[1])) for share in shares]
    return [Rectangle(x - 2, y - 2, x + 2, y + 2) for x, y in spots]


def _rate(
    box: Rectangle, tie: Sequence[Rectangle], bounds: Rectangle, taken: Sequence[Rectangle], avoid: Sequence[Rectangle]
) -> tuple[float, float, float]:
    """(forbidden overlap, overlap of the line to the point with others, overlap with what is better left free)."""
    outside = box.area - box.overlap(bounds)
    crossed = sum(spot.overlap(other) for spot in tie for other in taken)
    free = sum(map(box.overlap, avoid))
    return round(outside + sum(map(box.overlap, taken)), 6), round(crossed, 6), round(free, 6)
