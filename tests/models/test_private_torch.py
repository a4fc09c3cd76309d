"""Private names of torch are read inside `seewhy.models.fusion` alone: other rooms go through its functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

SOURCE = Path(__file__).parents[2] / "src" / "seewhy"
FRONT = SOURCE / "models" / "fusion"
VALUES = [
    torch.zeros(1),
    nn.Linear(1, 1),
    torch.zeros(1).untyped_storage(),
    torch.ops.aten.relu.default,
    torch,
    torch.ops,
]
PRIVATE = {name for value in VALUES for name in dir(value) if name.startswith("_") and not name.startswith("__")}


def private_names(code: str) -> Iterator[str]:
    """The private names of torch that a file imports or reads from an object other than `self` or `cls`."""
    tree = ast.parse(code)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            yield from (
                f"{node.module}.{alias.name}"
                for alias in node.names
                if any(
                    part.startswith("_") and part != "__future__" for part in f"{node.module}.{alias.name}".split(".")
                )
            )
        if isinstance(node, ast.Attribute):
            of_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            saved = node.attr.startswith("_saved_")
            private = node.attr in PRIVATE and not of_own and node.attr not in own
            if private or saved or ast.unparse(node) == "torch.ops.mkldnn":
                yield ast.unparse(node)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("values._version", "values._version"),
        ("module._parameters.values()", "module._parameters"),
        ("node._saved_self", "node._saved_self"),
        ("torch._C._functorch", "torch._C._functorch"),
        ("torch.ops.mkldnn._convolution_pointwise", "torch.ops.mkldnn"),
        ("from torch.utils._pytree import tree_flatten", "torch.utils._pytree.tree_flatten"),
        ("from torch.overrides import _get_current_function_mode", "torch.overrides._get_current_function_mode"),
        ("self._version = values.sum()", None),
    ],
)
def test_private_names_are_told_from_others(code: str, name: str | None) -> None:
    assert list(private_names(code))[:1] == ([name] if name else [])


def test_no_other_room_reads_private_names_of_torch() -> None:
    files = [path for path in SOURCE.rglob("*.py") if not path.is_relative_to(FRONT)]
    assert len(files) > 100
    assert {
        str(path.relative_to(SOURCE)): names for path in files if (names := list(private_names(path.read_text())))
    } == {}
