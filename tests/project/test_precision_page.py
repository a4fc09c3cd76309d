"""The page on bfloat16: products as instructions for it have them, rows that are kept, the page of the table."""

from pathlib import Path

import numpy as np
import pandas as pd
import precision
import pytest
import torch

from conftest import ROOT
from tiny import random_images, small_cnn

BFLOAT16 = torch.bfloat16


def test_products_are_exact_sums_that_are_rounded_once() -> None:
    """Of numbers of 8 bits, products have 16: in double precision their sums are exact to far below a rounding."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(16, 40, generator=generator).to(BFLOAT16) for _ in range(2))
    exact = first.double() @ second.double().T
    with precision.Products():
        found = first @ second.T
    assert found.dtype == BFLOAT16
    spacing = 2.0 ** (torch.frexp(exact).exponent - 8)
    assert bool(((found.double() - exact).abs() <= 0.5001 * spacing).all())


def test_a_network_and_its_gradient_are_those_of_autocast() -> None:
    classifier, images = small_cnn().float(), random_images(4, 32).float()

    def compute() -> tuple[torch.Tensor, torch.Tensor]:
        leaves = images.clone().requires_grad_()
        scores = classifier(leaves)
        return scores.detach(), torch.autograd.grad(scores.amax(1).sum(), leaves)[0]

    full = compute()
    with torch.autocast("cpu", BFLOAT16):
        native = compute()
        with precision.Products():
            found = compute()
    for ours, theirs, exact in zip(found, native, full, strict=True):
        rounded = float((theirs - exact).norm())
        assert rounded > 0 and float((ours - theirs).norm()) < rounded / 2, "nearer to autocast than that is to float32"
        assert float((ours - exact).norm()) == pytest.approx(rounded, rel=0.5)


def test_a_row_replaces_its_own_and_keeps_a_time_that_is_not_measured_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "TABLE", tmp_path / "precision.csv")
    row = {"model": "net", "kind": "method", "name": "saliency", "images": 2, "rank_correlation": 0.5}
    for changed in (
        {"time": 0.7},
        {"name": "lrp", "time": np.nan},
        {"time": np.nan, "rank_correlation": 0.99, "top_overlap": 0.99},
    ):
        precision.keep(row | changed)
    precision.keep({"model": "net", "kind": "method", "name": "full_grad", "refused": "biases"})
    table = pd.read_csv(precision.TABLE).set_index("name")
    assert len(table) == 3 and table.loc["saliency", "rank_correlation"] == 0.99
    assert table.loc["saliency", "time"] == 0.7 and np.isnan(table.loc["lrp", "time"])


def test_the_page_is_that_of_the_table() -> None:
    docs = ROOT / "docs"
    assert (docs / "precision.md").read_text() == precision.write_page(pd.read_csv(docs / "precision.csv"))
