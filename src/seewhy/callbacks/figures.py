"""A picture of every explanation, and one of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from seewhy.cells import check_views
from seewhy.classifier import Classifier
from seewhy.colours import colour_map
from seewhy.errors import UserError
from seewhy.explanation import Explanation
from seewhy.figures import panel, png
from seewhy.run_folder import RunFolder
from seewhy.sheet import sheet
from seewhy.types import Batch


class Figures(Callback):
    """Writes figures/<image>.png and sheet.png (the first `maximum` images); `views` names what a figure shows."""

    def __init__(
        self,
        folder: str,
        colours: str = "default",
        outlier_percent: float = 2.0,
        strength: float = 0.7,
        maximum: int = 100,
        views: Sequence[str] | None = None,
    ) -> None:
        colour_map(colours, "signed")
        check_views(views or ())
        if not 0 <= outlier_percent < 100:
            raise UserError(f"callbacks.figures.outlier_percent={outlier_percent} must be from 0 to below 100")
        if not 0 <= strength <= 1:
            raise UserError(f"callbacks.figures.strength={strength} must be from 0 to 1")
        if maximum < 0:
            raise UserError(f"callbacks.figures.maximum={maximum} must be 0 or more")
        self.views = tuple(views or ())
        self.folder = RunFolder(Path(folder))
        self.style = {"colours": colours, "outlier_percent": outlier_percent, "strength": strength}
        self.maximum = maximum
        self.count = 0
        self.kept: list[Explanation] = []

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Classifier, outputs: dict[str, Any], batch: Batch, *place: int
    ) -> None:
        """Draw the explanations of one batch."""
        for made in outputs.get("explanations", []):
            self.folder.write_bytes(f"figures/{made.name}.png", png(panel(made, shown=self.views, **self.style)))  # type: ignore[arg-type]
            self.count += 1
            if len(self.kept) < self.maximum:
                self.kept.append(made)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:  # type: ignore[override]
        """Draw the sheet."""
        self.draw_sheet()

    def on_exception(self, trainer: Trainer, pl_module: Classifier, exception: BaseException) -> None:  # type: ignore[override]
        """Keep what was explained before the error."""
        self.draw_sheet()

    def draw_sheet(self) -> None:
        """All images at a glance, where there is at least one."""
        if self.kept:
            self.folder.write_bytes("sheet.png", png(sheet(self.kept, total=self.count, **self.style)))  # type: ignore[arg-type]
