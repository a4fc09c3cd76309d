"""Whether maps that `n_steps=auto` of integrated gradients calls converged are: against a fine fixed rule, image by image.

    python scripts/convergence.py ../shared/data/imagenet-sample convergence.csv --networks cifar_cnn efficientnet_lite0

A network is a name as in `seewhy.explain`, with further settings behind it: 'squeezenet model.weights=FILE model.size=227'.
The reference is the trapezoid rule on 240 intervals, halved until it tells on which side of the tolerance the map lies:
until the error of the map is farther from it than twice the change of the reference when it was last halved, or until there
are --steps intervals. Every coarser rule on a divisor of 240 intervals comes with it. `--least 1920` halves in any case, for
networks whose passes are cheap.

A row is kept for each network and image as it is measured, networks in turn: the same command goes on where one was ended,
and --minutes ends it. At the end it prints for each network how many maps that are called converged are within the
tolerance, with Wilson's 95 % interval, and the passes beside the fewest fixed steps that do the same: on average over the
images (what only a reference tells), and one number of steps for all images, which leaves as few outside.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy import explain, load_classifier
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.path_integrals import find_first_point
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.report.explanations import ExplainedImage

INTERVALS = 240
"""Of the coarsest reference; a number with many divisors."""
FIXED = tuple(n for n in range(8, INTERVALS + 1) if INTERVALS % n == 0)
"""Intervals of the fixed rules that are compared."""
CERTAINTY = 2
"""Times the reference's own error by which an error must be away from the tolerance."""
BATCH = 16
"""Images of a pass."""


@dataclass
class Row:
    """What came of an image and a network; errors are L2 distances of maps as shares of the reference."""

    network: str
    image: str
    steps: int
    """Nodes that `auto` used."""
    estimated_error: float
    gap: float
    converged: bool
    """Whether estimate and gap are within their tolerances."""
    error: float
    reference_intervals: int
    reference_error: float
    fixed: str
    """Error and relative gap of the trapezoid rule, by intervals: `8=0.31/0.12 10=0.27/0.02 ...`"""

    def meets(self, intervals: int, tolerance: float) -> bool:
        """Tell whether the trapezoid rule on so many intervals is within both tolerances."""
        cell = dict(each.split("=") for each in self.fixed.split())[str(intervals)]
        error, gap = map(float, cell.split("/"))
        return error <= tolerance and gap <= IntegratedGradients.tolerance


def list_images(folder: Path, limit: int) -> list[Path]:
    """List the pictures of a folder, evenly spaced in the order of their names."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    return paths[:: max(1, len(paths) // limit)][:limit]


def measure_error(values: Tensor, reference: Tensor) -> float:
    """Measure the L2 distance of a map from the reference as a share of the reference."""
    return float((values - reference).double().norm() / reference.double().norm())


class TrapezoidMaps:
    """Maps of integrated gradients from black on equal intervals, of which halving reuses every node.

    Args:
        classifier: The classifier.
        explained: The image and its target.
    """

    def __init__(self, classifier: Classifier, explained: ExplainedImage) -> None:
        self.classifier, self.image = classifier, explained.image
        self.target = torch.tensor([explained.target.index])
        self.evaluator = BatchedEvaluator(classifier, self.image, BATCH)
        self.intervals = INTERVALS
        self.change = 0.0
        self.coarse = dict.fromkeys(FIXED, torch.zeros(self.image.shape[1:], dtype=torch.float64))
        for first in range(0, INTERVALS + 1, BATCH):
            numbers = torch.arange(first, min(first + BATCH, INTERVALS + 1))
            scores, maps = self._evaluate(numbers / INTERVALS)
            for number, score, values in zip(numbers.tolist(), scores.tolist(), maps, strict=True):
                share = 0.5 if number in (0, INTERVALS) else 1.0
                self.change += {0: -score, INTERVALS: score}.get(number, 0.0)
                for intervals in FIXED:
                    if number * intervals % INTERVALS == 0:
                        self.coarse[intervals] = self.coarse[intervals] + share / intervals * values
        self.finest = self.coarse[INTERVALS]

    def _evaluate(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [n] and (image - black) * gradient, summed over the channels, at positions on the path."""
        points = positions.clamp_min(find_first_point(self.image))[:, None, None, None] * self.image
        with torch.no_grad(), self.classifier.frozen():
            scores, gradient = self.evaluator.compute_score_and_gradient(points, self.target.expand(len(points)))
        return scores, (gradient * self.image).sum(1).double()

    def describe(self) -> str:
        """Describe error and relative gap of every coarse rule."""
        cells = []
        for intervals, values in self.coarse.items():
            gap = abs(float(values.sum()) - self.change) / max(abs(self.change), 1e-6)
            cells.append(f"{intervals}={measure_error(values, self.finest):.5f}/{gap:.5f}")
        return " ".join(cells)

    def halve(self) -> float:
        """Halve all intervals.

        Returns:
            The change of the map, as a share of the new one.
        """
        middles = torch.zeros_like(self.finest)
        for numbers in torch.arange(self.intervals).split(BATCH):
            middles += self._evaluate((numbers + 0.5) / self.intervals)[1].sum(0) / self.intervals
        before, self.finest = self.finest, (self.finest + middles) / 2
        self.intervals *= 2
        return measure_error(before, self.finest)


def study_image(network: str, classifier: Classifier, path: Path, options: argparse.Namespace) -> Row:
    """Compare the map of one image with that of many fixed steps."""
    auto = IntegratedGradients(n_steps="auto", map_tolerance=options.map_tolerance, probe_batch_size=BATCH)
    (found,) = explain(classifier, str(path), auto, overrides=["trainer=cpu"])
    maps = TrapezoidMaps(classifier, found)

    def is_unclear() -> bool:
        return abs(measure_error(found.attribution, maps.finest) - options.map_tolerance) <= CERTAINTY * off

    off = measure_error(maps.coarse[INTERVALS // 2], maps.finest)
    while 2 * maps.intervals <= options.steps and (maps.intervals < options.least or is_unclear()):
        off = maps.halve()
    facts = found.facts
    return Row(
        network,
        path.stem,
        int(facts["n_steps"]),
        facts["map_error"],
        facts["completeness_gap_relative"],
        facts["map_error"] <= auto.map_tolerance and facts["completeness_gap_relative"] <= auto.tolerance,
        measure_error(found.attribution, maps.finest),
        maps.intervals,
        off,
        maps.describe(),
    )


def summarise(network: str, rows: Sequence[Row], tolerance: float) -> str:
    """Summarise the rows of a network."""
    called = [row for row in rows if row.converged]
    if not called:
        return f"{network}: none of {len(rows)} called converged"
    hits = sum(row.error <= tolerance for row in called)
    unclear = sum(abs(row.error - tolerance) <= CERTAINTY * row.reference_error for row in called)
    low, high = stats.binomtest(hits, len(called)).proportion_ci(method="wilson")
    worst = max(row.error for row in called)
    used = sum(row.steps for row in called) / len(called)
    each = [next((n + 1 for n in FIXED if row.meets(n, tolerance)), None) for row in called]
    enough = [n for n in each if n is not None]
    outside = [(n + 1, sum(not row.meets(n, tolerance) for row in called)) for n in FIXED]
    same = next((str(n) for n, missed in outside if missed <= len(called) - hits), f"over {INTERVALS}")
    return (
        f"{network}: {len(called)} of {len(rows)} called converged, {hits} of them within {tolerance:g} "
        f"({100 * hits / len(called):.1f} % [{100 * low:.1f}, {100 * high:.1f}], largest error {worst:.3f}; "
        f"{unclear} that the reference does not tell); {used:.0f} steps on average, where "
        f"{sum(enough) / max(1, len(enough)):.0f} fixed ones chosen for each image are enough ({len(each) - len(enough)} "
        f"need more than {INTERVALS + 1}) and {same} for all"
    )


def read_rows(path: Path) -> list[Row]:
    """Read the rows of an earlier run."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    kinds = {"steps": int, "reference_intervals": int, "converged": lambda word: word == "True"}
    texts = ("network", "image", "fixed")
    return [
        Row(**{key: value if key in texts else kinds.get(key, float)(value) for key, value in each.items()})
        for each in cells
    ]


def main() -> None:
    """Study every image with every network and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of pictures")
    parser.add_argument("table", type=Path, help="CSV of the rows; those that it holds are not measured again")
    parser.add_argument("--networks", nargs="+", default=["cifar_cnn", "efficientnet_lite0"])
    parser.add_argument("--limit", type=int, default=100, help="pictures of each network")
    parser.add_argument("--steps", type=int, default=1920, help="most intervals of the reference")
    parser.add_argument("--least", type=int, default=INTERVALS, help="fewest intervals of the reference")
    parser.add_argument("--map-tolerance", type=float, default=0.05)
    parser.add_argument("--minutes", type=float, default=15, help="no image is begun after that")
    options = parser.parse_args()
    start, rows = time.monotonic(), read_rows(options.table)
    names = {shlex.split(network)[0]: shlex.split(network)[1:] for network in options.networks}
    classifiers = {name: load_classifier(name, overrides=["trainer=cpu", *more]) for name, more in names.items()}
    done = {(row.network, row.image) for row in rows}
    with options.table.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if not rows:
            writer.writeheader()
        for path in list_images(options.images, options.limit):
            for name, classifier in classifiers.items():
                if (name, path.stem) in done or time.monotonic() - start > 60 * options.minutes:
                    continue
                rows.append(study_image(name, classifier, path, options))
                writer.writerow(asdict(rows[-1]))
                file.flush()
    for name in names:
        print(summarise(name, [row for row in rows if row.network == name], options.map_tolerance))


if __name__ == "__main__":
    main()
