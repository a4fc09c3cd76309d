"""Correlations by hand and against scipy."""

import math

import pytest
import torch
from scipy import stats

from curve_twin import curved_classifier, make_context
from seewhy.core.tensors import compute_pearson
from seewhy.metrics import similarity
from seewhy.metrics.similarity import compare_maps, compare_with_maps, compute_ranks, compute_spearman
from tiny import random_images

ROWS = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
OTHERS = (ROWS + torch.randn(4, 30, generator=torch.Generator().manual_seed(1))).mul(2).round()
"""With ties."""


@pytest.mark.parametrize(("ours", "theirs"), [(compute_pearson, stats.pearsonr), (compute_spearman, stats.spearmanr)])
def test_each_row_equals_scipy(ours, theirs) -> None:
    expected = [theirs(first, second).statistic for first, second in zip(ROWS.numpy(), OTHERS.numpy(), strict=True)]
    torch.testing.assert_close(ours(ROWS, OTHERS), torch.tensor(expected, dtype=torch.float64))


def test_bounds_by_hand() -> None:
    assert compute_pearson(ROWS, 3 * ROWS + 1).tolist() == pytest.approx([1] * 4)
    assert compute_spearman(ROWS, -ROWS.exp()).tolist() == pytest.approx([-1] * 4)
    assert compute_spearman(torch.tensor([[1.0, 2, 3]]), torch.tensor([[1.0, 3, 2]])).tolist() == pytest.approx([0.5])


def test_a_constant_row_has_no_correlation() -> None:
    constant = torch.full((1, 30), 0.1)
    assert compute_pearson(ROWS[:1], constant).isnan().all()
    assert compute_spearman(constant, ROWS[:1]).isnan().all()


def test_a_blank_other_map_has_nothing_in_common_and_a_blank_map_no_similarity() -> None:
    maps = ROWS.view(4, 5, 6)
    blank = torch.full((4, 5, 6), 0.3)
    assert compare_maps(maps, blank).tolist() == [0] * 4
    assert compare_maps(blank, maps).isnan().all()
    for value in (math.nan, math.inf):
        broken = maps.clone()
        broken[0, 0, 0] = value
        assert compare_maps(broken, maps).isnan().tolist() == [True, False, False, False]
        assert compare_maps(maps, broken).isnan().tolist() == [True, False, False, False]
    assert compare_maps(maps, torch.full((4, 5, 6), math.nan)).isnan().all()


@pytest.mark.parametrize("kind", ["random", "ties", "constant", "infinite", "one"])
def test_ranks_are_those_of_scipy(kind: str) -> None:
    rows = {
        "random": torch.randn(3, 500, generator=torch.Generator().manual_seed(0)),
        "ties": torch.randint(0, 9, (3, 100), generator=torch.Generator().manual_seed(0)).float(),
        "constant": torch.zeros(2, 7),
        "infinite": torch.tensor([[1.0, torch.inf, -torch.inf, torch.inf, 0.0, -0.0]]),
        "one": torch.ones(2, 1),
    }[kind]
    assert compute_ranks(rows).tolist() == stats.rankdata(rows.numpy(), axis=1).tolist()


def test_a_row_with_nan_has_no_ranks() -> None:
    found = compute_ranks(torch.tensor([[1.0, torch.nan, 0.0], [1.0, 2.0, 0.0]]))
    assert found[0].isnan().all()
    assert found[1].tolist() == [2, 3, 1]


def test_the_maps_of_a_batch_are_ranked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(similarity, "compute_ranks", lambda rows: counted.append(len(rows)) or compute_ranks(rows))
    maps, others = ROWS[:, :16].view(4, 4, 4), OTHERS[:, :16].view(4, 4, 4)
    context = make_context(curved_classifier(), random_images(4, 4), torch.zeros(4, dtype=torch.long), maps)
    for other in (others, maps, others):
        torch.testing.assert_close(compare_with_maps(context, other), compare_maps(maps, other), rtol=0, atol=0)
    assert len(counted) == 1 + 3


@pytest.mark.parametrize("shape", [(3, 300, 300), (200, 20, 20), (1, 2, 2)])
def test_bits_do_not_depend_on_the_threads_or_on_the_other_maps(shape, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    second[:, 0] = second[:, 0].round()  # ties
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(compare_maps(first, second))
    found.append(torch.cat([compare_maps(*pair) for pair in zip(first.split(1), second.split(1), strict=True)]))
    assert all(torch.equal(found[0], each) for each in found[1:])
    ranks = compute_ranks(first.flatten(1)), compute_ranks(second.flatten(1))
    torch.testing.assert_close(found[0], compute_pearson(*ranks), rtol=0, atol=1e-15)


def test_no_maps_have_no_similarity() -> None:
    assert compute_ranks(torch.empty(0, 4)).shape == (0, 4)
    assert compare_maps(torch.empty(0, 2, 2), torch.empty(0, 2, 2)).shape == (0,)
