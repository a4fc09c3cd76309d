"""What `seewhy.explain` returns: a list of explanations that shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from seewhy.explanation import Explanation
from seewhy.types import Skipped

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image


class Explanations(list[Explanation]):
    """One explanation per image, in the order of the images; `skipped` holds those that could not be explained."""

    def __init__(self, made: Iterable[Explanation] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(made)
        self.skipped = list(skipped)

    def figure(self, **style: Any) -> Image:
        """Original and overlay of every image in one picture; `style` goes to `seewhy.sheet.sheet`."""
        from seewhy.png import picture
        from seewhy.sheet import sheet

        return picture(sheet(self, **style))

    def table(self) -> pd.DataFrame:
        """One row per image: true class, prediction, target, facts of the map and metrics."""
        import pandas as pd

        rows = [
            {
                "image": one.name,
                "label": one.prediction.label,
                "predicted": one.prediction.name,
                "probability": one.prediction.probability,
                "target": one.target.name,
                "target_probability": one.target.probability,
                **one.facts,
                **one.metrics,
            }
            for one in self
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} images skipped" if self.skipped else ""
        shown = [f"  {one.name}: {one.target.name} {one.target.probability:.3f} ({one.explainer})" for one in self[:10]]
        shown += [f"  ... and {len(self) - 10} more"] if len(self) > 10 else []
        return "\n".join([f"{len(self)} explanation{'s' if len(self) != 1 else ''}{left_out}", *shown])

    def _repr_png_(self) -> bytes | None:
        from seewhy.png import png
        from seewhy.sheet import sheet

        return png(sheet(self)) if self else None
