"""What the sheets show of the first images: each version as a small picture with its words."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy import views
from seewhy.colours import colour_map
from seewhy.corruptions.corrupter import Step
from seewhy.robustness.measure import Measured
from seewhy.robustness.prediction_row import CLEAN


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
    """The tiles of the first `maximum` images; pictures over `longest` pixels are averaged down."""

    signed: dict[str, bool]
    maximum: int = 10
    longest: int = 240
    style: dict[str, float | str] = field(
        default_factory=lambda: {"colours": "default", "outlier_percent": 2.0, "strength": 0.7}
    )
    tiles: dict[str, dict[Step, Tile]] = field(default_factory=dict)

    def add(self, measured: Measured) -> None:
        """Keep the group's tiles of the images that are shown."""
        for image, line in enumerate(measured.rows):
            name = line[0]["image"]
            if name not in self.tiles and len(self.tiles) >= self.maximum:
                continue
            kept = self.tiles.setdefault(name, {})
            for position, (step, row) in enumerate(zip(measured.group.steps, line, strict=True)):
                picture = measured.group.images[image, position]
                maps = {key: made[image, position] for key, made in measured.maps.items() if image < len(made)}
                kept[step] = Tile(
                    words=row["predicted"],
                    probability=row["probability"],
                    flipped=bool(row["flip"]) if step != CLEAN else row.get("correct") == 0,
                    picture=self._small(views.photograph(picture)),
                    overlays={key: self._overlay(picture, attribution, key) for key, attribution in maps.items()},
                    similar={key: row[f"{key}_spearman"] for key in maps},
                )

    def _overlay(self, picture: Tensor, attribution: Tensor, key: str) -> NDArray[np.uint8]:
        scale = views.scale(attribution, float(self.style["outlier_percent"]))
        signed = self.signed[key]
        ramp = colour_map(str(self.style["colours"]), "signed" if signed else "unsigned")
        normalised = views.normalise(attribution.nan_to_num(), scale, signed)
        return self._small(views.overlay(picture, normalised, ramp, float(self.style["strength"])))

    def _small(self, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
        block = -(-max(picture.shape[:2]) // self.longest)
        rows, columns = (max(1, length // block) for length in picture.shape[:2])
        cut = picture[: rows * block, : columns * block]
        averaged = cut.reshape(rows, block, columns, block, 3).mean(axis=(1, 3)) if block > 1 else cut
        return np.rint(averaged * 255).astype(np.uint8)
