"""What the loggers are told of a run: values of the images, mean curves, its first images, the row that compares runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from seewhy.core.files import RunFolder
from seewhy.core.target_choice import describe_target, name_image
from seewhy.core.types import Explanation
from seewhy.explainers.base import Explainer
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import encode_figure, encode_png
from seewhy.plots.grid import draw_grid
from seewhy.plots.targets import draw_grid_of_targets
from seewhy.runs.attribution_files import read_attribution
from seewhy.runs.batch_results import Curve
from seewhy.runs.journal import FOLDER, Journal
from seewhy.runs.tables import Totals

SIGNED = ("completeness_gap",)
"""Values of images whose average says nothing, as both signs cancel."""


def collect_values(journal: Journal) -> dict[str, list[float]]:
    """Collect the facts and metrics of all explanations.

    Args:
        journal: Of the run.

    Returns:
        Under each name one value per explanation, in the order of the data set; NaN where an explanation has none.
    """
    columns: dict[str, list[float]] = {}
    for position, explanation in enumerate(journal.read_explanations()):
        for name, value in {**explanation.facts, **explanation.metrics}.items():
            column = columns.setdefault(name, [])
            column += [math.nan] * (position - len(column)) + [value]
    return columns


def average_values(values: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """Average each column over the images that have a value, an image being the mean over its targets.

    Args:
        values: Those of `collect_values`.
        names: Of the explanations.

    Returns:
        `average/<name>` of every column but the signed ones, whose averages would cancel.
    """
    averages = {}
    for name, column in values.items():
        by_image: dict[str, list[float]] = {}
        for explanation, value in zip(names, column, strict=False):  # a column ends with the last one that has a value
            if math.isfinite(value):
                by_image.setdefault(name_image(explanation), []).append(value)
        if by_image and name not in SIGNED:
            averages[f"average/{name}"] = float(np.mean([np.mean(each) for each in by_image.values()]))
    return averages


def average_curves(journal: Journal) -> dict[str, list[tuple[int, float]]]:
    """Average the perturbation curves over the images that reach a share.

    Args:
        journal: Of the run.

    Returns:
        (percentage of the pixels, mean) of the points of each curve, under `curves/<curve>/<probability or logit>`.
    """
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}
    for results in journal.read_batches():
        if results.curves:
            for name, stack in _resample_batch(results.curves):
                total, count = sums.get(name, (0, 0))
                sums[name] = total + np.nansum(stack, axis=0), count + np.isfinite(stack).sum(axis=0)
    averages: dict[str, list[tuple[int, float]]] = {}
    for name, (total, count) in sorted(sums.items()):
        percent = np.linspace(0, 100, len(count)).round().astype(int).tolist()
        points = [(at, float(each / n)) for at, each, n in zip(percent, total, count, strict=True) if n]
        averages |= {f"curves/{name}": points} if points else {}
    return averages


def _resample_batch(curves: Sequence[Curve]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """(curve/quantity, values [images, shares of the common grid]) of a batch."""
    from seewhy.plots.curves import resample_curves  # a run without metrics needs no tables
    from seewhy.runs.scores import tabulate_curves

    for curve, table in tabulate_curves(curves).groupby("curve", observed=True):
        for quantity in ("probability", "logit"):
            yield f"{curve}/{quantity}", resample_curves(table, quantity)


def describe_run(classifier: Classifier, data: Any, images: int) -> dict[str, str | float]:
    """Describe what a run explains, for its row among others.

    Args:
        classifier: Of the run.
        data: Its data module.
        images: How many images were used.

    Returns:
        Model, weights, data and number of images, as texts: TensorBoard would write 12 images as 12.000.
    """
    return {
        "model": classifier.name,
        "weights": classifier.origin,
        "data": _name_data(data),
        "images": str(images),
    }


def describe_explainer(explainer: Explainer, target: object) -> dict[str, str | float]:
    """Describe how a run explains, for its row among others.

    Args:
        explainer: Of the run.
        target: What was explained.

    Returns:
        The explainer's name, the target, the seed, and `explainer.<key>` of each parameter that is set.
    """
    hidden = {"seed", "probe_batch_size"}
    parameters: dict[str, str | float] = {
        "explainer": explainer.name,
        "target": describe_target(target),
        "seed": str(explainer.seed),
    }
    for key, value in vars(explainer).items():
        if key not in hidden and value is not None:
            parameters[f"explainer.{key}"] = _simplify(value)
    return parameters


def summarise_totals(totals: Totals) -> dict[str, float]:
    """Name the accuracy, passes and seconds of a run.

    Args:
        totals: Of its finished batches.

    Returns:
        `average/accuracy` where a true class is known, and numbers under `cost/`.
    """
    record = totals.describe_attributions()
    cost = {"average/accuracy": totals.correct / totals.labelled} if totals.labelled else {}
    cost |= {f"cost/{way}_passes_per_image": float(count) for way, count in record["passes_per_image"].items()}
    cost["cost/attribution_seconds"] = record["attribution_seconds"]
    if "metrics" in totals.seconds:
        cost["cost/metric_seconds"] = totals.describe_metrics()["metric_seconds"]
    return cost


def _name_data(data: Any) -> str:
    """The kind of the data and, where it is read from folders, their names, such as `folder (holidays)`."""
    kind = type(data).__name__.lower()
    if not hasattr(data, "roots"):
        return kind
    return f"{kind} ({', '.join(Path(root).resolve().name for root in data.roots())})"


def _simplify(value: Any) -> str | float:
    if isinstance(value, Explainer):
        return f"{value.name} ({value.parameters})" if value.parameters else value.name
    return value if isinstance(value, str | float | int) and not isinstance(value, bool) else str(value).lower()


def locate_sheet_image(image: str) -> str:
    """Locate the picture of an image that the sheet shows.

    Args:
        image: Its name.

    Returns:
        The path in the run folder.
    """
    return f"{FOLDER}/images/{image}.png"


def encode_sheet_image(explanation: Explanation) -> bytes:
    """Encode the image that the sheet shows, in 8 bits.

    Args:
        explanation: With its image.

    Returns:
        The bytes of a PNG file.
    """
    return encode_png((explanation.picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def write_sheet(folder: RunFolder, journal: Journal, maximum: int, style: Mapping[str, Any]) -> None:
    """Write sheet.png, where there is an image to show.

    Args:
        folder: The run folder, with the images of `encode_sheet_image` and the attribution files.
        journal: Of the run.
        maximum: The most images that are shown; those whose files are gone are left out.
        style: Keywords of `seewhy.plots.grid.draw_grid`.
    """
    explanations = _read_pictured(folder.path, journal, maximum)
    if explanations:
        total = sum(1 for _ in journal.read_explanations())
        draw = draw_grid_of_targets if any(explanation.suffix for explanation in explanations) else draw_grid
        folder.write_bytes("sheet.png", encode_figure(draw(explanations, total=total, **style)))


def _read_pictured(folder: Path, journal: Journal, maximum: int) -> list[Explanation]:
    """The first explanations of the journal with their maps, and what was shown of their images."""
    pictured = []
    for explanation in islice(journal.read_explanations(), maximum):
        try:
            with RunFolder(folder).open(locate_sheet_image(explanation.image_name)) as file:
                pixels = np.array(Image.open(file).convert("RGB"))
            attribution = read_attribution(folder, explanation.name)
        except FileNotFoundError:
            continue
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        pictured.append(dataclasses.replace(explanation, image=image, attribution=attribution, display=()))
    return pictured
