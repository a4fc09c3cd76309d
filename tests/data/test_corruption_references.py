"""Every corruption against a computation without Albumentations: ImageNet-C's in numpy, scipy, scikit-image and Pillow."""

import io
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from scipy import ndimage
from skimage.draw import disk as disk_pixels

from commands import CONFIGS
from corruption_checks import built, scene
from seewhy.data.corruptions.attacks import Attack
from seewhy.data.corruptions.imagenet_c import GREY, ICE
from seewhy.data.corruptions.patterns import build_streak, draw_plasma

SIZES = (96, 32)
"""A picture that takes the levels of ImageNet-C and one that takes those of CIFAR-10-C."""

PUBLISHED: dict[str, tuple[list[Any], list[Any]]] = {
    "shot_noise": ([60, 25, 12, 5, 3], [500, 250, 100, 75, 50]),
    "impulse_noise": ([0.03, 0.06, 0.09, 0.17, 0.27], [0.01, 0.02, 0.03, 0.05, 0.07]),
    "defocus_blur": (
        [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    ),
    "motion_blur": ([(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)], [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]),
    "zoom_blur": (
        [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
        [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    ),
    "snow": (
        [
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ],
        [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
    ),
    "frost": (
        [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    ),
    "fog": (
        [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    ),
    "contrast": ([0.4, 0.3, 0.2, 0.1, 0.05], [0.75, 0.5, 0.4, 0.3, 0.15]),
    "jpeg": ([25, 18, 15, 10, 7], [80, 65, 58, 50, 40]),
    "pixelate": ([0.6, 0.5, 0.4, 0.3, 0.25], [0.95, 0.9, 0.85, 0.75, 0.65]),
}
"""The constants of the five severities in the code that made ImageNet-C and CIFAR-10-C."""

OWN = {
    "gaussian_noise": ([0.0277, 0.08, 0.12, 0.18, 0.26], [0.0277, 0.04, 0.06, 0.08, 0.09]),
    "brightness": ([0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.3, 0.4, 0.5, 0.6]),
    "pixel_dropout": ([0.01, 0.02, 0.05, 0.1, 0.2], [0.01, 0.02, 0.05, 0.1, 0.2]),
    "coarse_dropout": ([2, 4, 6, 9, 14], [2, 4, 6, 9, 14]),
    "rotation": ([5, 10, 20, 30, 45], [5, 10, 20, 30, 45]),
    "elastic": ([4.9, 8.5, 12.2, 17.1, 29.3], [0.8, 1.6, 2.4, 3.2, 4]),
}
"""The constants of levels that are not the published ones; their yaml says how they differ."""

LEVELS = [(size, level) for size in SIZES for level in range(1, 6)]


def constants(name: str, size: int, level: int) -> Any:
    return {**PUBLISHED, **OWN}[name][SIZES.index(size)][level - 1]


def corrupt(name: str, picture: np.ndarray, level: int, seed: int = 3) -> np.ndarray:
    return built(name).corrupt(picture, level, seed).astype(np.float64)


def assert_close(found: np.ndarray, values: np.ndarray, tolerance: float = 0.51) -> None:
    """Up to rounding to 256 values."""
    assert np.abs(found - np.clip(values, 0, 255)).max() <= tolerance


@pytest.mark.slow
def test_every_corruption_has_a_reference_and_every_difference_is_told() -> None:
    yamls = {path.stem for path in (CONFIGS / "corruption").glob("*.yaml")} - {"all", "study"}
    pixels = {name for name in yamls if not isinstance(built(name), Attack)}
    assert set(PUBLISHED) | set(OWN) == pixels
    different = {name for name in pixels if built(name).differs}
    assert different == {*OWN, "frost"}
    for name in OWN:
        assert OmegaConf.load(CONFIGS / "corruption" / f"{name}.yaml")[name].differs == built(name).differs


# Blurs and digital ones: the same values


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_contrast(size: int, level: int) -> None:
    picture = scene(size, size)
    means = picture.mean((0, 1), keepdims=True)
    assert_close(corrupt("contrast", picture, level), means + constants("contrast", size, level) * (picture - means))


@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_pixelate(size: int, level: int) -> None:
    picture = scene(size, size + 7)
    factor = constants("pixelate", size, level)
    small = int((size + 7) * factor), int(size * factor)
    expected = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
    expected = expected.resize((size + 7, size), Image.Resampling.BOX)
    assert_close(corrupt("pixelate", picture, level), np.asarray(expected), 0)


@pytest.mark.parametrize(("size", "level"), LEVELS)
@pytest.mark.parametrize("noisy", [False, True])
def test_jpeg_compresses_red_as_red(size: int, level: int, noisy: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8) if noisy else scene(size, size)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=constants("jpeg", size, level))
    assert_close(corrupt("jpeg", picture, level), np.asarray(Image.open(file).convert("RGB")), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_defocus_blur(size: int, level: int) -> None:
    radius, sigma = constants("defocus_blur", size, level)
    reach = max(8, int(radius))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    kernel[disk_pixels((reach, reach), radius + 1e-9)] = 1
    half = 1 if radius <= 8 else 2
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    smooth = np.outer(weights, weights) / weights.sum() ** 2
    kernel = ndimage.correlate(kernel / kernel.sum(), smooth, mode="mirror")
    picture = scene(size, size)
    expected = ndimage.correlate(picture.astype(float), kernel[..., None], mode="mirror")
    assert_close(corrupt("defocus_blur", picture, level), expected, 0.75)


def smear_by_shifts(picture: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur: pixels of a line beginning at each pixel, with the weights of a Gaussian."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    total, weight = np.zeros(picture.shape), 0.0
    for step in range(2 * radius + 1):
        down, right = np.ceil(step * np.sin(angle) - 0.5), np.ceil(step * np.cos(angle) - 0.5)
        share = np.exp(-(step**2) / (2 * sigma**2))
        total += share * picture[np.clip(rows + int(down), 0, height - 1), np.clip(columns + int(right), 0, width - 1)]
        weight += share
    return total / weight


def find_angle(name: str, level: int, size: int, seed: int = 3) -> float:
    corruption = built(name)
    transform = (corruption.levels if size > 64 else corruption.small)[level - 1]
    transform.set_random_seed(seed)
    return float(transform.draw(np.zeros((size, size, 3), np.uint8))[0])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_motion_blur(size: int, level: int) -> None:
    angle = find_angle("motion_blur", level, size)
    assert -np.pi / 4 <= angle <= np.pi / 4
    picture = scene(size, size)
    expected = smear_by_shifts(picture, *constants("motion_blur", size, level), angle)
    assert_close(corrupt("motion_blur", picture, level), expected)


@pytest.mark.slow
def test_angles_of_motion_blur_cover_a_quarter_turn() -> None:
    angles = [find_angle("motion_blur", 1, 96, seed) for seed in range(100)]
    assert min(angles) < -0.7 and max(angles) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_zoom_blur(size: int, level: int) -> None:
    largest, step = constants("zoom_blur", size, level)
    picture = scene(size, size).astype(float)
    factors = np.arange(1, largest, step)
    total = picture.copy()
    for factor in factors:
        kept = int(np.ceil(size / factor))
        first = (size - kept) // 2
        middle = picture[first : first + kept, first : first + kept]
        zoomed = ndimage.zoom(middle, (factor, factor, 1), order=1)
        cut = (len(zoomed) - size) // 2
        total += zoomed[cut : cut + size, cut : cut + size]
    assert_close(corrupt("zoom_blur", scene(size, size), level), total / (1 + len(factors)))


# Weather: the same values with the same draws


def draw(name: str, picture: np.ndarray, level: int, seed: int = 3) -> np.ndarray:
    corruption = built(name)
    transform = (corruption.levels if len(picture) > 64 else corruption.small)[level - 1]
    transform.set_random_seed(seed)
    drawn: np.ndarray = transform.draw(picture)
    return drawn


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_fog(size: int, level: int) -> None:
    density, decay = constants("fog", size, level)
    picture = scene(size, size)
    plasma = draw("fog", picture, level)
    transform = (built("fog").levels if size > 64 else built("fog").small)[level - 1]
    assert transform.decay == decay
    largest = picture.max() / 255
    expected = 255 * (picture / 255 + density * plasma[..., None]) * largest / (largest + density)
    assert_close(corrupt("fog", picture, level), expected)


@pytest.mark.parametrize("decay", [1.4, 2.0, 3.0])
def test_plasma_is_that_of_the_diamond_square_algorithm(decay: float) -> None:
    """Point by point, with the noise in the order of the grids: centres, then edges in rows, then in columns."""
    side, generator = 16, np.random.default_rng(5)
    heights = np.zeros((side, side))
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2
        count = side // step

        def noise() -> np.ndarray:
            return wibble * generator.uniform(-wibble, wibble, (count, count))  # noqa: B023

        corners = range(0, side, step)
        for kind, (down, right) in enumerate(((half, half), (0, half), (half, 0))):
            drawn, before = noise(), heights.copy()
            for i, row in enumerate(corners):
                for j, column in enumerate(corners):
                    at = row + down, column + right
                    around = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if kind == 0 else ((-1, 0), (1, 0), (0, -1), (0, 1))
                    near = [before[(at[0] + half * y) % side, (at[1] + half * x) % side] for y, x in around]
                    heights[at] = sum(near) / 4 + drawn[i, j]
        step, wibble = half, wibble / decay
    heights -= heights.min()
    expected = heights / heights.max()
    found = draw_plasma(13, 11, decay, np.random.default_rng(5))
    assert np.allclose(found, expected[:13, :11], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_frost(size: int, level: int) -> None:
    keep, ice = constants("frost", size, level)
    picture = scene(size, size)
    crystals = draw("frost", picture, level)
    assert crystals.min() >= 0 and crystals.max() <= 1
    assert_close(corrupt("frost", picture, level), keep * picture + 255 * ice * crystals[..., None] * ICE)
    assert ICE[0] < ICE[1] < ICE[2] == 1  # ice is bluish: red, green, blue


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_snow(size: int, level: int) -> None:
    mean, spread, zoom, threshold, radius, sigma, keep = constants("snow", size, level)
    transform = (built("snow").levels if size > 64 else built("snow").small)[level - 1]
    own = [getattr(transform, name) for name in ("mean", "spread", "zoom", "threshold", "radius", "sigma", "keep")]
    assert own == [mean, spread, zoom, threshold, radius, sigma, keep]
    picture = scene(size, size)
    flakes = draw("snow", picture, level)[..., None]
    values = picture / 255
    grey = np.asarray(Image.fromarray(picture).convert("L"), float)[..., None] / 255
    expected = keep * values + (1 - keep) * np.maximum(values, 1.5 * grey + 0.5)
    assert_close(corrupt("snow", picture, level), 255 * (expected + flakes + np.rot90(flakes, 2)), 0.9)
    assert np.abs(GREY - (0.299, 0.587, 0.114)).max() < 1e-6


def test_flakes_are_normal_noise_above_a_threshold_smeared_downwards() -> None:
    picture = np.zeros((256, 256, 3), np.uint8)
    unsmeared = built("snow").levels[0]
    unsmeared.radius, unsmeared.zoom = 0, 1.0
    unsmeared.set_random_seed(0)
    flakes = unsmeared.draw(picture)
    share = (flakes > 0).mean()
    assert share == pytest.approx(0.0912, rel=0.05)  # P(0.1 + 0.3 z > 0.5)
    assert flakes[flakes > 0].min() >= 0.5 and flakes.max() <= 1
    kernel = build_streak(10, 4.0, np.radians(-90))
    assert kernel[:20, 20].sum() + kernel[20, 20] == pytest.approx(1)  # takes from above, so that flakes fall


def test_flakes_are_noise_that_is_enlarged_in_both_directions() -> None:
    """Of ceil(50 / 3) x ceil(70 / 3) normal values, bilinearly, as Pillow does it."""
    snow = built("snow").levels[0]
    snow.mean, snow.spread, snow.zoom, snow.threshold, snow.radius = 0.5, 0.05, 3.0, 0.0, 0
    snow.set_random_seed(4)
    noise = np.random.default_rng(4).standard_normal((50, 70), dtype=np.float32)[:17, :24]
    expected = Image.fromarray(0.5 + np.float32(0.05) * noise).resize((70, 50), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(snow.draw(np.zeros((50, 70, 3), np.uint8)), np.asarray(expected), atol=1e-5)


# Noise: the same distribution in every channel


def coloured(size: int) -> np.ndarray:
    return np.broadcast_to(np.array([60, 120, 190], np.uint8), (size, size, 3)).copy()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_shot_noise(size: int, level: int) -> None:
    photons = constants("shot_noise", size, level)
    picture = coloured(size)
    values = np.concatenate([corrupt("shot_noise", picture, level, seed) for seed in range(8)]) / 255
    unclipped = np.random.default_rng(1).poisson(picture[0, 0] / 255 * photons, (10**5, 3)) / photons
    expected = np.rint(255 * np.clip(unclipped, 0, 1)) / 255
    assert np.allclose(values.mean((0, 1)), expected.mean(0), rtol=0.04)
    assert np.allclose(values.std((0, 1)), expected.std(0), rtol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_impulse_noise(size: int, level: int) -> None:
    amount = constants("impulse_noise", size, level)
    noisy = np.concatenate(
        [corrupt("impulse_noise", coloured(size), level, seed) for seed in range(6 if size > 64 else 60)]
    )
    assert set(np.unique(noisy)) == {0, 60, 120, 190, 255}
    for channel in range(3):
        assert (noisy[..., channel] == 0).mean() == pytest.approx(amount / 2, rel=0.2)
        assert (noisy[..., channel] == 255).mean() == pytest.approx(amount / 2, rel=0.2)
    both = ((noisy[..., 0] == 0) & (noisy[..., 1] == 0)).mean()  # the channels are independent
    assert both < amount**2 / 2


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_gaussian_noise(size: int, level: int) -> None:
    deviation = constants("gaussian_noise", size, level)
    picture = np.full((size, size, 3), 127, np.uint8)
    noise = np.concatenate([corrupt("gaussian_noise", picture, level, seed) - 127 for seed in range(8)])
    clipped = np.clip(np.random.default_rng(0).normal(0, 255 * deviation, 10**5), -127, 128)
    found = noise.std((0, 1))
    if level == 1:
        assert (found > 0.0124 * 255 - 0.2).all() and (found < deviation * 255 + 0.2).all()
    else:
        assert np.allclose(found, clipped.std(), rtol=0.025)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.1


# Levels of the study and of this project


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_brightness(size: int, level: int) -> None:
    change = 255 * constants("brightness", size, level)
    picture = scene(size, size)
    seen = {corrupt("brightness", picture, level, seed).tobytes() for seed in range(8)}
    expected = {np.clip(picture + sign * change, 0, 255).tobytes() for sign in (1, -1)}
    found = sorted(np.frombuffer(each).mean() for each in seen)
    assert len(found) == 2
    for mean, values in zip(found, sorted(np.frombuffer(each).mean() for each in expected), strict=True):
        assert mean == pytest.approx(values, abs=0.6)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_dropouts_turn_whole_pixels_black(size: int, level: int) -> None:
    picture = coloured(size)
    single = np.concatenate([corrupt("pixel_dropout", picture, level, seed) for seed in range(6)])
    black = (single == 0).all(2)
    assert np.array_equal(single[~black], np.broadcast_to(picture[0, 0], single[~black].shape))
    assert black.mean() == pytest.approx(constants("pixel_dropout", size, level), rel=0.2)
    squares = corrupt("coarse_dropout", picture, level)
    black = (squares == 0).all(2)
    assert np.array_equal(squares[~black], np.broadcast_to(picture[0, 0], squares[~black].shape))
    side = int(0.15 * size)
    assert side**2 <= black.sum() <= constants("coarse_dropout", size, level) * side**2


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_rotation(size: int, level: int) -> None:
    picture = scene(size, size)
    found = corrupt("rotation", picture, level)
    degrees = constants("rotation", size, level)
    middle = np.s_[size // 4 : -size // 4, size // 4 : -size // 4]
    gaps = [
        np.abs(ndimage.rotate(picture.astype(float), turn, order=1, reshape=False)[middle] - found[middle]).mean()
        for turn in (degrees, -degrees)
    ]
    assert min(gaps) < 0.7 < max(gaps)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level"), LEVELS)
def test_elastic_interpolates_the_picture_where_its_pixels_came_from(size: int, level: int) -> None:
    picture = scene(size, size)
    found = corrupt("elastic", picture, level)
    sources = built("elastic").trace_sources(picture.shape, level, 3)
    inside = np.isfinite(sources).all(2)
    rows, columns = np.where(inside, sources[..., 1], 0), np.where(inside, sources[..., 0], 0)
    for channel in range(3):
        expected = ndimage.map_coordinates(
            picture[..., channel].astype(float), [rows, columns], order=1, mode="reflect"
        )
        gap = np.abs(expected - found[..., channel])[4:-4, 4:-4][inside[4:-4, 4:-4]]
        assert gap.mean() < 1
    moved = np.abs(sources - np.stack(np.meshgrid(np.arange(size), np.arange(size)), 2))[8:-8, 8:-8]
    sigma = 2.44 if size > 64 else 1.28
    deviation = (
        constants("elastic", size, level) / np.sqrt(3) / (2 * sigma * np.sqrt(np.pi))
    )  # of smoothed uniform noise
    assert np.sqrt(np.nanmean(moved**2)) == pytest.approx(deviation, rel=0.25)


# Colours


PERMUTABLE = (
    "brightness",
    "coarse_dropout",
    "contrast",
    "defocus_blur",
    "elastic",
    "fog",
    "motion_blur",
    "pixel_dropout",
)
PERMUTABLE += ("pixelate", "rotation", "zoom_blur")
BY_COLOUR = ("jpeg", "snow", "frost")
"""Corruptions that know which channel is red: the luminance of a compressed or grey picture, and bluish ice."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PERMUTABLE)
@pytest.mark.parametrize("size", SIZES)
def test_channels_in_another_order_are_corrupted_alike(name: str, size: int) -> None:
    picture = scene(size, size)
    for level in (1, 3, 5):
        plain = corrupt(name, picture, level)
        for order in permutations(range(3)):
            assert (
                np.abs(corrupt(name, np.ascontiguousarray(picture[..., order]), level) - plain[..., order]).max() <= 1
            )


@pytest.mark.parametrize("name", BY_COLOUR)
def test_other_corruptions_tell_red_from_blue(name: str) -> None:
    picture = scene(96, 96)
    swapped = corrupt(name, np.ascontiguousarray(picture[..., ::-1]), 5)
    assert np.abs(swapped - corrupt(name, picture, 5)[..., ::-1]).max() > 5


def test_noise_is_the_only_rest() -> None:
    assert {*PUBLISHED, *OWN} - {*PERMUTABLE, *BY_COLOUR} == {"gaussian_noise", "shot_noise", "impulse_noise"}
