"""The metrics that read perturbation curves: values by hand, slow twins, bounds, invariances and empty maps."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from curve_twin import (
    METRICS,
    auc,
    curved_classifier,
    evidence_of,
    measured,
    necessity,
    proportionality,
    scorer,
    sufficiency,
    visits,
    walk,
)
from seewhy.classifier import Classifier
from seewhy.errors import UserError
from seewhy.image_seed import image_generator
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.curve_metric import CurveMetric
from seewhy.metrics.curves import kept_curves
from seewhy.metrics.deletion import Deletion
from seewhy.metrics.imputation import impute
from seewhy.metrics.insertion import Insertion
from seewhy.metrics.morf_lerf import MorfLerf
from seewhy.metrics.necessity_ordering import NecessityOrdering
from seewhy.metrics.ranking import ranking
from seewhy.metrics.road import Road
from seewhy.metrics.sufficiency_ordering import SufficiencyOrdering
from seewhy.metrics.tpn import Tpn
from seewhy.metrics.tps import Tps
from tiny import classifier_of, linear_classifier, random_images

TARGETS = torch.tensor([1, 1, 0])
"""Of `curved_classifier` and `random_images(3, 8)`: logits 0.64 and 0.45 above a black image, and 0.97 below it."""
POSITIVE = (NecessityOrdering, SufficiencyOrdering, Tpn, Tps)
RANKING = (Deletion, Insertion, MorfLerf, Road)
FULL = {"n_steps": 64}


def maps(count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, 8, 8, generator=torch.Generator().manual_seed(seed))


def weighted_sum(weights: list[float], size: int = 2) -> Classifier:
    """Logit 0 is sum over pixels p of weights[p] * (mean of the channels at p); logit 1 is 0."""
    layer = nn.Linear(3 * size * size, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0] = torch.tensor(weights).repeat(3) / 3
        layer.bias.zero_()
    return classifier_of(nn.Sequential(nn.Flatten(), layer), size, 2, normalised=False)


def on_2x2(metric: ImageMetric, weights: list[float], pixels: list[float], values: list[float]) -> dict[str, float]:
    image = torch.tensor(pixels).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    evidence = evidence_of(weighted_sum(weights), image, torch.tensor([0]), torch.tensor(values).view(1, 2, 2))
    return {column: float(value) for column, value in measured(metric, evidence).items()}


ONES, VALUES, REVERSED = [1.0] * 4, [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("metric", "values", "by_hand"),
    [
        # what is left after each removal: 1.0, 0.6, 0.3, 0.1, 0.0
        (Deletion(space="logit"), VALUES, 0.25 * (1.0 / 2 + 0.6 + 0.3 + 0.1 + 0.0 / 2)),
        (Deletion(space="logit"), REVERSED, 0.25 * (1.0 / 2 + 0.9 + 0.7 + 0.4 + 0.0 / 2)),
        (Insertion("black", space="logit"), VALUES, 0.25 * (0.0 / 2 + 0.4 + 0.7 + 0.9 + 1.0 / 2)),
        # on its mean, 0.25: 1.0, 1.15, 1.2, 1.15, 1.0
        (Insertion("mean", space="logit"), VALUES, 0.25 * (1.0 / 2 + 1.15 + 1.2 + 1.15 + 1.0 / 2)),
        (MorfLerf(space="logit"), VALUES, 0.625 - 0.375),
        (MorfLerf(space="logit"), REVERSED, 0.375 - 0.625),
        (NecessityOrdering(), VALUES, (1.0 + 0.6 + 0.3 + 0.1 + 0.0) / 5),
        (SufficiencyOrdering(), VALUES, (0.0 + 0.4 + 0.7 + 0.9 + 1.0) / 5),
        # two steps: 0, 2 and 4 pixels, the others on straight lines
        (Deletion(n_steps=2, space="logit"), VALUES, 0.5 * (1.0 / 2 + 0.3 + 0.0 / 2)),
        # proportional values: both curves are the diagonal
        (Tpn(), VALUES, 0.0),
        (Tps(), VALUES, 0.0),
        # largest first, the shares 0, .4, .7, .9, 1 leave 1, .9, .7, .4, 0: .4 * .95 + .3 * .8 + .2 * .55 + .1 * .2 = .75;
        # smallest first, the shares 0, .1, .3, .6, 1 leave 1, .6, .3, .1, 0: .1 * .8 + .2 * .45 + .3 * .2 + .4 * .05 = .25
        (Tpn(), REVERSED, 0.75 - 0.25),
        (Tps(), REVERSED, 0.75 - 0.25),
    ],
)
def test_areas_by_hand(metric: ImageMetric, values: list[float], by_hand: float) -> None:
    assert on_2x2(metric, ONES, VALUES, values)[metric.name] == pytest.approx(by_hand, abs=1e-6)


def test_probabilities_by_hand() -> None:
    left = [1 / (1 + math.exp(-logit)) for logit in (1.0, 0.6, 0.3, 0.1, 0.0)]
    assert left == pytest.approx([0.731059, 0.645656, 0.574443, 0.524979, 0.5], abs=1e-6)
    area = 0.25 * (0.731059 / 2 + 0.645656 + 0.574443 + 0.524979 + 0.5 / 2)
    assert on_2x2(Deletion(), ONES, VALUES, VALUES)["deletion"] == pytest.approx(area, abs=1e-5)


def test_necessity_on_a_linear_toy() -> None:
    """f = w.x with x = 1 and attribution w * x: removing the positive part alone drives f below f(b) = 0."""
    weights = [3.0, 2.0, -1.0, -2.0]  # f(x) = 2; without the first 1: -1, without the first 2: -3
    got = on_2x2(NecessityOrdering(), weights, ONES, weights)
    assert got["necessity_ordering_undivided"] == pytest.approx((2 + 0 + 0) / 3)
    assert got["necessity_ordering"] == pytest.approx((2 + 0 + 0) / 3 / 2)
    assert got["necessity_ordering_coverage"] == 0.5
    shown = on_2x2(SufficiencyOrdering(), weights, ONES, weights)
    assert shown["sufficiency_ordering_undivided"] == pytest.approx((0 + 2 + 2) / 3)  # 3 and 5, not more than f(x) = 2
    assert shown["sufficiency_ordering"] == pytest.approx((0 + 1 + 1) / 3)
    # leaves 2, 0, 0 over the shares 0, .6, 1, and 2, 0, 0 over 0, .4, 1: triangles that differ by .1
    assert on_2x2(Tpn(), weights, ONES, weights)["tpn"] == pytest.approx(0.6 / 2 - 0.4 / 2)
    # shows 0, 2, 2 over 0, .6, 1 and 0, 2, 2 over 0, .4, 1
    assert on_2x2(Tps(), weights, ONES, weights)["tps"] == pytest.approx(0.6 / 2 - 0.4 / 2)


def test_an_image_below_its_baseline_has_no_normalised_score() -> None:
    weights = [3.0, 2.0, -4.0, -3.0]  # f(x) = -2, then -5, -7: never above f(b) = 0
    got = on_2x2(NecessityOrdering(), weights, ONES, weights)
    assert got["necessity_ordering_undivided"] == 0.0
    assert math.isnan(got["necessity_ordering"])
    for metric in (SufficiencyOrdering(), Tpn(), Tps()):
        assert math.isnan(on_2x2(metric, weights, ONES, weights)[metric.name])


def all_orders() -> list[list[float]]:
    return [list(values) for values in itertools.permutations((0.4, 0.3, 0.2, 0.1))]


@pytest.mark.parametrize("kind", [Deletion, Insertion, MorfLerf, NecessityOrdering, SufficiencyOrdering])
def test_truth_and_its_reverse_are_the_best_and_the_worst_of_all_orders(kind: type[ImageMetric]) -> None:
    options = {"baseline": "black"}
    scores = [
        on_2x2(kind(**options), [5.0, 3.0, 1.0, 0.5], [0.9] * 4, order)[kind(**options).name] for order in all_orders()
    ]
    best, worst = (max, min) if kind.higher_is_better else (min, max)
    assert scores[0] == best(scores) != worst(scores) == scores[-1]
    assert len({round(score, 5) for score in scores}) > 10


def test_bounds_are_reached_where_one_pixel_decides() -> None:
    """A sure answer that hangs on one of 64 pixels: the areas come within half a step of 0 and 1."""
    weights = [0.0] * 64
    weights[9] = 200.0
    classifier = weighted_sum(weights, 8)
    with torch.no_grad():
        classifier.network[1].bias[1] = 100.0  # type: ignore[index]
    truth = torch.zeros(1, 8, 8)
    truth[0, 1, 1] = 1
    for sign, bounds in ((1, (0, 1, 1)), (-1, (1, 0, -1))):
        evidence = evidence_of(classifier, torch.ones(1, 3, 8, 8), torch.tensor([0]), sign * truth)
        for metric, bound in zip(
            (Deletion(n_steps=64), Insertion("black", 64), MorfLerf(n_steps=64)), bounds, strict=True
        ):
            assert float(measured(metric, evidence)[metric.name]) == pytest.approx(bound, abs=1 / 64)


@pytest.mark.parametrize("row", range(3))
def test_slow_twins(row: int) -> None:
    classifier, images, signed = curved_classifier(), random_images(3, 8), maps()
    image, attribution, target = images[row], signed[row], int(TARGETS[row])
    evidence = evidence_of(classifier, images, TARGETS, signed, probe_batch_size=7)
    logit, probability = (scorer(classifier, target, space) for space in ("logit", "probability"))
    black, cover, places = torch.zeros_like(image), evidence.baseline("blurred")[row], visits(attribution)
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
        got |= measured(kind(**FULL), evidence)
    gain = logit(image) - logit(black)
    for column, value in expected.items():
        if gain > 0 or column not in {kind().name for kind in POSITIVE}:
            assert float(got[column][row]) == pytest.approx(value, rel=1e-3, abs=2e-5), column
        else:
            assert math.isnan(got[column][row]), column


def test_the_twins_meet_images_with_and_without_a_gain() -> None:
    evidence = evidence_of(curved_classifier(), random_images(3, 8), TARGETS, maps())
    gains = evidence.scores() - evidence.baseline_logits("black").gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(gains, torch.tensor([0.637, 0.454, -0.975]), rtol=0, atol=1e-3)


def test_slow_twin_of_road() -> None:
    classifier, images, signed = curved_classifier(), random_images(3, 8), maps()
    evidence = evidence_of(classifier, images, TARGETS, signed, probe_batch_size=4, seed=5)
    got = measured(Road(shares=[0.1, 0.45, 0.9]), evidence)
    for row, (image, target) in enumerate(zip(images, TARGETS.tolist(), strict=True)):
        means = []
        for order in (visits(signed[row]), visits(signed[row])[::-1]):
            scores = []
            for count in (6, 28, 57):  # of 64 pixels, rounded down
                hidden = torch.zeros(8, 8, dtype=torch.bool)
                for place in order[:count]:
                    hidden[place] = True
                filled = impute(image, hidden, image_generator(5, image, "noisy linear imputation"))
                scores.append(scorer(classifier, target, "probability")(filled))
            means.append(sum(scores) / 3)
        assert float(got["road_morf"][row]) == pytest.approx(means[0], abs=1e-5)
        assert float(got["road_lerf"][row]) == pytest.approx(means[1], abs=1e-5)
        assert float(got["road"][row]) == pytest.approx(means[1] - means[0], abs=1e-5)


def test_a_planted_patch_beats_noise_everywhere() -> None:
    patch = torch.zeros(8, 8)
    patch[2:5, 3:6] = 1
    classifier = weighted_sum((4 * patch).flatten().tolist(), 8)
    with torch.no_grad():
        classifier.network[1].bias[1] = 28.0  # type: ignore[index]
    images = 0.4 + 0.2 * random_images(4, 8)
    images[:, :, 2:5, 3:6] += 0.4
    targets = torch.zeros(4, dtype=torch.int64)
    for kind in (*RANKING, NecessityOrdering, SufficiencyOrdering):
        found, noise = (
            measured(kind(), evidence_of(classifier, images, targets, each))[kind().name]
            for each in (images.mean(1) * patch + 0.01 * maps(4).abs(), maps(4).abs())
        )
        gains = found - noise if kind.higher_is_better else noise - found
        assert bool((gains > 0.02).all()), (kind, gains)


@pytest.mark.parametrize("kind", METRICS)
def test_neither_probe_size_nor_batch_split_matters(kind: type[ImageMetric]) -> None:
    classifier, images = curved_classifier(), random_images(3, 8)
    together = measured(kind(), evidence_of(classifier, images, TARGETS, maps(), probe_batch_size=64))
    split = kind()
    for rows in (slice(0, 1), slice(1, 3)):
        measured(split, evidence_of(classifier, images[rows], TARGETS[rows], maps()[rows], probe_batch_size=1))
    torch.testing.assert_close(split.compute(), together, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", METRICS)
def test_what_a_change_of_the_values_changes(kind: type[ImageMetric]) -> None:
    """A monotone map that keeps signs keeps all rankings; proportions survive a factor only."""
    classifier, images = curved_classifier(), random_images(3, 8)

    def scores(changed: Tensor) -> Tensor:
        return measured(kind(), evidence_of(classifier, images, TARGETS, changed))[kind().name]

    known = scores(maps())
    torch.testing.assert_close(scores(4 * maps()), known, equal_nan=True, rtol=1e-5, atol=1e-6)
    cubed = scores(maps() ** 3)
    if kind in (Tpn, Tps):
        assert float((cubed - known).abs().nan_to_num().max()) > 0.01
    else:
        assert torch.equal(cubed.nan_to_num(7), known.nan_to_num(7))
    if kind in RANKING:
        assert torch.equal(scores(maps().exp()), known)
        assert not torch.equal(scores(-maps()), known)


@pytest.mark.parametrize("kind", METRICS)
def test_maps_that_say_little_have_a_stated_value(kind: type[ImageMetric]) -> None:
    classifier, images, target = curved_classifier(), random_images(3, 8)[:1], TARGETS[:1]

    def score(attribution: Tensor) -> dict[str, float]:
        got = measured(kind(), evidence_of(classifier, images, target, attribution))
        return {column.removeprefix(kind().name).lstrip("_"): float(value) for column, value in got.items()}

    for bad in (float("nan"), float("inf"), float("-inf")):
        broken = maps(1)
        broken[0, 2, 2] = bad
        assert all(math.isnan(value) for value in score(broken).values())
    constant = torch.ones(1, 8, 8)
    order = ranking(evidence_of(classifier, images, target, constant)).ranks.view(1, 8, 8)
    spelled_out = 1 - 1e-5 * order  # the same order without ties
    assert score(constant)[""] == pytest.approx(score(spelled_out)[""], abs=1e-3)
    empty = {NecessityOrdering: 1.0, SufficiencyOrdering: 0.0, Tpn: math.nan, Tps: math.nan}
    for nothing in (torch.zeros(1, 8, 8), -maps(1).abs()):
        got = score(nothing)
        if kind in empty:
            assert got[""] == pytest.approx(empty[kind], nan_ok=True)
            assert got["coverage"] == 0
        else:
            assert math.isfinite(got[""])
    if kind in empty:
        assert score(constant)["coverage"] == 1


def test_few_positive_pixels_get_steps_of_their_own() -> None:
    """12 of 64 pixels are positive and the first holds the whole score: 1 / 13, where a step of 16 would give 1 / 2."""
    weights = [1.0] + [0.0] * 63
    attribution = (12.0 - torch.arange(64)).view(1, 8, 8)
    evidence = evidence_of(weighted_sum(weights, 8), torch.ones(1, 3, 8, 8), torch.tensor([0]), attribution)
    got = measured(NecessityOrdering(n_steps=4), evidence)
    assert float(got["necessity_ordering"]) == pytest.approx(1 / 13)
    assert float(got["necessity_ordering_coverage"]) == 12 / 64


@pytest.mark.parametrize("kind", METRICS)
def test_the_yaml_builds_the_metric_with_its_defaults(kind: type[ImageMetric]) -> None:
    path = Path(__file__).parents[1] / "configs" / "metric" / f"{kind().name}.yaml"
    config = OmegaConf.load(path)
    assert list(config) == [kind().name]
    built = instantiate(config[kind().name], _convert_="object")
    assert type(built) is kind
    assert built.variant == kind().variant
    assert (built.space in built.variant) and (getattr(built, "baseline", "linear") in built.variant)
    assert path.read_text().split("\n")[0].startswith("# ")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"metric.deletion.baseline='blak' is none of black"):
        Deletion("blak")
    with pytest.raises(UserError, match=r"metric.tpn.n_steps=0"):
        Tpn(n_steps=0)
    with pytest.raises(UserError, match=r"metric.insertion.space='odds' must be logit or probability"):
        Insertion(space="odds")
    for shares in ([], [0.0, 0.5], [1.0]):
        with pytest.raises(UserError, match=r"metric.road.shares"):
            Road(shares)
    assert issubclass(Tps, CurveMetric)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_quantus_flips_the_same_pixels() -> None:
    """Its curve is ours without the first point; each of its features is one channel of a pixel, hence 3 a pixel."""
    quantus = pytest.importorskip("quantus")
    classifier, images = linear_classifier(6)[0], random_images(3, 6)
    images[:, :, 0, 0] = 0  # what Quantus calls black is the smallest value of an image
    signed = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    evidence = evidence_of(classifier, images, TARGETS, signed)
    measured(Deletion(n_steps=9), evidence)
    flipping = quantus.PixelFlipping(features_in_step=12, normalise=False, disable_warnings=True)
    theirs = flipping(
        model=classifier,
        x_batch=images.numpy(),
        y_batch=TARGETS.numpy(),
        a_batch=signed[:, None].numpy(),
        softmax=True,
        channel_first=True,
    )
    kept = kept_curves(evidence)
    for row in range(3):
        ours = [point.probability for point in kept if point.image == row and point.share > 0]
        assert list(theirs[row]) == pytest.approx(ours, abs=1e-5)
