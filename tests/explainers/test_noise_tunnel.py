"""The noise tunnel against its limits, a loop over single copies, and Captum."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.cam import GradCam
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.noise_tunnel import Moments, NoiseTunnel, SmoothGrad
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Passes
from tiny import double_by_default, linear_classifier, looked_over, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])
COMBINE = {"mean": "smoothgrad", "mean_of_squares": "smoothgrad_sq", "variance": "vargrad"}


def noisy_copies(image: torch.Tensor, n_samples: int, noise: float) -> torch.Tensor:
    generator = seed_generator(0, image, "noise")
    drawn = [torch.randn(image.shape, generator=generator).double() for _ in range(n_samples)]
    return torch.stack([image + noise * each for each in drawn])


def slow_twin(explainer: IntegratedGradients, n_samples: int, noise: float, combine: str) -> torch.Tensor:
    evaluator, maps = BatchedEvaluator(small_cnn(), IMAGES[0], 1), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        samples = [
            explainer.attribute_channels(evaluator, copy[None], target[None])[0].double()
            for copy in noisy_copies(image, n_samples, noise)
        ]
        mean, squares = sum(samples) / n_samples, sum(each**2 for each in samples) / n_samples
        combined = {"mean": mean, "mean_of_squares": squares, "variance": squares - mean**2}[combine]
        maps.append(combined.sum(0))
    return torch.stack(maps)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_it_equals_the_loop(combine: str, probe_batch_size: int) -> None:
    inside = IntegratedGradients(n_steps=3)
    tunnel = NoiseTunnel(explainer=inside, n_samples=4, noise=0.2, combine=combine, probe_batch_size=probe_batch_size)
    expected = slow_twin(inside, 4, 0.2, combine)
    found = tunnel(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_of_a_linear_network_everything_is_known() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    copies = torch.stack([noisy_copies(image, 5, 0.2) for image in images])
    values = (weights[targets][:, None] * copies).double()
    expected = {
        "mean": values.mean(1).sum(1),
        "mean_of_squares": values.square().mean(1).sum(1),
        "variance": values.var(1, correction=0).sum(1),
    }
    for combine in COMBINE:
        tunnel = NoiseTunnel(explainer=InputXGradient(), n_samples=5, combine=combine, probe_batch_size=4)
        torch.testing.assert_close(tunnel(classifier, images, targets), expected[combine], msg=combine)


def test_a_gradient_that_never_changes_has_no_variance() -> None:
    classifier, _ = linear_classifier()
    tunnel = NoiseTunnel(explainer=Saliency(), n_samples=6, combine="variance", probe_batch_size=4)
    assert not bool(tunnel(classifier, random_images(2, 8), torch.tensor([2, 0])).any())


def test_the_variance_is_exact_beside_a_large_mean() -> None:
    values = 1000 + 1e-3 * torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(3)
    for start in range(0, 150, 7):
        rows = torch.arange(start, min(150, start + 7))
        moments.add(rows // 50, rows % 50 == 0, values.view(150, 4)[rows])
    torch.testing.assert_close(moments.combine("variance", 50), values.var(1, correction=0), rtol=1e-9, atol=0)
    torch.testing.assert_close(moments.combine("mean", 50), values.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.combine("mean_of_squares", 50), (values**2).mean(1), rtol=1e-12, atol=0)


def test_a_mean_needs_no_squares() -> None:
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    sums, both = Moments(2, squares=False), Moments(2)
    for moments in (sums, both):
        moments.add(torch.arange(6) // 3, torch.arange(6) % 3 == 0, values)
    assert torch.equal(sums.combine("mean", 3), both.combine("mean", 3))
    torch.testing.assert_close(sums.combine("mean", 3).float(), values.view(2, 3, 4).mean(1))


@pytest.mark.parametrize("inside", [Saliency(), IntegratedGradients(n_steps=5), GradientShap(n_samples=3), GradCam()])
def test_without_noise_it_is_the_method_inside(inside: Saliency | IntegratedGradients) -> None:
    tunnel = NoiseTunnel(explainer=inside, n_samples=2, noise=0, probe_batch_size=4)
    expected = type(inside)(**{**vars(inside), "probe_batch_size": 4})(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(tunnel(small_cnn(), IMAGES, TARGETS), expected, rtol=1e-4, atol=1e-6)


def test_over_saliency_it_is_smooth_grad() -> None:
    tunnel = NoiseTunnel(explainer=Saliency(), n_samples=4, noise=0.1, probe_batch_size=5)
    smooth = SmoothGrad(n_samples=4, noise=0.1, probe_batch_size=5)
    assert torch.equal(tunnel(small_cnn(), IMAGES, TARGETS), smooth(small_cnn(), IMAGES, TARGETS))


def test_a_map_does_not_depend_on_its_neighbours() -> None:
    tunnel = NoiseTunnel(explainer=IntegratedGradients(n_steps=3), n_samples=3, combine="variance", probe_batch_size=4)
    together, alone = tunnel(small_cnn(), IMAGES, TARGETS), tunnel(small_cnn(), IMAGES[1:2], TARGETS[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-9 * float(alone.max()))


def test_no_pass_is_spent_on_the_gap_of_a_copy() -> None:
    classifier = small_cnn()
    tunnel = NoiseTunnel(explainer=IntegratedGradients(n_steps=3), n_samples=4, probe_batch_size=5)
    tunnel(classifier, IMAGES, TARGETS)
    assert tunnel.passes_per_image(size=32) == (12, 12)
    assert classifier.passes == Passes(36, 36)
    inside = GradCam()
    assert NoiseTunnel(explainer=inside, n_samples=4).passes_per_image(size=32) == (4, 4)
    assert NoiseTunnel(explainer=IntegratedGradients(n_steps="auto")).passes_per_image(size=32) is None


def test_the_network_and_the_method_inside_never_see_more_than_a_probe_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, inner = [], IntegratedGradients.attribute_channels

    def watch(
        self: IntegratedGradients, evaluator: BatchedEvaluator, images: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        seen.append(len(images))
        return inner(self, evaluator, images, targets)

    monkeypatch.setattr(IntegratedGradients, "attribute_channels", watch)
    classifier = looked_over(small_cnn())
    classifier.network.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    tunnel = NoiseTunnel(explainer=IntegratedGradients(n_steps=3), n_samples=9, probe_batch_size=4)
    tunnel(classifier, IMAGES, TARGETS)
    assert max(seen) == 4
    assert sum(seen) == 27 + 81


def test_names_follow_the_publications() -> None:
    inside = IntegratedGradients(n_steps=7)
    names = [NoiseTunnel(explainer=inside, combine=combine).name for combine in COMBINE]
    assert names == ["ig_smooth_grad", "ig_smooth_grad_sq", "ig_var_grad"]
    assert NoiseTunnel(explainer=Saliency()).name == "noise_tunnel"
    assert "integrated_gradients(baseline=black, n_steps=7" in NoiseTunnel(explainer=inside).parameters


def test_only_the_mean_of_a_signed_method_is_signed() -> None:
    assert NoiseTunnel(explainer=InputXGradient()).signed
    assert not NoiseTunnel(explainer=InputXGradient(), combine="variance").signed
    assert not NoiseTunnel(explainer=Saliency()).signed


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"explainer": "saliency"}, "explainer.explainer=saliency must be an object of Explainer"),
        ({"n_samples": 0}, "n_samples=0 must be a whole number from 1"),
        ({"noise": 1.5}, "noise=1.5 must be a number from 0 to 1"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"combine": "vargrad"}, "combine=vargrad must be mean, mean_of_squares or variance"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        NoiseTunnel(**{"explainer": Saliency(), **fields})


@pytest.mark.parametrize("combine", COMBINE)
def test_it_equals_captum(combine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum import attr

    classifier = small_cnn()
    noise = torch.cat([noisy_copies(image, 4, 1.0) - image for image in IMAGES])
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: noise * deviation)
    captum = attr.NoiseTunnel(attr.IntegratedGradients(classifier))
    with double_by_default():
        expected = captum.attribute(
            IMAGES, nt_type=COMBINE[combine], nt_samples=4, stdevs=0.2, target=TARGETS, n_steps=6, baselines=0.0
        )
    tunnel = NoiseTunnel(
        explainer=IntegratedGradients(n_steps=6), n_samples=4, noise=0.2, combine=combine, probe_batch_size=16
    )
    maps = expected.detach().sum(1)
    found = tunnel(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-9 * float(maps.abs().max()))
