"""Perturbation curves: no pass twice, bounded batches, ties, and what is kept for drawing."""

import pytest
import torch
from torch import Tensor

from curve_twin import METRICS, curved_classifier, make_context, measured, scorer, visits, walk
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.faithfulness.necessity_sufficiency import (
    NecessityOrdering,
    SufficiencyOrdering,
    Tpn,
    Tps,
    compute_positive_counts,
)
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, Insertion, MorfLerf, compute_pixel_counts
from seewhy.metrics.faithfulness.road import Road
from seewhy.metrics.perturbation_curves import Curve, collect_curves, compute_curves
from tiny import looked_over, random_images

TARGETS = torch.tensor([0, 2])


def maps(seed: int = 1) -> Tensor:
    return torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(seed))


def distinct_images(map_of_one: Tensor, steps: int) -> int:
    """How many different images the metrics below look at, counted as sets of seen pixels on each baseline."""
    all_pixels = visits(map_of_one)
    positive = visits(map_of_one, positive=True)
    black: set[frozenset[tuple[int, int]]] = set()
    for count in compute_pixel_counts(64, steps):
        black.add(frozenset(all_pixels[count:]))  # deletion
        black.add(frozenset(all_pixels[: 64 - count]))  # LeRF
    for count in compute_positive_counts(len(positive), 64, steps):
        for changed in (positive[:count], positive[count:]):
            black.add(frozenset(changed))
            black.add(frozenset(all_pixels) - frozenset(changed))
    return (
        len(black) + len(compute_pixel_counts(64, steps)) - 1
    )  # insertion on the blurred image, which ends with the image


def picked(steps: int) -> list[ImageMetric]:
    kinds = (Deletion, MorfLerf, NecessityOrdering, SufficiencyOrdering, Tpn, Tps, Insertion)
    return [kind(n_steps=steps) for kind in kinds]


@pytest.mark.parametrize("steps", [8, 16, 64])
def test_a_picked_set_costs_the_union_of_its_images(steps: int) -> None:
    classifier = curved_classifier()
    context = make_context(classifier, random_images(2, 8), TARGETS, maps())
    for metric in picked(steps):
        measured(metric, context)
    assert classifier.passes.forward == sum(distinct_images(one, steps) for one in maps())
    for metric in picked(steps):
        measured(metric, context)
    assert classifier.passes.forward == sum(distinct_images(one, steps) for one in maps())


def test_on_a_positive_map_seven_metrics_cost_three_curves() -> None:
    classifier = curved_classifier()
    context = make_context(classifier, random_images(2, 8), TARGETS, maps().exp())
    for metric in picked(16):
        measured(metric, context)
    assert classifier.passes.forward == 2 * (15 + 15 + 2 + 15 + 1)  # both orders on black, its ends, insertion on blur


def test_values_do_not_depend_on_who_measured_first() -> None:
    images = random_images(2, 8)
    shared = make_context(curved_classifier(), images, TARGETS, maps())
    together = [measured(metric, shared) for metric in reversed(picked(16))][::-1]
    for metric, known in zip(picked(16), together, strict=True):
        alone = measured(metric, make_context(curved_classifier(), images, TARGETS, maps(), probe_batch_size=3))
        torch.testing.assert_close(known, alone, equal_nan=True)


def test_batches_are_filled_across_images_and_never_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, sizes = looked_over(curved_classifier()), []
    forward = classifier.network.forward
    monkeypatch.setattr(classifier.network, "forward", lambda batch: (sizes.append(len(batch)), forward(batch))[1])
    context = make_context(classifier, random_images(2, 8), TARGETS, maps())
    measured(Deletion(n_steps=16), context)
    assert sorted(sizes) == [2, 2, 14, 16]  # the images, their baselines, and 30 perturbed images in two passes
    measured(Road(shares=[0.25, 0.5, 0.75]), context)
    assert sizes[4:] == [6, 6]


def test_a_map_that_is_not_finite_costs_no_perturbed_image() -> None:
    classifier, broken = curved_classifier(), maps()
    broken[1, 3, 3] = float("nan")
    context = make_context(classifier, random_images(2, 8), TARGETS, broken)
    measured(Deletion(n_steps=16), context)
    assert classifier.passes.forward == 2 + 2 + 15


@pytest.mark.parametrize("change", ["deletion", "insertion"])
@pytest.mark.parametrize("first", ["largest", "smallest"])
@pytest.mark.parametrize("among", ["all", "positive"])
def test_every_point_of_every_curve_equals_a_walk(change: str, first: str, among: str) -> None:
    classifier, images = curved_classifier(), random_images(2, 8)
    context = make_context(classifier, images, TARGETS, maps())
    counts = [list(range(len(visits(one, among == "positive")) + 1)) for one in maps()]
    got = compute_curves(context, Curve(change, first, "blurred", among), counts)
    cover = context.build_baseline("blurred")
    for row in range(2):
        places = visits(maps()[row], among == "positive")
        places = places if first == "largest" else places[::-1]
        start, end = (images[row], cover[row]) if change == "deletion" else (cover[row], images[row])
        for column, space in enumerate(("logit", "probability")):
            expected = walk(scorer(classifier, int(TARGETS[row]), space), start, end, places)
            assert got[row][:, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_curves_are_kept_for_drawing() -> None:
    context = make_context(curved_classifier(), random_images(2, 8), TARGETS, maps())
    assert collect_curves(context) == []
    areas = measured(Deletion(n_steps=4), context)["deletion"]
    kept = collect_curves(context)
    assert [(point.image, point.curve, point.share) for point in kept] == [
        (image, "deletion/black", share) for image in (0, 1) for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    ys = [point.probability for point in kept[:5]]
    assert float(areas[0]) == pytest.approx(0.25 * (sum(ys) - ys[0] / 2 - ys[-1] / 2))
    assert kept[0].logit == pytest.approx(float(context.compute_scores()[0]))
    for kind in METRICS:
        measured(kind(), context)
    assert {point.curve for point in collect_curves(context)} == {
        "deletion/black",
        "deletion/noisy_linear",
        "deletion_smallest_first/black",
        "deletion_smallest_first/noisy_linear",
        "deletion_smallest_positive_first/black",
        "insertion/black",
        "insertion/blurred",
        "insertion_smallest_positive_first/black",
    }
