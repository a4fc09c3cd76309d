"""How often nominal 95 % intervals of a mean contain it, by simulation: `python scripts/coverage.py`.

Values are normal, exponential, lognormal, or hits with a probability of 0.1; a last row draws images and random networks
that all images share. The command fails where an interval covers less often than its goal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from seewhy.statistics.intervals import Interval, Outcomes, compute_mean_intervals, widen_by_draws

Samples = NDArray[np.float64]


class Population(NamedTuple):
    """What values are drawn from."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, int]], Samples]
    """Draws [samples, n]."""
    mean: float
    goal: float
    """Least share of intervals that contain the mean."""
    outcomes: Outcomes | None = None


POPULATIONS = (
    Population("normal", lambda draw, shape: draw.normal(size=shape), 0, 0.93),
    Population("exponential", lambda draw, shape: draw.exponential(size=shape), 1, 0.90),
    Population("lognormal", lambda draw, shape: draw.lognormal(size=shape), float(np.exp(0.5)), 0.90),
    Population("hits, p = 0.1", lambda draw, shape: (draw.random(shape) < 0.1).astype(np.float64), 0.1, 0.93, (0, 1)),
)
DRAWS_GOAL = 0.93


def simulate_population(population: Population, n: int, samples: int, seed: int) -> float:
    """Simulate the share of intervals that contain the mean.

    Args:
        population: What values are drawn from.
        n: Values of each sample.
        samples: Number of intervals.
        seed: Of the draws and the bootstrap.

    Returns:
        The share.
    """
    values = population.draw(np.random.default_rng([seed, n]), (samples, n))
    outcomes = [population.outcomes] * samples
    intervals = compute_mean_intervals(list(values), seed, outcomes)
    return float(np.mean([interval.low <= population.mean <= interval.high for interval in intervals]))


def simulate_draws(n: int, draws: int, samples: int, seed: int) -> float:
    """Simulate images and random networks: value = image + network + both, standard deviations 1, 0.5 and 0.5.

    Args:
        n: Images.
        draws: Networks.
        samples: Number of intervals.
        seed: Of the draws and the bootstrap.

    Returns:
        The share of intervals that contain the mean 0.
    """
    generator = np.random.default_rng([seed, n, draws])
    images, networks = generator.normal(size=(samples, n, 1)), generator.normal(size=(samples, 1, draws))
    values = images + 0.5 * networks + 0.5 * generator.normal(size=(samples, n, draws))
    intervals = compute_mean_intervals(list(values.mean(2)), seed)
    wide = [_widen(*pair) for pair in zip(intervals, values, strict=True)]
    return float(np.mean([interval.low <= 0 <= interval.high for interval in wide]))


def _widen(interval: Interval, values: Samples) -> Interval:
    return widen_by_draws(interval, float(values.mean()), values.mean(0))


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=4000, help="intervals of each cell")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 80], help="values of each sample")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = [
        (each.name, each.goal, [simulate_population(each, n, given.samples, given.seed) for n in given.sizes])
        for each in POPULATIONS
    ]
    shares = [simulate_draws(n, 5, given.samples, given.seed) for n in given.sizes]
    rows.append(("images and 5 networks", DRAWS_GOAL, shares))
    print(f"{'values':24}{'goal':>6}" + "".join(f"{f'n={n}':>8}" for n in given.sizes))
    for name, goal, covered in rows:
        print(f"{name:24}{goal:6.0%}" + "".join(f"{share:8.1%}" for share in covered))
    missed = [name for name, goal, covered in rows if min(covered) < goal]
    if missed:
        print(f"below the goal: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
