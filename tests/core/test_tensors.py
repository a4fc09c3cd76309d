"""Arithmetic in blocks touches every element once, whatever the shapes and the order in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seewhy.core import tensors
from seewhy.core.tensors import compute_in_blocks, compute_in_blocks_beside, compute_pearson


class Counter:
    """Adds the product of its other arguments to the first, and counts the blocks."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, result: Tensor, first: Tensor, second: Tensor) -> None:
        self.sizes.append(result.numel())
        result.add_(first * second)


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "order", "sizes"),
    [
        ((2, 3, 4, 5), torch.contiguous_format, [50, 50, 20]),
        ((2, 3, 4, 5), torch.channels_last, [50, 50, 20]),
        ((50,), torch.contiguous_format, [50]),
        ((51,), torch.contiguous_format, [50, 1]),
    ],
)
def test_blocks_cover_every_element_once(
    shape: tuple[int, ...], order: torch.memory_format, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "BLOCK", 50)
    values = [draw(*shape).contiguous(memory_format=order) for _ in range(3)]
    values[1].add_(1)
    expected, compute = values[0] + values[1] * values[2], Counter()
    compute_in_blocks(compute, *values)
    assert torch.equal(values[0], expected)
    assert compute.sizes == sizes


def test_tensors_in_other_orders_or_shapes_are_handed_over_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "BLOCK", 50)
    result, first = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
    mixed = first.contiguous(memory_format=torch.channels_last)
    for second, apart in (
        (mixed, result.clone()),
        (draw(1, 3, 4, 5), result.clone()),
        (first.mT.contiguous().mT, result),
    ):
        expected, compute = apart + first * second, Counter()
        compute_in_blocks(compute, apart, first, second)
        assert torch.equal(apart, expected)
        assert compute.sizes == [120]


@pytest.mark.parametrize(("block", "sizes"), [(10, [10, 10, 10] * 4), (60, [60, 60]), (61, [60, 60]), (1000, [120])])
def test_values_that_all_images_share_stand_beside_each_block(
    block: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 30 values; a block holds whole images, or parts of one."""
    monkeypatch.setattr(tensors, "BLOCK", block)
    result, first, second = draw(4, 5, 6), draw(4, 5, 6), draw(1, 5, 6)
    expected, compute = result + first * second, Counter()
    compute_in_blocks_beside(compute, [result, first], [second])
    assert torch.equal(result, expected)
    assert compute.sizes == sizes
    of_each, compute = draw(4, 5, 6) + 1, Counter()
    expected = result + first * of_each
    compute_in_blocks_beside(compute, [result, first], [of_each])
    assert torch.equal(result, expected)


def test_correlation_by_hand_and_only_of_valid_values() -> None:
    first = torch.tensor([[1.0, 2, 3, 100], [1, 1, 1, 100], [3, 2, 1, 5]])
    second, valid = torch.tensor([1.0, 3, 2, -7]), torch.tensor([True, True, True, False])
    found = compute_pearson(first, second, valid)
    assert found[0] == pytest.approx(0.5)
    assert found[1].isnan()
    assert found[2] == pytest.approx(-0.5)
    assert compute_pearson(first[0], 2 * first[0] + 1) == pytest.approx(1)
