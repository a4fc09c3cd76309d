"""Write pictures of the explanations and of the explained images while the network goes on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt, MinLen
from lightning.pytorch import Trainer

from seewhy.callbacks.journaling import FileWriter, JournalReader
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.settings import Amount, OneOf, Text, UnitInterval, check_when_made
from seewhy.core.types import Batch, Explanation
from seewhy.models.classifier import Classifier
from seewhy.plots.explanation import VIEWS, check_views
from seewhy.plots.heatmaps import build_colour_map, encode_preview
from seewhy.plots.targets import draw_targets
from seewhy.runs.attribution_files import BackgroundWriter
from seewhy.runs.logged_results import encode_sheet_image, locate_sheet_image, write_sheet


@check_when_made("callbacks.{}")
class Figures(FileWriter, JournalReader):
    """Draws figures/<image>.png and sheet.png beside the loop.

    Args:
        folder: The run folder.
        colours: default or classic.
        outlier_percent: Share of the attribution mass that saturates the colours, in [0, 100).
        strength: Opacity of the overlay, in [0, 1].
        limit: Draw figures of the first `limit` images of the data set; None: of all.
        maximum: Largest number of images on the sheet.
        views: What a figure shows beside the image; None: `DEFAULT_VIEWS`.

    Raises:
        UserError: If a value is out of range or a view is unknown.
    """

    def __init__(
        self,
        folder: Text,
        colours: Annotated[str, OneOf(("default", "classic"))] = "default",
        outlier_percent: Annotated[float, Ge(0), Lt(100)] = 2.0,
        strength: UnitInterval = 0.7,
        limit: Amount | None = 100,
        maximum: Amount = 100,
        views: Annotated[Sequence[Annotated[str, OneOf(VIEWS)]], MinLen(1)] | None = None,
    ) -> None:
        build_colour_map(colours, "signed")
        check_views(views or ())
        if not 0 <= outlier_percent < 100:
            raise UserError(f"callbacks.figures.outlier_percent={outlier_percent} must be from 0 to below 100")
        if not 0 <= strength <= 1:
            raise UserError(f"callbacks.figures.strength={strength} must be from 0 to 1")
        for name, count in (("limit", limit), ("maximum", maximum)):
            if count is not None and count < 0:
                raise UserError(f"callbacks.figures.{name}={count} must be 0 or more")
        self.views = tuple(views or ())
        self.folder = RunFolder(Path(folder))
        self.style: dict[str, Any] = {"colours": colours, "outlier_percent": outlier_percent, "strength": strength}
        self.limit, self.maximum = limit, maximum
        self.writer = BackgroundWriter(self.folder)
        self.count = 0

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Classifier,
        outputs: dict[str, Any],
        batch: Batch,
        batch_idx: int,
        *rest: int,
    ) -> None:
        """Draw the explanations of one batch, and store the images that the sheet may need."""
        explanations = outputs.get("explanations", [])
        if not explanations:
            return
        first, pending = self.recorder.find_position(batch_idx, len(batch.images)), outputs.setdefault("pending", [])
        for position, (name, group) in enumerate(groupby(explanations, lambda each: each.image_name), first):
            targets = list(group)
            if self.limit is None or position < self.limit:
                draw = partial(draw_targets, targets, views=self.views, **self.style)
                pending.append(self.writer.add(f"figures/{name}.png", draw))
            if self.count < self.maximum:
                pending.append(self.writer.run(locate_sheet_image(name), partial(encode_sheet_image, targets[0])))
            self.count += len(targets)

    def write(self, trainer: Trainer, classifier: Classifier) -> None:
        """Draw all images at a glance, where there is at least one."""
        write_sheet(self.folder, self.recorder.journal, self.maximum, self.style)

    @property
    def drawn(self) -> int:
        """Number of figures in the folder."""
        return sum(1 for _ in (self.folder.path / "figures").glob("*.png"))

    def record(self) -> dict[str, Any]:
        """Describe the sheet for the record of the run, so that merged shards draw the same.

        Returns:
            Its maximum and its style.
        """
        return {"sheet": {"maximum": self.maximum, "style": self.style}}


@check_when_made("callbacks.{}")
class Previews(FileWriter):
    """Writes images/<image>.webp for report.html, beside the loop; comes after the callback `attribution`.

    The page needs the image after resize and crop, also where the file is gone or there never was one.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = RunFolder(Path(folder))
        self.writer = BackgroundWriter(self.folder)

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *rest: int
    ) -> None:
        """Write the explained images of one batch."""
        for name, explanation in {each.image_name: each for each in outputs.get("explanations", [])}.items():
            written = self.writer.run(f"images/{name}.webp", partial(_encode_preview, explanation))
            outputs.setdefault("pending", []).append(written)


def _encode_preview(explanation: Explanation) -> bytes:
    return encode_preview(explanation.picture)
