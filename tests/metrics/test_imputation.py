"""Noisy linear imputation against a dense solution, closed forms and Quantus."""

import numpy as np
import pytest
import torch
from torch import Tensor

from seewhy.metrics import imputation
from seewhy.metrics.imputation import draw_noise, impute_image, impute_images
from tiny import random_images

SHAPES = {(-1, -1): 1, (-1, 0): 2, (-1, 1): 1, (0, -1): 2, (0, 1): 2, (1, -1): 1, (1, 0): 2, (1, 1): 1}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def dense(image: Tensor, hidden: Tensor) -> Tensor:
    """Every pixel one equation: seen pixels keep their value, hidden ones are the mean of their neighbours."""
    height, width = hidden.shape
    left, right = np.eye(height * width), image.double().flatten(1).numpy().T.copy()
    for row, column in hidden.nonzero().tolist():
        line = row * width + column
        right[line] = 0
        beside = {
            (row + down) * width + column + over: weight
            for (down, over), weight in SHAPES.items()
            if 0 <= row + down < height and 0 <= column + over < width
        }
        for place, weight in beside.items():
            left[line, place] = -weight / sum(beside.values())
    return torch.from_numpy(np.linalg.solve(left, right).T.reshape(image.shape))


def some_hidden(share: float) -> Tensor:
    return torch.rand(9, 7, generator=generator()) < share


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_the_sparse_solution_is_the_dense_one_with_noise(share: float) -> None:
    image, hidden = random_images(1, 9)[0][:, :, :7], some_hidden(share)
    noise = 0.01 * torch.randn(3, 9, 7, generator=generator())
    expected = torch.where(hidden, (dense(image, hidden) + noise).clamp(0, 1), image.double())
    torch.testing.assert_close(impute_image(image, hidden, generator()), expected, rtol=0, atol=1e-9)


def test_a_ramp_continues_over_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "NOISE", 0.0)
    image = torch.linspace(0, 1, 9).expand(3, 9, 9).clone()
    hidden = torch.zeros(9, 9, dtype=torch.bool)
    hidden[3:6, 2:7] = True
    torch.testing.assert_close(impute_image(image, hidden, generator()), image)


def test_one_seen_pixel_colours_everything_and_seen_pixels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    image, hidden = random_images(1, 8)[0], torch.ones(8, 8, dtype=torch.bool)
    hidden[5, 2] = False
    filled = impute_image(image, hidden, generator())
    assert torch.equal(filled[:, 5, 2], image[:, 5, 2])
    assert 0.005 < float((filled - image[:, 5:6, 2:3])[:, hidden].std()) < 0.015
    monkeypatch.setattr(imputation, "NOISE", 0.0)
    torch.testing.assert_close(impute_image(image, hidden, generator()), image[:, 5:6, 2:3].expand(3, 8, 8))


def test_nothing_hidden_is_the_image() -> None:
    image = random_images(1, 8)[0]
    assert torch.equal(impute_image(image, torch.zeros(8, 8, dtype=torch.bool), generator()), image)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_at_once_are_each_alone(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    images = [random_images(1, 9, seed=seed)[0][:, :, :7] for seed in (0, 0, 1, 2)]
    hidden = torch.stack([some_hidden(share) for share in (0.2, 0.9, 0.0, 0.6)])
    noises = [draw_noise(image.shape, torch.Generator().manual_seed(place)) for place, image in enumerate(images)]
    found = impute_images(images, hidden, noises)
    for place, (image, where) in enumerate(zip(images, hidden, strict=True)):
        assert torch.equal(found[place], impute_image(image, where, torch.Generator().manual_seed(place)))


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_quantus_imputes_the_same(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = pytest.importorskip("quantus.functions.perturb_func")
    monkeypatch.setattr(imputation, "NOISE", 0.0)
    image, hidden = random_images(1, 8)[0], torch.rand(8, 8, generator=generator()) < share
    indices = hidden.flatten().nonzero()[:, 0].numpy()
    theirs = functions.noisy_linear_imputation(image.numpy(), indices, noise=0.0)
    torch.testing.assert_close(impute_image(image, hidden, generator()), torch.from_numpy(theirs).double())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (13, 13), (32, 7)])
def test_the_order_of_elimination_takes_each_pixel_once_and_a_line_last(height: int, width: int) -> None:
    places = imputation.order_by_dissection(height, width)
    assert sorted(places.ravel().tolist()) == list(range(height * width))
    if max(height, width) > 4:
        last = places >= height * width - min(height, width)
        assert last.any(axis=0).sum() == 1 or last.any(axis=1).sum() == 1
