"""A figure as the bytes of a PNG file, and as a picture."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image

FAST = {"compress_level": 2}


def png(figure: Figure, dpi: float | None = None) -> bytes:
    """The figure as PNG bytes, the same for the same figure; `dpi` is the figure's own unless given."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi or figure.dpi, metadata={"Software": None}, pil_kwargs=FAST)
    return content.getvalue()


def picture(figure: Figure) -> Image.Image:
    """The figure as a picture that notebooks show and that can be saved in any format."""
    return Image.open(io.BytesIO(png(figure)))
