"""Expected gradients: a closed form, a slow twin over named files, and where the images come from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.data.folder import find_samples
from seewhy.explainers.gradient_shap import ExpectedGradients, GradientShap, read_baselines
from shaped import images_of, shaped_cnn
from tiny import linear_classifier, random_images, small_cnn

TARGETS = torch.tensor([3, 7])


def save(folder: Path, count: int, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        np.save(folder / f"{number}.npy", generator.integers(0, 256, shape, np.uint8))


def test_on_a_linear_network_each_pixel_has_its_difference_from_the_mean_of_the_images(tmp_path: Path) -> None:
    save(tmp_path, 4, (8, 8, 3))
    classifier, weights = linear_classifier(8)
    images, targets = random_images(2, 8), torch.tensor([0, 2])
    result = ExpectedGradients(baseline_files=str(tmp_path), n_samples=8).attribute(classifier, images, targets)
    mean = read_baselines((str(tmp_path),), classifier.facts, (8, 8)).double().mean(0)
    torch.testing.assert_close(result.maps, (weights[targets] * (images - mean)).sum(1))
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-9


def test_slow_twin(tmp_path: Path) -> None:
    """Erion et al. 2021, equation 5, sample after sample, with the draws of the explainer."""
    save(tmp_path, 3, (32, 32, 3))
    classifier, images = small_cnn(), random_images(2, 32)
    explainer = ExpectedGradients(baseline_files=str(tmp_path), n_samples=5, probe_batch_size=3)
    maps = explainer(classifier, images, TARGETS)
    baselines = read_baselines((str(tmp_path),), classifier.facts, (32, 32)).double()
    member, position = explainer._draw(images, 3)
    for row in range(2):
        expected = torch.zeros(32, 32).double()
        for sample in range(5):
            difference = images[row] - baselines[member[row, sample]]
            point = (images[row] - (1 - position[row, sample]) * difference)[None].requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(classifier(point)[0, TARGETS[row]], point)
            expected += (difference * slope[0]).sum(0) / 5
        torch.testing.assert_close(maps[row], expected)


def test_it_is_gradient_shap_without_noise_over_the_samples() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    folder = str(find_samples(classifier.facts.classes))
    assert folder.endswith("photographs")
    expected = GradientShap(baseline_files=folder, n_samples=9, noise=0.0)(classifier, images, TARGETS)
    torch.testing.assert_close(ExpectedGradients(n_samples=9)(classifier, images, TARGETS), expected)


def test_a_baseline_by_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"baseline=white is not used.*explainer=gradient_shap"):
        ExpectedGradients(baseline="white")


def test_channels_that_the_samples_do_not_have(tmp_path: Path) -> None:
    classifier, images = shaped_cnn(4), images_of(4, (24, 40))
    with pytest.raises(UserError, match=r"images of 4 channels.*explainer.baseline_files"):
        ExpectedGradients(n_samples=2)(classifier, images, torch.tensor([1, 3]))
    save(tmp_path, 2, (24, 40, 4))
    maps = ExpectedGradients(n_samples=2, baseline_files=str(tmp_path))(classifier, images, torch.tensor([1, 3]))
    assert bool(maps.any())
