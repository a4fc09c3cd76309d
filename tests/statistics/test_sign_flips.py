"""The test beside a mean: exact p values by hand, scipy's permutation test, its size under the hypothesis, its order."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from seewhy.statistics import tests
from seewhy.statistics.tests import (
    FLIPS,
    compare_pairs,
    compare_with_control,
    compute_detectable_difference,
    compute_least_p,
    compute_needed_images,
    compute_sign_flip_p,
    compute_wilcoxon_p,
    name_test,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),  # |sum| = 15 with all signs alike alone
        ([-1, 2, 3, 4, 5], 4 / 32),  # 13 or more: all alike, or 1 alone turned
        ([-1, -2, 3, 4, 5], 10 / 32),  # 9 or more: turned are none, 1, 2, 3 or 1 and 2, and their negatives
        ([0.1, 0.2, -0.3, 0, 0], 1),  # no mean, though 0.1 + 0.2 is not 0.3 in floats
        ([0.1, 0.1, 0.1, -0.1, 0.1], 12 / 32),  # at most one turned, ties count
        ([0, 0, 0, 0, 7], 1),
        ([0, 0, 0, 0, 0], 1),
        ([3e-200] * 5, 2 / 32),
        ([3e200] * 5, 2 / 32),
    ],
)
def test_five_differences_by_hand(differences: list[float], p: float) -> None:
    values = np.array(differences)
    assert compute_sign_flip_p([values])[0] == p
    assert compute_sign_flip_p([-values[::-1]])[0] == p


def test_without_differences_there_is_no_p() -> None:
    assert np.isnan(compute_sign_flip_p([np.array([])])).all()
    assert compute_sign_flip_p([]).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("size", [6, 11, 16])
def test_exact_values_are_scipys(size: int) -> None:
    samples = [normal(size, seed=seed) + 0.4 for seed in range(4)]
    expected = [
        stats.permutation_test(
            (sample,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True, axis=-1
        ).pvalue
        for sample in samples
    ]
    np.testing.assert_allclose(compute_sign_flip_p(samples), expected, rtol=1e-12)
    assert name_test(samples[0]).endswith("exact")


def test_drawn_flips_agree_with_scipys_within_their_error() -> None:
    samples = [normal(40, seed=seed) + 0.3 for seed in range(3)]
    for sample, p in zip(samples, compute_sign_flip_p(samples), strict=True):
        expected = stats.permutation_test(
            (sample,), np.mean, permutation_type="samples", n_resamples=49_999, vectorized=True, axis=-1, rng=1
        ).pvalue
        assert abs(p - expected) < 5 * (2 * p / FLIPS) ** 0.5
        assert name_test(sample).endswith("49,999 flips")


def test_a_drawn_p_is_never_zero() -> None:
    assert compute_sign_flip_p([np.full(30, 2.0)])[0] == pytest.approx(1 / 50_000)
    assert compute_least_p(30) == 1 / 50_000
    assert compute_least_p(7) == compute_sign_flip_p([np.arange(1.0, 8)])[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 24])
def test_p_is_uniform_where_signs_are_a_matter_of_chance(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests, "FLIPS", 9_999)
    values = normal(2000, size, seed=5) ** 3  # heavy tails, symmetric
    p = compute_sign_flip_p(list(values))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.04 < (p <= 0.05).mean() < 0.062


def test_order_direction_and_company_change_nothing() -> None:
    sample = normal(30) + 0.2
    (p,) = compute_sign_flip_p([sample], seed=3)
    turned = compute_sign_flip_p([normal(30, seed=9), -sample[::-1], normal(12)], seed=3)
    assert turned[1] == p
    assert compute_sign_flip_p([sample], seed=4)[0] != p
    assert compute_sign_flip_p([sample * 1024], seed=3)[0] == p


def test_a_mean_apart_from_zero_is_told_where_ranks_hide_it() -> None:
    """Large gains on a quarter of the images, small losses on the others: the mean is what the page shows."""
    gaps = np.concatenate([np.linspace(-0.9, -0.45, 16), np.linspace(0.01, 0.1, 44)])
    assert gaps.mean() == pytest.approx(-0.14, abs=0.005)
    values = pd.DataFrame({"occlusion": gaps, "random": np.zeros(60)})
    (row,) = compare_pairs(values, "lower").to_dict("records")
    assert row["low"] < row["high"] < 0
    assert compute_wilcoxon_p(gaps) > 0.05
    assert row["p_wilcoxon"] > 0.05
    assert row["p"] < 0.01
    assert row["winner"] == "occlusion"
    assert row["win_rate"] == pytest.approx(16 / 60)
    assert compare_pairs(values, "higher")["winner"][0] == "random"
    verdict = compare_with_control(values, "lower", "random").set_index("explainer").loc["occlusion"]
    assert (verdict["beats"], verdict["p"], verdict["test"]) == ("yes", row["p"], row["test"])


def test_what_so_many_images_would_have_found_and_how_many_are_needed() -> None:
    """Cohen's tables: 34 pairs for an effect of 0.5, 15 for 0.8, 199 for 0.2 (two-sided 5 %, 80 % power)."""
    shape = stats.zscore(normal(50), ddof=1)
    for effect, n in ((0.5, 34), (0.8, 15), (0.2, 199)):
        assert compute_needed_images(3 * (shape + effect)) == n
    assert compute_detectable_difference(stats.zscore(normal(34), ddof=1)) == pytest.approx(0.495, abs=0.002)
    assert np.isnan(compute_needed_images(np.array([1.0, -1, 1, -1])))
    assert np.isnan(compute_detectable_difference(np.full(9, 2.0)))
    assert compute_needed_images(shape + 0.001) == pytest.approx(2.8016**2 * 1e6, rel=1e-3)


def test_the_detectable_difference_is_found_in_four_of_five_samples() -> None:
    samples = normal(3000, 20, seed=2)
    detectable = compute_detectable_difference(stats.zscore(samples[0], ddof=1))
    p = stats.ttest_1samp(samples + detectable, 0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_a_difference_without_a_winner_says_what_it_would_take() -> None:
    values = pd.DataFrame({"a": normal(20) + 0.1, "b": np.zeros(20)})
    (row,) = compare_pairs(values, "higher").to_dict("records")
    gaps = values["a"].to_numpy()
    assert row["winner"] == ""
    assert row["detectable"] == pytest.approx(compute_detectable_difference(gaps))
    assert row["n_needed"] == compute_needed_images(gaps)
    assert "80 % power" in row["note"]
    assert row["n_needed"] > 20
    assert row["detectable"] > row["difference"]
