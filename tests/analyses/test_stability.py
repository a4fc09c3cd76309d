"""Spearman, top-10 % overlap and SSIM against plain loops, scipy and scikit-image."""

import numpy as np
import pytest
import torch
from scipy import stats

from seewhy.analyses.robustness.stability import compute_ssim_map, measure_stability


def maps(count: int, size: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed))


def one(
    clean: torch.Tensor, other: torch.Tensor, signed: bool = True, valid: torch.Tensor | None = None
) -> dict[str, float]:
    known = None if valid is None else valid[None, None]
    return {
        name: float(value) for name, value in measure_stability(clean[None], other[None, None], signed, known).items()
    }


def test_the_same_map_is_as_stable_as_can_be() -> None:
    for each in (maps(1)[0], maps(1)[0].relu()):
        assert one(each, each) == pytest.approx({"spearman": 1, "top10": 1, "ssim": 1})


def test_scale_changes_nothing_and_the_negative_is_the_opposite() -> None:
    clean = maps(1)[0]
    assert one(clean, 7 * clean) == pytest.approx({"spearman": 1, "top10": 1, "ssim": 1}, abs=1e-5)
    opposite = one(clean, -clean)
    assert opposite["spearman"] == pytest.approx(-1)
    assert opposite["top10"] == 0
    assert opposite["ssim"] < 0


def test_ranks_are_scipys_also_with_ties() -> None:
    for seed in range(5):
        clean, other = maps(2, seed=seed).round(decimals=1).relu()
        expected = stats.spearmanr(clean.flatten(), other.flatten()).statistic
        assert one(clean, other)["spearman"] == pytest.approx(expected, abs=1e-6)


def test_overlap_by_hand() -> None:
    clean, other = torch.zeros(4, 5), torch.zeros(4, 5)
    clean[0, 0], clean[0, 1] = 3, 2
    other[0, 0], other[3, 3] = 1, 2
    assert one(clean, other)["top10"] == 0.5
    sparse = torch.zeros(4, 5)
    sparse[0, 0] = 1  # one place of two is shared by 19 zeros
    assert one(sparse, sparse)["top10"] == pytest.approx(1)
    assert one(sparse, other)["top10"] == pytest.approx((1 + 1 / 19) / 2)
    assert one(torch.zeros(4, 5), other)["top10"] == pytest.approx(0.1)


def test_only_valid_pixels_count() -> None:
    clean, other = maps(2, size=20)
    valid = torch.zeros(20, 20, dtype=torch.bool)
    valid[3:17, 2:12] = True
    spoiled = torch.where(valid, other, 1e6)
    assert one(clean, spoiled, valid=valid) == pytest.approx(one(clean, other, valid=valid))
    expected = stats.spearmanr(clean[valid], other[valid]).statistic
    assert one(clean, other, valid=valid)["spearman"] == pytest.approx(expected, abs=1e-6)
    wanted = int(np.ceil(0.1 * int(valid.sum())))
    tops = [
        set(torch.where(valid, each, -torch.inf).flatten().topk(wanted).indices.tolist()) for each in (clean, other)
    ]
    assert one(clean, other, valid=valid)["top10"] == pytest.approx(len(tops[0] & tops[1]) / wanted)


def test_ssim_follows_the_formula_pixel_by_pixel() -> None:
    clean, other = maps(2, size=9)
    a, b = ((each.double() / each.abs().max() + 1) / 2 for each in (clean, other))
    c1, c2, total = 0.01**2, 0.03**2, 0.0
    for y in range(9):
        for x in range(9):
            window = torch.zeros(9, 9, dtype=torch.float64)
            for v in range(max(0, y - 5), min(9, y + 6)):
                for u in range(max(0, x - 5), min(9, x + 6)):
                    window[v, u] = np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * 1.5**2))
            window /= window.sum()
            m1, m2 = (window * a).sum(), (window * b).sum()
            v1, v2 = (window * (a - m1) ** 2).sum(), (window * (b - m2) ** 2).sum()
            shared = (window * (a - m1) * (b - m2)).sum()
            total += float((2 * m1 * m2 + c1) * (2 * shared + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2)))
    assert one(clean, other)["ssim"] == pytest.approx(total / 81, abs=1e-5)


def test_ssim_is_scikit_images_away_from_the_border() -> None:
    from skimage import metrics

    clean, other = ((each / each.abs().max()).double().abs() for each in maps(2, size=60))
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, picture = metrics.structural_similarity(clean.numpy(), other.numpy(), **options)
    ours = compute_ssim_map(clean[None, None], other[None, None], torch.ones(1, 1, 60, 60, dtype=torch.bool))[0, 0]
    np.testing.assert_allclose(ours[5:-5, 5:-5], picture[5:-5, 5:-5], atol=1e-9)


def test_maps_without_values_have_no_stability() -> None:
    clean, broken = maps(1)[0], maps(1)[0].clone()
    broken[0, 0] = torch.nan
    assert all(np.isnan(value) for value in one(clean, broken).values())
    assert all(np.isnan(value) for value in one(clean, clean, valid=torch.zeros(12, 12, dtype=torch.bool)).values())
    assert np.isnan(one(clean, torch.zeros(12, 12))["spearman"])


def test_many_versions_at_once_are_each_measured_alone() -> None:
    clean, others = maps(2), maps(6, seed=1).view(2, 3, 12, 12)
    together = measure_stability(clean, others, signed=False)
    for image in range(2):
        for version in range(3):
            alone = one(clean[image], others[image, version], signed=False)
            assert {
                name: float(together[name][image, version]) for name in ("spearman", "top10", "ssim")
            } == pytest.approx(alone, abs=1e-5)
