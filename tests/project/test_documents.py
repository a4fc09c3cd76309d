"""What the documents say of paths, names and targets is there."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS = ("configs", "docs", "logbook", "scripts", "src", "tests")
ROOMS = sorted(path.name for path in (ROOT / "src" / "seewhy").iterdir() if (path / "__init__.py").is_file())


def find_missing(text: str, folder: Path) -> list[str]:
    """Links, paths, dotted names and make targets of a document that lead nowhere."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (folder / link).exists()]
    targets = set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing += [
        f"make {word}" for word in re.findall(r"(?:`|^ {4})make ([a-z_]+)", text, re.MULTILINE) if word not in targets
    ]
    for path in re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)(?![\w*<{{])", text):
        written_by_a_run = path.startswith("logbook/outputs")
        if not written_by_a_run and not (ROOT / path).exists() and f"{path}<" not in text:
            missing.append(path)
    missing += [name for name in re.findall(r"`(seewhy(?:\.\w+)+)`", text) if not resolves(name)]
    return missing


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package or what one holds; folders that are mapped into it count."""
    if name in ("seewhy.configs", "seewhy.samples"):
        return True
    module, rest = name, []
    while module:
        try:
            value = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
            continue
        for part in rest:
            value = getattr(value, part, None)
        return value is not None
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: Path) -> None:
    assert find_missing(document.read_text(), document.parent) == []


COMMAND = re.compile(
    r" {0,3}(?:python (?:src|scripts)/|seewhy [a-z_]+ \S+=|make [a-z_]+(?:$| ARGS| {2})|pip install )\S*"
)


def find_bare_commands(text: str) -> list[str]:
    """Lines that are a command but stand in no block of code, where they are run together as prose."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in prose.splitlines() if COMMAND.match(line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_stands_in_a_block_of_code(document: Path) -> None:
    assert find_bare_commands(document.read_text()) == []


def test_a_bare_command_is_noticed() -> None:
    text = "# Train\n\nmake robustness      # minutes\n    python src/train.py\n\n```\npip install .\n```\nmake it so"
    assert find_bare_commands(text) == ["make robustness      # minutes"]


def test_what_is_missing_is_named() -> None:
    text = "[a](nowhere.md) `make everything` `src/seewhy/none.py` src/explain.py tests/<x>.py"
    text += " `seewhy.cli.none` `seewhy.explain`"
    expected = ["nowhere.md", "make everything", "src/seewhy/none.py", "seewhy.cli.none"]
    assert find_missing(text, ROOT) == expected


def test_the_architecture_names_every_room_in_its_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name for name in contracts[0]["layers"] if name in ROOMS]
    named = re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert named == layers
    assert sorted(named) == ROOMS
