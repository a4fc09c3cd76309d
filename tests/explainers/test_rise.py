"""RISE against a loop over single masks, its expectation, and settings in which it is known."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers import rise
from seewhy.explainers.rise import Rise, compute_window_weights
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 32), torch.tensor([3, 7, 3])


def published(explainer: Rise, classifier: Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The map before its smallest value was subtracted."""
    found = explainer.attribute(classifier, images, targets)
    assert not bool(found.maps.amin((1, 2)).any())
    return found.maps + found.facts["smallest"][:, None, None]


def slow_masks(image: torch.Tensor, n_masks: int, cells: int, probability: float, seed: int = 0) -> list[torch.Tensor]:
    """The masks of an image, each up-sampled as a whole and then cut out."""
    generator, masks = seed_generator(seed, image, "rise"), []
    cell = -(-image.shape[1] // cells)
    drawn = torch.rand(rise.BLOCK, cells**2 + 2, generator=generator)
    for numbers in drawn[:n_masks]:
        grid = (numbers[:-2] < probability).float().view(1, 1, cells, cells)
        large = functional.interpolate(grid, size=(cells + 1) * cell, mode="bilinear", align_corners=False)[0, 0]
        top, left = (int(share * cell) for share in numbers[-2:])
        masks.append(large.double()[top : top + image.shape[1], left : left + image.shape[2]])
    return masks


def slow_twin(n_masks: int, cells: int, probability: float, score: str) -> torch.Tensor:
    classifier, maps = small_cnn(), []
    for image, target in zip(IMAGES, TARGETS.tolist(), strict=True):
        total, shown = torch.zeros_like(image[0]), torch.zeros_like(image[0])
        for mask in slow_masks(image, n_masks, cells, probability):
            logits = classifier((image * mask)[None])
            total += (logits.softmax(1) if score == "probability" else logits)[0, target] * mask
            shown += mask
        maps.append(total / shown)
    return torch.stack(maps)


@pytest.mark.parametrize("probe_batch_size", [1, 3, 7])
@pytest.mark.parametrize(("cells", "probability", "score"), [(7, 0.5, "probability"), (5, 0.3, "logit")])
@torch.no_grad()
def test_it_equals_the_loop(probe_batch_size: int, cells: int, probability: float, score: str) -> None:
    explainer = Rise(n_masks=20, cells=cells, probability=probability, space=score, probe_batch_size=probe_batch_size)
    expected = slow_twin(20, cells, probability, score)
    torch.testing.assert_close(published(explainer, small_cnn(), IMAGES, TARGETS), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("side", "cells"), [(32, 7), (33, 5), (8, 8), (5, 1)])
def test_weights_are_those_of_bilinear_up_sampling(side: int, cells: int) -> None:
    weights, cell = compute_window_weights(cells, side), -(-side // cells)
    assert weights.shape == (cell, side, cells)
    grid = torch.rand(cells, cells, generator=torch.Generator().manual_seed(0))
    large = functional.interpolate(grid[None, None], size=(cells + 1) * cell, mode="bilinear", align_corners=False)[
        0, 0
    ]
    for top, left in ((0, 0), (cell - 1, 0), (cell // 2, cell - 1)):
        window = large[top : top + side, left : left + side]
        torch.testing.assert_close(weights[top] @ grid @ weights[left].T, window)


@torch.no_grad()
def test_masks_that_show_everything_give_the_score() -> None:
    classifier = small_cnn()
    scores = classifier(IMAGES)[torch.arange(3), TARGETS]
    explainer = Rise(n_masks=3, probability=1.0, space="logit", probe_batch_size=16)
    found = published(explainer, classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, scores[:, None, None].expand(3, 32, 32), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_single_cell_shows_all_or_nothing() -> None:
    classifier = small_cnn()
    whole = classifier(IMAGES).softmax(1)[torch.arange(3), TARGETS]
    found = published(Rise(n_masks=30, cells=1, probability=0.4, probe_batch_size=16), classifier, IMAGES, TARGETS)
    torch.testing.assert_close(found, whole[:, None, None].expand(3, 32, 32), rtol=1e-4, atol=1e-6)


def test_the_normalisation_is_unbiased_and_the_map_points_at_what_counts() -> None:
    classifier, _ = linear_classifier(size=16)
    with torch.no_grad():
        classifier.network[1].weight.zero_()
        classifier.network[1].weight[1].view(3, 16, 16)[:, 2:6, 9:14] = 1
        classifier.network[1].bias.fill_(2.0)
    image = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    explainer = Rise(n_masks=3000, cells=4, space="logit", probe_batch_size=256)
    (found,) = published(explainer, classifier, image, torch.tensor([1]))
    far = found[12:, :4].mean()
    # Far from the square the mask says nothing about the score: 0.5 of 60 values of 0.5, and the bias.
    assert abs(float(far) - (0.5 * 30 + 2)) < 0.8
    assert float(found[3:5, 10:13].mean()) > float(far) + 5
    assert float(found.argmax()) // 16 in range(1, 7)


@pytest.mark.parametrize("score", ["probability", "logit"])
def test_of_a_network_that_ignores_its_image_the_map_is_zero(score: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([6.0, 0.0, -1.0]))
    found = Rise(n_masks=40, space=score, probe_batch_size=7).attribute(
        classifier_of(network, 8, 3), random_images(2, 8), torch.tensor([0, 1])
    )
    assert not bool(found.maps.any())
    probabilities = torch.tensor([6.0, 0.0, -1.0], dtype=torch.float64).softmax(0)[:2]
    expected = probabilities if score == "probability" else torch.tensor([6.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.facts["smallest"], expected)


def test_of_a_linear_network_it_comes_to_the_closed_form_whatever_the_bias() -> None:
    """score = w . (x M) + b: the mean under mask M over the mean of M, with the mask's second moments, plus b."""
    classifier, weights = linear_classifier(size=8)
    image, cells, probability = random_images(1, 8), 2, 0.5
    maps = []
    for bias in (0.0, 1000.0):
        with torch.no_grad():
            classifier.network[1].bias.fill_(bias)  # type: ignore[index, union-attr]
        maps.append(
            Rise(n_masks=1500, cells=cells, space="logit", probe_batch_size=500)(classifier, image, torch.tensor([1]))[
                0
            ].double()
        )
    torch.testing.assert_close(*maps, rtol=1e-6, atol=1e-6)
    windows = compute_window_weights(cells, 8).double()
    overlap = torch.einsum("sic,sjc->ij", windows, windows) / len(windows)
    second = torch.einsum("ij,kl->ikjl", overlap, overlap) * probability * (1 - probability) + probability**2
    effect = (weights[1].double() * image[0]).sum(0)
    expected = torch.einsum("ikjl,jl->ik", second, effect) / probability
    expected -= expected.amin()
    assert float((maps[0] - expected).norm() / expected.norm()) < 0.25


def test_a_pixel_that_no_mask_shows_has_the_mean_score() -> None:
    classifier, image = linear_classifier()[0], random_images(1, 8)
    explainer = Rise(n_masks=2, cells=8, probability=0.2, space="logit", probe_batch_size=4)
    masks = torch.stack(slow_masks(image[0], 2, 8, 0.2))
    hidden = masks.sum(0) == 0
    with torch.no_grad():
        scores = classifier(image * masks[:, None])[:, 1]
    assert bool(hidden.any())
    found = published(explainer, classifier, image, torch.tensor([1]))[0]
    torch.testing.assert_close(found[hidden], scores.mean().expand(int(hidden.sum())), rtol=1e-6, atol=1e-9)


def test_masks_come_in_blocks_whose_size_does_not_decide_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = torch.rand

    def watched(*size: int, **options: object) -> torch.Tensor:
        drawn.append(size[0])
        return real(*size, **options)  # type: ignore[call-overload, no-any-return]

    images = random_images(1, 8)
    monkeypatch.setattr(rise, "BLOCK", 8)
    monkeypatch.setattr(rise.torch, "rand", watched)
    classifier = linear_classifier()[0]
    Rise(n_masks=50, probe_batch_size=16)(classifier, images, torch.tensor([0]))
    assert drawn == [8] * 7
    assert classifier.passes == Passes(50, 0)


def test_more_masks_than_a_block_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, images, targets = linear_classifier()[0], random_images(2, 8), torch.tensor([0, 2])
    whole = Rise(n_masks=20, probe_batch_size=16)(classifier, images, targets)
    monkeypatch.setattr(rise, "BLOCK", 20)
    reference = Rise(n_masks=20, probe_batch_size=16)(classifier, images, targets)
    torch.testing.assert_close(whole, reference)
    monkeypatch.undo()
    monkeypatch.setattr(rise, "BLOCK", 6)
    assert Rise(n_masks=20, probe_batch_size=16)(classifier, images, targets).shape == whole.shape


def test_a_map_belongs_to_seed_and_image_alone() -> None:
    classifier, explainer = small_cnn(), Rise(n_masks=10, probe_batch_size=4)
    maps = explainer(classifier, IMAGES, TARGETS)
    torch.testing.assert_close(explainer(classifier, IMAGES[1:2], TARGETS[1:2]), maps[1:2], rtol=1e-4, atol=1e-7)
    other = Rise(n_masks=10, seed=1, probe_batch_size=4)(classifier, IMAGES, TARGETS)
    assert not torch.allclose(other, maps, rtol=1e-2)


def test_passes_equal_the_formula() -> None:
    classifier, explainer = small_cnn(), Rise(n_masks=11, probe_batch_size=4)
    explainer(classifier, IMAGES, TARGETS)
    assert explainer.passes_per_image(size=32) == (11, 0)
    assert classifier.passes == Passes(33, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_masks": 0}, "explainer.n_masks=0"),
        ({"cells": 0}, "explainer.cells=0"),
        ({"probability": 0.0}, "explainer.probability=0.0"),
        ({"probability": 1.5}, "explainer.probability=1.5"),
        ({"space": "margin"}, "explainer.space=margin must be probability or logit"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Rise(**options)  # type: ignore[arg-type]


def test_more_cells_than_pixels_are_refused() -> None:
    with pytest.raises(UserError, match=r"explainer.cells=9 is more than the 8 pixels"):
        Rise(cells=9, probe_batch_size=1)(linear_classifier()[0], random_images(1, 8), torch.tensor([0]))
