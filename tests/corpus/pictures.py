"""Unusual images that must be read, and read right."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, PngImagePlugin

from corpus.case import UPRIGHT, Case, content, grey, png_file, saved

RAMP = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 30
FULL = {"quality": 98, "subsampling": 0}
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}
"""How pixels lie in a file that an EXIF orientation turns upright."""


def with_orientation(orientation: int) -> bytes:
    """A JPEG whose pixels lie as a camera held that way leaves them."""
    exif = Image.Exif()
    exif[274] = orientation
    return saved(np.ascontiguousarray(STORED[orientation](UPRIGHT)), kind="JPEG", exif=exif, **FULL)


def over_white(pixels: np.ndarray, alpha: int) -> np.ndarray:
    """What a transparent image must look like: white behind it."""
    return np.rint(pixels * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)


def with_alpha(alpha: int) -> np.ndarray:
    return np.dstack([UPRIGHT, np.full(UPRIGHT.shape[:2], alpha, np.uint8)])


def frames(kind: str, **options: object) -> bytes:
    memory = io.BytesIO()
    first, *others = [Image.fromarray(UPRIGHT), Image.new("RGB", (40, 48), "red"), Image.new("RGB", (40, 48), "blue")]
    first.save(memory, kind, save_all=True, append_images=others, **options)  # type: ignore[arg-type]
    return memory.getvalue()


def palette(transparency: object = None) -> bytes:
    image = Image.fromarray(UPRIGHT).quantize(4)
    memory = io.BytesIO()
    image.save(memory, "PNG", **({} if transparency is None else {"transparency": transparency}))
    return memory.getvalue()


def adobe_inverted() -> bytes:
    """CMYK as Photoshop writes it: an Adobe marker, all values inverted; pure red here."""
    memory = io.BytesIO()
    Image.new("CMYK", (40, 48), (0, 255, 255, 0)).save(memory, "JPEG", quality=98)
    return memory.getvalue()


def sixteen_bit_colour() -> bytes:
    values = (UPRIGHT.astype(np.uint32) * 257).astype(">u2")
    return png_file(40, 48, b"".join(b"\0" + row.tobytes() for row in values), depth=16)


def interlaced() -> bytes:
    """Adam7, written pass by pass."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, across in passes:
        rows += b"".join(b"\0" + row.tobytes() for row in UPRIGHT[top::down, left::across])
    return png_file(40, 48, rows, interlace=1)


def text_bombs() -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "<script>alert(1)</script>" * 2000, zip=True)
    return saved(pnginfo=notes)


def huge_exif() -> bytes:
    exif = Image.Exif()
    exif[270] = "x" * 60_000
    exif[274] = 6
    return saved(np.ascontiguousarray(STORED[6](UPRIGHT)), kind="JPEG", exif=exif, **FULL)


def float_tiff(values: np.ndarray) -> bytes:
    return saved(values.astype(np.float32), kind="TIFF")


def big_endian_tiff() -> bytes:
    """16-bit grey with the high byte first."""
    tags = [(256, 4, 40), (257, 4, 48), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 48)]
    tags.append((279, 4, 48 * 40 * 2))
    pixels = RAMP.astype(">u2").tobytes()
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">I", value) if kind == 4 else struct.pack(">HH", value, 0))
        for tag, kind, value in tags
    )
    start = struct.pack(">2sHI", b"MM", 42, 8 + len(pixels))
    return start + pixels + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)


GREY = np.asarray(Image.fromarray(UPRIGHT).convert("L"))
BLACK_WHITE = np.where(GREY > 127, 255, 0)

PICTURES = [
    *(Case(f"exif_{turn}.jpg", content(with_orientation(turn)), pixels=UPRIGHT, tolerance=6) for turn in range(1, 9)),
    Case("one_pixel.png", content(saved(UPRIGHT[:1, :1])), pixels=UPRIGHT[:1, :1]),
    Case(
        "strip_of_100.png", content(saved(UPRIGHT[:1].repeat(3, 1)[:, :100])), pixels=UPRIGHT[:1].repeat(3, 1)[:, :100]
    ),
    Case("wide_20000.png", content(saved(np.full((200, 20000, 3), 7, np.uint8))), pixels=np.full((1, 1, 3), 7)),
    Case("really_a_png.jpg", content(saved()), pixels=UPRIGHT),
    Case("really_a_jpeg.png", content(saved(kind="JPEG", **FULL)), pixels=UPRIGHT, tolerance=6),
    Case("grey_16.png", content(saved(RAMP)), pixels=grey(np.rint(RAMP / 257))),
    Case("grey_16.tif", content(saved(RAMP, kind="TIFF")), pixels=grey(np.rint(RAMP / 257))),
    Case("grey_16_big_endian.tif", content(big_endian_tiff()), pixels=grey(np.rint(RAMP / 257))),
    Case("colour_16.png", content(sixteen_bit_colour()), pixels=UPRIGHT),
    Case("float_unit.tif", content(float_tiff(GREY / 255)), pixels=grey(GREY)),
    Case("float_255.tif", content(float_tiff(GREY)), pixels=grey(GREY)),
    Case("grey.png", content(saved(mode="L")), pixels=grey(GREY)),
    Case(
        "grey_alpha.png", content(saved(np.dstack([GREY, np.full_like(GREY, 51)]))), pixels=over_white(grey(GREY), 51)
    ),
    Case("one_bit.png", content(saved(BLACK_WHITE > 0)), pixels=grey(BLACK_WHITE)),
    Case("cmyk.jpg", content(adobe_inverted()), pixels=np.full((48, 40, 3), (255, 0, 0)), tolerance=4),
    Case("cmyk.tif", content(saved(mode="CMYK", kind="TIFF")), pixels=UPRIGHT, tolerance=2),
    Case("ycbcr.tif", content(saved(mode="YCbCr", kind="TIFF")), pixels=UPRIGHT, tolerance=3),
    Case("palette.png", content(palette()), pixels=UPRIGHT),
    Case("palette_alpha.png", content(palette(b"\0\0\0\0")), pixels=np.full((48, 40, 3), 255)),
    Case("transparent.png", content(saved(with_alpha(0))), pixels=np.full((48, 40, 3), 255)),
    Case("half_transparent.png", content(saved(with_alpha(102))), pixels=over_white(UPRIGHT, 102), tolerance=1),
    Case(
        "alpha.webp",
        content(saved(with_alpha(51), kind="WEBP", lossless=True, exact=True)),
        pixels=over_white(UPRIGHT, 51),
        tolerance=1,
    ),
    Case("animated.gif", content(frames("GIF")), pixels=UPRIGHT),
    Case("animated.webp", content(frames("WEBP", lossless=True)), pixels=UPRIGHT),
    Case("animated_apng.png", content(frames("PNG")), pixels=UPRIGHT),
    Case("pages.tif", content(frames("TIFF")), pixels=UPRIGHT),
    Case("interlaced.png", content(interlaced()), pixels=UPRIGHT),
    Case("progressive.jpg", content(saved(kind="JPEG", progressive=True, **FULL)), pixels=UPRIGHT, tolerance=6),
    Case(
        "garbage_after.jpg", content(saved(kind="JPEG", **FULL) + b"PK\3\4 and more" * 99), pixels=UPRIGHT, tolerance=6
    ),
    Case("broken_profile.png", content(saved(icc_profile=b"not a profile")), pixels=UPRIGHT),
    Case("broken_exif.png", content(saved(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")), pixels=UPRIGHT),
    Case("huge_exif.jpg", content(huge_exif()), pixels=UPRIGHT, tolerance=6),
    Case("script_in_comment.png", content(text_bombs()), pixels=UPRIGHT),
    Case("plain.ppm", content(saved(kind="PPM")), pixels=UPRIGHT),
    Case("plain.bmp", content(saved(kind="BMP")), pixels=UPRIGHT),
]
