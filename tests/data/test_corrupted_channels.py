"""Corruptions of one, four and thirteen channels and of rectangles: against the same corruption of RGB."""

import albumentations
import numpy as np
import pytest
import torch
from test_corruptions import PIXELS, YAMLS

from corruption_checks import built, scene
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.data.corruptions.attacks import Attack
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.corrupter import Corrupter, limit_batch_size
from seewhy.data.corruptions.imagenet_c import GREY
from seewhy.data.loading import resize_and_crop
from seewhy.models.batched import BatchedEvaluator
from shaped import ignore_further_channels, images_of, shaped_cnn

FOR_THE_EYE = {"jpeg", "frost", "snow"}
"""Defined for RGB and grey alone."""
NOISE = {"gaussian_noise", "shot_noise", "impulse_noise"}
"""Drawn for each channel: more channels draw other noise."""
ROUNDED = {"defocus_blur": 1.0, "frost": 1.0, "snow": 1.0, "jpeg": 2.0}
"""Grey levels by which OpenCV's paths for so many channels and three roundings instead of one may differ."""


def facts_of(channels: int, size: int | tuple[int, int] = (96, 160), **fields: object) -> Facts:
    return Facts((), size, (0.5,) * channels, (0.5,) * channels, **fields)  # type: ignore[arg-type]


def repeated(picture: np.ndarray, channels: int) -> np.ndarray:
    """The channels again and again, so that the largest value and all means are those of RGB."""
    return np.ascontiguousarray(picture[..., np.arange(channels) % picture.shape[2]])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PIXELS if name not in FOR_THE_EYE])
@pytest.mark.parametrize("channels", [4, 13])
@pytest.mark.parametrize("shape", [(33, 47), (90, 131)])
def test_each_channel_is_corrupted_as_in_rgb(name: str, channels: int, shape: tuple[int, int]) -> None:
    corruption, picture = built(name), scene(*shape)
    many = repeated(picture, channels)
    for level in (1, 3, 5):
        corrupted = corruption.corrupt(many, level, 3)
        assert corrupted.shape == many.shape and corrupted.dtype == np.uint8
        if name not in NOISE:
            expected = repeated(corruption.corrupt(picture, level, 3), channels)
            assert np.abs(corrupted.astype(int) - expected).max() <= ROUNDED.get(name, 0)
        else:
            change = np.abs(corrupted.astype(int) - many).mean((0, 1))
            assert change.min() > 0.25 * change.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("shape", [(33, 47), (90, 131)])
def test_grey_is_corrupted_as_three_equal_channels(name: str, shape: tuple[int, int]) -> None:
    corruption, grey = built(name), scene(*shape)[..., :1]
    for level in (1, 3, 5):
        corrupted = corruption.corrupt(grey, level, 3)
        assert corrupted.shape == grey.shape and corrupted.dtype == np.uint8
        colours = corruption.corrupt(repeated(grey, 3), level, 3)
        if name in NOISE:
            assert not np.array_equal(corrupted, grey)
        else:
            inside = colours.max(2) < 255  # ice is blue: its channels are cut off at different values
            difference = np.abs(colours @ GREY - corrupted[..., 0])
            assert inside.any() and float(difference[inside].max()) <= ROUNDED.get(name, 1e-4)


@pytest.mark.parametrize("name", sorted(FOR_THE_EYE))
def test_what_has_a_meaning_for_the_eye_alone_is_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=f"corruption={name} is not defined for pictures of 4 channels .*: leave it out"
    ):
        Corrupter({name: built(name)}, facts_of(4), 0)


def test_what_changes_nothing_is_refused() -> None:
    hue = Corruption([albumentations.HueSaturationValue((20, 20), (0, 0), (0, 0))])
    with pytest.raises(UserError, match=r"corruption=hue is not defined for pictures of 1 channel \("):
        Corrupter({"hue": hue}, facts_of(1), 0)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_versions_have_the_shape_of_the_images(channels: int, fit: str) -> None:
    names = ["gaussian_noise", "zoom_blur", "rotation", "elastic"]
    facts = facts_of(channels, crop=0.875, fit=fit)
    corrupter = Corrupter({name: built(name) for name in names}, facts, 0)
    picture = torch.from_numpy(repeated(scene(150, 150), channels)).permute(2, 0, 1)
    versions = corrupter(picture)
    assert versions.pictures.shape == (20, channels, 96, 160)
    assert versions.sources.shape == (10, 2, 96, 160)
    assert limit_batch_size(100, corrupter) == 2**25 // (96 * 160 * (20 * channels + 10 * 8))


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("size", [(40, 60), (150, 150), (60, 300)])
def test_an_unchanged_picture_is_the_clean_image(size: tuple[int, int], fit: str) -> None:
    facts = facts_of(3, crop=0.875, fit=fit)
    picture = torch.from_numpy(scene(*size)).permute(2, 0, 1)
    versions = Corrupter({"still": Corruption([albumentations.NoOp()], moves_pixels=True)}, facts, 0)(picture)
    assert torch.equal(versions.pictures[0], resize_and_crop(picture, facts))
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(160.0), indexing="ij")
    whole = versions.sources[0].isfinite()
    torch.testing.assert_close(
        versions.sources[0][whole], torch.stack([columns, rows])[whole], rtol=0, atol=1.0 if fit == "crop" else 1e-3
    )


def test_the_way_of_a_pixel_is_told_in_pixels_of_the_image() -> None:
    facts = facts_of(4)
    values = np.linspace(0, 255, 160)[None] * np.ones((96, 1))
    ramp = torch.from_numpy(np.rint(np.stack([values] * 4)).astype(np.uint8))
    versions = Corrupter({"rotation": built("rotation")}, facts, 0)(ramp)
    for version, source in zip(versions.pictures, versions.sources, strict=True):
        inside = source.isfinite().all(0)
        expected = source[0][inside] * 255 / 159
        assert float((version[0][inside] - expected).abs().max()) < 2.5
        assert 0.2 < float(inside.float().mean()) < 1


@pytest.mark.parametrize("name", [name for name in YAMLS if isinstance(built(name), Attack)])
def test_attacks_leave_alone_what_the_network_ignores(name: str) -> None:
    classifier, images, classes = shaped_cnn(3), images_of(4, (24, 40)).float(), torch.tensor([0, 2])
    attack, wide = built(name), ignore_further_channels(classifier, 4)
    four = list(attack.levels(BatchedEvaluator(wide, images[0], 4), images, classes))
    three = list(attack.levels(BatchedEvaluator(classifier, images[0, :3], 4), images[:, :3], classes))
    for level, expected in zip(four, three, strict=True):
        torch.testing.assert_close(level[:, :3], expected)
        assert torch.equal(level[:, 3], images[:, 3])
