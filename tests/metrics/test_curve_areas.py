"""Areas, averages over counts and grids, by hand."""

import numpy as np
import pytest
import torch

from curve_twin import make_context, measured, weighted_sum
from seewhy.metrics.faithfulness.necessity_sufficiency import (
    average_over_counts,
    compute_area_between,
    compute_positive_counts,
)
from seewhy.metrics.faithfulness.pixel_flipping import Deletion, compute_pixel_counts


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_area_is_the_trapezoidal_rule_also_for_uneven_steps() -> None:
    # four pixels in three steps are 0, 1, 3, 4 removed: logits 15, 7, 1, 0
    assert compute_pixel_counts(4, 3) == [0, 1, 3, 4]
    image, attribution = torch.ones(1, 3, 2, 2), torch.tensor([[[8.0, 4.0], [2.0, 1.0]]])
    context = make_context(weighted_sum([8.0, 4.0, 2.0, 1.0]), image, torch.tensor([0]), attribution)
    area = measured(Deletion(n_steps=3, space="logit"), context)["deletion"]
    assert float(area) == pytest.approx(0.25 * (15 + 7) / 2 + 0.5 * (7 + 1) / 2 + 0.25 * 1 / 2)


def test_the_average_is_the_sum_over_every_count() -> None:
    assert average_over_counts([0, 1, 2, 3], doubles(8, 4, 2, 2)) == pytest.approx(16 / 4)
    # 0 .. 4 with values 8, 6, 4, 3, 2 on straight lines through the known ones
    assert average_over_counts([0, 2, 4], doubles(8, 4, 2)) == pytest.approx(23 / 5)
    assert average_over_counts([0], doubles(7)) == 7


def test_crossing_lines_enclose_two_triangles() -> None:
    rising, falling = (doubles(0, 1), doubles(0, 1)), (doubles(0, 1), doubles(1, 0))
    assert compute_area_between(rising, falling) == pytest.approx(0.5)  # not 0: two triangles of 1/4
    bent = (doubles(0, 0.25, 1), doubles(0, 1, 1))
    assert compute_area_between(bent, rising) == pytest.approx(0.25 * 0.75 / 2 + 0.75 * 0.75 / 2)


def test_the_area_between_many_crossings_equals_a_fine_sum() -> None:
    draw = np.random.default_rng(0)
    lines = []
    for count in (9, 14):
        inner = np.sort(draw.uniform(size=count))
        lines.append((doubles(0, *inner, 1), torch.from_numpy(draw.normal(size=count + 2))))
    middle = (np.arange(400_000) + 0.5) / 400_000
    first, second = (np.interp(middle, *(part.numpy() for part in line)) for line in lines)
    assert compute_area_between(*lines) == pytest.approx(np.abs(first - second).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("pixels", "steps"), [(50176, 50), (50176, 49), (1024, 50), (64, 16), (64, 10), (4, 3), (9, 1)]
)
def test_counts_are_even_and_symmetric(pixels: int, steps: int) -> None:
    counts = compute_pixel_counts(pixels, steps)
    assert (counts[0], counts[-1], len(counts)) == (0, pixels, steps + 1)
    assert {pixels - count for count in counts} == set(counts)
    assert np.ptp(np.diff(counts)) <= 2
    assert max(abs(count - index * pixels / steps) for index, count in enumerate(counts)) <= 0.5


def test_as_many_steps_as_pixels_are_one_pixel_each() -> None:
    assert compute_pixel_counts(7, 7) == compute_pixel_counts(7, 100) == list(range(8))
    assert compute_pixel_counts(50176, 224) == list(range(0, 50177, 224))


def test_positive_pixels_keep_the_common_grid_and_get_ten_steps() -> None:
    assert compute_positive_counts(0, 100, 5) == [0]
    assert compute_positive_counts(3, 100, 5) == [0, 1, 2, 3]
    assert compute_positive_counts(77, 100, 20) == [*range(0, 76, 5), 77]
    assert compute_positive_counts(50, 100, 4) == [*range(0, 51, 5)]
    assert compute_positive_counts(100, 100, 100) == list(range(101))
