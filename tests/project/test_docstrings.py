"""What other rooms, configs and users call says in its docstring what it takes and returns."""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

ROOMS = (
    "analyses",
    "api",
    "callbacks",
    "cli",
    "core",
    "data",
    "explainers",
    "metrics",
    "models",
    "plots",
    "report",
    "runs",
    "statistics",
)
"""Rooms whose docstrings are complete."""

HOOKS = re.compile(
    r"on_\w+|setup|teardown|prepare_data|\w+_step|configure_\w+|\w+_dataloader|state_dict|load_state_dict|forward"
)
"""Methods that Lightning or torch calls: their arguments are described there."""
PROPERTIES = {"property", "cached_property", "setter", "overload"}

NOTHING = ("None", "NoReturn", "Never", "Iterator[None]")
"""Results that need no words; the last is that of a context manager."""

Function = ast.FunctionDef


@functools.cache
def read_modules() -> dict[str, ast.Module]:
    """The syntax tree of each module of the package by its dotted name."""
    modules = {}
    for path in sorted((ROOT / "src" / "seewhy").rglob("*.py")):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text())
    return modules


@functools.cache
def list_classes() -> dict[str, ast.ClassDef]:
    """The classes of the package by name."""
    return {node.name: node for tree in read_modules().values() for node in tree.body if isinstance(node, ast.ClassDef)}


def room_of(module: str) -> str:
    """The room of a module; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


@functools.cache
def find_called() -> dict[str, set[str]]:
    """For each module the names that another room imports, that a config names, or that users call."""
    called: dict[str, set[str]] = defaultdict(set)
    for importer, tree in read_modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("seewhy"):
                for alias in node.names:
                    for module, name in resolve(node.module, alias, tree):
                        if room_of(module) != room_of(importer):
                            called[module].add(name)
    for path in (ROOT / "configs").rglob("*.yaml"):
        for module, name in re.findall(r"_target_: (seewhy[\w.]+)\.(\w+)", path.read_text()):
            called[module].add(name)
    definitions = (node for node in read_modules()["seewhy.api"].body if isinstance(node, Function | ast.ClassDef))
    called["seewhy.api"] |= {node.name for node in definitions if not node.name.startswith("_")}
    return called


def resolve(module: str, alias: ast.alias, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of an imported name; of an imported module, of each attribute that is used."""
    imported = f"{module}.{alias.name}"
    if imported not in read_modules():
        yield module, alias.name
        return
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    for node in attributes:
        if isinstance(node.value, ast.Name) and node.value.id == (alias.asname or alias.name):
            yield imported, node.attr


def list_decorators(node: Function | ast.ClassDef) -> set[str]:
    """The last names of the decorators."""
    texts = (ast.unparse(decorator) for decorator in node.decorator_list)
    return {text.split("(")[0].rpartition(".")[2] for text in texts}


def list_parameters(function: Function, is_method: bool) -> list[str]:
    """Public parameters without self or cls."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [argument.arg for argument in (given.vararg, given.kwarg) if argument]
    if is_method and "staticmethod" not in list_decorators(function):
        names = names[1:]
    return [name for name in names if not name.startswith("_")]


def find_undescribed(names: list[str], docstring: str) -> list[str]:
    """Those names that no line of `Args:` or `Attributes:` describes."""
    section = re.split(r"^\s*(?:Args|Attributes):", docstring, maxsplit=1, flags=re.MULTILINE)[1:]
    return [name for name in names if not re.search(rf"^\s*\**{name}\b[^\n]*:", "".join(section), re.MULTILINE)]


def check_function(function: Function, is_method: bool = False) -> list[str]:
    """What the docstring of a function lacks."""
    if PROPERTIES & list_decorators(function):
        return []
    docstring = ast.get_docstring(function) or ""
    lacks = find_undescribed(list_parameters(function, is_method), docstring)
    returns = "None" if function.returns is None else ast.unparse(function.returns)
    if returns not in NOTHING and not re.search(r"^\s*(Returns|Yields):", docstring, re.MULTILINE):
        lacks.append("Returns")
    return lacks


def check_class(node: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    """(name, what its docstring lacks) of a class and of its public methods that are no overrides."""
    is_data = "dataclass" in list_decorators(node) or "NamedTuple" in map(ast.unparse, node.bases)
    inits = [method for method in node.body if isinstance(method, Function) and method.name == "__init__"]
    names = list_fields(node) if is_data else [name for init in inits for name in list_parameters(init, True)]
    yield node.name, find_undescribed(names, ast.get_docstring(node) or "")
    inherited = {member.name for base in list_bases(node) for member in base.body if isinstance(member, Function)}
    for method in node.body:
        if isinstance(method, Function) and method.name not in inherited and is_public(method.name):
            yield f"{node.name}.{method.name}", check_function(method, is_method=True)


def is_public(method: str) -> bool:
    """Whether a method is called by others, but not by a framework."""
    return not method.startswith("_") and not HOOKS.fullmatch(method)


def list_fields(node: ast.ClassDef) -> list[str]:
    """Public fields of a dataclass or NamedTuple that no string behind them describes."""
    fields = []
    for member, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            hidden = member.target.id.startswith("_") or "ClassVar" in ast.unparse(member.annotation)
            if not described and not hidden:
                fields.append(member.target.id)
    return fields


def list_bases(node: ast.ClassDef) -> list[ast.ClassDef]:
    """All base classes within the package."""
    names, classes = [ast.unparse(base).split("[")[0] for base in node.bases], list_classes()
    bases = [classes[name] for name in names if name in classes and classes[name] is not node]
    return bases + [further for base in bases for further in list_bases(base)]


def find_incomplete(room: str) -> dict[str, list[str]]:
    """Each callable of a room that lacks sections, with what it lacks."""
    incomplete = {}
    for module, names in find_called().items():
        if room_of(module) != room or module not in read_modules():
            continue
        for node in read_modules()[module].body:
            if isinstance(node, Function) and node.name in names:
                incomplete[f"{module}.{node.name}"] = check_function(node)
            elif isinstance(node, ast.ClassDef) and node.name in names:
                incomplete |= {f"{module}.{name}": lacks for name, lacks in check_class(node)}
    return {name: lacks for name, lacks in incomplete.items() if lacks}


@pytest.mark.parametrize("room", ROOMS)
def test_what_others_call_describes_arguments_and_result(room: str) -> None:
    assert find_incomplete(room) == {}


def test_a_lack_is_named() -> None:
    code = '''
def go(images, *, seed=0, **options) -> int:
    """Go.

    Args:
        images: float32 [n].
        **options: Any.
    """

@dataclass
class Row:
    """A row."""

    name: str
    value: float
    """In seconds."""

    def total(self, factor: float) -> None:
        """Add up."""
'''
    function, data = ast.parse(code).body
    assert isinstance(function, Function)
    assert isinstance(data, ast.ClassDef)
    assert check_function(function) == ["seed", "Returns"]
    assert dict(check_class(data)) == {"Row": ["name"], "Row.total": ["factor"]}


def test_every_module_says_what_it_is() -> None:
    def is_empty(path: Path) -> bool:
        return path.name == "__init__.py" and not path.read_text()

    paths = [path for path in (ROOT / "src").rglob("*.py") if not is_empty(path)]
    assert [path for path in paths if not ast.get_docstring(ast.parse(path.read_text()))] == []
