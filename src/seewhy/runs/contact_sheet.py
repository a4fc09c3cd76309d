"""sheet.png: the first images of a run at a glance, drawn from files when the run has ended."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from seewhy.core.files import RunFolder
from seewhy.core.types import Explanation
from seewhy.plots.canvas import encode_figure, encode_png
from seewhy.plots.grid import draw_grid
from seewhy.runs.attribution_files import read_attribution
from seewhy.runs.journal import FOLDER, Journal


def save_sheet_image(folder: RunFolder, explanation: Explanation) -> Path:
    """Write the image that the sheet shows, in 8 bits, to journal/images/<image>.png.

    Args:
        folder: The run folder.
        explanation: With its image, float32 [3, height, width] in [0, 1].

    Returns:
        The path of the file.
    """
    pixels = (explanation.image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return folder.write_bytes(f"{FOLDER}/images/{explanation.name}.png", encode_png(pixels))


def write_sheet(folder: RunFolder, journal: Journal, maximum: int, style: Mapping[str, Any]) -> None:
    """Write sheet.png, where there is an image to show.

    Args:
        folder: The run folder, with the images of `save_sheet_image` and the attribution files.
        journal: Of the run.
        maximum: The most images that are shown; those whose files are gone are left out.
        style: Keywords of `seewhy.plots.grid.draw_grid`.
    """
    explanations = _read_pictured(folder.path, journal, maximum)
    if explanations:
        total = sum(1 for _ in journal.read_explanations())
        folder.write_bytes("sheet.png", encode_figure(draw_grid(explanations, total=total, **style)))


def _read_pictured(folder: Path, journal: Journal, maximum: int) -> list[Explanation]:
    """The first explanations of the journal with their images and maps."""
    pictured = []
    for explanation in islice(journal.read_explanations(), maximum):
        path = folder / FOLDER / "images" / f"{explanation.name}.png"
        try:
            pixels = np.array(Image.open(io.BytesIO(path.read_bytes())))
            attribution = read_attribution(folder, explanation.name)
        except FileNotFoundError:
            continue
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        pictured.append(dataclasses.replace(explanation, image=image, attribution=attribution))
    return pictured
