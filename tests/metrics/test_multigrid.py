"""Conjugate gradients with a multigrid cycle against dense solutions and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_imputation import dense

from seewhy.metrics import imputation, multigrid
from seewhy.metrics.imputation import draw_noise, impute_images
from seewhy.metrics.multigrid import build_grids, fill_hidden, run_cycle


def solve_densely(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    channels_first = torch.from_numpy(np.moveaxis(image, 2, 0).copy())
    return np.moveaxis(dense(channels_first, torch.from_numpy(hidden)).numpy(), 0, 2)


def make_holes(height: int, width: int) -> dict[str, NDArray[np.bool_]]:
    """Holes that a grid of half the pixels sees whole, in part and not at all, inside and at the border."""
    draws = np.random.default_rng(4)
    rows, columns = np.mgrid[:height, :width]
    square = (rows >= 1) & (rows < height - 2) & (columns < width // 2)
    return {
        "one": (rows == 1) & (columns == 2),
        "few": draws.random((height, width)) < 0.2,
        "most": draws.random((height, width)) < 0.9,
        "square": square,
        "frame": (rows < 2) | (columns >= width - 3),
        "stripes": columns % 3 > 0,
        "board": (rows + columns) % 2 == 0,
        "all but a corner": (rows > 0) | (columns > 0),
    }


SHAPES = [(33, 47, 3), (8, 8, 1), (16, 40, 4), (5, 61, 2), (64, 1, 3), (1, 9, 5)]


def fill(image: NDArray[np.floating[Any]], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    filled = fill_hidden(image, hidden)
    assert filled is not None
    return filled


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_dense_solution_in_both_precisions(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    image = np.random.default_rng(3).random((height, width, channels))
    for form, hidden in make_holes(height, width).items():
        if not hidden.any() or hidden.all():
            continue
        expected = solve_densely(image, hidden)
        np.testing.assert_allclose(fill(image, hidden), expected, rtol=0, atol=1e-10, err_msg=form)
        single = image.astype(np.float32)
        np.testing.assert_allclose(fill(single, hidden), expected, rtol=0, atol=1e-5, err_msg=form)
        assert np.array_equal(fill(single, hidden)[~hidden], single[~hidden])


def test_a_large_hole_is_filled_with_the_one_value_that_is_seen() -> None:
    image = np.full((200, 130, 3), 0.75, dtype=np.float32)
    image[:, :100] = np.nan  # what is hidden is not read
    image[17, 120] = [0.1, 0.5, 0.9]
    hidden = np.ones(image.shape[:2], dtype=np.bool_)
    hidden[17, 120] = False
    np.testing.assert_allclose(fill(image, hidden), np.broadcast_to(image[17, 120], image.shape), rtol=0, atol=1e-5)


def test_a_ramp_goes_on_over_a_large_hole() -> None:
    image = np.broadcast_to(np.linspace(0, 1, 181)[:, None, None], (181, 150, 1))
    hidden = np.zeros(image.shape[:2], dtype=np.bool_)
    hidden[3:-3, 2:-2] = True
    image = image.copy()
    image[hidden] = 0
    np.testing.assert_allclose(fill(image, hidden)[:, 75, 0], np.linspace(0, 1, 181), rtol=0, atol=1e-2)
    hidden[:, :2] = hidden[:, -2:] = True  # whole rows: only the ramp keeps the mean of its neighbours
    hidden[:3] = hidden[-3:] = False
    ramp = np.tile(np.linspace(0, 1, 181), (150, 1))
    np.testing.assert_allclose(fill(image, hidden)[:, :, 0].T, ramp, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", make_holes(40, 40))
def test_a_cycle_is_symmetric_and_positive(form: str) -> None:
    hidden = make_holes(40, 40)[form]
    grids = build_grids(hidden, 1)
    mask = grids[0].mask
    first, second = np.random.default_rng(5).standard_normal((2, *mask.shape)).astype(np.float32) * mask
    pairs = ((first, second), (second, first))
    there, back = (np.vdot(other, run_cycle(grids, one).astype(np.float64)) for one, other in pairs)
    size = np.vdot(first, run_cycle(grids, first).astype(np.float64))
    assert size > 0
    assert abs(there - back) < 1e-4 * size


def test_few_steps_are_needed_however_large_the_hole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = []

    def count(grids: list[multigrid.Grid], right: NDArray[np.float32]) -> NDArray[np.float32]:
        cycles.append(right.shape)
        return run_cycle(grids, right)

    monkeypatch.setattr(multigrid, "run_cycle", count)
    counts = []
    for side in (32, 64, 131, 225, 256):
        cycles.clear()
        image = np.random.default_rng(6).random((side, side, 1)).astype(np.float32)
        hidden = np.zeros((side, side), dtype=np.bool_)
        hidden[2:-2, 2:-2] = True
        fill(image, hidden)
        counts.append(cycles.count((side, side, 1)))
    assert max(counts) <= 16, counts


@pytest.mark.parametrize("threads", [1, 3])
def test_large_systems_are_those_of_the_sparse_factors_each_alone(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    images = torch.rand(3, 3, 96, 70, generator=torch.Generator().manual_seed(1))
    shares = torch.tensor([0.4, 0.6, 0.95])[:, None, None]
    hidden = torch.rand(3, 96, 70, generator=torch.Generator().manual_seed(2)) < shares
    noises = torch.stack([draw_noise(image.shape, torch.Generator().manual_seed(7)) for image in images])
    found = impute_images(list(images), hidden, list(noises))
    for place in range(3):
        alone = impute_images([images[place]], hidden[place][None], [noises[place]])
        assert torch.equal(found[place], alone[0])
    monkeypatch.setattr(imputation, "FEW", hidden[0].numel())
    direct = impute_images(list(images), hidden, list(noises))
    assert not torch.equal(found, direct)
    torch.testing.assert_close(found, direct, rtol=0, atol=1e-5)


def impute(images: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return impute_images(list(images), hidden, list(torch.zeros_like(images)))


def make_large_hole(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    return image, torch.rand(1, height, width, generator=torch.Generator().manual_seed(4)) < 0.9


def test_a_solution_that_takes_too_many_steps_is_that_of_the_sparse_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    image, hidden = make_large_hole(80, 80)
    monkeypatch.setattr(multigrid, "MOST", 3)
    assert fill_hidden(np.moveaxis(image[0].numpy(), 0, 2), hidden[0].numpy()) is None
    few = impute(image, hidden)
    monkeypatch.setattr(imputation, "FEW", hidden.numel())
    assert torch.equal(few, impute(image, hidden))


def test_an_almost_flat_long_image_is_that_of_the_sparse_factors() -> None:
    image = torch.full((1, 3, 1, 3000), 0.5)
    image[..., -1] = 0.505
    hidden = torch.ones(1, 1, 3000, dtype=torch.bool)
    hidden[..., [0, -1]] = False
    torch.testing.assert_close(impute(image, hidden)[0, 0, 0], torch.linspace(0.5, 0.505, 3000), rtol=0, atol=1e-6)


def test_a_channel_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    image, hidden = make_large_hole(80, 80)
    expected = impute(image, hidden)
    image[0, 0].masked_fill_(~hidden[0], torch.nan)
    torch.testing.assert_close(impute(image, hidden)[0, 1:], expected[0, 1:], rtol=0, atol=1e-5)
