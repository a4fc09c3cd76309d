"""Occlusion against closed forms, a loop over windows, and Captum."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.explainers.baselines import build_baselines
from seewhy.explainers.occlusion import Occlusion, compute_positions, cover_windows
from seewhy.models.classifier import Classifier, Passes
from tiny import double_by_default, linear_classifier, looked_over, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def slow_twin(
    classifier: Classifier, images: torch.Tensor, targets: torch.Tensor, window: int, stride: int, name: str = "black"
) -> torch.Tensor:
    cover = build_baselines(name, images)
    sums, counts = torch.zeros_like(images[:, 0]), torch.zeros_like(images[:, 0])
    for index, target in enumerate(targets.tolist()):
        clean = classifier(images[index : index + 1])[0, target]
        for top in compute_positions(images.shape[2], window, stride):
            for left in compute_positions(images.shape[3], window, stride):
                area = (slice(top, top + window), slice(left, left + window))
                covered = images[index].clone()
                covered[:, *area] = cover[index][:, *area]
                sums[index][area] += clean - classifier(covered[None])[0, target]
                counts[index][area] += 1
    return sums / counts


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
@pytest.mark.parametrize(("window", "stride", "baseline"), [(10, 7, "black"), (12, 10, "noise")])
@torch.no_grad()
def test_it_equals_the_loop(probe_batch_size: int, window: int, stride: int, baseline: str) -> None:
    explainer = Occlusion(window=window, stride=stride, baseline=baseline, probe_batch_size=probe_batch_size)
    expected = slow_twin(small_cnn(), IMAGES, TARGETS, window, stride, baseline)
    torch.testing.assert_close(explainer(small_cnn(), IMAGES, TARGETS), expected, rtol=0, atol=1e-9)


def test_images_need_not_be_square() -> None:
    images = IMAGES[:, :, :20]
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 10))
    classifier = Classifier(network, small_cnn().facts, name="pooled").double().eval()
    with torch.no_grad():
        expected = slow_twin(classifier, images, TARGETS, 9, 6)
    found = Occlusion(window=9, stride=6, probe_batch_size=16)(classifier, images, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_linear_network_loses_the_sum_over_the_window() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    contributions = (weights[targets] * (images - 0.5)).sum(1)
    explainer = Occlusion(window=2, stride=2, baseline="grey", probe_batch_size=16)
    blocks = contributions.view(2, 4, 2, 4, 2).sum((2, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(explainer(classifier, images, targets), blocks, rtol=1e-4, atol=1e-6)
    single = Occlusion(window=1, stride=1, baseline="grey", probe_batch_size=16)
    torch.testing.assert_close(single(classifier, images, targets), contributions, rtol=1e-4, atol=1e-6)


def test_pixels_get_the_average_of_the_windows_that_cover_them() -> None:
    classifier, weights = linear_classifier(size=4)
    (image,), target = random_images(1, 4), torch.tensor([1])
    contributions = (weights[1] * image).sum(0)
    (found,) = Occlusion(window=3, stride=1, probe_batch_size=16)(classifier, image[None], target)
    window = contributions.unfold(0, 3, 1).unfold(1, 3, 1).sum((2, 3))
    torch.testing.assert_close(found[0, 0], window[0, 0])
    torch.testing.assert_close(found[0, 1], (window[0, 0] + window[0, 1]) / 2)
    torch.testing.assert_close(found[1, 1], window.mean())


@torch.no_grad()
def test_one_full_window_is_the_whole_change_everywhere() -> None:
    classifier = small_cnn()
    rows = torch.arange(3)
    change = classifier(IMAGES)[rows, TARGETS] - classifier(torch.ones_like(IMAGES))[rows, TARGETS]
    found = Occlusion(window=32, stride=32, baseline="white", probe_batch_size=16)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, change[:, None, None].expand(3, 32, 32), rtol=1e-4, atol=1e-6)


def test_an_image_of_the_baseline_has_a_map_of_zeros() -> None:
    found = Occlusion(baseline="white", probe_batch_size=64)(small_cnn(), torch.ones_like(IMAGES[:1]), TARGETS[:1])
    assert float(found.abs().max()) < 1e-12


def test_the_last_window_ends_at_the_border() -> None:
    assert compute_positions(10, 4, 3) == [0, 3, 6]
    assert compute_positions(11, 4, 3) == [0, 3, 6, 7]
    assert compute_positions(5, 5, 2) == [0]


def test_default_windows_grow_with_the_image() -> None:
    assert Occlusion().choose_geometry(224, 224) == (15, 8)
    assert Occlusion().choose_geometry(32, 32) == (4, 2)
    assert Occlusion().choose_geometry(300, 224) == (15, 8)
    assert Occlusion().choose_geometry(3, 3) == (3, 2)
    assert Occlusion().passes_per_image(size=224) == (28**2 + 1, 0)


def test_covered_windows_leave_everything_else() -> None:
    cover = random_images(3, 32, seed=9)
    covered = cover_windows(IMAGES, cover, torch.tensor([2, 0]), torch.tensor([[0, 28], [5, 6]]), 4)
    expected = IMAGES[[2, 0]].clone()
    expected[0, :, 0:4, 28:32] = cover[2, :, 0:4, 28:32]
    expected[1, :, 5:9, 6:10] = cover[0, :, 5:9, 6:10]
    assert torch.equal(covered, expected)


def test_passes_equal_the_formula_and_batches_are_filled_across_images() -> None:
    classifier, sizes = looked_over(small_cnn()), []
    classifier.network.register_forward_pre_hook(lambda module, images: sizes.append(len(images[0])))
    explainer = Occlusion(window=16, stride=8, incremental=False, probe_batch_size=8)
    explainer(classifier, IMAGES, TARGETS)
    forward, backward = explainer.passes_per_image(size=32)
    assert (forward, backward) == (10, 0)
    assert classifier.passes == Passes(3 * forward, 3 * backward)
    assert sizes == [3, 8, 8, 8, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 0}, "explainer.window=0"),
        ({"stride": 0}, "explainer.stride=0"),
        ({"window": 4, "stride": 5}, "explainer.stride=5 is larger than the window of 4"),
        ({"baseline": "pink"}, "explainer.baseline=pink must be black"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Occlusion(**options)  # type: ignore[arg-type]


def test_windows_that_do_not_suit_the_image_are_refused() -> None:
    with pytest.raises(UserError, match=r"window 64 is larger than the 32-pixel image; set explainer.window"):
        Occlusion(window=64, probe_batch_size=1)(small_cnn(), IMAGES, TARGETS)
    with pytest.raises(UserError, match="stride=9 is larger than the window of 4"):
        Occlusion(stride=9, probe_batch_size=1)(small_cnn(), IMAGES, TARGETS)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (16, 8)])
def test_it_equals_captum(window: int, stride: int) -> None:
    import captum.attr as captum

    classifier = small_cnn()
    with torch.no_grad(), double_by_default():
        expected = captum.Occlusion(classifier).attribute(
            IMAGES, sliding_window_shapes=(3, window, window), strides=(3, stride, stride), target=TARGETS, baselines=0
        )
    found = Occlusion(window=window, stride=stride, probe_batch_size=16)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, expected[:, 0], rtol=0, atol=1e-6)  # captum adds up in float32
