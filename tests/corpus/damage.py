"""Files that are no usable image; each must be left out with a reason that says why."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from corpus.case import Case, chunk, content, png_file, saved

NOISE = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)


def half(kind: str) -> bytes:
    whole = saved(NOISE, kind=kind)
    return whole[: len(whole) // 2]


def wrong_crc() -> bytes:
    """The header says another size than its checksum was made for."""
    whole = bytearray(saved())
    whole[29] ^= 0xFF
    return bytes(whole)


def bomb(width: int, height: int) -> bytes:
    """A small file whose header promises that many pixels and whose data begin to deliver them."""
    return png_file(width, height, b"\0" * 1_000_000)


def bomb_bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def bad_frame() -> bytes:
    whole = saved(NOISE, kind="GIF")
    return whole[: 13 + 768 + 15] + b"\xff" * 40 + b"\0;"


def nan_tiff() -> bytes:
    values = np.ones((8, 8), np.float32)
    values[3, 3] = np.nan
    return saved(values, kind="TIFF")


def negative_tiff() -> bytes:
    return saved(np.full((8, 8), -2, np.float32), kind="TIFF")


def no_permission(path: Path) -> None:
    path.write_bytes(saved())
    path.chmod(0)


def folder_named_as_image(path: Path) -> None:
    path.mkdir()
    (path / "inside.png").write_bytes(saved())


def extra_chunk() -> bytes:
    """A damaged checksum in a chunk that says nothing of the pixels: Pillow reads none of it."""
    whole = saved()
    return whole[:33] + chunk(b"tEXt", b"a\0b", crc=1) + whole[33:]


def broken_idat() -> bytes:
    whole = bytearray(saved(NOISE))
    whole[len(whole) // 2] ^= 0xFF
    return bytes(whole)


def forged_length() -> bytes:
    """An IDAT chunk that claims two gigabytes."""
    header = struct.pack(">IIBBBBB", 40, 48, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", 2**31 - 1) + b"IDAT" + zlib.compress(b"\0" * 100)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

DAMAGE = [
    Case("empty.png", content(b""), "the file is empty"),
    Case("empty.jpg", content(b""), "the file is empty"),
    *(
        Case(f"truncated.{suffix}", content(half(kind)), words)
        for suffix, kind, words in (
            ("jpg", "JPEG", "truncated"),
            ("png", "PNG", "truncated"),
            ("gif", "GIF", "truncated"),
            ("webp", "WEBP", "damaged"),
            ("tif", "TIFF", "damaged|truncated"),
            ("bmp", "BMP", "truncated"),
        )
    ),
    Case("header_alone.png", content(saved()[:20]), "PNG and is damaged|truncated"),
    Case("letter.jpg", content(b"Dear all,\nthis is a letter.\n" * 40), "it is text"),
    Case("page.jpg", content(b"<!DOCTYPE html><html>404</html>"), "it is a web page"),
    Case("drawing.png", content(SVG), "it is SVG"),
    Case("phone.jpg", content(HEIC), "it is HEIC"),
    Case("pointer.png", content(LFS), "git lfs pull"),
    Case("document.png", content(b"%PDF-1.7\n" + bytes(300)), "it is PDF"),
    Case("archive.jpg", content(b"PK\x03\x04" + bytes(300)), "a zip archive"),
    Case("program.png", content(b"\x7fELF" + bytes(300)), "it is a program"),
    Case("postscript.jpg", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch) run\n"), "it is text"),
    Case("zeros.jpg", content(bytes(5000)), "nothing but zeros"),
    Case("noise.png", content(NOISE.tobytes()), "not an image of a known format"),
    Case("strip_of_101.png", content(saved(np.zeros((1, 101, 3), np.uint8))), "101 x 1 pixels is longer than 100:1"),
    Case("column.png", content(saved(np.zeros((4000, 2, 3), np.uint8))), "2 x 4000 pixels is longer than 100:1"),
    Case("bomb_20000.png", content(bomb(20_000, 20_000)), "20000 x 20000 is more than the 100,000,000 pixels"),
    Case("bomb_2_billion.png", content(bomb(2**31 - 1, 2**31 - 1)), "data.max_pixels"),
    Case("bomb.bmp", content(bomb_bmp()), "60000 x 60000 is more than|data.max_pixels"),
    Case("no_size.png", content(png_file(0, 48, b"")), "damaged|nothing to see"),
    Case("bad_frame.gif", content(bad_frame()), "damaged|truncated"),
    Case("not_a_number.tif", content(nan_tiff()), "values that are not finite"),
    Case("negative.tif", content(negative_tiff()), r"floating-point values -2\.\.-2"),
    Case("wrong_crc.png", content(wrong_crc()), "PNG and is damaged"),
    Case("wrong_crc_of_a_comment.png", content(extra_chunk()), "PNG and is damaged"),
    Case("broken_data.png", content(broken_idat()), "damaged"),
    Case("forged_length.png", content(forged_length()), "truncated|damaged"),
    Case("a_folder.png", folder_named_as_image, "it is a folder"),
    Case("dangling.png", lambda path: path.symlink_to("nowhere.png"), "the link points to nothing"),
    Case("loop.png", lambda path: path.symlink_to(path.name), "leads back to itself"),
    Case("pipe.jpg", os.mkfifo, "not a regular file"),
    Case("device.jpg", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    Case("device_null.jpg", lambda path: path.symlink_to("/dev/null"), "not a regular file"),
    *([Case("secret.png", no_permission, "permission to read it is denied")] if os.geteuid() else []),
]
