"""Whether values are finite, beside the slow way to ask."""

import math

import pytest
import torch

from seewhy.core.tensors import find_finite_rows, is_all_finite

LARGEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([0.0, 1.0], True),
        ([math.nan, 1.0], False),
        ([math.inf, 1.0], False),
        ([math.inf, -math.inf], False),
        ([LARGEST, LARGEST], True),
        ([LARGEST, LARGEST, -math.inf], False),
    ],
)
def test_every_value_counts_and_a_sum_too_large_is_no_infinite_value(values: list[float], finite: bool) -> None:
    assert is_all_finite(torch.tensor(values)) is finite


def test_rows_are_told_apart() -> None:
    rows = torch.zeros(4, 2, 3)
    assert find_finite_rows(rows).tolist() == [True] * 4
    rows[1, 1, 2], rows[3, 0, 0], rows[2] = math.nan, -math.inf, LARGEST
    assert find_finite_rows(rows).tolist() == [True, False, True, False]
