"""The matrix of methods and networks, the head of a network without one, and the page of transformers: what they say."""

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


@pytest.mark.slow
def test_the_matrix_of_a_shipped_network(matrix: ModuleType) -> None:
    methods = ["attention_rollout", "deep_lift", "lrp", "random", "saliency", "full_grad"]
    column = matrix.measure("cifar_cnn", methods)
    words = [column[method].write() for method in methods]
    assert words[0] == "refused"
    assert words[1].startswith("exact (")
    assert words[2].startswith("absorbs ")
    assert words[2].endswith(" % (1+1)")
    assert words[3:] == ["control", "map (1+1)", "map of exact terms (1+1)"]
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


BOARD = """explainer,control,passes,morf_lerf,morf_lerf_low,morf_lerf_high,deletion,deletion_low,deletion_high
lrp (rule=attn_lrp),False,2,0.3,0.2,0.4,0.2,0.1,0.3
le_grad,False,2,0.5,0.4,0.6,0.3,0.2,0.4
random,True,0,0.0,-0.1,0.1,0.5,0.4,0.6
"""
PAIRS = """metric,explainer,other,n,winner
morf_lerf,lrp (rule=attn_lrp),le_grad,12,le_grad
morf_lerf,lrp (rule=attn_lrp),random,12,lrp (rule=attn_lrp)
deletion,le_grad,lrp (rule=attn_lrp),12,
deletion,lrp (rule=attn_lrp),random,12,lrp (rule=attn_lrp)
"""


def test_the_page_says_what_the_tables_say(tmp_path: Path) -> None:
    (tmp_path / "leaderboard.csv").write_text(BOARD)
    (tmp_path / "pairwise.csv").write_text(PAIRS)
    text = load_script("transformers_page").write_section("A network", tmp_path)
    assert "12 images." in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows[0] == "| `le_grad` | 0.500 [0.400, 0.600] | 0.300 [0.200, 0.400] | 2 |"
    assert rows[2].startswith("| `random` (control) |")
    name = "`lrp (rule=attn_lrp)`"
    second, first = f"{name} is at place 2 of 3; better beyond chance: `le_grad`", f"{name} is at place 1 of 3; better"
    assert f"SRG: first is `le_grad`. {second}; it is better than 1 of 2." in text
    assert f"deletion: first is {name}. {first} beyond chance: none; it is better than 1 of 2." in text
