"""Small pictures for committed pages: WebP below a fixed size."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from seewhy.core.errors import UserError
from seewhy.plots.canvas import Drawn, encode_figure

LARGEST = 150_000
"""Bytes of one picture."""
THUMBNAIL = 320
"""Pixels of the longer side in the index."""


def save_figure(figure: Drawn, path: Path) -> None:
    """A figure as WebP."""
    save_picture(Image.open(io.BytesIO(encode_figure(figure))), path)


def save_picture(picture: Image.Image, path: Path, widest: int = 1400) -> None:
    """A picture as WebP of at most `widest` pixels, as good as fits. UserError where it does not."""
    picture = picture.convert("RGB")
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    for quality in (88, 75, 60, 45):
        content = io.BytesIO()
        picture.save(content, "webp", quality=quality, method=6)
        if content.tell() < LARGEST:
            path.write_bytes(content.getvalue())
            return
    raise UserError(f"{path.name} is over {LARGEST:,} bytes at any quality; draw fewer images")


def save_thumbnail(source: Path, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> None:
    """thumbnail.webp beside a picture: the part of it inside (left, top, right, bottom), as shares of its size."""
    with Image.open(source) as picture:
        width, height = picture.size
        part = picture.crop((int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height)))
    part.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    part.save(source.with_name("thumbnail.webp"), "webp", quality=82, method=6)
