"""Sheets of a robustness run: each image and its corrupted versions side by side, with the prediction on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy.analyses.robustness.measure import CLEAN, MeasuredGroup
from seewhy.core.facts import select_display
from seewhy.data.corruptions.corrupter import CorruptionStep
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.heatmaps import INK, MUTED, RIGHT, WRONG, build_colour_map
from seewhy.plots.text import LEADING, format_probability, shorten, wrap


@dataclass(frozen=True)
class Tile:
    """One version of one image. `overlays` are its maps over it, drawn; `similar` how each compares with the clean map."""

    words: str
    probability: float
    flipped: bool
    picture: NDArray[np.uint8]
    overlays: dict[str, NDArray[np.uint8]]
    similar: dict[str, float]


@dataclass
class Gallery:
    """Tiles of the first images; large pictures are averaged down.

    Attributes:
        signed: Whether the maps of each explainer are signed, by its name.
        maximum: How many images are kept.
        longest: Longest side of a tile in pixels.
        display: The channels that are shown, as in `Facts`.
        style: Colours, clipped percentage and overlay opacity.
        tiles: Tile of each version, by image.
    """

    signed: dict[str, bool]
    maximum: int = 10
    longest: int = 240
    display: tuple[int, ...] = ()
    style: dict[str, float | str] = field(
        default_factory=lambda: {"colours": "default", "outlier_percent": 2.0, "strength": 0.7}
    )
    tiles: dict[str, dict[CorruptionStep, Tile]] = field(default_factory=dict)

    def add(self, measured: MeasuredGroup) -> None:
        """Keep the tiles of a group for the images that are on the sheets.

        Args:
            measured: Rows, images and maps of the group.
        """
        for image, line in enumerate(measured.rows):
            name = line[0]["image"]
            if name not in self.tiles and len(self.tiles) >= self.maximum:
                continue
            tiles = self.tiles.setdefault(name, {})
            for position, (step, row) in enumerate(zip(measured.group.steps, line, strict=True)):
                picture = select_display(measured.group.images[image, position], self.display)
                maps = {
                    key: maps_of_method[image, position]
                    for key, maps_of_method in measured.maps.items()
                    if image < len(maps_of_method)
                }
                tiles[step] = Tile(
                    words=row["predicted"],
                    probability=row["probability"],
                    flipped=bool(row["flip"]) if step != CLEAN else row.get("correct") == 0,
                    picture=self._small(heatmaps.to_rgb(picture)),
                    overlays={key: self._overlay(picture, attribution, key) for key, attribution in maps.items()},
                    similar={key: row[f"{key}_spearman"] for key in maps},
                )

    def _overlay(self, picture: Tensor, attribution: Tensor, key: str) -> NDArray[np.uint8]:
        scale = heatmaps.compute_scale(attribution, float(self.style["outlier_percent"]))
        signed = self.signed[key]
        ramp = build_colour_map(str(self.style["colours"]), "signed" if signed else "unsigned")
        normalised = heatmaps.normalise(attribution.nan_to_num(), scale, signed)
        smooth = heatmaps.average_fine_map(normalised)
        return self._small(heatmaps.blend_overlay(picture, smooth, ramp, float(self.style["strength"])))

    def _small(self, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
        block = -(-max(picture.shape[:2]) // self.longest)
        rows, columns = (max(1, length // block) for length in picture.shape[:2])
        cut = picture[: rows * block, : columns * block]
        averaged = cut.reshape(rows, block, columns, block, 3).mean(axis=(1, 3)) if block > 1 else cut
        return np.rint(averaged * 255).astype(np.uint8)


RESOLUTION = 100
TITLE, HEADER, LABEL, NOTE = 10.0, 8.5, 8.0, 7.5
MARGIN, GAP = 20, 8
NARROWEST = 110


def draw_robustness_sheet(
    tiles: Mapping[str, Mapping[CorruptionStep, Tile]], level: int, title: str, explainer: str | None = None
) -> Drawing:
    """One row per image: the original, then every corruption at that level, each over `class: probability`.

    Of a network without probabilities the class stands alone.

    A changed prediction is written in the colour of a wrong one, and the original is so where it is wrong. With
    `explainer` its overlays are shown, with the rank correlation of each map with the clean one.
    """
    columns = [CLEAN] + [step for step in next(iter(tiles.values())) if step.level == level]
    rows = [[line.get(step) for step in columns] for line in tiles.values()]
    shapes = [tile.picture.shape[:2] for line in rows for tile in line if tile is not None]
    tallest, widest = (max(sides) for sides in zip(*shapes, strict=True))
    factor = max(1, round(96 / max(tallest, widest)))
    width = max(widest * factor, NARROWEST)
    page = Page(max(480, 2 * MARGIN + len(columns) * (width + GAP) - GAP), RESOLUTION)
    room = page.points(width)
    y = page.lines(
        MARGIN, MARGIN / 2, wrap(title, page.points(page.width - 2 * MARGIN), TITLE, True), TITLE, weight="bold"
    )
    for number, step in enumerate(columns):
        header = "original" if step == CLEAN else step.corruption.replace("_", " ")
        page.lines(
            MARGIN + number * (width + GAP), y + 4, [shorten(header, room, HEADER, bold=True)], HEADER, weight="bold"
        )
    y += 4 + page.pixels(LEADING * HEADER)
    heading = page.pixels(LEADING * LABEL) * (2 if explainer else 1) + 4
    for line in rows:
        for number, (step, tile) in enumerate(zip(columns, line, strict=True)):
            if tile is not None:
                _tile(page, MARGIN + number * (width + GAP), y, tile, step, explainer, factor, room, heading)
        y = round(y + heading + tallest * factor + GAP)
    probable = any(tile.probability == tile.probability for line in tiles.values() for tile in line.values())
    y = page.lines(MARGIN, y, wrap(_note(explainer, probable), page.points(page.width - 2 * MARGIN), NOTE), NOTE, MUTED)
    return page.finish(y + MARGIN / 2)


def _tile(
    page: Page,
    x: float,
    y: float,
    tile: Tile,
    step: CorruptionStep,
    explainer: str | None,
    factor: int,
    room: float,
    heading: float,
) -> None:
    colour = WRONG if tile.flipped else RIGHT if step == CLEAN else INK
    caption = shorten(tile.words, room, LABEL, _say_probability(tile))
    below = page.lines(x, y, [caption], LABEL, colour)
    picture = tile.picture
    if explainer:
        if step != CLEAN and explainer in tile.similar:
            page.lines(x, below, [f"rank corr. {tile.similar[explainer]:.2f}".replace("-", "−")], LABEL, MUTED)
        picture = tile.overlays.get(explainer, picture)
    enlarged = picture.repeat(factor, 0).repeat(factor, 1) / 255
    page.picture(x, round(y + heading), enlarged.shape[1], enlarged.shape[0], enlarged)


def _say_probability(tile: Tile) -> str:
    return f": {format_probability(tile.probability)}" if tile.probability == tile.probability else ""


def _note(explainer: str | None, has_probabilities: bool = True) -> str:
    words = "predicted class: probability" if has_probabilities else "largest output"
    note = f"{words}; red: not the class predicted on the original (of an original: not the true class)"
    if explainer is None:
        return note
    return f"{note}. Maps explain the class predicted on the original; rank corr.: Spearman with the original's map"


def list_levels(tiles: Mapping[str, Mapping[CorruptionStep, Tile]]) -> Sequence[int]:
    """The levels above 0 for which there is anything to show."""
    return sorted({step.level for line in tiles.values() for step in line} - {0})
