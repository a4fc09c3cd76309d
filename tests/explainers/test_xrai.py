"""XRAI: the greedy choice by hand, against a loop over regions, and against PAIR's code."""

import importlib

import numpy as np
import pytest
import torch
from scipy import ndimage

from seewhy.core.errors import UserError
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.xrai import Xrai, build_regions, rank_regions, segment
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def integrated(images: torch.Tensor, targets: torch.Tensor, n_steps: int) -> torch.Tensor:
    parts = [
        IntegratedGradients(baseline=name, n_steps=n_steps, probe_batch_size=16)(small_cnn(), images, targets)
        for name in ("black", "white")
    ]
    return torch.stack(parts).mean(0)


def masks_of(image: torch.Tensor, scales: tuple[float, ...], dilation: int) -> list[np.ndarray]:
    """Every segment of every scale, widened by a disk, as one array of bits each."""
    offsets = np.arange(-dilation, dilation + 1)
    disk = offsets[:, None] ** 2 + offsets**2 <= dilation**2
    return [
        ndimage.binary_dilation(labels == label, disk)
        for labels in segment(image, scales)
        for label in range(labels.max() + 1)
        if (labels == label).any()
    ]


def slow_take(masks: list[np.ndarray], attribution: np.ndarray, smallest: int) -> list[np.ndarray]:
    """The bits of the pixels that each step takes."""
    free, order = np.ones(attribution.shape, bool), []
    while rest := [mask & free for mask in masks if (mask & free).sum() >= smallest]:
        order.append(max(rest, key=lambda mask: attribution[mask].mean()))
        free &= ~order[-1]
    return [*order, free] if free.any() else order


def test_the_densest_region_comes_first() -> None:
    labels = [np.array([[0, 0], [1, 1]]), np.array([[0, 1], [0, 1]])]
    order = rank_regions(build_regions(labels, 0), np.array([1.0, 6.0, 2.0, 3.0]), 1)
    # The right column (6 + 3) / 2, then the pixel left in the lower row, then that in the upper one.
    assert [(pixels.tolist(), density) for pixels, density in order] == [([1, 3], 4.5), ([2], 2.0), ([0], 1.0)]


def test_regions_that_add_too_little_are_dropped() -> None:
    labels = [np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 2]])]
    order = rank_regions(build_regions(labels, 0), np.array([1.0, 6.0, 2.0, 0.0]), 2)
    assert [(pixels.tolist(), density) for pixels, density in order] == [([1, 2], 4.0), ([0, 3], 0.5)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_regions_that_rounding_alone_tells_apart_come_together(order: tuple[int, ...]) -> None:
    """Whatever the order in which they are listed, and also where what is left of a sum is rounding."""
    labels = [np.array([[order[0], order[1], order[2], order[3]]]), np.array([[0, 0, 1, 1]])]
    third = 0.1 + 0.2 - 0.3  # 5.6e-17
    exact = rank_regions(build_regions(labels, 0), np.array([0.5, 0.0, third, -third]), 1)
    assert [(pixels.tolist(), density) for pixels, density in exact] == [([0], 0.5), ([1, 2, 3], 0.0)]
    near = np.array([0.5, 0.5 + 1e-9, 0.25, 0.25 - 1e-9])
    assert [pixels.tolist() for pixels, _ in rank_regions(build_regions(labels, 0), near, 1, 1e-8)] == [[0, 1], [2, 3]]
    told = [pixels.tolist() for pixels, _ in rank_regions(build_regions(labels, 0), near, 1)]
    assert told == [[1], [0], [2], [3]]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_regions_that_the_network_does_not_look_at_share_a_rank(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stripes = np.repeat(order, 2)[None].repeat(8, 0)
    monkeypatch.setattr("seewhy.explainers.xrai.segment", lambda *_: [stripes])
    classifier, _ = linear_classifier()
    with torch.no_grad():
        weights = classifier.network[1].weight[1].view(3, 8, 8)
        weights.zero_()
        weights[:, :, 4:6] = 1.0
    found = Xrai(n_steps=1, dilation=0, probe_batch_size=16).attribute(
        classifier, torch.full((1, 3, 8, 8), 0.9), torch.tensor([1])
    )
    assert found.maps[0].unique(dim=0).tolist() == [[0.75] * 4 + [1.0] * 2 + [0.75] * 2]
    assert found.facts["n_regions"].tolist() == [2]


def test_regions_are_widened_by_a_disk() -> None:
    segmentations = segment(IMAGES[0], (250,))
    found = build_regions(segmentations, 2).toarray().reshape(-1, 32, 32)
    assert np.array_equal(found > 0, np.stack(masks_of(IMAGES[0], (250,), 2)))
    assert set(np.unique(found)) == {0, 1}


@pytest.mark.parametrize(("dilation", "probe_batch_size"), [(0, 7), (1, 3)])
def test_it_equals_the_loop(dilation: int, probe_batch_size: int) -> None:
    explainer = Xrai(n_steps=3, scales=(50, 250), dilation=dilation, probe_batch_size=probe_batch_size)
    found = explainer(small_cnn(), IMAGES, TARGETS)
    for map_, image, gradient in zip(found, IMAGES, integrated(IMAGES, TARGETS, 3), strict=True):
        expected, left = torch.zeros_like(map_), 1.0
        for step in slow_take(masks_of(image, (50, 250), dilation), gradient.double().numpy(), 1):
            expected[torch.from_numpy(step)] = left
            left -= step.mean()
        torch.testing.assert_close(map_, expected)


def test_the_top_share_of_the_map_is_that_share_of_the_image() -> None:
    found = Xrai(n_steps=3, scales=(50, 250), probe_batch_size=16).attribute(small_cnn(), IMAGES, TARGETS)
    for map_, count in zip(found.maps, found.facts["n_regions"].tolist(), strict=True):
        values = map_.unique()
        assert len(values) == count
        assert float(values[-1]) == 1
        for value in values[1:]:
            assert float((map_ >= value).float().mean()) == pytest.approx(
                1 - float(values[values < value][-1]), abs=1e-6
            )


def test_of_a_linear_network_the_half_that_counts_comes_first() -> None:
    classifier, _ = linear_classifier()
    with torch.no_grad():
        classifier.network[1].weight[1].view(3, 8, 8)[:] = torch.tensor([1.0] * 4 + [2.0] * 4)
    image = torch.zeros(1, 3, 8, 8)
    image[..., :4] = 0.9
    explainer = Xrai(n_steps=1, scales=(250,), dilation=0, probe_batch_size=16)
    found = explainer.attribute(classifier, image, torch.tensor([1]))
    # Averaged over both baselines: w (x - 1/2), +0.4 on the left and -1 on the right, for each channel.
    assert float(found.maps[0, :, :4].min()) > 0.5
    assert float(found.maps[0, :, 4:].max()) == 0.5, "all of the left half comes before"
    assert float(found.facts["completeness_gap_relative"]) < 1e-4


def test_the_larger_gap_of_the_two_baselines_is_reported() -> None:
    found = Xrai(n_steps=2, scales=(250,), probe_batch_size=16).attribute(small_cnn(), IMAGES, TARGETS)
    parts = [
        IntegratedGradients(baseline=name, n_steps=2, probe_batch_size=16).attribute(small_cnn(), IMAGES, TARGETS).facts
        for name in ("black", "white")
    ]
    relative = torch.stack([part["completeness_gap_relative"] for part in parts])
    absolute = torch.stack([part["completeness_gap"] for part in parts])
    expected = absolute[relative.argmax(0), torch.arange(3)]
    torch.testing.assert_close(found.facts["completeness_gap_relative"], relative.amax(0), rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(found.facts["completeness_gap"], expected, rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_a_map_belongs_to_its_image_alone() -> None:
    classifier, explainer = small_cnn(), Xrai(n_steps=2, scales=(50, 250), probe_batch_size=4)
    maps = explainer(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(explainer(classifier, IMAGES[2:], TARGETS[2:]), maps[2:], rtol=1e-3, atol=1e-6)


def test_passes_equal_the_formula() -> None:
    classifier, explainer = small_cnn(), Xrai(n_steps=4, scales=(250,), probe_batch_size=5)
    explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == (11, 8)
    assert classifier.passes == Passes(33, 24)
    assert Xrai(n_steps="auto").passes_per_image(size=32) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": ()}, r"explainer.scales=\[\]"),
        ({"scales": (4, 0)}, r"explainer.scales=\[4,0\]"),
        ({"dilation": -1}, "explainer.dilation=-1"),
        ({"n_steps": 0}, "explainer.n_steps=0"),
        ({"tolerance": 0.0}, "explainer.tolerance=0.0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Xrai(**options)  # type: ignore[arg-type]


def test_the_tolerance_is_named_only_where_it_decides() -> None:
    assert "tolerance" not in Xrai(scales=[4, 8]).parameters  # type: ignore[arg-type]
    assert "scales=(4, 8)" in Xrai(scales=[4, 8]).parameters  # type: ignore[arg-type]
    assert "tolerance=0.01" in Xrai(n_steps="auto").parameters


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 3), (40, 25)])
@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_any_shape_has_segments(shape: tuple[int, int], kind: str) -> None:
    noise = random_images(1, 40)[0][:, : shape[0], : shape[1]]
    image = noise if kind == "noise" else torch.full((3, *shape), 0.3)
    regions = build_regions(segment(image, (50, 1200)), 1)
    assert regions.shape[1] == shape[0] * shape[1]
    assert (regions.sum(0) >= 2).all(), "each pixel lies in a segment of each scale"
    if kind == "flat":
        assert regions.shape[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_segments_do_not_depend_on_threads_or_other_scales(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [segment(IMAGES[0], (scale,))[0] for scale in (50, 250)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for labels, expected in zip(segment(IMAGES[0], (50, 250)), alone, strict=True):
        assert np.array_equal(labels, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(224, 224), (32, 32), (50, 90)])
def test_regions_equal_those_of_pair(shape: tuple[int, int]) -> None:
    pytest.importorskip("saliency")
    reference = importlib.import_module("saliency.core.xrai")
    noise = np.random.default_rng(0).random((*shape, 3))
    picture = ndimage.gaussian_filter(noise, (shape[0] / 20, shape[1] / 20, 0))
    expected = reference._get_segments_felzenszwalb(picture, dilation_rad=5)
    regions = build_regions(segment(torch.from_numpy(picture).permute(2, 0, 1), Xrai().scales), 5)
    masks = [mask for mask in expected if mask.any()]
    assert len(masks) > 20
    assert np.array_equal(regions.toarray().reshape(-1, *shape) > 0, np.stack(masks))


@pytest.mark.oracle
def test_the_greedy_choice_equals_that_of_pair() -> None:
    pytest.importorskip("saliency")
    reference = importlib.import_module("saliency.core.xrai").XRAI
    attribution = np.random.default_rng(0).normal(size=(32, 32))
    expected, _ = reference._xrai(attr=attribution, segs=masks_of(IMAGES[0], (50, 250), 1), min_pixel_diff=3)
    values = np.empty(32 * 32)
    for pixels, density in rank_regions(build_regions(segment(IMAGES[0], (50, 250)), 1), attribution.ravel(), 3):
        values[pixels] = density
    np.testing.assert_allclose(values.reshape(32, 32), expected, rtol=1e-9)
