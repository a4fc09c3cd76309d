"""A small picture of an image as the network saw it."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor

from seewhy.colours import eight_bit
from seewhy.views import photograph

LONGEST = 256
LOSSLESS = 64
"""Up to this side a picture is kept exactly: artefacts of compression would show, and it is small anyway."""


def preview(image: Tensor) -> bytes:
    """float32 [3, height, width] in [0, 1] -> WebP of at most 256 pixels a side: about 12 kB at 224, 2 kB at 32."""
    picture = Image.fromarray(eight_bit(photograph(image)))
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="WEBP", lossless=max(picture.size) <= LOSSLESS, quality=82, method=0)
    return content.getvalue()
