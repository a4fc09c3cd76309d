"""The matrix of methods and networks, and the head of a network without one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    return load_script("methods")


def test_the_cheapest_exact_method_is_recommended_else_the_smallest_gap(matrix: ModuleType) -> None:
    cell = matrix.Cell
    cells = {
        "slow": cell("exact", (50, 50), 1e-6),
        "twin": cell("exact", (2, 1), 2e-6),
        "quick": cell("exact", (2, 1), 9e-4),
        "cheaper": cell("gap 3 % of 5 %", (1, 1), 0.03),
        "silent": cell("map", (1, 0)),
        "out": cell("refused", reason="no rule"),
    }
    assert matrix.recommend(cells) == "quick"
    assert matrix.recommend({"wide": cell("gap", (1, 1), 0.2), "near": cell("gap", (99, 99), 0.1)}) == "near"
    assert matrix.recommend({"silent": cells["silent"], "out": cells["out"]}) == ""


def test_the_matrix_of_a_shipped_network(matrix: ModuleType) -> None:
    methods = ["attention_rollout", "deep_lift", "lrp", "random", "saliency"]
    column = matrix.measure("cifar_cnn", methods)
    words = [column[method].write() for method in methods]
    assert words[0] == "refused"
    assert words[1].startswith("exact (")
    assert words[2].startswith("absorbs ")
    assert words[2].endswith(" % (1+1)")
    assert words[3:] == ["control", "map (1+1)"]
    text = matrix.write_markdown({"cifar_cnn": column}, methods)
    assert "| **recommended** | `deep_lift` |" in text
    assert "- `attention_rollout` on cifar_cnn: METHOD needs a transformer" in text


def test_a_head_is_fitted_to_features_of_any_scale() -> None:
    script = load_script("fit_head")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3
    centres = torch.randn(3, 8, generator=generator, dtype=torch.float64) * 2
    features = centres[labels] + torch.randn(30, 8, generator=generator, dtype=torch.float64) / 4
    weight, bias = script.fit_head(features, labels, 3)
    assert torch.equal((features @ weight.T + bias).argmax(1), labels)
    scale, shift = torch.logspace(-2, 2, 8, dtype=torch.float64), torch.arange(8.0).double()
    other, other_bias = script.fit_head(features * scale + shift, labels, 3)
    expected, found = features @ weight.T + bias, (features * scale + shift) @ other.T + other_bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
