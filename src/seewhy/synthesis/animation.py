"""A climb as a moving picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

from seewhy.synthesis.eight_bit import picture
from seewhy.synthesis.visualization import Frame

MILLISECONDS, LAST = 80, 2000
"""How long a frame is shown, and the last one."""


def webp_of(frames: Sequence[Frame], quality: int = 80) -> bytes:
    """An animated WebP that repeats for ever; the last frame stays for two seconds."""
    pictures = [picture(frame.pixels) for frame in frames]
    durations = [MILLISECONDS] * (len(pictures) - 1) + [LAST]
    content = io.BytesIO()
    options = {"quality": quality, "method": 2, "loop": 0, "duration": durations}
    pictures[0].save(content, format="WEBP", save_all=True, append_images=pictures[1:], **options)
    return content.getvalue()
