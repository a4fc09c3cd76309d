"""Bytes inside a page: pictures as data addresses, data as JSON that cannot leave its script element."""

from __future__ import annotations

import base64
import io
import json
import math
from typing import Any

from markupsafe import Markup
from PIL import Image

LARGE = 250_000
KINDS = {b"\x89PNG": "png", b"RIFF": "webp"}
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode_base64(content: bytes) -> str:
    """Encode bytes in the letters that HTML and JSON leave alone."""
    return base64.b64encode(content).decode("ascii")


def build_data_url(picture: bytes) -> str:
    """Turn a PNG or WebP into the address of an image."""
    return f"data:image/{KINDS[picture[:4]]};base64,{encode_base64(picture)}"


def compress_figure(picture: bytes) -> bytes:
    """Turn a large PNG into a WebP of a third of its size; leave a small one, where the saving is not worth the time."""
    if len(picture) <= LARGE:
        return picture
    content = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(content, format="WEBP", quality=88, method=1)
    return content.getvalue()


def dump_script_json(content: Any) -> Markup:
    """Write JSON for a script element: no text in it can end the element; NaN and infinity become null."""
    text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, escaped in ESCAPES.items():
        text = text.replace(sign, escaped)
    return Markup(text)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
