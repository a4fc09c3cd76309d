"""Intervals, paired tests and ranks against scipy itself, numbers by hand and published tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import Interval, average_clusters, compute_mean_intervals, widen_by_draws
from seewhy.statistics.ranks import rank_explainers
from seewhy.statistics.schema import MetricFact
from seewhy.statistics.summary import check_table, pivot_by_image, pivot_draws, summarise_metrics
from seewhy.statistics.tests import (
    compare_pairs,
    compare_with_control,
    compute_sign_flip_p,
    compute_wilcoxon_p,
    correct_by_holm,
    note_out_of_reach,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def tidy(values: dict[str, list[float]], metric: str = "deletion") -> pd.DataFrame:
    rows = [
        {"image": f"{place:03d}", "explainer": explainer, "metric": metric, "value": value}
        for explainer, found in values.items()
        for place, value in enumerate(found)
    ]
    return pd.DataFrame(rows)


def test_an_interval_follows_the_definition_of_the_bootstrap_t() -> None:
    values = normal(30) ** 2
    (found,) = compute_mean_intervals([values], seed=3)
    ordered = np.sort(values)
    resampled = ordered[np.random.default_rng(3).integers(0, 30, (9999, 30))]
    studentised = np.sort((resampled.mean(1) - values.mean()) / resampled.std(1))
    ends = values.mean() - values.std() * studentised[[9749, 249]]
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-9)
    assert found.note == ""
    t = 2.0452 * values.std(ddof=1) / 30**0.5
    assert found.low > values.mean() - t, "skewed to the right: shorter on the left"
    assert found.high > values.mean() + t


def test_few_different_values_give_at_most_twice_the_width_of_students_t() -> None:
    values = np.array([0.0] * 8 + [0.3, 0.7])
    (found,) = compute_mean_intervals([values])
    t = 2.2622 * values.std(ddof=1) / 10**0.5
    assert found.high == pytest.approx(0.1 + 2 * t, rel=1e-4)
    assert 0.1 - 2 * t < found.low < 0.1


def test_three_or_four_values_have_students_t() -> None:
    values = np.array([1.0, 2.0, 6.0])
    (found,) = compute_mean_intervals([values])
    half = 4.3027 * values.std(ddof=1) / 3**0.5
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), rel=1e-4)
    assert found.note == "only 3 images: intervals are approximate"


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2535, 0.3682), (15, 148, 0.0598, 0.1644), (0, 20, 0.0, 0.2005), (1, 29, 0.0018, 0.1963)],
)
def test_two_outcomes_have_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    """The worked examples of Newcombe 1998, table I, method 4."""
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    (found,) = compute_mean_intervals([values], outcomes=[(0, 1)])
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    (percent,) = compute_mean_intervals([100 * values], outcomes=[(0, 100)])
    assert (percent.low, percent.high) == pytest.approx((100 * found.low, 100 * found.high))


def test_two_different_values_are_two_outcomes_and_others_are_not() -> None:
    hits = np.array([0.0] * 9 + [1.0])
    assert compute_mean_intervals([hits]) == compute_mean_intervals([hits], outcomes=[(0, 1)])
    shifted = compute_mean_intervals([5 - 2 * hits])[0]
    (found,) = compute_mean_intervals([hits])
    assert (shifted.low, shifted.high) == pytest.approx((5 - 2 * found.high, 5 - 2 * found.low))
    share = np.array([0.0] * 8 + [0.5, 1.0])
    assert compute_mean_intervals([share], outcomes=[(0, 1)]) == compute_mean_intervals([share])
    (certain,) = compute_mean_intervals([np.ones(10)], outcomes=[(0, 1)])
    assert certain.low < 0.75
    assert certain.high == 1
    (constant,) = compute_mean_intervals([np.ones(10)])
    assert (constant.low, constant.high) == (1, 1)


def test_cells_of_an_image_count_as_one_value() -> None:
    cells, images = [1.0, 3.0, 5.0, np.nan, 2.0, np.inf], list("bbabcd")
    assert average_clusters(cells, images).tolist() == [5.0, 2.0, 2.0]
    repeated = average_clusters(np.repeat(normal(12), 9), np.repeat(np.arange(12), 9))
    assert compute_mean_intervals([repeated])[0] == pytest.approx((*compute_mean_intervals([normal(12)])[0][:2], ""))


def test_the_spread_of_the_draws_widens_an_interval() -> None:
    interval = Interval(0.4, 0.7, "")
    found = widen_by_draws(interval, 0.5, [0.4, 0.5, 0.6])
    half = 4.3027 * 0.1 / 3**0.5
    assert found.low == pytest.approx(0.5 - (0.1**2 + half**2) ** 0.5, rel=1e-4)
    assert found.high == pytest.approx(0.5 + (0.2**2 + half**2) ** 0.5, rel=1e-4)
    assert widen_by_draws(interval, 0.5, [0.5, 0.5]) == pytest.approx(interval)
    assert widen_by_draws(interval, 0.5, [0.5]).note == "one draw: its spread is not in it"


def test_a_summary_and_a_pair_take_in_the_draws() -> None:
    draws = {"lrp": [[-0.2, 0.4], [-0.3, 0.5], [-0.1, 0.3]], "lime": [[0.1, 0.9], [0.2, 0.8], [0.0, 0.7]]}
    table = pd.concat(
        [
            tidy({name: np.abs(rows).mean(1).tolist() for name, rows in draws.items()}),
            *[tidy({n: [row[k] for row in rows] for n, rows in draws.items()}, f"draw_{k}") for k in (0, 1)],
        ]
    )
    fact = MetricFact("lower", draws=("draw_0", "draw_1"), absolute=True)
    plain, wide = (
        summarise_metrics(table, {"deletion": each}).set_index(["metric", "explainer"])
        for each in (MetricFact("lower"), fact)
    )
    assert [metric for metric, _ in wide.index] == ["deletion", "deletion"], "single draws have no row"
    assert len(plain) == 6
    row, narrow = wide.loc["deletion", "lrp"], plain.loc["deletion", "lrp"]
    assert row["mean"] == narrow["mean"] == pytest.approx(0.3)
    half = 12.7062 * np.std([0.2, 0.4], ddof=1) / 2**0.5
    assert row["low"] == pytest.approx(0.3 - np.hypot(0.3 - narrow["low"], half), rel=1e-4)
    values = pivot_by_image(check_table(table), "deletion")
    pivots = pivot_draws(check_table(table), fact)
    assert pivots[0]["lrp"].tolist() == pytest.approx([0.2, 0.3, 0.1])
    (pair,), (alone,) = (compare_pairs(values, "lower", 0, each).to_dict("records") for each in (pivots, []))
    half = 12.7062 * np.std([0.1 - 0.2, 0.8 - 0.4], ddof=1) / 2**0.5
    assert pair["difference"] == alone["difference"]
    assert pair["high"] == pytest.approx(
        pair["difference"] + np.hypot(alone["high"] - pair["difference"], half), rel=1e-4
    )


def test_intervals_keep_their_place_among_samples_of_other_lengths() -> None:
    samples = [normal(12), np.array([1.0]), normal(30, seed=1), normal(12, seed=2), np.full(4, 0.1)]
    together = compute_mean_intervals(samples)
    for sample, found in zip(samples, together, strict=True):
        (alone,) = compute_mean_intervals([sample[::-1]])
        np.testing.assert_equal(found, alone)


@pytest.mark.parametrize(
    ("values", "low", "high", "note"),
    [
        ([], np.nan, np.nan, "n=0: too few for an interval"),
        ([1.0], np.nan, np.nan, "n=1: too few for an interval"),
        ([1.0, 2.0], np.nan, np.nan, "n=2: too few for an interval"),
        ([0.1] * 5, 0.1, 0.1, "all 5 values are equal"),
    ],
)
def test_degenerate_samples_say_what_they_are(values: list[float], low: float, high: float, note: str) -> None:
    (found,) = compute_mean_intervals([np.array(values)])
    np.testing.assert_equal(found[:2], (low, high))
    assert found.note == note


def test_values_whose_squares_are_too_small_for_a_float() -> None:
    (found,), (large,) = (compute_mean_intervals([np.arange(12) * scale]) for scale in (1e-200, 1.0))
    assert (found.low * 1e200, found.high * 1e200) == pytest.approx((large.low, large.high))
    assert 0 < found.low < 5.5e-200 < found.high < 11e-200


def test_few_values_are_called_rough() -> None:
    (found,) = compute_mean_intervals([normal(4)])
    assert found.note == "only 4 images: intervals are approximate"
    assert found.low < found.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "least"), [("normal", 0.93), ("exponential", 0.90), ("lognormal", 0.88), ("hits", 0.93)]
)
def test_ten_values_cover_the_true_mean_about_as_often_as_they_say(kind: str, least: float) -> None:
    draw = np.random.default_rng(0)
    samples, mean = {
        "normal": (draw.normal(size=(600, 10)), 0),
        "exponential": (draw.exponential(size=(600, 10)), 1),
        "lognormal": (draw.lognormal(size=(600, 10)), np.exp(0.5)),
        "hits": ((draw.random((600, 10)) < 0.1).astype(float), 0.1),
    }[kind]
    outcomes = [(0, 1)] * 600 if kind == "hits" else None
    covered = [found.low <= mean <= found.high for found in compute_mean_intervals(list(samples), 0, outcomes)]
    assert least <= np.mean(covered) < 0.995


def test_a_summary_counts_failures_and_leaves_them_out() -> None:
    table = tidy({"lrp": [1.0, 2.0, np.nan, 6.0, np.inf], "lime": [np.nan] * 5})
    found = summarise_metrics(table, {"deletion": MetricFact("lower", "black")}).set_index("explainer")
    assert list(found.columns) == ["metric", "n", "failures", "mean", "median", "low", "high", "better", "note"]
    lrp, lime = found.loc["lrp"], found.loc["lime"]
    assert (lrp["n"], lrp["failures"], lrp["mean"], lrp["median"], lrp["better"]) == (3, 2, 3.0, 2.0, "lower")
    assert lrp["note"] == "only 3 images: intervals are approximate; 2 missing"
    assert (lime["n"], lime["failures"]) == (0, 5)
    assert np.isnan(lime["mean"])
    assert summarise_metrics(table)["better"].tolist() == ["none", "none"]
    assert len(summarise_metrics(table.iloc[:0])) == 0


def test_a_malformed_table_is_refused() -> None:
    table = tidy({"lrp": [1.0, 2.0]})
    with pytest.raises(UserError, match="value is missing"):
        check_table(table.drop(columns="value"))
    with pytest.raises(UserError, match=r"two values for image '000', explainer 'lrp', metric 'deletion'"):
        check_table(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(UserError, match="deletion stands for two variants, 'black' and 'mean'"):
        check_table(table.assign(variant=["black", "mean"]))
    assert len(check_table(table.assign(variant="black"))) == 2


def test_holm_by_hand() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(correct_by_holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_allclose(correct_by_holm(np.array([0.5, 0.9])), [1.0, 1.0])
    assert np.isnan(correct_by_holm(np.array([np.nan]))).all()


def test_wilcoxon_by_hand_and_by_scipy() -> None:
    assert compute_wilcoxon_p(np.arange(1.0, 7)) == 2 / 2**6
    assert compute_wilcoxon_p(np.array([1.0, 2, 3, 4, 5, 6, -7])) == pytest.approx(
        2 * 19 / 2**7
    )  # 19 of 128 sums are <= 7
    gaps = normal(40) + 0.3
    assert compute_wilcoxon_p(gaps) == stats.wilcoxon(gaps, method="exact").pvalue
    assert compute_wilcoxon_p(np.concatenate([np.arange(1.0, 7), np.zeros(90)])) == 2 / 2**6
    assert compute_wilcoxon_p(np.zeros(8)) == 1
    assert np.isnan(compute_wilcoxon_p(np.arange(5.0)))


def test_a_pair_by_hand() -> None:
    values = pd.DataFrame({"b": [1.0, 2, 3, 4, 5, 6, 7, 8], "a": [1.0, 1, 1, 1, 1, 1, 1, np.nan]})
    (row,) = compare_pairs(values, "lower").to_dict("records")
    assert (row["explainer"], row["other"], row["n"], row["difference"]) == ("a", "b", 7, -3.0)
    assert row["low"] < -3 < row["high"] < 0
    assert row["win_rate"] == pytest.approx(6.5 / 7)
    assert compare_pairs(values, "higher")["win_rate"][0] == pytest.approx(0.5 / 7)
    assert row["p"] == row["p_holm"] == row["p_wilcoxon"] == row["p_wilcoxon_holm"] == 2 / 2**6
    assert row["test"] == "sign-flip permutation of the mean, exact"
    assert row["winner"] == "a"
    assert np.isnan(row["detectable"])
    assert np.isnan(row["n_needed"])
    assert compare_pairs(values, "higher")["winner"][0] == "b"


def test_identical_runs_do_not_differ() -> None:
    values = pd.DataFrame(dict.fromkeys("abc", normal(20)))
    found = compare_pairs(values, "higher")
    assert (found["difference"] == 0).all()
    assert (found[["low", "high"]] == 0).all().all()
    assert (found[["p", "p_holm"]] == 1).all().all()
    assert (found["win_rate"] == 0.5).all()
    assert (found["winner"] == "").all()
    ranks = rank_explainers(values, "higher")
    assert (ranks.average, ranks.p) == ((2.0, 2.0, 2.0), 1.0)
    assert set(compare_with_control(values, "higher", "a")["beats"]) == {"control", "no"}


def test_small_n_says_so() -> None:
    four = pd.DataFrame({name: normal(4, seed=seed) + 9 * seed for seed, name in enumerate("abc")})
    assert set(compare_pairs(four, "higher")["note"]) == {"n=4: too few for a test"}
    assert compare_pairs(four, "higher")["p"].isna().all()
    assert set(compare_with_control(four, "higher", "a")["beats"]) == {"control", "untested"}
    ranks = rank_explainers(four, "higher")
    assert np.isnan(ranks.p)
    assert ranks.note == "n=4: too few for a test"
    assert "3 comparisons" in note_out_of_reach(6, 3)
    assert note_out_of_reach(6, 1) == note_out_of_reach(8, 6) == ""
    assert note_out_of_reach(8, 7) != ""
    assert note_out_of_reach(1000, 2000) == ""
    assert note_out_of_reach(1000, 2500) != ""  # 49,999 flips cannot give less than p = 1 / 50,000


def test_ranks_by_hand() -> None:
    values = pd.DataFrame({"a": [3.0, 3, 3, 1], "b": [2.0, 3, 2, 2], "c": [1.0, 1, 1, 3], "d": [np.nan] * 4})
    ranks = rank_explainers(values, "higher")
    assert ranks.explainers == ("a", "b", "c")
    assert ranks.average == (1.625, 1.875, 2.5)
    assert "d has no value" in ranks.note
    assert rank_explainers(values, "lower").explainers == ("c", "b", "a")


def test_friedman_is_scipys_over_the_complete_images() -> None:
    values = pd.DataFrame(normal(20, 4) + np.array([0, 0.2, 0.4, 2]), columns=list("dcba"))
    values.iloc[3, 1] = np.nan
    ranks = rank_explainers(values, "higher")
    complete = values.dropna()
    assert ranks.n == 19
    assert "19 of 20 images" in ranks.note
    assert ranks.p == pytest.approx(stats.friedmanchisquare(*complete.to_numpy().T).pvalue)
    assert ranks.explainers[0] == "a"


def test_only_what_is_better_beats_the_control() -> None:
    base = normal(25)
    values = pd.DataFrame({"random": base, "good": base - 1 - 0.1 * normal(25, seed=1), "bad": base + 1, "same": base})
    found = compare_with_control(values, "lower", "random").set_index("explainer")
    assert found["beats"].to_dict() == {"random": "control", "good": "yes", "bad": "no", "same": "no"}
    p = compute_sign_flip_p([(values[name] - base).to_numpy() for name in ("bad", "good", "same")])
    np.testing.assert_allclose(found.loc[["bad", "good", "same"], "p"], correct_by_holm(p))
    assert compare_with_control(values, "higher", "random").set_index("explainer")["beats"]["bad"] == "yes"


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.permutations(range(24)), st.integers(0, 5))
def test_the_order_of_the_rows_changes_nothing(order: list[int], seed: int) -> None:
    table = tidy({name: list(normal(8, seed=place)) for place, name in enumerate(("random", "lrp", "lime"))})
    turned = table.iloc[order]
    pd.testing.assert_frame_equal(
        summarise_metrics(table, seed=seed), summarise_metrics(turned, seed=seed), check_exact=True
    )
    one, other = (pivot_by_image(check_table(part), "deletion") for part in (table, turned))
    pairs = compare_pairs(one, "lower", seed)
    pd.testing.assert_frame_equal(
        pairs, compare_pairs(other[["random", "lime", "lrp"]], "lower", seed), check_exact=True
    )
    assert rank_explainers(one, "lower") == rank_explainers(other, "lower")


def test_the_seed_decides_the_interval() -> None:
    values = [normal(30)]
    assert compute_mean_intervals(values, 1) == compute_mean_intervals(values, 1)
    assert compute_mean_intervals(values, 1) != compute_mean_intervals(values, 2)
