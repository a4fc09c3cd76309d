"""The symmetric relevance gain under six removers: pixel by pixel, and what six cost beside one."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from curve_twin import curved_classifier, scorer, visits
from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.baselines import build_baselines
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.pixel_flipping import MorfLerf
from seewhy.metrics.faithfulness.removers import REMOVERS, RemoverGain
from seewhy.metrics.imputation import draw_noise, pull_and_push
from seewhy.models.classifier import Classifier
from tiny import random_images

IMAGES, TARGETS = random_images(2, 8), torch.tensor([0, 2])
MAPS = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(4))


def build_context(classifier: Classifier, images: Tensor = IMAGES) -> MetricContext:
    return MetricContext(classifier, images, TARGETS, MAPS, seed=5, probe_batch_size=7)


def fill_slowly(image: Tensor, seen: Tensor) -> Tensor:
    """Cells without a visible pixel from the coarser level, value by value."""
    channels, height, width = image.shape
    if height == width == 1:
        return image
    rows, columns = -(-height // 2), -(-width // 2)
    coarse, coarse_seen = torch.zeros(channels, rows, columns), torch.zeros(rows, columns, dtype=torch.bool)
    weights = torch.zeros(rows, columns)
    for row in range(height):
        for column in range(width):
            if seen[row, column] > 0:
                coarse[:, row // 2, column // 2] += seen[row, column] * image[:, row, column]
                weights[row // 2, column // 2] += seen[row, column] / 4
                coarse_seen[row // 2, column // 2] = True
    coarse = torch.where(coarse_seen, coarse / (4 * weights).clamp_min(1e-12), 0)
    below = fill_slowly(coarse, weights)
    filled = image.clone()
    for row in range(height):
        for column in range(width):
            if seen[row, column] > 0:
                continue
            value = torch.zeros(channels)
            for (one, share), (two, part) in product(find_sides(row, rows), find_sides(column, columns)):
                value += share * part * below[:, one, two]
            filled[:, row, column] = value
    return filled


def find_sides(position: int, count: int) -> list[tuple[int, float]]:
    """The two cells of the coarser level nearest to a position, with their weights; at the border one of them twice."""
    place = max((position + 0.5) / 2 - 0.5, 0)
    lower = int(place)
    return [(lower, 1 - (place - lower)), (min(lower + 1, count - 1), place - lower)]


def fill(image: Tensor, hidden: Tensor, remover: str) -> Tensor:
    """The image with its hidden pixels removed, as the names of the removers say."""
    if remover == "imputed" and not bool(hidden.all()):
        noise = draw_noise(image.shape, seed_generator(5, image, "noise of filled pixels"))
        return torch.where(hidden, (fill_slowly(image, ~hidden) + noise).clamp(0, 1), image)
    name = {"blur": "blurred", "imputed": "mean"}.get(remover, remover)
    (cover,) = build_baselines(name, image[None], 5)
    return torch.where(hidden, cover, image)


@pytest.mark.parametrize("remover", REMOVERS)
def test_it_equals_the_twin_that_removes_pixel_by_pixel(remover: str) -> None:
    classifier = curved_classifier()
    context = build_context(classifier)
    got = RemoverGain(remover, n_steps=4).measure(context)
    for row, (image, target, attribution) in enumerate(zip(IMAGES, TARGETS.tolist(), MAPS, strict=True)):
        score, places = scorer(classifier, target, "probability"), visits(attribution)
        areas = []
        for order in (places, places[::-1]):
            values = []
            for count in (0, 16, 32, 48, 64):
                hidden = torch.zeros(8, 8, dtype=torch.bool)
                for place in order[:count]:
                    hidden[place] = True
                values.append(score(fill(image, hidden, remover)))
            areas.append(sum((left + right) / 8 for left, right in pairwise(values)))
        assert float(got["morf"][row]) == pytest.approx(areas[0], abs=1e-5)
        assert float(got["lerf"][row]) == pytest.approx(areas[1], abs=1e-5)
        assert float(got["score"][row]) == pytest.approx(areas[1] - areas[0], abs=1e-5)


def count_passes(*metrics: RemoverGain | MorfLerf) -> float:
    classifier = curved_classifier()
    context = build_context(classifier)
    before = classifier.passes.forward
    for metric in metrics:
        metric.update(classifier, IMAGES, TARGETS, MAPS, context=context)
    return (classifier.passes.forward - before) / len(IMAGES)


def test_six_removers_need_less_than_six_times_the_passes_of_one() -> None:
    one = count_passes(RemoverGain("black"))
    assert one == 2 * 9 + 2, "nine steps between the image and nothing, in two orders"
    assert count_passes(*(RemoverGain(remover) for remover in REMOVERS)) == 6 * 2 * 9 + 1 + 5 <= 6 * one
    assert count_passes(RemoverGain("black"), MorfLerf(n_steps=20)) == count_passes(MorfLerf(n_steps=20))


def test_black_is_morf_lerf_with_its_steps() -> None:
    classifier = curved_classifier()
    ours, theirs = (kind.measure(build_context(classifier)) for kind in (RemoverGain("black"), MorfLerf(n_steps=10)))
    for column, values in ours.items():
        torch.testing.assert_close(values, theirs[column], rtol=0, atol=0)


def test_the_mean_of_both_areas_of_random_orders_is_that_of_one_order() -> None:
    """What R-OMS reads off the control `random`: for orders that mean nothing both areas have the same expectation."""
    classifier, generator = curved_classifier(), torch.Generator().manual_seed(0)
    maps = torch.rand(200, 8, 8, generator=generator)
    images = IMAGES[:1].expand(200, -1, -1, -1)
    context = MetricContext(classifier, images, torch.zeros(200, dtype=torch.int64), maps, probe_batch_size=256)
    got = RemoverGain("black", n_steps=4).measure(context)
    gap = (got["morf"] - got["lerf"]).double()
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 200**0.5


def test_an_unknown_remover_is_refused() -> None:
    with pytest.raises(UserError, match="remover=blurred must be black, white, mean, blur, noise or imputed"):
        RemoverGain("blurred")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8), (7, 13), (1, 9), (32, 20)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_filling_equals_the_twin_that_halves_and_enlarges_by_hand(shape: tuple[int, int], share: float) -> None:
    generator = torch.Generator().manual_seed(int(100 * share))
    images = torch.rand(3, 2, *shape, generator=generator)
    hidden = torch.rand(3, *shape, generator=generator) < share
    hidden[:, -1, -1] = False
    hidden[2, :, : shape[1] // 2] = True
    got = pull_and_push(images, hidden, torch.zeros_like(images))
    for image, holes, filled in zip(images, hidden, got, strict=True):
        torch.testing.assert_close(filled, torch.where(holes, fill_slowly(image, (~holes).float()), image))
    alone = pull_and_push(images[1:2], hidden[1:2], torch.zeros(1, 2, *shape))
    torch.testing.assert_close(alone[0], got[1])


def test_filling_keeps_a_constant_and_follows_a_ramp() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    hidden = torch.zeros(1, 64, 64, dtype=torch.bool)
    hidden[0, 20:44, 20:44] = True
    zero = torch.zeros(1, 1, 64, 64)
    assert float((pull_and_push(zero + 0.3, hidden, zero) - 0.3).abs().max()) < 1e-6
    assert float((pull_and_push(ramp, hidden, zero) - ramp).abs().max()) < 0.15
