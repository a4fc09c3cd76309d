"""Split conformal regions: the rank by hand, the promise by simulation, and too few images."""

import math

import numpy as np
import pandas as pd
import pytest

from seewhy.core.errors import UserError
from seewhy.statistics.conformal import (
    calibrate_size,
    check_coverage,
    count_needed,
    split_images,
    summarise_regions,
)


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(19, 0.05, 19), (39, 0.05, 38), (4, 0.2, 4), (9, 0.2, 8), (10, 0.2, 9), (99, 0.01, 99)]
)
def test_the_size_is_that_of_a_rank(n: int, alpha: float, rank: int) -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(1, n + 1) / n)
    assert calibrate_size(sizes, alpha) == rank / n
    slow = min(size for size in sizes if (sizes <= size).sum() / (n + 1) >= 1 - alpha - 1e-12)
    assert calibrate_size(sizes, alpha) == slow


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.2, 4), (0.1, 9), (0.5, 1), (0.3, 3), (0.01, 99)])
def test_too_few_images_are_refused(alpha: float, needed: int) -> None:
    assert count_needed(alpha) == needed
    calibrate_size(np.arange(needed), alpha)
    if needed > 1:
        words = f"alpha={alpha:g} needs {needed} calibration images, and there are {needed - 1}: explain at least"
        with pytest.raises(UserError, match=f"{words} {2 * needed} images"):
            calibrate_size(np.arange(needed - 1), alpha)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="alpha=1 must lie between 0 and 1"):
        calibrate_size([0.1] * 30, 1)
    with pytest.raises(UserError, match="finite"):
        calibrate_size([0.1, math.nan] * 30, 0.2)
    with pytest.raises(UserError, match="held-out images"):
        check_coverage([0.1] * 30, [], 0.2)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_holds_over_splits(alpha: float) -> None:
    """Of 3,000 draws of 40 calibration images and a new one the share that is covered is k / 41, within 4 sigma."""
    draws = np.random.default_rng(1).exponential(size=(3000, 41))
    covered = np.mean([row[40] <= calibrate_size(row[:40], alpha) for row in draws])
    expected = math.ceil(41 * (1 - alpha)) / 41
    assert abs(covered - expected) < 4 * math.sqrt(expected * (1 - expected) / 3000)
    assert expected >= 1 - alpha


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_ranges_of_the_coverage_hold_as_often_as_they_say(alpha: float) -> None:
    draws = np.random.default_rng(2).normal(size=(2000, 60))
    checks = [check_coverage(row[:30], row[30:], alpha) for row in draws]
    within = np.mean([each.expected[0] - 1e-9 <= each.covered <= each.expected[1] + 1e-9 for each in checks])
    assert within >= 0.94
    assert all(each.interval[0] <= each.covered <= each.interval[1] for each in checks)


def test_a_table_shares_its_split_and_says_what_is_missing() -> None:
    names = [f"image_{number:02d}" for number in range(40)]
    sizes = pd.DataFrame({"a": np.linspace(0.1, 0.9, 40), "b": 0.5}, index=names)
    sizes.loc["image_03", "b"] = np.nan
    calibration, held_out = split_images(names, 3)
    assert (len(calibration), len(held_out), {*calibration, *held_out}) == (20, 20, {*names})
    assert split_images(names[::-1], 3) == (calibration, held_out)
    rows = summarise_regions(sizes, 3).set_index(["explainer", "alpha"])
    expected = check_coverage(sizes["a"][calibration], sizes["a"][held_out], 0.2)
    assert (rows["size"]["a", 0.2], rows["covered"]["a", 0.2]) == (expected.size, expected.covered)
    assert (rows["size"]["b", 0.05], rows["covered"]["b", 0.05]) == (0.5, 1.0)
    assert rows["note"]["b", 0.2] == "1 without a size"
    few = summarise_regions(sizes.iloc[:12]).set_index(["explainer", "alpha"])
    assert "needs 19 calibration images, and there are 6" in few["note"]["a", 0.05]
    assert math.isnan(few["size"]["a", 0.05])
    assert few["n_calibration"]["a", 0.2] == 6
