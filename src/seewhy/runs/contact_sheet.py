"""The sheet of a run, and the images that it needs, kept beside the journal."""

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
    """journal/images/<image>.png: the image in 8 bits, as every image that came from a file."""
    pixels = (explanation.image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return folder.write_bytes(f"{FOLDER}/images/{explanation.name}.png", encode_png(pixels))


def read_explanations(folder: Path, journal: Journal, maximum: int) -> list[Explanation]:
    """The first explanations of the journal with their images and maps; those whose files are gone are left out."""
    shown = []
    for explanation in islice(journal.explanations(), maximum):
        path = folder / FOLDER / "images" / f"{explanation.name}.png"
        try:
            pixels = np.array(Image.open(io.BytesIO(path.read_bytes())))
            attribution = read_attribution(folder, explanation.name)
        except FileNotFoundError:
            continue
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        shown.append(dataclasses.replace(explanation, image=image, attribution=attribution))
    return shown


def write_sheet(folder: RunFolder, journal: Journal, maximum: int, style: Mapping[str, Any]) -> None:
    """sheet.png of the first `maximum` explanations of a journal, where there is one."""
    shown = read_explanations(folder.path, journal, maximum)
    if shown:
        total = sum(1 for _ in journal.explanations())
        folder.write_bytes("sheet.png", encode_figure(draw_grid(shown, total=total, **style)))
