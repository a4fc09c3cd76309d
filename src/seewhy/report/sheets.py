"""Sheets for slides: the first images of a sweep by method, and by network."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from seewhy.core.files import RunFolder, name_files
from seewhy.core.target_choice import name_image
from seewhy.core.types import Explanation
from seewhy.core.words import count_noun
from seewhy.data.labels import take_turns
from seewhy.plots.canvas import encode_figure
from seewhy.plots.grid import draw_matrix
from seewhy.report.comparison import Comparison
from seewhy.report.runs import Run, read_map, read_preview
from seewhy.runs.journal import Journal

ROWS = 6
"""Images on a sheet, at most; few columns have fewer, so that the sheet stays wide."""
COLUMNS = 8
"""Methods or networks on a sheet; more go to a second one."""


def write_sheets(out: RunFolder, comparisons: Sequence[Comparison], runs: Sequence[Run]) -> list[Path]:
    """Write methods.png of each model with several runs, and models.png of each method that several models share.

    The images are the same on all sheets: the first ones of each class in turn; methods stand in the order of the
    leaderboard, controls last. Runs that kept no pictures
    (`callbacks=numbers`) are left out.

    Args:
        out: Where the sheets are written.
        comparisons: Of each model.
        runs: That were compared.

    Returns:
        The paths of the sheets; with several models `methods_<model>.png`, with several methods `models_<method>.png`, and
        a number behind the name from the second page on.
    """
    pictured = [run for run in runs if (run.folder / "images").is_dir()]
    if len(pictured) < 2:
        return []
    images = choose_images(pictured[0])
    read = {str(run.folder): read_explanations(run.folder, images) for run in pictured}
    cells = {
        (comparison.joined.model, label): read[folder]
        for comparison in comparisons
        for label in sorted(comparison.explainers, key=lambda label: bool(comparison.leaderboard["control"][label]))
        if (folder := str(comparison.joined.explainers["folder"][label])) in read
    }
    paths = []
    for kind, axis in (("methods", 0), ("models", 1)):
        groups: dict[str, dict[str, dict[str, Explanation]]] = {}
        for key, explanations in cells.items():
            groups.setdefault(key[axis], {})[key[1 - axis]] = explanations
        files = name_files(groups)
        for name, columns in groups.items():
            if len(columns) > 1:
                file = kind if len(groups) == 1 else f"{kind}_{files[name]}"
                paths += _write_pages(out, file, name, columns, images, comparisons[0].joined.images)
    return paths


def choose_images(run: Run) -> list[str]:
    """Choose the images of the sheets: the first of each class, then the second of each, and so on.

    Args:
        run: One of those on the same images.

    Returns:
        The names of their explanations in that order: those of all targets of an image together.
    """
    rows = [(str(name), str(label)) for name, label in run.images["label"].items()]
    images = [rows[position][0] for position in take_turns([label for _, label in rows])[:ROWS]]
    return [name for image in images for name in map(str, run.predictions.index) if name_image(name) == image]


def read_explanations(folder: Path, images: Sequence[str]) -> dict[str, Explanation]:
    """Read explanations with their pictures and maps.

    Args:
        folder: Of the run.
        images: Names of images.

    Returns:
        By image those whose files are there.
    """
    explanations: dict[str, Explanation] = {}
    for explanation in Journal(folder).read_explanations():
        if explanation.name in images and explanation.name not in explanations:
            preview, attribution = read_preview(folder, explanation.name), read_map(folder, explanation.name)
            if preview is not None and attribution is not None:
                pixels = np.array(Image.open(io.BytesIO(preview)).convert("RGB"))
                image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
                maps = torch.from_numpy(np.asarray(attribution, np.float32))
                explanations[explanation.name] = replace(explanation, image=image, attribution=maps, display=())
        if len(explanations) == len(images):
            break
    return explanations


def _write_pages(
    out: RunFolder,
    file: str,
    name: str,
    columns: Mapping[str, Mapping[str, Explanation]],
    images: Sequence[str],
    total: int,
) -> list[Path]:
    labels, paths = list(columns), []
    most = max(3, min(len(labels), COLUMNS))
    for page, start in enumerate(range(0, len(labels), COLUMNS), 1):
        chosen = labels[start : start + COLUMNS]
        rows = {image: [columns[label].get(image) for label in chosen] for image in images}
        pictured = [image for image, row in rows.items() if any(row)]
        shown = list(dict.fromkeys(map(name_image, pictured)))[:most]  # all targets of an image, or none of it
        if shown:
            title = f"{name}  \N{MIDDLE DOT}  {len(shown)} of {count_noun(total, 'image')}"
            sheet = draw_matrix([rows[image] for image in pictured if name_image(image) in shown], chosen, title)
            suffix = f"_{page}" if page > 1 else ""
            paths.append(out.write_bytes(f"{file}{suffix}.png", encode_figure(sheet)))
    return paths
