"""SmoothGrad against its limits, a loop and Captum."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.noise_tunnel import SmoothGrad
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def noisy_copies(image: torch.Tensor, n_samples: int, noise: float, seed: int = 0) -> torch.Tensor:
    generator = seed_generator(seed, image, "noise")
    return torch.stack([image + noise * torch.randn(image.shape, generator=generator) for _ in range(n_samples)])


def slow_twin(n_samples: int, noise: float) -> torch.Tensor:
    classifier, maps = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        total = torch.zeros_like(image)
        for copy in noisy_copies(image, n_samples, noise):
            leaf = copy[None].requires_grad_()
            classifier(leaf)[0, target].backward()
            total += leaf.grad[0]
        maps.append((total / n_samples).abs().max(0).values)
    return torch.stack(maps)


def test_of_a_linear_network_it_is_the_weight() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    maps = SmoothGrad(n_samples=5, probe_batch_size=16)(classifier, images, targets)
    torch.testing.assert_close(maps, weights[targets].abs().amax(1))


def test_without_noise_it_is_the_gradient() -> None:
    found = SmoothGrad(n_samples=3, noise=0, probe_batch_size=16)(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(found, Saliency(probe_batch_size=16)(small_cnn(), IMAGES, TARGETS))


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    explainer = SmoothGrad(n_samples=5, noise=0.15, probe_batch_size=probe_batch_size)
    torch.testing.assert_close(explainer(small_cnn(), IMAGES, TARGETS), slow_twin(5, 0.15), rtol=1e-4, atol=1e-7)


def test_the_noise_belongs_to_seed_and_image() -> None:
    classifier, explainer = small_cnn(), SmoothGrad(n_samples=4, probe_batch_size=3)
    maps = explainer(classifier, IMAGES, TARGETS)
    turned = explainer(classifier, IMAGES.flip(0), TARGETS.flip(0)).flip(0)
    torch.testing.assert_close(maps, turned, rtol=1e-4, atol=1e-7)
    other = SmoothGrad(n_samples=4, probe_batch_size=3, seed=1)(classifier, IMAGES, TARGETS)
    assert float((maps - other).abs().max()) > 1e-2 * float(maps.max())


def test_only_the_sum_is_signed() -> None:
    assert not SmoothGrad().signed
    assert SmoothGrad(reduction="sum").signed
    maps = SmoothGrad(reduction="sum", n_samples=2, probe_batch_size=4)(small_cnn(), IMAGES, TARGETS)
    assert bool((maps < 0).any())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_samples": 0}, "n_samples=0 must be a whole number from 1"),
        ({"n_samples": 2.5}, "n_samples=2.5"),
        ({"noise": 15}, "noise=15 must be a number from 0 to 1"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"reduction": "mean"}, "reduction=mean must be max or sum"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        SmoothGrad(**fields)


def test_it_equals_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    from captum import attr

    classifier = small_cnn()
    noise = torch.cat([noisy_copies(image, 6, 1.0) - image for image in IMAGES])
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: noise * deviation)
    tunnel = attr.NoiseTunnel(attr.Saliency(classifier))
    expected = tunnel.attribute(IMAGES, nt_type="smoothgrad", nt_samples=6, stdevs=0.15, target=TARGETS, abs=False)
    found = SmoothGrad(n_samples=6, noise=0.15, probe_batch_size=16)(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, expected.detach().abs().amax(1), rtol=1e-4, atol=1e-6)
