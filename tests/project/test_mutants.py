"""The faults of scripts/mutants.py: what is drawn, how it is applied, and what is told apart."""

from __future__ import annotations

import ast
from pathlib import Path

from mutation.changes import list_changes, list_function_lines, sample_changes
from mutation.trials import compare_codes, replace_codes

SOURCE = '''"""Words."""

from dataclasses import dataclass

LIMIT: int = 3


@dataclass(frozen=True)
class Box:
    """More words."""

    side: float = 0.5

    def grow(self, share: float = 2.0) -> float:
        """Even more."""
        if self.side > LIMIT and not share:
            raise ValueError(f"side {self.side} is too large")
        return max(self.side, 0) * (lambda a, b: a - b)(share, 1)
'''


def write(folder: Path) -> Path:
    (folder / "boxes.py").write_text(SOURCE)
    return folder


def test_every_line_has_its_faults_and_each_is_another_program(tmp_path: Path) -> None:
    changes = [each for listed in list_changes(write(tmp_path), "boxes.py").values() for each in listed]
    found = {(each.line, each.kind, each.after.strip()) for each in changes}
    assert {(line, kind) for line, kind, _ in found} == {
        (5, "constant"),
        (12, "constant"),
        (14, "constant"),
        *((16, kind) for kind in ("negation", "comparison", "boolean")),
        (17, "statement"),
        *((18, kind) for kind in ("operator", "constant", "arguments")),
    }
    assert (5, "constant", "LIMIT: int = (2)") in found
    assert (16, "comparison", "if self.side >= LIMIT and not share:") in found
    assert (16, "boolean", "if self.side > LIMIT or not share:") in found
    assert (17, "statement", "pass") in found
    assert (18, "arguments", "return max(self.side, 0) * (lambda a, b: a - b)(1, share)") in found
    assert (18, "operator", "return max(self.side, 0) / (lambda a, b: a - b)(share, 1)") in found
    programs = {ast.dump(ast.parse(each.apply(SOURCE.encode()))) for each in changes}
    assert len(programs) == len(changes) == len({each.name for each in changes})
    assert ast.dump(ast.parse(SOURCE)) not in programs


def test_a_sample_takes_lines_once_and_does_not_move_with_other_lines(tmp_path: Path) -> None:
    drawn = list(sample_changes(write(tmp_path), ["boxes.py"], 4, seed=1))
    assert len({each.line for each in drawn}) == 4
    assert [each.name for each in sample_changes(tmp_path, ["boxes.py"], 9, seed=1)][:4] == [
        each.name for each in drawn
    ]
    (tmp_path / "boxes.py").write_text("# one line more\n" + SOURCE)
    assert [each.name for each in sample_changes(tmp_path, ["boxes.py"], 4, seed=1)] == [each.name for each in drawn]
    assert [each.name for each in sample_changes(tmp_path, ["boxes.py"], 4, seed=2)] != [each.name for each in drawn]


def test_functions_get_their_fault_and_modules_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path)
    space: dict[str, object] = {}
    exec(compile(SOURCE, "boxes.py", "exec", dont_inherit=True), space)
    box = space["Box"](2.0)  # type: ignore[operator]
    assert box.grow(3.0) == 4
    assert list_function_lines(SOURCE.encode()) == {15, 16, 17, 18}
    for line, changes in list_changes(tmp_path, "boxes.py").items():
        for change in changes:
            codes = compare_codes(SOURCE.encode(), change.apply(SOURCE.encode()), "boxes.py")
            assert (codes is None) == (line < 16)
            if "a, b: a + b" in change.after:
                replace_codes(codes or [])
    assert box.grow(3.0) == 8
