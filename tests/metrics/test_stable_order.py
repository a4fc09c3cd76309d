"""The order of equal values, beside the stable sort of torch."""

import pytest
import torch

from seewhy.metrics.perturbation_curves import order_descending, sort_keys


def rows(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(3, 500, generator=generator)
    return {
        "no ties": normal,
        "rounded": (3 * normal).round(),
        "half zero": normal.relu(),
        "constant": torch.full((2, 40), -0.5),
        "both zeros": torch.tensor([[0.0, -0.0, 1.0, 0.0, -0.0, -1.0]]),
        "extremes": torch.tensor([[-3e38, 3e38, 1e-45, -1e-45, 0.0, 1e-30, -1e-30]]),
        "one": torch.ones(2, 1),
        "strided": normal.T[:100],
        "double": 1 + 1e-12 * normal.double(),
    }[kind]


@pytest.mark.parametrize("kind", "no ties,rounded,half zero,constant,both zeros,extremes,one,strided,double".split(","))
def test_it_is_the_stable_sort(kind: str) -> None:
    values = rows(kind)
    before = values.clone()
    assert torch.equal(order_descending(values), before.argsort(dim=1, descending=True, stable=True))
    assert torch.equal(values, before)


def test_keys_of_other_numbers_are_refused() -> None:
    with pytest.raises(AssertionError, match="float64"):
        sort_keys(rows("double").numpy())
