"""Agreement of metrics: against scipy, by hand, and with one image left out at a time."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from seewhy.statistics.agreement import compute_tau, measure_rank_stability, tabulate_agreement


def test_tau_is_that_of_scipy_with_and_without_ties() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 40, 6))
    expected = [stats.kendalltau(one, other).statistic for one, other in zip(first, second, strict=True)]
    np.testing.assert_allclose(compute_tau(first, second), expected, atol=1e-12)
    assert np.isnan(compute_tau([1, 1, 1], [1, 2, 3]))


def test_metrics_agree_in_their_better_directions() -> None:
    means = {
        "up": {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0},
        "down": {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1},
        "few": {"a": 1.0, "b": 2.0},
        "mixed": {"a": 2.0, "b": 1.0, "c": 3.0, "d": np.nan},
    }
    table = tabulate_agreement(means, {"up": "higher", "down": "lower", "few": "higher", "mixed": "higher"})
    rows = table.set_index(["metric", "other"])
    assert rows["tau"]["up", "down"] == pytest.approx(1)
    assert rows["tau"]["up", "mixed"] == pytest.approx(1 / 3)
    assert rows["tau"]["down", "mixed"] == pytest.approx(1 / 3)
    assert rows["n_methods"]["up", "mixed"] == 3
    assert np.isnan(rows["tau"]["up", "few"]), "two methods are no ranking"


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_one_image_less_by_the_loop(better: str) -> None:
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(9, 4)), columns=list("abcd"))
    values.loc[4, "b"] = np.nan
    values["empty"] = np.nan
    found = measure_rank_stability(values, better)  # type: ignore[arg-type]
    rest = values.drop(index=4).drop(columns="empty")
    pick = pd.Series.idxmax if better == "higher" else pd.Series.idxmin
    firsts = [pick(rest.drop(index=row).mean()) for row in rest.index]
    taus = [stats.kendalltau(rest.mean(), rest.drop(index=row).mean()).statistic for row in rest.index]
    assert found is not None
    assert (found.first, found.n_images, found.n_methods) == (pick(rest.mean()), 8, 4)
    assert found.first_kept == np.mean([first == found.first for first in firsts])
    assert (found.tau_mean, found.tau_least) == (pytest.approx(np.mean(taus)), pytest.approx(np.min(taus)))
    assert found.first_kept < 1
    assert measure_rank_stability(values[["a", "b"]], "higher") is None
