"""Tests in forks of one pytest session that has imported and collected everything, and which lines each of them executes."""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import importlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

from mutation.changes import Change
from mutation.executed import FOLDER, SOURCE, Executed, merge, take_from_children

SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "MPLBACKEND": "Agg"}


LIBRARIES = """
torch torchvision torchmetrics lightning captum.attr timm albumentations cv2 scipy.stats skimage.color skimage.segmentation
pandas pydantic matplotlib.pyplot PIL.Image jinja2 rich hydra omegaconf safetensors.torch tensorboard huggingface_hub
""".split()


def import_libraries() -> None:
    """Import what the package imports, once for all forks."""
    os.environ.update(SETTINGS)
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def copy_checkout(root: Path, copy: Path) -> None:
    """Bring a copy of the checkout's files up to date; files that are equal keep their time, and their bytecode."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, stdout=-1
    )
    names = {name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()}
    for path in [path for path in copy.rglob("*") if path.suffix != ".pyc" and path.is_file()]:
        if str(path.relative_to(copy)) not in names:
            path.unlink()
    for name in names:
        source, target = root / name, copy / name
        if not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def digest(path: Path) -> str:
    """The hash of a file, empty without one."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def run_in_fork(work: Callable[[], int], seconds: float, log: Path, makes_forks: bool = False) -> int | None:
    """Call a function in a fork, in a process group of its own.

    Args:
        work: Returns the exit code.
        seconds: When the group is killed.
        log: Gets what is printed.
        makes_forks: Whether the function calls this one, and ends its own forks on SIGTERM.

    Returns:
        The exit code; None after the time limit.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            if not makes_forks:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            for stream in (1, 2):
                os.dup2(output, stream)
            faulthandler.enable(output)
            code = int(work())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        if child:
            if makes_forks:
                os.kill(child, signal.SIGTERM)
                time.sleep(2)
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


class Record(NamedTuple):
    """What the tests of one file execute."""

    digests: dict[str, str]
    """Of the test file and of the files of the package that it executes, by path below the checkout."""
    seconds: dict[str, float]
    """Of each test that passes."""
    lines: dict[str, dict[str, list[int]]]
    """By test and by file below `src`."""

    def is_current(self, root: Path) -> bool:
        """Whether none of the files is another one now."""
        return all(digest(root / file) == value for file, value in self.digests.items())


class _Failures:
    """A plugin of pytest that notes the tests that do not pass."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not report.passed:
            self.names.append(report.nodeid)


def run_items(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run collected tests until one fails."""
    session.testsfailed = 0
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return


class Trials:
    """A plugin of pytest that, in place of running the tests, has them recorded and changes tried on them.

    Args:
        copy: A copy of the checkout, in which pytest runs.
        folder: For records, results and logs.
        try_changes: Called with this object when all tests are collected.
    """

    def __init__(self, copy: Path, folder: Path, try_changes: Callable[[Trials], None]) -> None:
        self.copy, self.folder, self.try_changes = copy, folder, try_changes
        self.items: dict[str, pytest.Item] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try the changes."""
        self.session, self.items = session, {item.nodeid: item for item in session.items}
        self.try_changes(self)
        return True

    def list_files(self) -> list[str]:
        """The test files, below the copy, those with the fewest tests first."""
        counts: dict[str, int] = defaultdict(int)
        for name in self.items:
            counts[name.split("::")[0]] += 1
        return sorted(counts, key=lambda file: counts[file])

    def record(self, file: str, target: Path) -> None:
        """Run the tests of a file and write its `Record`.

        Raises:
            RuntimeError: They crash.
        """
        children, hook = self.folder / "children", self.folder / "hook"
        shutil.rmtree(children, ignore_errors=True)
        for folder in (children, hook):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("executed.py"), hook / "sitecustomize.py")

        def work() -> int:
            os.environ.update({FOLDER: str(children), SOURCE: str(self.copy / "src"), "PYTHONPATH": str(hook)})
            failures, executed = _Failures(), Executed(str(self.copy / "src"))
            self.session.config.pluginmanager.register(failures)
            executed.start()
            seconds, lines = {}, {}
            for name in [name for name in self.items if name.startswith(f"{file}::")]:
                executed.take()
                begin = time.monotonic()
                run_items(self.session, [self.items[name]])
                seconds[name] = time.monotonic() - begin
                merged = merge(executed.take(), take_from_children())
                lines[name] = {file: sorted(where) for file, where in merged.items()}
            sys.settrace(None)
            for name in failures.names:
                seconds.pop(name, None)
            files = {file, *(f"src/{each}" for listed in lines.values() for each in listed)}
            digests = {each: digest(self.copy / each) for each in sorted(files)}
            target.with_suffix(".new").write_text(json.dumps([digests, seconds, lines]))
            target.with_suffix(".new").replace(target)
            return 0

        log = self.folder / "record.log"
        if run_in_fork(work, 1800, log) != 0:
            raise RuntimeError(f"the tests of {file} crash: see {log}")

    def run(self, change: Change, tests: list[str], seconds: float) -> str | None:
        """Run tests under a change of functions until one fails.

        Args:
            change: The change.
            tests: Their names, in order.
            seconds: When they count as failed.

        Returns:
            As `run_under_change`; None where the change is one of what runs while the module is imported.
        """
        file = self.copy / "src" / change.file
        codes = compare_codes(file.read_bytes(), change.apply(file.read_bytes()), str(file))

        def work() -> int:
            assert codes is not None
            failures = _Failures()
            self.session.config.pluginmanager.register(failures)
            replace_codes(codes)
            run_items(self.session, [self.items[name] for name in tests if name in self.items])
            return _tell_first(failures)

        return None if codes is None else run_under_change(change, self.copy, self.folder, work, seconds)


def _tell_first(failures: _Failures) -> int:
    if failures.names:
        os.write(1, f"\n{FIRST}{failures.names[0]}\n".encode())
    return bool(failures.names)


FIRST = "noticed by "
OPTIONS = [
    "-q",
    "-s",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore:Module already imported:pytest.PytestAssertRewriteWarning",
]


def run_under_change(change: Change, copy: Path, folder: Path, work: Callable[[], int], seconds: float) -> str:
    """Run tests in a fork while a change stands in the copy of the checkout.

    Args:
        change: The change.
        copy: The copy.
        folder: For the log.
        work: Runs the tests.
        seconds: When they count as failed.

    Returns:
        The test that failed, "time limit" or "import"; "" if all passed.
    """
    target, log = copy / "src" / change.file, folder / "trial.log"
    original, status = target.read_bytes(), target.stat()
    target.write_bytes(change.apply(original))
    os.utime(target, (0, 0))  # bytecode of the original is out of date
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    try:
        code = run_in_fork(work, seconds, log)
    finally:
        target.write_bytes(original)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    if code is None:
        return "time limit"
    names = [
        line.removeprefix(FIRST) for line in log.read_text(errors="replace").splitlines() if line.startswith(FIRST)
    ]
    return names[0] if names else "import" if code else ""


def run_session(copy: Path, folder: Path, tests: list[str], try_changes: Callable[[Trials], None]) -> int:
    """Collect tests in a copy of the checkout and try changes on them; see `Trials`."""
    enter(copy)
    return int(pytest.main([*OPTIONS, *tests, "src"], [Trials(copy, folder, try_changes)]))


def run_afresh(copy: Path, folder: Path, change: Change, tests: list[str], seconds: float) -> str:
    """Run tests under a change until one fails, in a process that has not imported the package; as `Trials.run`."""

    def work() -> int:
        enter(copy)
        failures = _Failures()
        code = int(pytest.main(["-x", *OPTIONS, *tests], [failures]))
        return _tell_first(failures) or code

    return run_under_change(change, copy, folder, work, seconds)


def enter(copy: Path) -> None:
    """Work in a copy of the checkout from now on."""
    os.chdir(copy)
    sys.path[:] = [path for path in sys.path if path not in ("", str(copy))]


def compare_codes(original: bytes, changed: bytes, file: str) -> list[tuple[CodeType, CodeType]] | None:
    """The functions that a change makes others of; None where it changes what runs while the module is imported."""
    pairs = []
    for old, new in walk_codes(*(compile(text, file, "exec", dont_inherit=True) for text in (original, changed))):
        is_function = old.co_flags & inspect.CO_OPTIMIZED and old.co_freevars == new.co_freevars
        if not is_function and describe_code(old) != describe_code(new):
            return None
        pairs.append((old, new))
    return pairs


def walk_codes(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Both, and what is defined inside of them, in pairs."""
    yield old, new
    inner = [[const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new)]
    if len(inner[0]) == len(inner[1]):
        for pair in zip(*inner, strict=True):
            yield from walk_codes(*pair)


def describe_code(code: CodeType) -> tuple[Any, ...]:
    """What a code object does, without what is defined inside of it."""
    consts = [(type(const), "" if isinstance(const, CodeType) else repr(const)) for const in code.co_consts]
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars


def replace_codes(codes: list[tuple[CodeType, CodeType]]) -> None:
    """Give every function of this process its new code."""
    changed = {(old.co_filename, old.co_qualname, old.co_firstlineno): new for old, new in codes}
    for each in gc.get_objects():
        if type(each) is FunctionType:
            code = each.__code__
            new = changed.get((code.co_filename, code.co_qualname, code.co_firstlineno))
            if new is not None:
                each.__code__ = new
