"""Intervals of quantities that cannot be anything end where the quantity does, wherever they are printed or drawn."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from seewhy.analyses.compare.measure import Pair, judge
from seewhy.analyses.robustness.summary import summarise_robustness
from seewhy.core.errors import UserError
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.complexity import Complexity, Sparseness
from seewhy.metrics.faithfulness.average_drop import AverageDrop, Completeness, IncreaseInConfidence
from seewhy.metrics.faithfulness.in_domain import FFidelity
from seewhy.metrics.faithfulness.infidelity import FaithfulnessCorrelation, Infidelity, SensitivityN
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering, SufficiencyOrdering, Tpn, Tps
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, Insertion, MorfLerf
from seewhy.metrics.faithfulness.removers import REMOVERS, RemoverGain
from seewhy.metrics.faithfulness.road import Road
from seewhy.metrics.faithfulness.sufficient_region import SufficientRegion
from seewhy.metrics.localisation import AveragePrecision, PointingGame, RelevanceMass, RelevanceRank
from seewhy.metrics.randomisation.model_randomization import (
    EfficientModelRandomization,
    LayerRandomization,
    ModelRandomization,
    RandomLogit,
)
from seewhy.metrics.robustness.max_sensitivity import MaxSensitivity
from seewhy.metrics.robustness.stability import Stability
from seewhy.plots.curves import compute_difference_curve, compute_mean_curve
from seewhy.report.comparison import compare_runs, join_runs
from seewhy.report.html.robustness import build_kept_chart
from seewhy.report.runs import find_runs
from seewhy.statistics.intervals import Interval, compute_mean_intervals, find_difference_bounds
from seewhy.statistics.schema import MetricFact, collect_metric_facts, read_metric_facts
from seewhy.statistics.summary import summarise_metrics
from seewhy.statistics.tests import compare_pairs
from sweep_folder import write_run
from tiny import classifier_of

NEAR = [1.0, 0.9, 1.0, 0.3]
"""Mean 0.8, standard deviation 0.34 ** 0.5 / 3 ** 0.5; Student's t ends at 0.8 + 3.1824 * 0.3367 / 2 = 1.336."""
FAR = [-1.0, -0.9, -1.0, -0.3]
SHARE, CORRELATION, AMOUNT = (0, 1), (-1, 1), (0, None)
GAINS = {"": CORRELATION, "_morf": SHARE, "_lerf": SHARE}
BOUNDS: list[tuple[Callable[[], ImageMetric], dict[str, tuple[float | None, float | None] | None]]] = [
    (Deletion, {"": SHARE}),
    (Insertion, {"": SHARE}),
    (MorfLerf, GAINS),
    (Road, GAINS),
    *((lambda remover=remover: RemoverGain(remover), GAINS) for remover in REMOVERS),
    (FFidelity, {"": CORRELATION, "_plus": CORRELATION, "_minus": CORRELATION, "_deletion": SHARE}),
    (SufficientRegion, {"": SHARE, "_first": SHARE}),
    (AverageDrop, {"": (0, 100), "_coverage": SHARE}),
    (lambda: AverageDrop("top_half"), {"": (0, 100), "_coverage": SHARE}),
    (lambda: AverageDrop("binary_logit"), {"": AMOUNT, "_coverage": SHARE}),
    (IncreaseInConfidence, {"": (0, 100), "_coverage": SHARE}),
    (lambda: IncreaseInConfidence("binary_logit"), {"": (0, 100)}),
    (Completeness, {"": AMOUNT, "_relative": AMOUNT, "_change": None}),
    (NecessityOrdering, {"": AMOUNT, "_undivided": AMOUNT, "_coverage": SHARE}),
    (SufficiencyOrdering, {"": SHARE, "_undivided": AMOUNT, "_coverage": SHARE}),
    (Tpn, {"": AMOUNT, "_coverage": SHARE}),
    (Tps, {"": SHARE, "_coverage": SHARE}),
    (Infidelity, {"": AMOUNT}),
    (FaithfulnessCorrelation, {"": CORRELATION}),
    (SensitivityN, {"": CORRELATION}),
    (lambda: ModelRandomization(1), {"": SHARE, "_signed": CORRELATION}),
    (lambda: LayerRandomization(n_layers=2), {"": SHARE, "_step_1": CORRELATION, "_step_2": CORRELATION}),
    (lambda: EfficientModelRandomization(n_draws=1), {"": (-1, None), "_entropy": AMOUNT}),
    (RandomLogit, {"": CORRELATION}),
    (lambda: Stability(2), {"": CORRELATION, "_kept": SHARE}),
    (lambda: MaxSensitivity(2), {"": AMOUNT}),
    (Complexity, {"": AMOUNT}),
    (Sparseness, {"": SHARE}),
    *((kind, {"": SHARE, "_chance": SHARE}) for kind in (PointingGame, RelevanceMass, RelevanceRank, AveragePrecision)),
]


def tabulate(values: list[float], metric: str = "stability", explainer: str = "lrp") -> pd.DataFrame:
    images = [f"{number:03d}" for number in range(len(values))]
    return pd.DataFrame({"image": images, "explainer": explainer, "metric": metric, "value": values})


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [(None, (-0.5, 1.5)), ((0, 1), (0, 1)), ((0, None), (0, 1.5)), ((None, 1), (-0.5, 1)), ((-1, 2), (-0.5, 1.5))],
)
def test_an_interval_is_cut_where_the_quantity_ends(bounds, expected: tuple[float, float]) -> None:
    assert Interval(-0.5, 1.5, "a note").clip(bounds) == (*expected, "a note")
    assert np.isnan(Interval(np.nan, np.nan, "").clip(bounds)[:2]).all()


@pytest.mark.parametrize(
    ("bounds", "expected"), [((0, 1), (-1, 1)), ((-1, 1), (-2, 2)), ((0, None), None), (None, None)]
)
def test_a_difference_spans_both_ways(bounds, expected) -> None:
    assert find_difference_bounds(bounds) == expected


def test_an_interval_inside_keeps_its_ends_and_one_beyond_is_cut_by_value() -> None:
    half = 3.1824 * (0.34 / 3) ** 0.5 / 2
    inside, beyond = compute_mean_intervals([np.array([0.5, 0.6, 0.4, 0.5]), np.array(NEAR)], bounds=(-1, 1))
    assert beyond[:2] == (pytest.approx(0.8 - half, abs=1e-4), 1)
    assert inside == compute_mean_intervals([np.array([0.5, 0.6, 0.4, 0.5])])[0]


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_a_metric_states_the_range_of_its_columns(number: int) -> None:
    build, expected = BOUNDS[number]
    metric = build()
    facts = collect_metric_facts([metric])
    assert {column: facts[f"{metric.name}{column}"].bounds for column in expected} == expected
    limited = {"_".join(["", *name.split("_")]) for name in metric.columns if not name.startswith("draw_")}
    assert limited - set(expected) <= {"_coverage", "_deletion_plain"}, "no column is left out"


def test_a_score_that_is_no_probability_has_no_range() -> None:
    assert [fact.bounds for fact in collect_metric_facts([MorfLerf(space="logit")]).values()] == [None] * 3
    for options in ({"has_probabilities": False}, {"has_contrast": True}):
        facts = collect_metric_facts([Deletion(), AverageDrop(), Stability(2), SufficientRegion()], **options)
        found = {name: fact.bounds for name, fact in facts.items()}
        assert found["deletion"] is None
        assert found["average_drop"] == (0, None), "a drop is never negative"
        assert found["stability"] == (-1, 1)
        assert found["average_drop_coverage"] == found["sufficient_region"] == (0, 1)


class Colours(nn.Module):
    """Two classes: mean red over mean green, through a layer that can be random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return 4 * self.layer(images.mean((2, 3)))


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_values_lie_in_the_range_that_is_stated(number: int) -> None:
    torch.manual_seed(number)
    metric, classifier = BOUNDS[number][0](), classifier_of(Colours(), 8, 2)
    images, masks = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.rand(4, 8, 8) < 0.3
    maps = torch.randn(4, 8, 8)
    targets = torch.tensor([0, 1, 0, 1])
    context = MetricContext(classifier, images, targets, maps, explainer=Saliency(), masks=masks)
    metric.update(classifier, images, targets, maps, context=context)
    for name, values in metric.compute().items():
        bounds = collect_metric_facts([metric])[name].bounds or (None, None)
        low, high = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
        defined = values[~values.isnan()]
        assert ((defined >= low - 1e-6) & (defined <= high + 1e-6)).all(), (name, values)


def test_the_file_keeps_the_range_and_refuses_another_form(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    for bounds in ([-1, 1], [0, None], [None, 0]):
        path.write_text(json.dumps({"a": {"better": "higher", "variant_of": "", "bounds": bounds}}))
        assert read_metric_facts(tmp_path)["a"].bounds == tuple(bounds)
    for wrong in ([1, -1], [None, None], [0], "ab", 3):
        path.write_text(json.dumps({"a": {"variant_of": "", "bounds": wrong}}))
        with pytest.raises(UserError, match=r"metrics\.json|bounds="):
            read_metric_facts(tmp_path)


def test_summary_and_pairs_end_with_the_metric() -> None:
    fact = MetricFact("higher", bounds=(-1, 1))
    (row,) = summarise_metrics(tabulate(NEAR), {"stability": fact}).to_dict("records")
    assert (row["mean"], row["high"]) == (pytest.approx(0.8), 1)
    (open_ended,) = summarise_metrics(tabulate(NEAR), {"stability": MetricFact("higher")}).to_dict("records")
    assert open_ended["high"] == pytest.approx(1.3357, abs=1e-4)
    assert open_ended["low"] == row["low"]
    values = pd.DataFrame({"a": NEAR, "b": FAR})
    (pair,) = compare_pairs(values, "higher", bounds=(-1, 1)).to_dict("records")
    assert (pair["difference"], pair["high"]) == (pytest.approx(1.6), 2)
    draws = (
        tabulate([0.2, 0.3, 0.1, 0.2]),
        tabulate([0.0, 0.1, 0.1, 0.0], "draw_1"),
        tabulate([0.4, 0.5, 0.1, 0.4], "d"),
    )
    wide = MetricFact("lower", draws=("draw_1", "d"), bounds=(0, 1))
    (row,) = summarise_metrics(pd.concat(draws), {"stability": wide}).to_dict("records")
    assert row["low"] == 0, "cut after the spread of the networks is in it"


@pytest.mark.parametrize(
    ("quantity", "low", "high"),
    [("saliency_spearman", -1, 1), ("saliency_top10", 0, 1), ("saliency_ssim", -1, 1), ("clean_probability", 0, 1)],
)
def test_robustness_ends_with_its_quantities(quantity: str, low: float, high: float) -> None:
    for values, end, expected in ((NEAR, "high", high), ([low + 1 - each for each in NEAR], "low", low)):
        rows = [{"image": str(n), "corruption": "fog", "level": 1, quantity: each} for n, each in enumerate(values)]
        assert set(summarise_robustness(rows)[end]) == {expected}
    rows = [{"image": str(n), "corruption": "fog", "level": 1, "saliency_score": each} for n, each in enumerate(NEAR)]
    assert summarise_robustness(rows)["high"].max() > 1.3, "of which nothing is known"
    assert summarise_robustness(rows, facts={"saliency_score": MetricFact(bounds=(0, 1))})["high"].max() == 1


def test_errors_of_corruptions_end_where_shares_do() -> None:
    levels = {"fog": [1, 1, 1, 0.0], "blur": [1, 1, 0, 1.0], "snow": [1, 1, 1, 1.0]}
    rows = [
        {"image": str(n), "corruption": name, "level": level, "correct": value}
        for name, values in {"clean": [1, 1, 1, 1.0], **levels}.items()
        for n, value in enumerate(values)
        for level in ([0] if name == "clean" else [1])
    ]
    table = summarise_robustness(rows)
    means = table[(table["corruption"] == "mean") & table["quantity"].isin(["error", "relative_error"])]
    assert means["mean"].tolist() == pytest.approx([1 / 6, 1 / 6])
    assert (means.loc[means["quantity"] == "error", "low"] >= 0).all()
    assert means["high"].max() <= 1


def test_lines_of_maps_on_the_page_end_at_one() -> None:
    rows = [
        {"image": str(n), "corruption": "fog", "level": 1, "flip": "no", "lrp_spearman": value}
        for n, value in enumerate(NEAR)
    ]
    chart = build_kept_chart(pd.DataFrame(rows), ["lrp"])
    assert chart is not None
    assert list(chart.lines[0].high) == [1]


def test_curves_end_with_the_probability_and_those_of_a_contrast_do_not() -> None:
    def tabulate_curves(values: list[float]) -> pd.DataFrame:
        rows = [(str(n), "deletion/black", share, 3.0, value) for n, value in enumerate(values) for share in (0.0, 1.0)]
        return pd.DataFrame(rows, columns=["image", "curve", "share", "logit", "probability"])

    near, low = tabulate_curves(NEAR), tabulate_curves([0.0, 0.1, 0.0, 0.7])
    assert compute_mean_curve(near)[3].max() == 1
    assert compute_mean_curve(low)[2].min() == 0
    difference = compute_difference_curve(near, low)
    assert difference is not None
    assert difference[2].min() >= -1
    contrast = tabulate_curves([1.0, 0.9, 1.0, -0.4])
    assert compute_mean_curve(contrast)[3].max() > 1
    outputs = near.assign(logit=near["probability"], probability=np.nan)
    assert compute_mean_curve(outputs)[3].max() > 1


def test_the_leaderboard_ends_with_the_metric_and_mean_ranks_with_the_methods(tmp_path: Path) -> None:
    facts = {"stability": MetricFact("higher", "noise", "robustness", bounds=(-1, 1))}
    values = {"lrp": NEAR, "lime": [0.8, 0.9, 0.9, 0.5], "rise": [0.1, 0.2, 0.3, 0.2]}
    earlier = {"stability": MetricFact("higher", "noise", "robustness")}
    for name, each in values.items():
        write_run(tmp_path / name, name, {"stability": each}, images=4, facts=earlier if name == "lime" else facts)
    comparison = compare_runs(join_runs(find_runs([str(tmp_path / "*")])[0])[0])
    assert comparison.get_mean("lrp", "stability") == (pytest.approx(0.8), pytest.approx(0.2643, abs=1e-4), 1)
    ends = comparison.constructs[0].intervals
    assert comparison.constructs[0].mean_ranks["lrp"] == 1.375, "of the ranks 1, 1.5, 1 and 2"
    assert ends["lrp"][0] == 1
    assert all(1 <= low <= high <= 3 for low, high in ends.values())


def test_compared_networks_differ_by_two_at_most() -> None:
    empty = torch.zeros(0)

    def make_pair(agreement: float, band: float) -> Pair:
        return Pair("image", "cat", "cat", "cat", (True, True), agreement, band, empty, empty)

    verdict = judge([make_pair(agreement, band) for agreement, band in zip(FAR, NEAR, strict=True)])
    assert (verdict.gap, verdict.low) == (pytest.approx(-1.6), -2)
