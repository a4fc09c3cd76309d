"""What a file that cannot be decoded looks like, in words."""

from __future__ import annotations

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG", True),
    (b"\xff\xd8\xff", "JPEG", True),
    (b"GIF8", "GIF", True),
    (b"II*\0", "TIFF", True),
    (b"MM\0*", "TIFF", True),
    (b"BM", "BMP", True),
    (b"%PDF", "PDF", False),
    (b"PK\x03\x04", "a zip archive", False),
    (b"\x1f\x8b", "gzip", False),
    (b"\x7fELF", "a program", False),
    (b"8BPS", "a Photoshop document", False),
    (b"\xff\x0a", "JPEG XL", False),
    (b"\0\0\0\x0cJXL ", "JPEG XL", False),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", False),
)
"""First bytes, name, whether files of that kind are read."""

BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}


def image_kind(start: bytes) -> str:
    r"""What the first bytes of a file say of its kind; empty where they say nothing.

    >>> image_kind(b"\0\0\0\x18ftypheic"), image_kind(b"Dear all,")
    ('it is HEIC, which is not read', 'it is text')
    """
    if start[4:8] == b"ftyp":
        return f"it is {BRANDS.get(start[8:12], 'a video or audio file')}, which is not read"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "it begins as WEBP and is damaged"
    for signature, name, read in SIGNATURES:
        if start.startswith(signature):
            return f"it begins as {name} and is damaged" if read else f"it is {name}, which is not read"
    if start and not any(start):
        return "it begins with nothing but zeros"
    return _text(start)


def _text(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "it is SVG, which is not read"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run git lfs pull"
    plain = all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "it is text" if start and plain and _utf8(start) else ""


def _utf8(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4
    return True
