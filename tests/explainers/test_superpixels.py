"""Superpixels: numbered without gaps, connected, along the colours, for images of any shape."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from conftest import ROOT
from seewhy.core.errors import UserError
from seewhy.core.tensors import iterate_runs
from seewhy.explainers.superpixels import blend, segment_images
from tiny import random_images

SHAPES = [(1, 1), (1, 40), (40, 1), (2, 3), (20, 33), (40, 25)]


def segment(image: torch.Tensor, n_segments: int) -> torch.Tensor:
    return segment_images(image[None], n_segments)[0][0]


def smooth_image(shape: tuple[int, int]) -> torch.Tensor:
    noise = random_images(1, 40)[0].numpy()[:, : shape[0], : shape[1]]
    smooth = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 2, 2)))
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()).clamp_min(1e-6)


def test_four_colours_are_four_superpixels() -> None:
    expected = torch.arange(4).view(2, 2).repeat_interleave(12, 0).repeat_interleave(12, 1)
    colours = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    agrees = segment(colours[:, expected], 4) == expected
    assert float(agrees.float().mean()) > 0.99, "all but a few pixels where the four meet"


def test_boundaries_follow_the_colours_where_the_grid_does_not() -> None:
    image = torch.zeros(3, 30, 30)
    image[:, :, 13:] = 1
    labels = segment(image, 4)
    assert not set(labels[:, :13].unique().tolist()) & set(labels[:, 13:].unique().tolist())


@pytest.mark.parametrize("kind", ["flat", "noise", "smooth"])
@pytest.mark.parametrize(
    ("shape", "n_segments"), [(shape, n) for shape in SHAPES for n in (1, 6, 40) if n <= math.prod(shape)]
)
def test_labels_are_numbered_without_gaps_and_connected(kind: str, shape: tuple[int, int], n_segments: int) -> None:
    noise = random_images(1, 40)[0][:, : shape[0], : shape[1]]
    image = {"flat": torch.full((3, *shape), 0.3), "noise": noise, "smooth": smooth_image(shape)}[kind]
    labels, (count,) = segment_images(image[None], n_segments)
    assert labels.shape == (1, *shape)
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == list(range(count))
    assert all(ndimage.label(labels[0].numpy() == label)[1] == 1 for label in range(count))


def test_one_superpixel_is_the_whole_image() -> None:
    assert segment_images(random_images(2, 20), 1)[1] == [1, 1]


@pytest.mark.parametrize(("side", "n_segments"), [(32, 16), (64, 50), (224, 50)])
def test_there_are_about_as_many_as_asked_for_even_in_noise(side: int, n_segments: int) -> None:
    """Without the blur and with half the compactness every image of noise becomes a single superpixel."""
    counts = segment_images(random_images(3, side), n_segments)[1]
    assert all(n_segments / 2 < count < n_segments * 1.3 for count in counts)


def test_a_flat_image_gives_a_regular_grid() -> None:
    labels, counts = segment_images(torch.full((1, 3, 60, 60), 0.3), 36)
    assert counts == [36]
    areas = labels.flatten().bincount()
    assert areas.min() * 2 >= areas.max()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_segmented_image_by_image(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.stack([smooth_image((40, 40)), *random_images(2, 40)])
    alone = [segment(image, 9) for image in images]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    labels, counts = segment_images(images.clone(), 9)
    assert torch.equal(labels, torch.stack(alone))
    assert counts == [int(each.max()) + 1 for each in alone]


def test_half_the_brightness_gives_the_same_superpixels_in_any_precision() -> None:
    image = (smooth_image((40, 40)) * 255).round() / 256  # halves of these are exact
    assert np.array_equal(segment(image, 9), segment(image.double() / 2, 9))


def test_more_superpixels_than_pixels_are_refused() -> None:
    with pytest.raises(UserError, match="n_segments=17 is more than the 16 pixels"):
        segment_images(torch.zeros(1, 3, 4, 4), 17)


def test_blend_is_exact_at_both_ends_and_linear_between() -> None:
    images, cover = random_images(2, 5, seed=1), random_images(2, 5, seed=2)
    image = torch.tensor([0, 0, 1])
    seen = torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)[:, None, None, None].expand(3, 1, 5, 5).contiguous()
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


@pytest.mark.slow
def test_scikit_image_is_imported_only_when_an_image_is_segmented() -> None:
    code = (
        "import sys; from seewhy.explainers import surrogates, xrai; "
        "xrai.Xrai(), surrogates.Lime(), surrogates.KernelShap(); print({'skimage', 'cv2'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert output.stdout.strip() == "set()"
