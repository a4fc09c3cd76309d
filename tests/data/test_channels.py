"""Pictures of one to thirteen channels and of any shape: read, fitted, and refused by name."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.data.arrays import decode_lzw
from seewhy.data.dataset import ImageFiles, Item, collate
from seewhy.data.folder import Folder
from seewhy.data.images import convert_pillow, read_image, read_picture_size
from seewhy.data.in_memory import iterate_batches
from seewhy.data.loading import compute_cut_share, compute_resized_size, resize_and_crop, to_grey

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 24, 13), dtype=np.uint8)
WORDS = RNG.integers(0, 65536, (20, 24, 13), dtype=np.uint16)


def facts_of(size: int | tuple[int, int], channels: int = 3, **fields: object) -> Facts:
    return Facts((), size, (0.5,) * channels, (0.5,) * channels, **fields)  # type: ignore[arg-type]


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("first", [False, True])
def test_an_array_is_read_with_its_channels_first_or_last(tmp_path: Path, first: bool) -> None:
    expected = BYTES.transpose(2, 0, 1)
    read = read_image(saved(tmp_path / "a.npy", expected if first else BYTES), channels=13)
    assert read.dtype == torch.uint8
    assert np.array_equal(read.numpy(), expected)


def test_the_values_of_an_array_become_shares_of_their_types_largest(tmp_path: Path) -> None:
    words = read_image(saved(tmp_path / "w.npy", WORDS), channels=13)
    assert words.dtype == torch.float32
    np.testing.assert_allclose(words.numpy(), WORDS.transpose(2, 0, 1) / 65535, rtol=1e-7)
    shares = RNG.random((20, 24, 4))
    np.testing.assert_allclose(
        read_image(saved(tmp_path / "s.npy", shares), channels=4).numpy(), shares.transpose(2, 0, 1), rtol=1e-7
    )
    scaled = read_image(saved(tmp_path / "i.npy", WORDS.astype(np.int32)), channels=13, scale=10_000)
    np.testing.assert_allclose(scaled.numpy(), np.minimum(WORDS.transpose(2, 0, 1) / 10_000, 1), rtol=1e-7)
    flags = read_image(saved(tmp_path / "b.npy", BYTES[..., 0] > 99), channels=1)
    assert np.array_equal(flags[0].numpy(), BYTES[..., 0] > 99)


@pytest.mark.parametrize(
    ("values", "channels", "words"),
    [
        (BYTES, 4, r"20 x 24 x 13 values is not \[height, width, 4\] or \[4, height, width\]"),
        (BYTES[..., 0], 3, "20 x 24 values is not"),
        (BYTES[None], 13, "1 x 20 x 24 x 13 values is not"),
        (BYTES[:13], 13, "13 at both ends"),
        (np.float32([[[0.5, np.nan, 0.1, 0.2]]]), 4, "not finite"),
        (np.float32([[[0.5, -0.1, 0.1, 0.2]]]), 4, "below 0"),
        (np.float32([[[0.5, 200, 0.1, 0.2]]]), 4, "set data.scale to the value that becomes 1"),
        (np.int16([[[5, 200, 1, 2]]]), 4, "set data.scale to the value that becomes 1"),
        (np.array([[["a", "b"]]]), 2, "not numbers of a picture"),
        (np.zeros((0, 5, 4)), 4, "nothing to see"),
        (np.zeros((2, 500, 4)), 4, "longer than 100:1"),
    ],
)
def test_arrays_that_are_no_such_picture_are_refused(
    tmp_path: Path, values: np.ndarray, channels: int, words: str
) -> None:
    with pytest.raises(UnreadableImage, match=words):
        read_image(saved(tmp_path / "a.npy", values), channels=channels)


def test_nothing_in_an_array_file_is_executed(tmp_path: Path) -> None:
    saved(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(UnreadableImage, match="Python objects, which could run code"):
        read_image(tmp_path / "o.npy", channels=1)
    (tmp_path / "p.npy").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(UnreadableImage, match="damaged"):
        read_image(tmp_path / "p.npy", channels=1)
    whole = saved(tmp_path / "t.npy", BYTES).read_bytes()
    (tmp_path / "t.npy").write_bytes(whole[:-100])
    with pytest.raises(UnreadableImage, match="damaged"):
        read_image(tmp_path / "t.npy", channels=13)


def test_a_huge_array_is_refused_by_its_header(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="more than the 400 pixels"):
        read_image(saved(tmp_path / "a.npy", BYTES), 400, channels=13)


@pytest.mark.parametrize("values", [BYTES, WORDS], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("layout", ["bands", "planes", "pages"])
def test_the_bands_planes_or_pages_of_a_tiff_are_its_channels(tmp_path: Path, values: np.ndarray, layout: str) -> None:
    planes, path = values.transpose(2, 0, 1), tmp_path / "a.tif"
    options = {"bands": {"planarconfig": "contig"}, "planes": {"planarconfig": "separate"}, "pages": {}}[layout]
    tifffile.imwrite(path, values if layout == "bands" else planes, photometric="minisblack", **options)
    read = read_image(path, channels=13)
    expected = planes if values is BYTES else (planes / 65535).astype(np.float32)
    assert np.array_equal(read.numpy(), expected)


def test_four_bands_of_16_bits_keep_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", WORDS[..., :4], photometric="rgb", extrasamples=["unspecified"])
    read = read_image(tmp_path / "a.tif", channels=4)
    assert np.array_equal(read.numpy(), (WORDS[..., :4].transpose(2, 0, 1) / 65535).astype(np.float32))


def test_damaged_bands_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", BYTES, photometric="minisblack", planarconfig="contig")
    whole = (tmp_path / "a.tif").read_bytes()
    for end in (6, 40, len(whole) - 500):
        (tmp_path / "b.tif").write_bytes(whole[:end])
        with pytest.raises(UnreadableImage):
            read_image(tmp_path / "b.tif", channels=13)
    entry = np.array([259, 3, 1, 0, 1, 0], "<u2").tobytes()  # the tag of the compression: none
    assert whole.count(entry) == 1
    (tmp_path / "z.tif").write_bytes(whole.replace(entry, np.array([259, 3, 1, 0, 50000, 0], "<u2").tobytes()))
    with pytest.raises(UnreadableImage, match="compressed with ZSTD are not read: save them"):
        read_image(tmp_path / "z.tif", channels=13)


@pytest.mark.parametrize("predictor", [1, 2])
def test_bands_and_pages_compressed_with_lzw_are_read(tmp_path: Path, predictor: int) -> None:
    options: dict[str, Any] = {"compression": "tiff_lzw", "tiffinfo": {317: predictor}}
    smooth = np.kron(BYTES[:6, :6, :4], np.ones((20, 20, 1), np.uint8))  # long entries, and several tables
    Image.fromarray(smooth, "RGBA").save(tmp_path / "bands.tif", **options)
    assert np.array_equal(read_image(tmp_path / "bands.tif", channels=4).numpy(), smooth.transpose(2, 0, 1))
    pages = [Image.fromarray(plane) for plane in WORDS.transpose(2, 0, 1)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:], **options)
    expected = (WORDS.transpose(2, 0, 1) / 65535).astype(np.float32)
    assert np.array_equal(read_image(tmp_path / "pages.tif", channels=13).numpy(), expected)


def test_damaged_lzw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LZW code 300 stands for nothing"):
        decode_lzw(int("100000000" + "100101100" + "000000", 2).to_bytes(3))


def test_grey_is_read_as_one_channel_and_colours_by_their_luminance(tmp_path: Path) -> None:
    Image.fromarray(BYTES[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png", channels=1)[0].numpy(), BYTES[..., 0])
    colours = Image.fromarray(BYTES[..., :3])
    colours.save(tmp_path / "rgb.png")
    read = read_image(tmp_path / "rgb.png", channels=1)
    assert np.array_equal(read[0].numpy(), np.asarray(colours.convert("L")))
    assert torch.equal(read, to_grey(read_image(tmp_path / "rgb.png")))
    deep = WORDS[..., 0]
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(read_image(tmp_path / "deep.png", channels=1)[0].numpy(), deep / 65535, rtol=1e-7)
    scaled = read_image(tmp_path / "deep.png", scale=4095)
    np.testing.assert_allclose(scaled.numpy(), np.broadcast_to(np.minimum(deep / 4095, 1), (3, 20, 24)), rtol=1e-7)


def test_transparency_is_a_channel_where_four_are_asked_for(tmp_path: Path) -> None:
    Image.fromarray(BYTES[..., :4], "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", channels=4).numpy(), BYTES[..., :4].transpose(2, 0, 1))
    Image.fromarray(BYTES[..., :2], "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png", channels=2).numpy(), BYTES[..., :2].transpose(2, 0, 1))
    Image.fromarray(BYTES[..., :3]).save(tmp_path / "rgb.png")
    for name, channels, words in [
        ("rgb.png", 4, r"3 channels \(RGB\), and the network takes 4"),
        ("a.png", 13, r"4 channels \(RGBA\), and the network takes 13"),
        ("a.png", 2, "the network takes 2"),
        ("la.png", 4, "the network takes 4"),
    ]:
        with pytest.raises(UnreadableImage, match=words):
            read_image(tmp_path / name, channels=channels)


@pytest.mark.parametrize(
    ("picture", "facts", "resized"),
    [
        ((100, 120), facts_of((160, 192)), (160, 192)),
        ((192, 160), facts_of((160, 192)), (230, 192)),
        ((100, 300), facts_of((160, 192)), (160, 480)),
        ((100, 300), facts_of((160, 192), fit="squash"), (160, 192)),
        ((100, 300), facts_of((160, 192), crop=0.8, fit="squash"), (200, 240)),
        ((100, 120), facts_of((160, 192), crop=0.8), (200, 240)),
        ((375, 500), facts_of(224, crop=0.875), (256, 341)),
        ((500, 375), facts_of(224, crop=0.875), (341, 256)),
    ],
)
def test_a_picture_just_covers_the_image_before_it_is_cut(
    picture: tuple[int, int], facts: Facts, resized: tuple[int, int]
) -> None:
    assert compute_resized_size(*picture, facts) == resized
    assert resize_and_crop(torch.zeros(3, *picture, dtype=torch.uint8), facts).shape == (3, *facts.shape)


def test_only_what_stands_out_is_cut() -> None:
    wide = torch.zeros(1, 40, 80)
    wide[:, :, :40] = 1
    cut = resize_and_crop(wide, facts_of((20, 20), 1))
    assert torch.equal(cut.round(), torch.cat([torch.ones(1, 20, 10), torch.zeros(1, 20, 10)], 2))
    squashed = resize_and_crop(wide, facts_of((20, 20), 1, fit="squash"))
    assert torch.equal(squashed.round(), cut.round())
    tall = torch.zeros(1, 80, 40)
    tall[:, :20] = 1
    assert float(resize_and_crop(tall, facts_of((20, 20), 1)).max()) < 0.2
    assert float(resize_and_crop(tall, facts_of((20, 20), 1, fit="squash"))[:, :4].min()) > 0.9


def test_the_share_that_is_cut() -> None:
    assert compute_cut_share(160, 192, facts_of((160, 192))) == 0
    assert compute_cut_share(160, 192, facts_of(160)) == pytest.approx(1 / 6)
    assert compute_cut_share(192, 160, facts_of((160, 192))) == pytest.approx(1 - (160 / 192) ** 2)
    assert compute_cut_share(10, 1000, facts_of(160, fit="squash")) == 0


def test_floats_stay_in_range_where_bicubic_interpolation_overshoots() -> None:
    edges = torch.zeros(4, 9, 9)
    edges[:, :, 4:] = 1
    fitted = resize_and_crop(edges, facts_of((20, 24), 4, interpolation="bicubic"))
    assert float(fitted.min()) == 0
    assert float(fitted.max()) == 1


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_a_folder_of_pictures_of_any_channels(tmp_path: Path, channels: int) -> None:
    for name in ("a", "b"):
        saved(tmp_path / f"{name}.npy", BYTES[..., :channels])
    Image.new("RGB", (24, 20)).save(tmp_path / "c.png")
    data = Folder(tmp_path, facts_of((20, 24), channels), batch_size=3)
    data.setup()
    (batch,) = data.test_dataloader()
    expected = torch.from_numpy(BYTES[..., :channels].transpose(2, 0, 1).copy()).float() / 255
    assert torch.equal(batch.images[:2], torch.stack([expected, expected]))
    assert len(batch.skipped) == (0 if channels == 1 else 1)
    assert collate([], data.facts.shape, channels=channels).images.shape == (0, channels, 20, 24)


def test_pictures_of_more_bits_are_rounded_where_they_are_corrupted(tmp_path: Path) -> None:
    seen = []

    def corrupt(picture: torch.Tensor) -> None:
        seen.append(picture)

    item = Item(saved(tmp_path / "a.npy", WORDS[..., :4]), "a")
    record = ImageFiles([item], facts_of((20, 24), 4), corrupt)[0]  # type: ignore[arg-type]
    assert seen[0].dtype == torch.uint8
    assert torch.equal(record.image, seen[0].float() / 255)  # type: ignore[union-attr]


def test_a_scale_must_be_above_nothing() -> None:
    with pytest.raises(UserError, match=r"data\.scale=0\.0 must be a number above 0"):
        Folder("here", scale=0.0)


def test_images_in_memory_have_the_channels_of_the_network() -> None:
    grey = Image.fromarray(BYTES[..., 0])
    assert torch.equal(convert_pillow(grey, 1)[0], torch.from_numpy(BYTES[..., 0].copy()))
    assert stack([grey], facts_of((20, 24), 1)).shape == (1, 1, 20, 24)
    images = torch.rand(2, 4, 20, 24)
    assert torch.equal(stack(images, facts_of((20, 24), 4)), images)
    with pytest.raises(UserError, match=r"3 x 20 x 24 values, not \[4, height, width\]"):
        stack(images[:, :3], facts_of((20, 24), 4))
    with pytest.raises(UserError, match=r"20 x 24 pixels, the network sees 24 x 20: .* or set size=\(20, 24\)"):
        stack(images, facts_of((24, 20), 4))


def stack(images: object, facts: Facts) -> torch.Tensor:
    """All images of a caller as one tensor."""
    return torch.cat([batch.images for batch in iterate_batches(images, facts, 2)])


def test_the_size_of_a_picture_is_read_from_its_header(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (24, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (24, 20)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    names = ["a.png", "turned.jpg", "text.png", "pipe.png", "none.png"]
    sizes = [read_picture_size(tmp_path / name) for name in names]
    assert sizes == [(20, 24), (24, 20), None, None, None]
