"""What nothing else beats in both respects."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Positions, cheapest first, of the points that no other point matches in cost and loss while beating it in one.

    Both are better when lower; a point with NaN is never on the front.
    """
    points = [(cost, loss, place) for place, (cost, loss) in enumerate(zip(costs, losses, strict=True))]
    known = [(cost, loss, place) for cost, loss, place in points if cost == cost and loss == loss]
    return [
        place
        for cost, loss, place in sorted(known)
        if not any(a <= cost and b <= loss and (a < cost or b < loss) for a, b, _ in known)
    ]
