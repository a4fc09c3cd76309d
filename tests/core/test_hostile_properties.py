"""Whatever the size, mode, values, name or split: an image is read or refused, and results do not change."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seewhy.core.errors import UnreadableImage
from seewhy.core.facts import Facts
from seewhy.core.files import RunFolder
from seewhy.data.dataset import escape_path
from seewhy.data.images import convert_to_rgb, describe_kind, read_image
from seewhy.data.loading import resize_and_crop, to_unit_range
from seewhy.data.names import name_images
from seewhy.explainers.base import Explainer
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.noise_tunnel import SmoothGrad
from seewhy.explainers.occlusion import Occlusion
from tiny import random_images, small_cnn

FEW = settings(deadline=None, derandomize=True, database=None, max_examples=40, suppress_health_check=list(HealthCheck))
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
sides = st.integers(1, 60)


@FEW
@given(st.sampled_from(MODES), sides, sides, st.integers(0, 2**32 - 1))
def test_an_image_of_any_mode_and_size_becomes_rgb(mode: str, width: int, height: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        image = Image.fromarray(numbers.integers(0, 200, (height, width)).astype(kind))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands()) if mode not in ("1", "P") else 1
        image = (
            Image.frombytes(mode, (width, height), numbers.bytes(width * height * bands))
            if mode != "1"
            else (Image.fromarray(numbers.integers(0, 2, (height, width)).astype(bool)))
        )
    try:
        picture = convert_to_rgb(image)
    except UnreadableImage as error:
        assert mode in str(error)
        return
    assert (picture.shape, picture.dtype) == ((3, height, width), np.uint8)


@FEW
@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 40), st.sampled_from([0.5, 0.875, 1.0]))
def test_any_picture_is_fitted_into_the_unit_range(height: int, width: int, size: int, crop: float) -> None:
    facts = Facts(("a", "b"), size, (0.5,) * 3, (0.5,) * 3, crop, "bicubic")
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    image = to_unit_range(resize_and_crop(picture, facts))
    assert (image.shape, image.dtype) == ((3, size, size), torch.float32)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


@FEW
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"BM", b"P6 "]),
)
def test_any_bytes_are_refused_in_one_line(data: bytes, start: bytes) -> None:
    assert "\n" not in describe_kind(start + data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        path.write_bytes(start + data)
        try:
            assert read_image(path).dtype == torch.uint8
        except UnreadableImage as error:
            assert str(error) and folder not in str(error)


some_names = st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"/", b"").replace(b"\0", b""))


@FEW
@given(st.lists(some_names.filter(lambda raw: raw not in (b"", b".", b"..")), unique=True, min_size=1, max_size=8))
def test_any_file_names_become_unique_safe_names_that_stay_inside(raw: list[bytes]) -> None:
    paths = [Path("r") / os.fsdecode(name) for name in raw]
    names = name_images(paths, Path("r"))
    assert len({name.casefold() for name in names}) == len(paths)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in zip(names, paths, strict=True):
            written = RunFolder(Path(folder)).write_bytes(f"attributions/{name}.npy", b"x")
            assert written.parent == Path(folder) / "attributions"
            assert escape_path(path).isprintable() or not any(ord(one) < 32 for one in escape_path(path))
        assert len(list(Path(folder).rglob("*.npy"))) == len(names)


@FEW
@given(st.lists(st.sampled_from(["..", "a", "b", ".", "", "x.csv"]), min_size=1, max_size=5), st.booleans())
def test_a_run_folder_writes_inside_or_refuses(parts: list[str], absolute: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "deep" / "run"
        name = ("/" if absolute else "") + "/".join(parts)
        try:
            written = RunFolder(folder).write_bytes(name, b"x")
        except (ValueError, OSError):
            written = None
        outside = [path for path in Path(base).rglob("*") if path.is_file() and not path.is_relative_to(folder)]
        assert outside == []
        assert written is None or (written.read_bytes() == b"x" and written.resolve().is_relative_to(folder.resolve()))


def test_a_link_does_not_lead_out_of_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    for name in ("figures/a.png", "../a.png", str(tmp_path / "a.png"), "..", "a/../../b", "nul\0.png"):
        with pytest.raises(ValueError, match="leads out of the run folder"):
            RunFolder(tmp_path / "run").write_bytes(name, b"x")
    assert not list((tmp_path / "elsewhere").iterdir())


METHODS: list[Explainer] = [
    Saliency(),
    IntegratedGradients(n_steps=3),
    SmoothGrad(n_samples=3),
    Occlusion(window=16, stride=16),
]


@settings(FEW, max_examples=12)
@given(
    st.sampled_from(METHODS), st.integers(1, 4), st.integers(1, 9), st.lists(st.integers(1, 3), min_size=1, max_size=3)
)
def test_maps_do_not_depend_on_the_split_into_batches(
    method: Explainer, count: int, bound: int, split: list[int]
) -> None:
    classifier, images = small_cnn(), random_images(count, 32)
    targets = torch.arange(count)
    whole = type(method)(**{**vars(method), "probe_batch_size": 16})(classifier, images, targets)
    bounded = type(method)(**{**vars(method), "probe_batch_size": bound})
    parts, start = [], 0
    while start < count:
        stop = min(count, start + split[start % len(split)])
        parts.append(bounded(classifier, images[start:stop], targets[start:stop]))
        start = stop
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-5 * float(whole.abs().max()))
