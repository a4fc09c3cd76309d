"""LIME against the closed form, a regression written out row by row, and scikit-learn."""

import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers import surrogates
from seewhy.explainers.superpixels import segment_images
from seewhy.explainers.surrogates import Lime
from seewhy.models.classifier import Passes
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def slow_samples(
    image: torch.Tensor, target: int, labels: torch.Tensor, count: int, n_samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(seen superpixels, scores, weights), one sample after the other."""
    classifier = small_cnn()
    drawn = torch.rand(surrogates.BLOCK, count, generator=seed_generator(0, image, "lime")) < 0.5
    drawn[0] = True
    scores, weights = [], []
    for row in drawn[:n_samples]:
        scores.append(float(classifier((image * row[labels])[None])[0, target]))
        norm = float(row.sum()) ** 0.5 * count**0.5
        distance = 1 - float(row.sum()) / norm if norm else 1.0
        weights.append(np.sqrt(np.exp(-(distance**2) / 0.25**2)))
    return drawn[:n_samples].numpy().astype(float), np.array(scores), np.array(weights)


def ridge(seen: np.ndarray, scores: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Least squares with the penalty as further rows and the intercept as a further column."""
    count = seen.shape[1]
    root = np.sqrt(weights)[:, None]
    rows = np.vstack(
        [np.hstack([root * seen, root]), np.hstack([np.sqrt(alpha) * np.eye(count), np.zeros((count, 1))])]
    )
    return np.linalg.lstsq(rows, np.append(root[:, 0] * scores, np.zeros(count)), rcond=None)[0]


@pytest.mark.parametrize("probe_batch_size", [1, 7])
@torch.no_grad()
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    found = Lime(n_segments=9, n_samples=40, probe_batch_size=probe_batch_size).attribute(small_cnn(), IMAGES, TARGETS)
    labels, counts = segment_images(IMAGES, 9)
    assert found.facts["n_segments"].tolist() == counts
    for index in range(3):
        seen, scores, weights = slow_samples(IMAGES[index], int(TARGETS[index]), labels[index], counts[index], 40)
        solution = ridge(seen, scores, weights, 1.0)
        expected = torch.from_numpy(solution[:-1])[labels[index]]
        torch.testing.assert_close(found.maps[index], expected, rtol=1e-3, atol=1e-6)
        errors = scores - seen @ solution[:-1] - solution[-1]
        mean = np.average(scores, weights=weights)
        r2 = 1 - (weights * errors**2).sum() / (weights * (scores - mean) ** 2).sum()
        assert float(found.facts["fit_r2"][index]) == pytest.approx(r2, abs=1e-3)


def test_of_a_linear_network_the_coefficients_are_the_contributions() -> None:
    classifier, weights = linear_classifier(16)
    images, targets = random_images(2, 16), torch.tensor([2, 0])
    explainer = Lime(n_segments=16, n_samples=80, alpha=0, baseline="grey", probe_batch_size=16)
    found = explainer.attribute(classifier, images, targets)
    labels, counts = segment_images(images, 16)
    contributions = (weights[targets] * (images - 0.5)).sum(1)
    for map_, each, values, count in zip(found.maps, labels, contributions, counts, strict=True):
        expected = values.new_zeros(count).index_add_(0, each.flatten(), values.flatten())[each]
        torch.testing.assert_close(map_, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.facts["fit_r2"], torch.ones(2), rtol=0, atol=1e-5)


def test_the_penalty_shrinks_the_coefficients() -> None:
    sizes = [
        Lime(n_segments=9, n_samples=40, alpha=alpha, probe_batch_size=16)(small_cnn(), IMAGES, TARGETS).abs().mean()
        for alpha in (0.0, 1.0, 100.0)
    ]
    assert sizes[0] > sizes[1] > 5 * sizes[2]


def test_an_image_of_the_baseline_has_a_map_of_zeros() -> None:
    found = Lime(n_segments=4, n_samples=10, probe_batch_size=16).attribute(
        small_cnn(), torch.zeros_like(IMAGES[:1]), TARGETS[:1]
    )
    torch.testing.assert_close(found.maps, torch.zeros_like(IMAGES[:1, 0]))
    assert bool(found.facts["fit_r2"].isfinite().all())


def test_samples_may_come_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, _ = linear_classifier(16)
    images, targets = random_images(2, 16), torch.tensor([2, 0])
    explainer = Lime(n_segments=4, n_samples=50, alpha=0, probe_batch_size=16)
    whole = explainer(classifier, images, targets)
    monkeypatch.setattr(surrogates, "BLOCK", 8)
    torch.testing.assert_close(explainer(classifier, images, targets), whole, rtol=1e-3, atol=1e-5)


def test_a_map_belongs_to_seed_and_image_alone() -> None:
    classifier, explainer = small_cnn(), Lime(n_segments=9, n_samples=20, probe_batch_size=4)
    maps = explainer(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(explainer(classifier, IMAGES[2:], TARGETS[2:]), maps[2:], rtol=1e-3, atol=1e-6)
    other = Lime(n_segments=9, n_samples=20, seed=1, probe_batch_size=4)(classifier, IMAGES, TARGETS)
    assert not torch.allclose(other, maps, rtol=1e-2)


def test_passes_equal_the_formula() -> None:
    classifier, explainer = small_cnn(), Lime(n_segments=9, n_samples=11, probe_batch_size=4)
    explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == (11, 0)
    assert classifier.passes == Passes(33, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_segments": 0}, "explainer.n_segments=0"),
        ({"n_samples": 1}, "explainer.n_samples=1"),
        ({"kernel_width": 0.0}, "explainer.kernel_width=0.0"),
        ({"alpha": -1.0}, "explainer.alpha=-1.0"),
        ({"baseline": "pink"}, "explainer.baseline=pink must be black"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Lime(**options)  # type: ignore[arg-type]


@pytest.mark.oracle
def test_the_regression_equals_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    seen, scores = generator.random((60, 7)) < 0.5, generator.normal(size=60)
    fit = surrogates.RidgeRegression(7, 0.25)
    fit.add(seen[:25], scores[:25])
    fit.add(seen[25:], scores[25:])
    cosine = seen.sum(1) / np.sqrt(7 * np.maximum(seen.sum(1), 1))
    weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.25**2))
    reference = linear_model.Ridge(alpha=1.0).fit(seen, scores, sample_weight=weights)
    np.testing.assert_allclose(fit.solve(1.0), reference.coef_, rtol=1e-9, atol=1e-12)
    assert fit.compute_r2(1.0) == pytest.approx(reference.score(seen, scores, sample_weight=weights))
