"""Gradient SHAP against its limits, a loop over its samples, and Captum."""

from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.baselines import build_baselines, draw_baseline
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.models.classifier import Passes
from tiny import double_by_default, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def slow_twin(names: list[str], n_samples: int, noise: float) -> torch.Tensor:
    classifier, maps = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS, strict=True):
        choice = seed_generator(0, image, "gradient_shap")
        order = torch.randperm(len(names), generator=choice).tolist() * n_samples
        turns = torch.randperm(n_samples, generator=choice).tolist()
        positions = (torch.randperm(n_samples, generator=choice) + torch.rand(n_samples, generator=choice)) / n_samples
        normal, total = seed_generator(0, image, "gradient_shap noise"), torch.zeros_like(image)
        for sample in range(n_samples):
            name = names[order[turns[sample]]]
            if name in ("noise", "uniform"):
                baseline = draw_baseline(name, image.shape, seed_generator(0, image, f"baseline {sample}"))
            else:
                baseline = image if name == "image" else build_baselines(name, image[None])[0]
            difference = image + noise * torch.randn(image.shape, generator=normal).double() - baseline
            leaf = (baseline + positions[sample] * difference)[None].requires_grad_()
            classifier(leaf)[0, target].backward()
            total += difference * leaf.grad[0]
        maps.append((total / n_samples).sum(0))
    return torch.stack(maps)


@pytest.mark.parametrize("names", [["black"], ["white", "mean"], ["uniform"], ["noise", "image", "blurred"]])
def test_it_equals_the_loop(names: list[str]) -> None:
    explainer = GradientShap(baseline=names, n_samples=6, noise=0.05, probe_batch_size=7)
    expected = slow_twin(names, 6, 0.05)
    found = explainer(small_cnn(), IMAGES, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_of_a_linear_network_it_is_weight_times_distance_to_the_mean_baseline() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    explainer = GradientShap(baseline=["black", "white"], n_samples=6, noise=0, probe_batch_size=4)
    result = explainer.attribute(classifier, images, targets)
    torch.testing.assert_close(result.maps, (weights[targets] * (images - 0.5)).sum(1), rtol=1e-4, atol=1e-6)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-4


def test_the_image_as_a_baseline_halves_the_map_of_a_linear_network() -> None:
    classifier, _ = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    black = GradientShap(n_samples=4, noise=0, probe_batch_size=4)(classifier, images, targets)
    both = GradientShap(baseline=["black", "image"], n_samples=4, noise=0, probe_batch_size=4)
    torch.testing.assert_close(both(classifier, images, targets), black / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_many_samples_come_to_integrated_gradients() -> None:
    reference = IntegratedGradients(n_steps=300, probe_batch_size=64)(small_cnn(), IMAGES, TARGETS)
    few, many = (
        GradientShap(n_samples=count, noise=0, probe_batch_size=64)(small_cnn(), IMAGES, TARGETS) for count in (4, 200)
    )
    assert float((many - reference).norm() / reference.norm()) < 0.03
    assert float((few - reference).norm() / reference.norm()) > 0.06


def test_the_gap_is_that_to_the_mean_score_of_the_drawn_baselines() -> None:
    classifier = small_cnn()
    explainer = GradientShap(baseline=["black", "white"], n_samples=4, probe_batch_size=5)
    result = explainer.attribute(classifier, IMAGES, TARGETS)
    rows = torch.arange(3)
    with torch.no_grad():
        scores = [classifier(images)[rows, TARGETS] for images in (IMAGES, IMAGES * 0, IMAGES * 0 + 1)]
    change = scores[0] - (scores[1] + scores[2]) / 2
    gap = result.maps.sum((1, 2)) - change
    torch.testing.assert_close(result.facts["completeness_gap"], gap, rtol=1e-3, atol=1e-5)
    assert classifier.passes.backward == 12


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
def test_a_map_depends_on_nothing_but_seed_and_image(probe_batch_size: int) -> None:
    fields = {"baseline": ["uniform", "black"], "n_samples": 5, "noise": 0.1}
    maps = GradientShap(**fields, probe_batch_size=16)(small_cnn(), IMAGES, TARGETS)
    turned = GradientShap(**fields, probe_batch_size=probe_batch_size)(small_cnn(), IMAGES.flip(0), TARGETS.flip(0))
    torch.testing.assert_close(maps, turned.flip(0), rtol=0, atol=1e-9 * float(maps.abs().max()))
    other = GradientShap(**fields, probe_batch_size=16, seed=1)(small_cnn(), IMAGES, TARGETS)
    assert float((maps - other).abs().max()) > 0.05 * float(maps.abs().max())


@pytest.mark.parametrize(
    ("baseline", "passes"),
    [("black", (8, 6)), (["black", "white"], (9, 6)), ("uniform", (13, 6)), (["black", "noise"], None)],
)
def test_the_passes_equal_the_formula(baseline: str | list[str], passes: tuple[int, int] | None) -> None:
    classifier, explainer = small_cnn(), GradientShap(baseline=baseline, n_samples=6, probe_batch_size=5)
    explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == passes
    if passes:
        assert classifier.passes == Passes(3 * passes[0], 3 * passes[1])


def save(path: Path, value: int, size: tuple[int, int] = (32, 32)) -> None:
    Image.new("RGB", size, (value, value, value)).save(path)


def test_files_take_the_place_of_names(tmp_path: Path) -> None:
    save(tmp_path / "dark.png", 0)
    save(tmp_path / "light.png", 255, (64, 48))
    files = GradientShap(baseline_files=str(tmp_path), n_samples=8, noise=0, probe_batch_size=16)
    classifier, weights = linear_classifier()
    images, targets = random_images(2, 8), torch.tensor([2, 0])
    maps = files(classifier, images, targets)
    torch.testing.assert_close(maps, (weights[targets] * (images - 0.5)).sum(1), rtol=1e-4, atol=1e-6)
    assert str(tmp_path) in files.parameters
    listed = GradientShap(baseline_files=[str(tmp_path / "dark.png")], n_samples=3, noise=0, probe_batch_size=16)
    torch.testing.assert_close(listed(classifier, images, targets), (weights[targets] * images).sum(1))


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    classifier, images, targets = small_cnn(), IMAGES[:1], TARGETS[:1]
    (tmp_path / "broken.png").write_text("no image")
    for files, words in [
        (str(tmp_path), "broken.png cannot be used"),
        (str(tmp_path / "none"), "explainer.baseline_files=.*none does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            GradientShap(baseline_files=files, n_samples=2, probe_batch_size=4)(classifier, images, targets)
    (tmp_path / "broken.png").unlink()
    with pytest.raises(UserError, match="holds no images"):
        GradientShap(baseline_files=str(tmp_path), n_samples=2, probe_batch_size=4)(classifier, images, targets)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_samples": 0}, "n_samples=0"),
        ({"noise": 2}, "noise=2 must be a number from 0 to 1"),
        ({"baseline": "grey50"}, "baseline=grey50 must be black"),
        ({"baseline": ["black", "photo"]}, "baseline=\\[black,photo\\] must be black"),
        ({"baseline": []}, r"baseline=\[\] must be black"),
        ({"tolerance": 0}, "tolerance=0"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        GradientShap(**fields)


def test_it_equals_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    from captum import attr

    classifier, explainer = small_cnn(), GradientShap(n_samples=5, noise=0.1, probe_batch_size=16)
    positions = explainer._draw(IMAGES, 1)[1].flatten().numpy()
    generators = [seed_generator(0, image, "gradient_shap noise") for image in IMAGES]
    noise = torch.stack(
        [torch.randn(3, 32, 32, generator=generator) for generator in generators for _ in range(5)]
    ).double()
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: noise * deviation)
    monkeypatch.setattr(numpy.random, "uniform", lambda low, high, count: positions)
    captum = attr.GradientShap(classifier)
    with double_by_default():
        expected = captum.attribute(
            IMAGES, baselines=torch.zeros(1, 3, 32, 32), n_samples=5, stdevs=0.1, target=TARGETS
        ).detach()
    maps = expected.sum(1)
    found = explainer(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-9 * float(maps.abs().max()))


def test_a_config_may_name_several_baselines() -> None:
    """Hydra hands over a list of its own type."""
    config = OmegaConf.create({"_target_": f"{GradientShap.__module__}.GradientShap", "baseline": ["black", "image"]})
    explainer = instantiate(config)
    assert list(explainer.baseline) == ["black", "image"]
    with pytest.raises(InstantiationException, match="must be black, white"):
        instantiate(config, baseline=["black", "blak"])
