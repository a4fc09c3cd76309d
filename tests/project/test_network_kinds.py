"""docs/networks.md: the matrix holds every method and kind of network, and is what the script measures."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "networks.md"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("network_kinds", ROOT / "scripts" / "network_kinds.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_method_and_kind_has_its_cell() -> None:
    script, (header, _, *rows) = load_script(), read_rows()
    assert header == ["method", *script.FORMS, *script.KINDS]
    methods = [f"`{path.stem}`" for path in sorted((ROOT / "configs" / "explainer").glob("*.yaml"))]
    assert [row[0] for row in rows] == methods
    assert {cell for row in rows for cell in row[1:]} == {"right", "refused"}
    refused = sum(cell == "refused" for row in rows for cell in row[1:])
    listed = PAGE.read_text().split("\n- ", 1)[1]
    kinds = [f"({kind})" for kind in header[1:]]
    assert sum(listed.count(f"{row[0]} {kind}") for row in rows for kind in kinds) == refused, "each has its reason"


@pytest.mark.slow
def test_the_page_is_what_the_script_measures() -> None:
    script = load_script()
    assert script.write_markdown(*script.measure()) == PAGE.read_text()
