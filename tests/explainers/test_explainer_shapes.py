"""Every method on images of one, four and thirteen channels and of rectangles: against twins of known maps."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from explainer_checks import YAMLS, explainer_of
from seewhy.core.errors import UserError
from seewhy.core.types import Targets
from seewhy.explainers.gradient_shap import ExpectedGradients, GradientShap
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.xrai import Xrai
from seewhy.models.classifier import Classifier, Passes
from shaped import ignore_further_channels, images_of, same_draws, see_grey, shaped_cnn, shaped_vit, transpose

SHAPE = (24, 40)
TARGETS = torch.tensor([1, 3])
NOISY = {"noise_tunnel", "smooth_grad", "ig_smooth_grad", "ig_smooth_grad_sq", "ig_var_grad", "gradient_shap"}
"""Noise is drawn for each channel: more channels draw other noise."""
PER_CHANNEL = {"saliency", "guided_ig", "lrp", "full_grad", "expected_gradients"}
"""The largest of three channels, an order of the features, a rule on single weights, an absolute value or photographs of
other colours are not that of their sum."""
DRAWN = {
    *("random", "rise", "hsic", "expected_gradients"),
    *("noise_tunnel", "smooth_grad", "ig_smooth_grad", "ig_smooth_grad_sq", "ig_var_grad"),
}
"""What is drawn for rows and columns is no other drawing with columns and rows."""
SEGMENTED = {"lime", "kernel_shap", "xrai", "feature_ablation", "shapley_value_sampling"}
"""Superpixels grow row by row."""

every_explainer = pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)


def network_for(path: Path, channels: int = 3) -> Classifier:
    return shaped_vit(channels) if reads_attention(path) else shaped_cnn(channels, SHAPE)


def reads_attention(path: Path) -> bool:
    return path.stem.startswith("attention") or path.stem == "le_grad"


def explain(path: Path, classifier: Classifier, images: Tensor) -> Tensor:
    explainer = explainer_of(path)
    if isinstance(explainer, Xrai):
        explainer = dataclasses.replace(explainer, scales=(50,))
    with same_draws(), tempfile.TemporaryDirectory() as folder:
        if isinstance(explainer, ExpectedGradients):
            save_baselines(Path(folder), images)
            explainer = dataclasses.replace(explainer, baseline_files=folder)
        maps = explainer(classifier, images, TARGETS)
    assert maps.shape == (2, *classifier.facts.shape)
    assert bool(maps.isfinite().all())
    return maps


def save_baselines(folder: Path, like: Tensor) -> None:
    """Two pictures of as many channels, of which the first are the same whatever their number."""
    for number, picture in enumerate(images_of(13, (like.shape[2], like.shape[3]), seed=1)[:, : like.shape[1]]):
        np.save(folder / f"{number}.npy", (picture * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.slow
@every_explainer
@pytest.mark.parametrize("channels", [4, 13])
def test_channels_that_the_network_ignores_change_no_map(path: Path, channels: int) -> None:
    classifier = network_for(path)
    images = images_of(channels, classifier.facts.shape)
    maps = explain(path, ignore_further_channels(classifier, channels), images)
    if path.stem not in NOISY | {"guided_ig", "full_grad"}:  # features in order; stretched over all channels
        assert bool(maps.any())
        torch.testing.assert_close(maps, explain(path, classifier, images[:, :3]), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@every_explainer
def test_a_grey_image_has_the_map_of_its_three_equal_channels(path: Path) -> None:
    classifier = network_for(path)
    grey = images_of(1, classifier.facts.shape)
    maps = explain(path, see_grey(classifier), grey)
    if path.stem not in NOISY | PER_CHANNEL | {"expert", "guided_backprop", "deconvolution", "guided_grad_cam"}:
        torch.testing.assert_close(maps, explain(path, classifier, grey.expand(-1, 3, -1, -1)), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("path", [each for each in YAMLS if not reads_attention(each)], ids=lambda path: path.stem)
def test_a_transposed_image_has_the_transposed_map(path: Path) -> None:
    classifier, images = shaped_cnn(4, SHAPE), images_of(4, SHAPE)
    maps = explain(path, transpose(classifier), images.mT.contiguous())
    if path.stem not in DRAWN | SEGMENTED | {"gradient_shap"}:
        torch.testing.assert_close(maps.mT, explain(path, classifier, images), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@every_explainer
def test_every_map_covers_an_image_of_96_by_160_pixels(path: Path) -> None:
    classifier = shaped_vit(3, (96, 160)) if reads_attention(path) else shaped_cnn(3, (96, 160))
    maps = explain(path, classifier, images_of(3, (96, 160)))
    assert bool(maps[:, :, 96:].any()) and bool(maps[:, :, :96].any())


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("channels", [1, 4])
def test_windows_cover_rows_and_columns_apart(channels: int, incremental: bool) -> None:
    classifier, images = shaped_cnn(channels, SHAPE), images_of(channels, SHAPE)
    explainer = Occlusion(window=6, stride=5, incremental=incremental, probe_batch_size=7)
    maps = explainer(classifier, images, TARGETS)
    scores = Targets(TARGETS).score(classifier(images)).detach()
    drops, counts = torch.zeros(2, *SHAPE).double(), torch.zeros(SHAPE).double()
    for top in (0, 5, 10, 15, 18):
        for left in (0, 5, 10, 15, 20, 25, 30, 34):
            covered = images.clone()
            covered[:, :, top : top + 6, left : left + 6] = 0
            change = scores - Targets(TARGETS).score(classifier(covered)).detach()
            drops[:, top : top + 6, left : left + 6] += change[:, None, None]
            counts[top : top + 6, left : left + 6] += 1
    torch.testing.assert_close(maps, drops / counts)


def test_the_passes_of_windows_on_a_rectangle_equal_the_formula() -> None:
    classifier, explainer = shaped_cnn(4, SHAPE), Occlusion(window=6, stride=5, incremental=False, probe_batch_size=7)
    formula = explainer.passes_per_image(size=SHAPE, classes=4)
    assert formula == (5 * 8 + 1, 0)
    explainer(classifier, images_of(4, SHAPE), TARGETS)
    assert classifier.passes == Passes(2 * formula[0], 0)


def test_files_of_baselines_are_fitted_to_a_rectangle(tmp_path: Path) -> None:
    baseline = np.full((*SHAPE, 4), 51, np.uint8)
    np.save(tmp_path / "baseline.npy", baseline)
    classifier, images = shaped_cnn(4, SHAPE), images_of(4, SHAPE)
    files = GradientShap(baseline_files=str(tmp_path), n_samples=4, noise=0.0, probe_batch_size=4)
    assert files(classifier, images, TARGETS).shape == (2, *SHAPE)


def test_images_of_other_channels_are_refused() -> None:
    explainer = explainer_of(YAMLS[0].with_stem("saliency"))
    with pytest.raises(UserError, match=r"images must be \[batch, 4, height, width\]"):
        explainer(shaped_cnn(4, SHAPE), images_of(3, SHAPE), TARGETS)
