from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.core.errors import UnreadableImage
from seewhy.data import images
from seewhy.data.images import describe_kind, read_image

COLOURS = np.array(
    [[[200, 30, 10], [20, 180, 40]], [[30, 40, 220], [250, 250, 250]], [[0, 0, 0], [90, 90, 90]]], np.uint8
)
LARGE = COLOURS.repeat(16, 0).repeat(16, 1)


def picture(path: Path) -> np.ndarray:
    read = read_image(path)
    assert read.dtype == torch.uint8
    assert read.is_contiguous()
    return read.permute(1, 2, 0).numpy()


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    text = str(caught.value)
    assert str(path.parent) not in text and path.name not in text
    return text


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_formats_give_the_exact_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(LARGE).save(path)
    assert np.array_equal(picture(path), LARGE)


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {"quality": 98, "subsampling": 0}), ("webp", {"lossless": True})]
)
def test_photograph_formats_are_close(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(LARGE).save(path, **options)
    assert np.abs(picture(path).astype(int) - LARGE).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_all_eight_orientations_come_out_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(undo(LARGE))).save(path, exif=exif, **options)
    read = picture(path)
    assert read.shape == LARGE.shape
    assert np.abs(read.astype(int) - LARGE).max() <= 6


def test_damaged_exif_and_profile_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(LARGE).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", icc_profile=b"not a profile")
    assert np.array_equal(picture(path), LARGE)


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(picture(tmp_path / "a.png"), grey[:, :, None].repeat(3, 2))
    Image.fromarray(np.full((32, 32), 77, np.uint8)).save(tmp_path / "a.jpg")
    assert (picture(tmp_path / "a.jpg") == 77).all()


def test_cmyk_jpeg_has_the_right_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=98)
    assert np.abs(picture(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257], [128 * 257, 65535], [385, 386]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert picture(tmp_path / f"a.{suffix}")[..., 1].tolist() == [[0, 1], [128, 255], [1, 2]]


def test_32_bit_grey_is_divided_by_257_or_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 514], [257 * 9, 65535]], np.int32)).save(tmp_path / "a.tif")
    assert picture(tmp_path / "a.tif")[..., 0].tolist() == [[0, 2], [9, 255]]
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "b.tif")
    assert "0..70000" in reason(tmp_path / "b.tif")


def test_16_bit_colour_png(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + struct.pack(">6H", 65535, 128 * 257, 0, 257, 0, 65535)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert picture(tmp_path / "a.png").tolist() == [[[255, 128, 0], [1, 0, 255]]]


def test_floating_point_tiff(tmp_path: Path) -> None:
    def saved(values: list[float]) -> Path:
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
        return tmp_path / "a.tif"

    assert picture(saved([0, 0.5, 1]))[0, :, 0].tolist() == [0, 128, 255]
    assert picture(saved([0, 2, 254.6]))[0, :, 2].tolist() == [0, 2, 255]
    assert "not finite" in reason(saved([0, float("nan")]))
    assert "not finite" in reason(saved([0, float("inf")]))
    assert "-1..3" in reason(saved([-1, 3]))
    assert "0..256" in reason(saved([0, 256]))


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparency_shows_white(tmp_path: Path, suffix: str) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", **options)
    assert picture(tmp_path / f"a.{suffix}").tolist() == [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]]


def test_transparency_of_grey_palette_and_single_colours(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 255], [0, 0], [100, 51]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert picture(tmp_path / "la.png")[0, :, 0].tolist() == [0, 255, 224]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png")
    assert picture(tmp_path / "p.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    palette.save(tmp_path / "pt.png", transparency=1)
    assert picture(tmp_path / "pt.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]
    palette.save(tmp_path / "pb.png", transparency=b"\xff\x00")
    assert picture(tmp_path / "pb.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]
    palette.save(tmp_path / "p.gif", transparency=0)
    assert picture(tmp_path / "p.gif").tolist() == [[[255, 255, 255], [40, 50, 60]]]
    Image.fromarray(np.array([[5, 9]], np.uint8)).save(tmp_path / "l.png", transparency=9)
    assert picture(tmp_path / "l.png")[0, :, 0].tolist() == [5, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_first_frame_of_many(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (picture(tmp_path / f"a.{suffix}") == [255, 0, 0]).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    memory = io.BytesIO()
    noise.save(memory, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    content = memory.getvalue()
    for share in (0.02, 0.5):
        (tmp_path / f"a.{suffix}").write_bytes(content[: int(len(content) * share)])
        assert reason(tmp_path / f"a.{suffix}")


def test_what_is_no_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert reason(tmp_path / "empty.png") == "the file is empty"
    (tmp_path / "text.jpg").write_text("a letter to nobody\n" * 50)
    assert "not an image" in reason(tmp_path / "text.jpg")
    (tmp_path / "folder.png").mkdir()
    assert "folder" in reason(tmp_path / "folder.png")
    assert "no such file" in reason(tmp_path / "missing.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    assert "points to nothing" in reason(tmp_path / "dangling.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "back to itself" in reason(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in reason(tmp_path / "pipe.png")


DAMAGED, OTHER = "it begins as {} and is damaged", "it is {}, which is not read"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", DAMAGED.format("PNG")),
        (b"\xff\xd8\xff\xe0", DAMAGED.format("JPEG")),
        (b"GIF89a", DAMAGED.format("GIF")),
        (b"II*\0", DAMAGED.format("TIFF")),
        (b"MM\0*", DAMAGED.format("TIFF")),
        (b"BM6", DAMAGED.format("BMP")),
        (b"RIFF\x24\0\0\0WEBPVP8 ", DAMAGED.format("WEBP")),
        (b"RIFF\x24\0\0\0WAVEfmt ", ""),
        (b"%PDF-1.7", OTHER.format("PDF")),
        (b"PK\x03\x04", OTHER.format("a zip archive")),
        (b"\x1f\x8b\x08", OTHER.format("gzip")),
        (b"\x7fELF", OTHER.format("a program")),
        (b"8BPS", OTHER.format("a Photoshop document")),
        (b"\xff\x0a", OTHER.format("JPEG XL")),
        (b"\0\0\0\x0cJXL \r\n", OTHER.format("JPEG XL")),
        (b"\0\0\0\x0cjP  \r\n", OTHER.format("JPEG 2000")),
        *((b"\0\0\0\x18ftyp" + brand, OTHER.format("HEIC")) for brand in (b"heic", b"heix", b"mif1", b"msf1")),
        *((b"\0\0\0\x18ftyp" + brand, OTHER.format("AVIF")) for brand in (b"avif", b"avis")),
        (b"\0\0\0\x18ftypisom", OTHER.format("a video or audio file")),
        (bytes(16), "it begins with nothing but zeros"),
        (b"<svg xmlns=", OTHER.format("SVG")),
        (b"\xef\xbb\xbf <?xml version='1.0'?><SVG>", OTHER.format("SVG")),
        (b"<?xml version='1.0'?><note>", "it is text"),
        (b"<!DOCTYPE html>", "it is a web page"),
        (b"<html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer: run git lfs pull"),
        (b"a\tb\r\n\x0c", "it is text"),
        (b"a\x1b[0m", ""),
        (b"", ""),
    ],
)
def test_first_bytes_say_of_what_kind_a_file_is(start: bytes, words: str) -> None:
    assert describe_kind(start) == words


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_text_that_is_cut_inside_of_a_letter_is_text(cut: int) -> None:
    """The first bytes of a file may end anywhere: up to three bytes of a letter of four."""
    letter = "\N{MUSICAL SYMBOL G CLEF}".encode()
    assert len(letter) == 4
    assert describe_kind(b"a letter" + letter[:cut]) == "it is text"
    assert describe_kind(letter[:cut] + b"a letter") == ""
    assert describe_kind(b"a letter\xff" + b"end") == "", "the fourth byte from the end is no cut"


def test_denied_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path)
    monkeypatch.setattr(images.os, "access", lambda *_: False)
    assert "permission" in reason(path)


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def header(width: int, height: int) -> bytes:
        data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        idat = b"IDAT" + zlib.compress(b"")
        chunks = [data, idat, b"IEND"]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks
        )

    (tmp_path / "a.png").write_bytes(header(10_000, 10_001))
    assert "10000 x 10001 is more than the 100,000,000 pixels of data.max_pixels" in reason(tmp_path / "a.png")
    (tmp_path / "bomb.png").write_bytes(header(100_000, 100_000))
    assert "100,000,000 pixels" in reason(tmp_path / "bomb.png")
    (tmp_path / "edge.png").write_bytes(header(10_000, 10_000))
    assert "data.max_pixels" not in reason(tmp_path / "edge.png")


def test_strips_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (301, 3)).save(tmp_path / "strip.png")
    assert "301 x 3 pixels is longer than 100:1" in reason(tmp_path / "strip.png")
    Image.new("RGB", (3, 300)).save(tmp_path / "fine.png")
    assert picture(tmp_path / "fine.png").shape == (300, 3, 3)


def test_no_warning_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    Image.new("L", (15, 15)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").shape == (3, 15, 15)
