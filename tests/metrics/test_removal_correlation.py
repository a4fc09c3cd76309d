"""Faithfulness correlation and sensitivity-n: 1 for an exact map, a loop, chance for noise, Quantus."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.random import seed_generator
from seewhy.explainers.baselines import build_baselines
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.faithfulness.infidelity import FaithfulnessCorrelation, SensitivityN
from seewhy.models.classifier import Classifier
from tiny import linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(3, 8), torch.tensor([2, 0, 2])
EVERY = [FaithfulnessCorrelation, SensitivityN]


def exact(baseline: str) -> Tensor:
    """w * (x - b): the map of a linear network that adds up for every set of pixels."""
    return (linear_classifier()[1][TARGETS] * (IMAGES - build_baselines(baseline, IMAGES))).sum(1)


def scores(metric: ImageMetric, maps: Tensor, classifier: Classifier | None = None, **options: Any) -> list[float]:
    known = classifier or linear_classifier()[0]
    context = MetricContext(known, IMAGES, TARGETS, maps, **{"probe_batch_size": 7} | options)
    metric.update(known, IMAGES, TARGETS, maps, context=context)
    return metric.compute()[metric.name].tolist()


@pytest.mark.parametrize("baseline", ["black", "white", "blurred", "uniform"])
@pytest.mark.parametrize("metric", EVERY)
def test_an_exact_map_reaches_one_and_its_negation_minus_one(metric: Any, baseline: str) -> None:
    assert scores(metric(n_samples=20, baseline=baseline), 5 * exact(baseline)) == pytest.approx([1] * 3, abs=1e-5)
    assert scores(metric(n_samples=20, baseline=baseline), -exact(baseline)) == pytest.approx([-1] * 3, abs=1e-5)


@pytest.mark.parametrize("metric", EVERY)
def test_the_wrong_baseline_and_noise_are_found_out(metric: Any) -> None:
    assert max(scores(metric(n_samples=60, baseline="white"), exact("black"))) < 0.8
    noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(5))
    assert abs(sum(scores(metric(n_samples=100), noise)) / 3) < 0.4


def loop(maps: Tensor, share: float, n_samples: int, seed: int) -> list[float]:
    classifier, found = linear_classifier()[0], []
    for image, target, attribution in zip(IMAGES, TARGETS, maps, strict=True):
        size = round(share * 64)
        generator, sums, drops = seed_generator(seed, image, f"subset {size}"), [], []
        for _ in range(n_samples):
            chosen = torch.randperm(64, generator=generator)[:size]
            removed = image.clone().flatten(1)
            removed[:, chosen] = 0
            logits = classifier(torch.stack([image, removed.view_as(image)])).detach()[:, target]
            drops.append(float(logits[0] - logits[1]))
            sums.append(float(attribution.flatten()[chosen].sum()))
        found.append(stats.pearsonr(sums, drops).statistic)
    return found


@pytest.mark.parametrize("probe_batch_size", [1, 16])
def test_it_equals_the_loop(probe_batch_size: int) -> None:
    maps = exact("black") + 0.02 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    small, large = loop(maps, 0.2, 12, seed=4), loop(maps, 0.7, 12, seed=4)
    assert small != pytest.approx(large, abs=1e-2)
    options = {"seed": 4, "probe_batch_size": probe_batch_size}
    found = scores(FaithfulnessCorrelation(n_samples=12, share=0.2), maps, **options)
    assert found == pytest.approx(small, abs=1e-4)
    mean = [(first + second) / 2 for first, second in zip(small, large, strict=True)]
    assert scores(SensitivityN(n_samples=12, shares=[0.2, 0.7]), maps, **options) == pytest.approx(mean, abs=1e-4)


def test_the_same_sets_pass_through_the_network_once() -> None:
    classifier, maps = linear_classifier()[0], exact("black")
    context = MetricContext(classifier, IMAGES, TARGETS, maps, probe_batch_size=16)
    for metric in (FaithfulnessCorrelation(n_samples=10, share=0.1), SensitivityN(n_samples=10, shares=[0.1, 0.4])):
        metric.update(classifier, IMAGES, TARGETS, maps, context=context)
    assert classifier.passes.forward == 3 * (1 + 2 * 10)


@pytest.mark.parametrize("metric", EVERY)
def test_without_variation_there_is_no_correlation(metric: Any) -> None:
    maps = exact("black")
    maps[0], maps[1, 2, 2] = 0.3, math.nan
    assert [math.isnan(value) for value in scores(metric(n_samples=10), maps)] == [True, True, False]
    assert all(math.isnan(value) for value in scores(metric(n_samples=10), torch.zeros(3, 8, 8)))
    deaf = linear_classifier()[0]
    with torch.no_grad():
        deaf.network[1].weight.zero_()
    assert all(math.isnan(value) for value in scores(metric(n_samples=10), exact("black"), deaf))


@pytest.mark.parametrize(
    ("metric", "fields", "words"),
    [
        (FaithfulnessCorrelation, {"share": 1}, r"share=1 must be a number above 0 and below 1"),
        (FaithfulnessCorrelation, {"n_samples": 1}, "n_samples=1 must be a whole number from 2"),
        (SensitivityN, {"baseline": "pink"}, r"metric.sensitivity_n.baseline=pink must be black"),
        (SensitivityN, {"shares": []}, r"shares=\[\]"),
        (SensitivityN, {"shares": [0.5, 10]}, r"shares=\[0.5,10\]"),
    ],
)
def test_impossible_parameters_are_refused(metric: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        metric(**fields)


@pytest.mark.oracle
def test_it_equals_quantus(monkeypatch: pytest.MonkeyPatch) -> None:
    quantus, numpy = pytest.importorskip("quantus"), pytest.importorskip("numpy")
    classifier, images, targets = small_cnn(), random_images(1, 32), torch.tensor([3])
    maps = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(2))
    metric = FaithfulnessCorrelation(n_samples=15, share=0.1)
    context = MetricContext(classifier, images, targets, maps, probe_batch_size=16)
    metric.update(classifier, images, targets, maps, context=context)
    generator = seed_generator(0, images[0], "subset 102")
    pixels = [torch.randperm(1024, generator=generator)[:102] for _ in range(15)]
    every_channel = iter([torch.cat([chosen, chosen + 1024, chosen + 2048]).numpy() for chosen in pixels])
    monkeypatch.setattr(numpy.random, "choice", lambda *arguments, **options: next(every_channel))
    theirs = quantus.FaithfulnessCorrelation(
        nr_runs=15,
        subset_size=3 * 102,
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        return_aggregate=False,
        disable_warnings=True,
    )
    expected = theirs(
        model=classifier,
        x_batch=images.numpy(),
        y_batch=targets.numpy(),
        a_batch=maps[:, None].numpy(),
        device="cpu",
        softmax=False,
    )
    assert metric.compute()[metric.name].tolist() == pytest.approx([float(expected[0])], abs=1e-4)
