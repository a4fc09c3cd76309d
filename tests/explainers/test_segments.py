"""Superpixels: connected, as many as asked for, and along the colours."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from seewhy.core.errors import UserError
from seewhy.core.tensors import iterate_runs
from seewhy.explainers import superpixels
from seewhy.explainers.superpixels import blend, scales_of, segment_images, slic
from tiny import random_images


def quadrants(side: int = 24) -> torch.Tensor:
    image = torch.zeros(3, side, side)
    half = side // 2
    image[0, :half, half:] = 1
    image[1, half:, :half] = 1
    image[2, half:, half:] = 1
    return image


def test_four_colours_are_four_superpixels() -> None:
    labels = slic(quadrants(), 4)
    half = labels.shape[0] // 2
    expected = torch.arange(4).view(2, 2).repeat_interleave(half, 0).repeat_interleave(half, 1)
    assert torch.equal(labels, expected)


def test_boundaries_follow_the_colours_where_the_grid_does_not() -> None:
    image = torch.zeros(3, 30, 30)
    image[:, :, 13:] = 1
    labels = slic(image, 4)
    assert not set(labels[:, :13].unique().tolist()) & set(labels[:, 13:].unique().tolist())


@pytest.mark.parametrize(("n_segments", "count"), [(1, 1), (6, 6), (50, 49), (100, 100)])
def test_a_flat_image_gives_the_regular_grid(n_segments: int, count: int) -> None:
    labels = slic(torch.full((3, 60, 60), 0.3), n_segments)
    assert int(labels.max()) + 1 == count
    areas = labels.flatten().bincount()
    assert areas.min() * 2 >= areas.max()


@pytest.mark.parametrize("size", [(20, 33), (40, 25)])
def test_every_label_is_one_connected_region(size: tuple[int, int]) -> None:
    smooth = ndimage.gaussian_filter(random_images(1, 40)[0].numpy(), (0, 2, 2))[:, : size[0], : size[1]]
    image = torch.from_numpy(smooth)
    image = (image - image.min()) / (image.max() - image.min())
    labels = slic(image, 12)
    assert labels.shape == size
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    for label in range(int(labels.max()) + 1):
        assert ndimage.label(labels.numpy() == label)[1] == 1
    first = [int((labels.flatten() == label).nonzero()[0]) for label in range(int(labels.max()) + 1)]
    assert first == sorted(first)


def test_a_batch_is_segmented_image_by_image() -> None:
    images = random_images(2, 20)
    labels, counts = segment_images(images, 9)
    for image, found, count in zip(images, labels, counts, strict=True):
        assert torch.equal(found, slic(image, 9))
        assert count == int(found.max()) + 1


def test_every_scale_is_segmented_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_images(1, 20)[0]
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for found, scale in zip(scales_of(image, (1, 4, 9, 30)), (1, 4, 9, 30), strict=True):
            assert np.array_equal(found, slic(image, scale).numpy())


@pytest.mark.parametrize("band", [2, 32])
def test_the_nearest_centre_is_the_first_of_the_nearest_around(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superpixels, "BAND", band)
    random = np.random.default_rng(0)
    features = random.integers(0, 3, (5, 17, 11)).astype(np.float32)  # whole numbers: many distances are equal
    centres = random.integers(0, 3, (5, 4, 3)).astype(np.float32)
    rows, columns = np.arange(17) * 4 // 17, np.arange(11) * 3 // 11
    found = superpixels._nearest(features, centres, rows, columns)
    for row, column in np.ndindex(17, 11):
        steps = [(rows[row] + down, columns[column] + over) for down in (-1, 0, 1) for over in (-1, 0, 1)]
        near = [(min(max(one, 0), 3), min(max(two, 0), 2)) for one, two in steps]
        apart = [((centres[:, one, two] - features[:, row, column]) ** 2).sum() for one, two in near]
        one, two = near[int(np.argmin(apart))]
        assert found[row, column] == 3 * one + two


def test_more_superpixels_than_pixels_are_refused() -> None:
    with pytest.raises(UserError, match="n_segments=17 is more than the 16 pixels"):
        slic(torch.zeros(3, 4, 4), 17)


def test_blend_is_exact_at_both_ends_and_linear_between() -> None:
    images, cover = random_images(2, 5, seed=1), random_images(2, 5, seed=2)
    image = torch.tensor([0, 0, 1])
    seen = torch.tensor([1.0, 0.0, 0.25])[:, None, None, None].expand(3, 1, 5, 5).contiguous()
    blended = blend(images, cover, image, seen)
    assert torch.equal(blended[0], images[0])
    assert torch.equal(blended[1], cover[0])
    torch.testing.assert_close(blended[2], 0.25 * images[1] + 0.75 * cover[1])


def test_runs_are_the_stretches_of_equal_values() -> None:
    assert list(iterate_runs(torch.tensor([2, 2, 5, 7, 7, 7]))) == [
        (2, slice(0, 2)),
        (5, slice(2, 3)),
        (7, slice(3, 6)),
    ]
