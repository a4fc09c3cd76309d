"""Small faults in Python source: what each line could say instead."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    ast.Eq: ("==", ["!="]),
    ast.NotEq: ("!=", ["=="]),
    ast.Lt: ("<", ["<=", ">="]),
    ast.LtE: ("<=", ["<", ">"]),
    ast.Gt: (">", [">=", "<="]),
    ast.GtE: (">=", [">", "<"]),
    ast.In: ("in", ["not in"]),
    ast.NotIn: ("not in", ["in"]),
    ast.Is: ("is", ["is not"]),
    ast.IsNot: ("is not", ["is"]),
}
OPERATORS = {
    ast.Add: ("+", ["-"]),
    ast.Sub: ("-", ["+"]),
    ast.Mult: ("*", ["/"]),
    ast.Div: ("/", ["*"]),
    ast.FloorDiv: ("//", ["/"]),
    ast.Mod: ("%", ["*"]),
    ast.Pow: ("**", ["*"]),
    ast.BitAnd: ("&", ["|"]),
    ast.BitOr: ("|", ["&"]),
}


@dataclass(frozen=True)
class Change:
    """One fault: the text between two bytes of a file is another."""

    file: str
    """Below `src`."""
    line: int
    start: int
    end: int
    kind: str
    before: str
    """The line, or the lines, as they are."""
    after: str
    text: str
    """What stands between the two bytes."""

    @property
    def name(self) -> str:
        """What stays the same while other lines of the file change."""
        return hashlib.sha256("\0".join((self.file, self.kind, self.before, self.after)).encode()).hexdigest()[:16]

    def apply(self, source: bytes) -> bytes:
        """Write the fault into the source of its file."""
        return source[: self.start] + self.text.encode() + source[self.end :]


class _Finder(ast.NodeVisitor):
    """Collects (kind, first byte, last byte, new text); annotations, docstrings and `__all__` are left as they are."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.edits: list[tuple[str, int, int, str]] = []

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        first, last = self.starts[node.lineno - 1], self.starts[node.end_lineno - 1]
        return first + node.col_offset, last + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        first, last = self.span(node)
        return self.source[first:last].decode()

    def replace(self, kind: str, node: ast.expr | ast.stmt, text: str) -> None:
        self.edits.append((kind, *self.span(node), text))

    def between(self, kind: str, left: ast.expr, right: ast.expr, sign: str, others: list[str]) -> None:
        begin, end = self.span(left)[1], self.span(right)[0]
        match = re.search(re.escape(sign).replace(r"\ ", r"\s+"), self.source[begin:end].decode())
        if match is not None and self.source[begin:end].isascii():
            self.edits += [(kind, begin + match.start(), begin + match.end(), other) for other in others]

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between("comparison", left, right, *COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self.between("operator", node.left, node.right, *OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        sign, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("boolean", left, right, sign, [other])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            kind = "boolean" if isinstance(node.op, ast.Not) else "operator"
            self.replace(kind, node, f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.negate(node)

    def negate(self, node: ast.If | ast.IfExp | ast.While) -> None:
        self.replace("negation", node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    visit_IfExp = visit_While = negate

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace("constant", node, str(not value))
        elif isinstance(value, int):
            self.replace("constant", node, str(value + 1))
            self.replace("constant", node, f"({value - 1})")
        elif isinstance(value, float):
            self.replace("constant", node, f"({value * 2 if value else 1.0!r})")
        elif isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value):
            self.replace("constant", node, repr(value + "_"))

    def visit_Call(self, node: ast.Call) -> None:
        symmetric = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
        if len(node.args) > 1 and not symmetric and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
            (first, end), (begin, last) = self.span(node.args[0]), self.span(node.args[1])
            middle = self.source[end:begin].decode()
            self.edits.append(("arguments", first, last, f"{self.text(node.args[1])}{middle}{self.text(node.args[0])}"))
        self.generic_visit(node)

    def drop(self, node: ast.stmt) -> None:
        self.replace("statement", node, "pass")
        self.generic_visit(node)

    visit_Raise = visit_AugAssign = visit_Continue = visit_Break = drop

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.drop(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if "__all__" in names or "__slots__" in names:
            return
        if not names and not isinstance(node.targets[0], ast.Tuple):  # without a name, the rest would not run at all
            self.replace("statement", node, "pass")
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # an assertion of `zip`
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """Leave annotations alone."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for each in [node.args, *node.body]:
            self.visit(each)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in node.body:
            self.visit(each)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts alone."""


def list_changes(source: Path, file: str) -> dict[int, list[Change]]:
    """The faults of a file, by line.

    Args:
        source: The folder `src`.
        file: Path below it.

    Returns:
        For each line that can be changed, its changes.
    """
    data = (source / file).read_bytes()
    finder = _Finder(data)
    finder.visit(ast.parse(data))
    changes = defaultdict(list)
    for kind, start, end, text in finder.edits:
        first = data.rfind(b"\n", 0, start) + 1
        last = data.find(b"\n", end)
        before = data[first:last].decode()
        after = (data[first:start] + text.encode() + data[end:last]).decode()
        line = data.count(b"\n", 0, start) + 1
        changes[line].append(Change(file, line, start, end, kind, before, after, text))
    return changes


def sample_changes(source: Path, files: list[str], count: int, seed: int) -> Iterator[Change]:
    """Draw changes on lines of their own.

    A line's place in the order depends on its text and the seed alone, so that an edit elsewhere leaves the sample as it is.

    Args:
        source: The folder `src`.
        files: Paths below it.
        count: How many to draw, at most.
        seed: Of the order.

    Yields:
        The changes.
    """

    def place(*words: object) -> str:
        return hashlib.sha256(repr((seed, *words)).encode()).hexdigest()

    lines = []
    for file in files:
        seen: dict[str, int] = defaultdict(int)
        for changes in list_changes(source, file).values():
            text = changes[0].before
            seen[text] += 1
            lines.append((place(file, text, seen[text]), changes))
    for _, changes in sorted(lines, key=lambda pair: pair[0])[:count]:
        kind = min({change.kind for change in changes}, key=lambda kind: place(changes[0].before, kind))
        yield min((each for each in changes if each.kind == kind), key=lambda each: place(each.name))


def list_function_lines(source: bytes) -> set[int]:
    """List the lines inside of functions; all others run while the module is imported."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    return lines
