"""Blur IG against a loop over dense blurs, and PAIR's implementation."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from seewhy.core.errors import UserError
from seewhy.explainers.integrated_gradients import Blur, BlurIg
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur with mirrored borders by SciPy, in double precision."""
    values = ndimage.gaussian_filter(image.double().numpy(), (0, sigma, sigma), mode="reflect", truncate=12)
    return torch.from_numpy(values)


def slow_twin(n_steps: int, max_sigma: float) -> torch.Tensor:
    """Trapezoid sums: the mean of the gradients at both ends of each interval, times the difference of the images."""
    classifier, maps = small_cnn(), []
    sigmas = [max_sigma * (step / (n_steps - 1)) ** 2 for step in range(n_steps)]
    for image, target in zip(IMAGES, TARGETS, strict=True):
        path = [Blur(image[None])(torch.tensor([0]), image.new_tensor([sigma]))[0] for sigma in sigmas]
        gradients = []
        for point in path:
            leaf = point[None].clone().requires_grad_()
            classifier(leaf)[0, target].backward()
            gradients.append(leaf.grad[0])
        parts = [
            (gradients[step] + gradients[step + 1]) / 2 * (path[step] - path[step + 1]) for step in range(n_steps - 1)
        ]
        maps.append(sum(parts).sum(0))
    return torch.stack(maps)


@pytest.mark.parametrize("sigma", [1.5, 2.0, 7.0])
@pytest.mark.parametrize("size", [(32, 32), (20, 31)])
def test_the_blur_equals_a_convolution(sigma: float, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Blur(images)(torch.tensor([1, 0]), torch.tensor([sigma, sigma], dtype=torch.float64))
    expected = torch.stack([blurred(images[1], sigma), blurred(images[0], sigma)])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_blurs_of_different_strength_share_a_batch() -> None:
    blur = Blur(IMAGES)
    found = blur(torch.tensor([0, 0, 2]), torch.tensor([0.0, 3.0, 50.0], dtype=torch.float64))
    torch.testing.assert_close(found[0], IMAGES[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1], blurred(IMAGES[0], 3.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mean((2, 3)), IMAGES[[0, 0, 2]].mean((2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2], IMAGES[2].mean((1, 2), keepdim=True).expand(3, 32, 32), rtol=0, atol=1e-4)


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    explainer, expected = BlurIg(n_steps=9, max_sigma=6.0, probe_batch_size=probe_batch_size), slow_twin(9, 6.0)
    found = explainer(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_of_a_linear_network_it_is_weight_times_lost_detail() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    for n_steps in (2, 11):
        result = BlurIg(n_steps=n_steps, max_sigma=3.0, probe_batch_size=16).attribute(classifier, images, targets)
        detail = images - torch.stack([blurred(image, 3.0) for image in images])
        torch.testing.assert_close(result.maps, (weights[targets] * detail).sum(1), rtol=1e-3, atol=1e-5)
        assert float(result.facts["completeness_gap_relative"].max()) < 1e-3


def test_a_flat_image_has_nothing_to_credit() -> None:
    maps = BlurIg(n_steps=5, probe_batch_size=8)(small_cnn(), torch.full((1, 3, 32, 32), 0.3), TARGETS[:1])
    assert float(maps.abs().max()) < 1e-7


def test_more_steps_shrink_the_gap() -> None:
    gaps = [
        float(
            BlurIg(n_steps=n_steps, probe_batch_size=64)
            .attribute(small_cnn(), IMAGES, TARGETS)
            .facts["completeness_gap"]
            .abs()
            .sum()
        )
        for n_steps in (5, 150)
    ]
    assert gaps[1] < gaps[0] / 5


def test_the_strongest_blur_follows_the_image_size() -> None:
    expected = torch.stack([blurred(image, 32 * 50 / 224) for image in IMAGES])
    torch.testing.assert_close(BlurIg().build_baselines(IMAGES), expected, rtol=0, atol=1e-5)


def test_a_map_does_not_depend_on_its_neighbours_and_the_passes_equal_the_formula() -> None:
    classifier, explainer = small_cnn(), BlurIg(n_steps=6, probe_batch_size=4)
    together = explainer(classifier, IMAGES, TARGETS)
    assert classifier.passes == Passes(3 * 8, 3 * 6)
    assert explainer.passes_per_image(size=32) == (8, 6)
    alone = explainer(classifier, IMAGES[1:2], TARGETS[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-9 * float(alone.abs().max()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_steps": 1}, "n_steps=1 must be a whole number from 2"),
        ({"max_sigma": 0}, "max_sigma=0 must be a number above 0"),
        ({"max_sigma": math.inf}, "max_sigma=inf"),
        ({"tolerance": -1}, "tolerance=-1"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BlurIg(**fields)


@pytest.mark.oracle
def test_it_comes_to_what_pair_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("saliency.core.blur_ig")

    def mirrored(picture: np.ndarray, sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(picture, sigma=(sigma, sigma, 0), mode="reflect") if sigma else picture

    monkeypatch.setattr(peer, "gaussian_blur", mirrored)  # PAIR pads with black, which darkens the borders
    classifier, maps = small_cnn(), []
    smooth = torch.stack([blurred(image, 1.0) for image in IMAGES])  # SciPy's kernels are too short for sigma < 1
    for image, target in zip(smooth, TARGETS, strict=True):

        def gradients(
            pictures: np.ndarray, call_model_args: None, expected_keys: list, chosen: int = int(target)
        ) -> dict:
            leaves = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().requires_grad_()
            (gradient,) = torch.autograd.grad(classifier(leaves)[:, chosen].sum(), leaves)
            return {peer.INPUT_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).numpy()}

        picture = image.permute(1, 2, 0).double().numpy()
        mask = peer.BlurIG().GetMask(picture, gradients, max_sigma=5, steps=1000, grad_step=0.05)
        maps.append(torch.from_numpy(mask.sum(-1)).float())
    found = BlurIg(n_steps=200, max_sigma=5.0, probe_batch_size=64)(classifier, smooth, TARGETS)
    for ours, theirs in zip(found, maps, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.05
        assert float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]) > 0.998
