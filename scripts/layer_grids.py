"""Where the default layer of every family of timm looks: `python scripts/layer_grids.py OUTPUT.csv`.

One small network of each family, with random weights, is built for images of 32, 96 and its own number of pixels. For each
the default layer of class activation maps is chosen and its grid measured; then bands of noise are changed one after the
other, and what the cells answer to is compared with where the grid says that they look. `fit` is the correlation of both,
`p` the share of arrangements of the same cells, drawn at random, that fit at least as well (of 2x2 cells 1 in 24 at best).
Cells that answer to all of the image, as behind many layers with random weights, fit no arrangement: then the same layer is
measured in a network for larger images, of which its cells see less. The layer must be the same where all weights are 0.
"""

from __future__ import annotations

import argparse
import copy
import csv
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import Facts
from seewhy.models.band_responses import cut_bands, measure_energy
from seewhy.models.cell_grid import CellGrid
from seewhy.models.classifier import Classifier
from seewhy.models.layers import find_cam_layer, require_grid

SMALL = "test_ atto femto pico nano xxs xxt 128s _xs tiny _t lite0 _s mini small 18 b0 _0 _1 _050 16 base".split()
"""Words in the names of small networks, the smallest first."""
CANDIDATES = 4
"""Networks of a family of which the smallest is taken."""
LARGEST = 30
"""Millions of parameters from which on a network is not run at its own size."""
UNCLEAR = 0.06
"""p above which the answers of cells tell no arrangement from others."""
LARGER = (4, 8)
"""Times the size at which an unclear layer is measured again."""
BATCH = 4
"""Images of noise that set the statistics of batch normalisation."""
ARRANGEMENTS = 500
"""Random arrangements of the cells."""


@dataclass
class Row:
    """What came of a network at a size."""

    family: str
    network: str
    parameters: float
    size: int
    outcome: str
    """`placed`, `refused` (by name, with the reason), `cannot run` (the network itself refuses the size), `left out`."""
    layer: str = ""
    cells: str = ""
    start: str = ""
    stride: str = ""
    fit: float | None = None
    p: float | None = None
    larger: str = ""
    """Pixels, fit and p of the same layer in larger images, where `p` is above `UNCLEAR`."""
    zero_weights: str = ""
    """Whether the layer is the same where all weights are 0."""
    reason: str = ""
    seconds: float = 0.0


class _TimeoutError(Exception):
    """A network took too long."""


def list_families(chosen: Sequence[str] | None) -> dict[str, str]:
    """List a small network of each family, by the number of parameters.

    Args:
        chosen: Families; None: all.

    Returns:
        Names of networks by families, which are timm's modules.
    """
    members = {}
    for family in chosen or timm.list_modules():
        names = timm.list_models(module=family)
        rank = sorted(names, key=lambda name: (next((i for i, w in enumerate(SMALL) if w in name), 99), len(name)))
        counted = {name: count for name in rank[:CANDIDATES] if (count := count_parameters(name)) is not None}
        if counted:
            members[family] = min(counted, key=lambda name: counted[name])
    return members


def count_parameters(name: str) -> float | None:
    """Count the parameters of a network without their memory.

    Args:
        name: Of a network of timm.

    Returns:
        Millions; None where it cannot be built so.
    """
    try:
        with torch.device("meta"):
            network = timm.create_model(name)
    except Exception:
        return None
    return sum(values.numel() for values in network.parameters()) / 1e6


def build(name: str, size: int) -> Classifier:
    """Build a classifier of ten classes with random weights.

    Args:
        name: Of a network of timm.
        size: Height and width of the images in pixels.

    Returns:
        The classifier, in evaluation mode.
    """
    torch.manual_seed(0)
    try:
        network = timm.create_model(name, num_classes=10, img_size=size)
    except TypeError:
        network = timm.create_model(name, num_classes=10)
    draw_weights(network.eval().double())  # behind many layers a change may be smaller than single precision
    classifier = wrap(network, size)
    calibrate(classifier, size)
    return classifier


def draw_weights(network: nn.Module) -> None:
    """Draw the weights that a network begins with as constants: branches that begin at 0 would answer to nothing.

    Args:
        network: Its biases are drawn around 0, its other constants around 1, matrices as a dense layer's.
    """
    generator = torch.Generator().manual_seed(0)
    for name, values in network.named_parameters():
        flat = values.data.flatten()
        if not bool((flat == flat[:1]).all()):
            continue
        drawn = torch.randn(values.shape, generator=generator, dtype=values.dtype)
        if values.squeeze().ndim > 1:
            values.data.copy_(drawn / (flat.numel() / len(values)) ** 0.5)
        else:
            values.data.copy_(drawn / 10 if "bias" in name or "beta" in name else 1 + drawn / 10)


def calibrate(classifier: Classifier, size: int) -> None:
    """Set the means and variances of batch normalisation to those of noise, as training would set them to those of images.

    Without it signals grow or vanish from layer to layer, until zero padding is all that cells answer to.

    Args:
        classifier: The classifier.
        size: Height and width of the images in pixels.
    """
    norms = [module for module in classifier.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    images = torch.rand(BATCH, classifier.facts.channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        classifier.network((images.double() - 0.5) / 0.5)
    classifier.network.eval()


def wrap(network: nn.Module, size: int) -> Classifier:
    """Wrap a network as a classifier of ten classes."""
    facts = Facts(tuple("abcdefghij"), size, (0.5,) * 3, (0.5,) * 3)
    return Classifier(network, facts, name=type(network).__name__)


def measure_fit(classifier: Classifier, layer: str, grid: CellGrid, size: int) -> tuple[float, float]:
    """Compare what the cells answer to with where they look.

    Of each cell's answers what all cells have in common is taken off.

    Args:
        classifier: The classifier.
        layer: Name of the layer.
        grid: Its grid.
        size: Height and width of the images in pixels.

    Returns:
        (correlation, share of random arrangements of the cells that fit at least as well).
    """
    sides, answers, places = cut_bands((size, size), 16), [], []
    for energy, axis in zip(measure_energy(classifier, layer, grid, sides), (grid.rows, grid.columns), strict=True):
        shares = energy.flatten(1)
        shares = shares / shares.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
        answers.append(shares - shares.mean(1, keepdim=True))
        centres = axis.compute_centres()
        shape = (-1, 1) if axis is grid.rows else (1, -1)
        places.append(centres.view(shape).expand(grid.cells).flatten())
    points = [bands.compute_centres() for bands in sides]
    seen = torch.cat([_standardise(point @ answer) for point, answer in zip(points, answers, strict=True)])

    def correlate(order: Tensor) -> float:
        claimed = torch.cat([_standardise(place[order]) for place in places])
        return float((claimed * seen).mean())

    cells = len(places[0])
    fit = correlate(torch.arange(cells))
    generator = torch.Generator().manual_seed(0)
    drawn = [correlate(torch.randperm(cells, generator=generator)) for _ in range(ARRANGEMENTS)]
    return fit, (1 + sum(value >= fit - 1e-9 for value in drawn)) / (1 + ARRANGEMENTS)


def _standardise(values: Tensor) -> Tensor:
    centred = values - values.mean()
    return centred / centred.square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)


def check(family: str, name: str, size: int, millions: float) -> Row:
    """Check a network at a size.

    Args:
        family: Its family.
        name: Of a network of timm.
        size: Height and width of the images in pixels.
        millions: Its parameters.

    Returns:
        What came of it.
    """
    row = Row(family, name, round(millions, 1), size, "cannot run")
    try:
        classifier = build(name, size)
        with torch.no_grad(), classifier.frozen():
            classifier(torch.zeros(1, classifier.facts.channels, size, size))
    except _TimeoutError:
        raise
    except Exception as error:
        row.reason = f"{type(error).__name__}: {error}".splitlines()[0][:150]
        return row
    try:
        row.layer = find_cam_layer(classifier, (size, size))
        grid = require_grid(classifier, row.layer, (size, size))
    except Incompatible as error:
        row.outcome, row.reason = "refused", str(error)
        return row
    row.outcome, row.cells = "placed", "{}x{}".format(*grid.cells)
    row.start = f"{grid.rows.start:g},{grid.columns.start:g}"
    row.stride = f"{grid.rows.stride:g},{grid.columns.stride:g}"
    fit, p = measure_fit(classifier, row.layer, grid, size)
    row.fit, row.p = round(fit, 3), round(p, 4)
    if p > UNCLEAR and size <= 96:
        row.larger = "; ".join(measure_larger(name, row.layer, size * times) for times in LARGER)
    network = copy.deepcopy(classifier.network)
    for values in network.parameters():
        values.data.zero_()
    try:
        layer = find_cam_layer(wrap(network, size), (size, size))
        row.zero_weights = "same" if layer == row.layer else layer
    except UserError as error:
        row.zero_weights = f"refused: {error}"[:150]
    return row


def measure_larger(name: str, layer: str, size: int) -> str:
    """Measure the fit of a layer in images of another size.

    Args:
        name: Of a network of timm.
        layer: One of its modules.
        size: Height and width of the images in pixels.

    Returns:
        Pixels, fit and p, or why there are none.
    """
    try:
        classifier = build(name, size)
        grid = require_grid(classifier, layer, (size, size))
        return f"{size}: " + "{:.3f} (p={:.3f})".format(*measure_fit(classifier, layer, grid, size))
    except _TimeoutError:
        raise
    except Exception as error:
        return f"{size}: {type(error).__name__}"


@contextmanager
def limit_time(seconds: int) -> Iterator[None]:
    """Stop the block after so many seconds."""

    def stop(*_: Any) -> None:
        raise _TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def main() -> None:
    """Check the families that are asked for, append to the table, and count the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="table; a row that is there already is not measured again")
    parser.add_argument("--families", nargs="*", help="default: all")
    parser.add_argument("--sizes", nargs="*", type=int, default=[32, 96, 0], help="pixels; 0 is the network's own size")
    parser.add_argument("--seconds", type=int, default=180, help="limit for a network at a size")
    options = parser.parse_args()
    columns = [field.name for field in fields(Row)]
    done = {(row["family"], row["size"]): row for row in _read(options.output)}
    with options.output.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if not done:
            writer.writeheader()
        for family, name in list_families(options.families).items():
            own, millions = timm.get_pretrained_cfg(name).input_size[-1], count_parameters(name) or 0.0
            for size in dict.fromkeys(size or own for size in options.sizes):
                if (family, str(size)) in done:
                    continue
                start = time.perf_counter()
                row = Row(family, name, round(millions, 1), size, "left out")
                if size > 96 and millions > LARGEST:
                    row.reason = f"more than {LARGEST} million parameters"
                else:
                    try:
                        with limit_time(options.seconds):
                            row = check(family, name, size, millions)
                    except _TimeoutError:
                        row.reason = f"more than {options.seconds} seconds"
                row.seconds = round(time.perf_counter() - start, 1)
                writer.writerow(asdict(row))
                file.flush()
    rows = _read(options.output)
    for size in (32, 96, None):
        chosen = [row for row in rows if (int(row["size"]) == size if size else int(row["size"]) not in (32, 96))]
        placed = [row for row in chosen if row["outcome"] == "placed"]
        told = [row for row in placed if float(row["p"]) <= UNCLEAR]
        larger = [row for row in placed if "p=0.0" in row["larger"]]
        same = sum(row["zero_weights"] == "same" for row in placed)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in Counter(row["outcome"] for row in chosen).items())
        print(f"{size or 'own size'}: {counts}; of those placed")
        print(f"    {len(told)} whose cells answer to what they look at (p <= {UNCLEAR})")
        print(f"    {len(larger)} more whose cells do in larger images")
        print(f"    {same} with the same layer where all weights are 0")


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
