"""The same images through several methods: a row for each image, a column for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from seewhy.data.images import read_image
from seewhy.data.loading import resize_and_crop, to_unit_range
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.heatmaps import MUTED, build_colour_map
from seewhy.plots.text import LEADING, format_probability, shorten, wrap
from seewhy.report.runs import Run
from studies.found_runs import maps

SIDE, GAP, MARGIN = 150, 8, 14
TITLE, LABEL, RESOLUTION = 9.0, 7.5, 100
OUTLIERS, STRENGTH = 10.0, 0.85
"""More saturated than a figure of its own: a tile is small."""
COLOURS = "default"
FOR, AGAINST = "orange", "blue"
"""What the ends of these colours are called, for the class and against it."""
NOTE = (
    f"Predicted class and probability above each image; every map has its own scale. Signed maps: {FOR} speaks for the "
    f"class, {AGAINST} against it."
)


def seen_images(run: Run) -> dict[str, torch.Tensor]:
    """The images of a run as its network saw them, [3, size, size] in [0, 1] by name."""
    cfg = OmegaConf.load(run.folder / ".hydra" / "config.yaml")
    facts = instantiate(cfg.model, _convert_="object").facts
    paths = run.predictions["path"].to_dict()
    return {str(name): to_unit_range(resize_and_crop(read_image(Path(path)), facts)) for name, path in paths.items()}


def contact_sheet(columns: Mapping[str, Run], shown: Sequence[str], note: str) -> Drawing:
    """Originals under their predictions, then the overlay of each run under its title; one scale for each map."""
    first = next(iter(columns.values()))
    images = seen_images(first)
    found = {title: maps(run) for title, run in columns.items()}
    page = Page(2 * MARGIN + (len(columns) + 1) * (SIDE + GAP) - GAP, RESOLUTION)
    room, step = page.points(SIDE), page.pixels(LEADING * LABEL)
    titles = [wrap(title.replace("_", " "), room, TITLE, True) for title in ("image", *columns)]
    deepest = max(map(len, titles))
    for number, lines in enumerate(titles):
        page.lines(MARGIN + number * (SIDE + GAP), MARGIN / 2, lines, TITLE, weight="bold")
    y = MARGIN + deepest * page.pixels(LEADING * TITLE)
    for name in shown:
        said = {column: str(first.predictions[column][name]) for column in ("predicted", "probability")}
        tail = f" {format_probability(float(said['probability']))}"
        page.lines(MARGIN, y, [shorten(said["predicted"], room, LABEL, tail)], LABEL)
        top = round(y + step + 2)
        page.picture(MARGIN, top, SIDE, SIDE, heatmaps.to_rgb(_fitted(images[name][None])[0]))
        for number, one in enumerate(found.values(), 1):
            _overlay(page, MARGIN + number * (SIDE + GAP), top, images[name], one[name])
        y = top + SIDE + GAP
    y = page.lines(MARGIN, y, wrap(note, page.points(page.width - 2 * MARGIN), LABEL), LABEL, MUTED)
    return page.finish(y + MARGIN / 2)


def _overlay(page: Page, x: float, top: float, image: torch.Tensor, attribution: NDArray[np.float32]) -> None:
    """The map averaged down to the tile first: single pixels of a fine map would not be seen."""
    whole = torch.from_numpy(np.asarray(attribution))
    small = [_fitted(each[None])[0] for each in (whole[None], *image[:, None])]
    scale, signed = heatmaps.compute_scale(small[0][0], OUTLIERS), bool(whole.min() < 0)
    if not scale:
        page.blank(x, top, SIDE, SIDE, heatmaps.describe_flaw(whole), LABEL)
        return
    ramp = build_colour_map(COLOURS, "signed" if signed else "unsigned")
    normalised = heatmaps.normalise(small[0][0], scale, signed)
    page.picture(x, top, SIDE, SIDE, heatmaps.blend_overlay(torch.cat(small[1:]), normalised, ramp, STRENGTH))


def _fitted(pictures: torch.Tensor) -> torch.Tensor:
    """[batch, channels, height, width] averaged down to SIDE pixels; smaller ones are enlarged in blocks."""
    mode = "area" if pictures.shape[-1] > SIDE else "nearest"
    return torch.nn.functional.interpolate(pictures, (SIDE, SIDE), mode=mode)
