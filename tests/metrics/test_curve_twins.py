"""The metrics that read perturbation curves against slow twins and Quantus."""

import math

import pytest
import torch
from torch import Tensor

from curve_twin import (
    FULL,
    POSITIVE,
    TARGETS,
    auc,
    curved_classifier,
    make_context,
    measured,
    necessity,
    proportionality,
    scorer,
    signed_maps,
    sufficiency,
    visits,
    walk,
    weighted_sum,
)
from seewhy.core.random import seed_generator
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, Insertion, MorfLerf
from seewhy.metrics.faithfulness.road import Road
from seewhy.metrics.imputation import impute_image
from seewhy.metrics.perturbation_curves import collect_curves
from tiny import linear_classifier, random_images


@pytest.mark.parametrize("row", range(3))
def test_slow_twins(row: int) -> None:
    classifier, images, signed = curved_classifier(), random_images(3, 8), signed_maps()
    image, attribution, target = images[row], signed[row], int(TARGETS[row])
    context = make_context(classifier, images, TARGETS, signed, probe_batch_size=7)
    logit, probability = (scorer(classifier, target, space) for space in ("logit", "probability"))
    black, cover, places = torch.zeros_like(image), context.build_baseline("blurred")[row], visits(attribution)
    morf, lerf = (auc(walk(probability, image, black, order)) for order in (places, places[::-1]))
    expected = {
        "deletion": morf,
        "insertion": auc(walk(probability, cover, image, places)),
        "morf_lerf": lerf - morf,
        "necessity_ordering": necessity(logit, image, attribution)[0],
        "necessity_ordering_undivided": necessity(logit, image, attribution)[1],
        "sufficiency_ordering": sufficiency(logit, image, attribution)[0],
        "tpn": proportionality(logit, image, attribution, removing=True),
        "tps": proportionality(logit, image, attribution, removing=False),
    }
    got: dict[str, Tensor] = {}
    for kind in (Deletion, Insertion, MorfLerf, *POSITIVE):
        got |= measured(kind(**FULL), context)
    gain = logit(image) - logit(black)
    for column, value in expected.items():
        if gain > 0 or column not in {kind().name for kind in POSITIVE}:
            assert float(got[column][row]) == pytest.approx(value, rel=1e-3, abs=2e-5), column
        else:
            assert math.isnan(got[column][row]), column


def test_the_twins_meet_images_with_and_without_a_gain() -> None:
    context = make_context(curved_classifier(), random_images(3, 8), TARGETS, signed_maps())
    gains = context.compute_scores() - context.compute_baseline_logits("black").gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(gains, torch.tensor([0.637, 0.454, -0.975], dtype=torch.float64), rtol=0, atol=1e-3)


def test_slow_twin_of_road() -> None:
    classifier, images, signed = curved_classifier(), random_images(3, 8), signed_maps()
    context = make_context(classifier, images, TARGETS, signed, probe_batch_size=4, seed=5)
    got = measured(Road(shares=[0.1, 0.45, 0.9]), context)
    for row, (image, target) in enumerate(zip(images, TARGETS.tolist(), strict=True)):
        means = []
        for order in (visits(signed[row]), visits(signed[row])[::-1]):
            scores = []
            for count in (6, 28, 57):  # of 64 pixels, rounded down
                hidden = torch.zeros(8, 8, dtype=torch.bool)
                for place in order[:count]:
                    hidden[place] = True
                filled = impute_image(image, hidden, seed_generator(5, image, "noisy linear imputation"))
                scores.append(scorer(classifier, target, "probability")(filled))
            means.append(sum(scores) / 3)
        assert float(got["road_morf"][row]) == pytest.approx(means[0], abs=1e-5)
        assert float(got["road_lerf"][row]) == pytest.approx(means[1], abs=1e-5)
        assert float(got["road"][row]) == pytest.approx(means[1] - means[0], abs=1e-5)


def test_few_positive_pixels_get_steps_of_their_own() -> None:
    """12 of 64 pixels are positive and the first holds the whole score: 1 / 13, where a step of 16 would give 1 / 2."""
    weights = [1.0] + [0.0] * 63
    attribution = (12.0 - torch.arange(64)).view(1, 8, 8)
    context = make_context(weighted_sum(weights, 8), torch.ones(1, 3, 8, 8), torch.tensor([0]), attribution)
    got = measured(NecessityOrdering(n_steps=4), context)
    assert float(got["necessity_ordering"]) == pytest.approx(1 / 13)
    assert float(got["necessity_ordering_coverage"]) == 12 / 64


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_quantus_flips_the_same_pixels() -> None:
    """Its curve is ours without the first point; each of its features is one channel of a pixel, hence 3 a pixel."""
    quantus = pytest.importorskip("quantus")
    classifier, images = linear_classifier(6)[0], random_images(3, 6)
    images[:, :, 0, 0] = 0  # what Quantus calls black is the smallest value of an image
    signed = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    context = make_context(classifier, images, TARGETS, signed)
    measured(Deletion(n_steps=9), context)
    flipping = quantus.PixelFlipping(features_in_step=12, normalise=False, disable_warnings=True)
    theirs = flipping(
        model=classifier,
        x_batch=images.numpy(),
        y_batch=TARGETS.numpy(),
        a_batch=signed[:, None].numpy(),
        softmax=True,
        channel_first=True,
    )
    kept = collect_curves(context)
    for row in range(3):
        ours = [point.probability for point in kept if point.image == row and point.share > 0]
        assert list(theirs[row]) == pytest.approx(ours, abs=1e-5)
