"""Whatever happens to a run folder, a run leaves the tables of an undisturbed one, or one sentence and nothing changed.

The command, its record, the lock, the journal and the tables are the real ones; the task is three batches by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from omegaconf import DictConfig

from commands import composed
from journals import BATCHES, PLAN, batch_results, file_contents
from seewhy.callbacks.journaling import JournalRecorder
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Skipped
from seewhy.runs.journal import Journal
from seewhy.runs.ownership import hold_folder
from seewhy.runs.record import RunRecord
from seewhy.runs.tables import write_tables

FOREIGN = "notes.txt"
RANDOM = st.randoms(use_true_random=True)


class Killed(BaseException):
    """SIGKILL: no `except` answers it."""


def explain_by_hand(cfg: DictConfig, record: RunRecord) -> None:
    """Three batches whose maps, pictures and skipped files depend on the seed."""
    folder = RunFolder(Path(cfg.output))
    recorder = JournalRecorder(cfg.output, {"seed": cfg.seed})
    recorder.batches = BATCHES
    finished = recorder._begin({**PLAN, "config": {"seed": cfg.seed}}, True, True)
    for number in set(range(len(BATCHES))) - finished:
        results = dataclasses.replace(batch_results(number), skipped=[Skipped(f"{number}_{cfg.seed}.png", "broken")])
        for name, content in file_contents(number).items():
            folder.write_bytes(name, content + bytes([cfg.seed]))
            results.stored[name] = folder.compute_digest(name)
        recorder.journal.write(number, results)
    write_tables(folder, recorder.journal)


def train_by_hand(cfg: DictConfig, record: RunRecord) -> None:
    """Weights, in a folder that no run of another task may use."""
    JournalRecorder(cfg.output).journal.begin(None)
    RunFolder(Path(cfg.output)).write_bytes("weights.safetensors", b"weights")


def read_files(folder: Path) -> dict[str, bytes | None]:
    """Every file, folders as None, and what a link is; without what a process leaves behind that was killed."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        if path.name != ".lock" and not path.name.endswith(".part"):
            content = os.readlink(path).encode() if path.is_symlink() else None
            found[str(path.relative_to(folder))] = path.read_bytes() if content is None and path.is_file() else content
    return found


def read_seed(folder: Path) -> int | None:
    """The seed of the run that the folder belongs to; None where its plan is gone or damaged."""
    try:
        plan = Journal(folder).read_plan()
    except UserError:
        return None
    return None if plan is None else plan["config"].get("seed")


def select_products(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {name: files[name] for name in files if name.endswith((".csv", ".npy", ".png", ".safetensors"))}


class Disk:
    """Stands in for the calls that change a folder: the n-th kills the process, or from it on there is no room."""

    def __init__(self) -> None:
        self.restart()

    def restart(self, left: int = 10_000, end: str = "kill") -> None:
        self.left, self.end, self.is_dead = left, end, False

    def stand_in(self, name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def count(*arguments: Any, **options: Any) -> Any:
            self.count(name, str(arguments[0]))
            return None if name == "fsync" else call(*arguments, **options)

        return count

    def count(self, name: str, path: str) -> None:
        if path.endswith(".lock"):  # the system frees it
            return
        self.left -= self.end == "kill" or name in ("fsync", "mkdir")
        if self.is_dead or (self.left < 0 and self.end == "kill"):
            self.is_dead = True
            raise Killed
        if self.left < 0 and name in ("fsync", "mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class RunFolders(RuleBasedStateMachine):
    """Runs, kills, damages, other plans and other tasks in one folder."""

    base: Path
    configs: dict[str, DictConfig]
    expected: dict[tuple[str, int], dict[str, bytes | None]]
    disk: Disk

    @initialize(random=RANDOM)
    def start_anew(self, random: Random) -> None:
        """A run that ended, or that was killed at a call that changes the folder."""
        self.folder = Path(tempfile.mkdtemp(dir=self.base)) / "run"
        self.blocked, self.seed = False, random.randrange(2)
        self.execute("explain", self.seed, random.choice([10_000, 10_000, random.randrange(70)]))

    def teardown(self) -> None:
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def execute(self, task: str, seed: int, left: int = 10_000, end: str = "kill") -> tuple[object, str]:
        """(exit code, what was printed as an error); `killed` for a process that was."""
        cfg, told = self.configs[task], io.StringIO()
        cfg.output, cfg.seed = str(self.folder), seed
        self.disk.restart(left, end)
        work = explain_by_hand if task == "explain" else train_by_hand
        code: object = 0
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                tasks.execute(work, cfg)
            except SystemExit as stop:
                code = stop.code
            except Killed:
                code = "killed"
        self.disk.restart()
        return code, told.getvalue()

    @rule(task=st.sampled_from(["explain", "explain", "train"]), other=st.integers(0, 1))
    def run(self, task: str, other: int) -> None:
        seed = self.seed ^ other
        before, owner = read_files(self.folder), read_seed(self.folder)
        code, told = self.execute(task, seed)
        after = read_files(self.folder)
        assert "Traceback" not in told
        assert owner in (None, read_seed(self.folder)), "no run takes the place of another"
        if code == 0:
            assert told == ""
            assert json.loads((self.folder / "run.json").read_text())["status"] == "completed"
            expected = self.expected[task, seed]
            made = select_products(after)
            assert {name: made.get(name) for name in expected} == expected
            assert after.get(FOREIGN) == before.get(FOREIGN)
        elif code == 2:
            assert told.count("error: ") == told.count("\n") == 1, told
            assert after == before
        else:
            assert (code, self.blocked, "Is a directory" in told) == (130, True, True), told

    @rule(random=RANDOM)
    def run_into_an_end_and_go_on(self, random: Random) -> None:
        """Killed, or out of room, at a call that changes the folder; sometimes a run of something else; then given again."""
        before = read_files(self.folder)
        seed = self.seed ^ random.choice([0, 0, 1])
        code, told = self.execute("explain", seed, random.randrange(70), random.choice(["kill", "kill", "full"]))
        assert code in (0, 2, 130, "killed")
        assert "Traceback" not in told
        if code == 2:
            assert select_products(read_files(self.folder)) == select_products(before)
        if code == "killed":
            (self.folder / ".lock").write_text('{"host": "gone", "pid": 1, "since": "never"}')
            (self.folder / ".run.json.77.part").write_bytes(b'{"status": "comp')
        self.run("explain", 0)

    @rule(random=RANDOM)
    @precondition(lambda self: self.folder.is_dir())
    def damage_and_go_on(self, random: Random) -> None:
        """One to three files are damaged; then the run is given again."""
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            pattern = random.choice([*["*/*.npy", "*/*.png", "journal/0*"] * 3, "journal/p*", "*.csv", "run.json"])
            files = sorted(path for path in self.folder.glob(pattern) if path.is_file())
            if files:
                self.damage(random.choice(files), random.choice(files), random)
        self.run("explain", 0)

    def damage(self, path: Path, other: Path, random: Random) -> None:
        how = random.choice(["cut", "flip", "flip", "delete", "swap", "swap", "empty", "folder", "link"])
        content = path.read_bytes()
        if how in ("cut", "empty"):
            path.write_bytes(content[: len(content) // 2 if how == "cut" else 0])
        elif how == "flip" and content:
            at = random.randrange(len(content))
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        elif how == "swap":
            path.write_bytes(other.read_bytes())
        elif how == "delete":
            path.unlink()
        elif how == "folder" and path.suffix in (".npy", ".png", ".csv"):
            path.unlink()
            path.mkdir()
            self.blocked = True
        elif how == "link" and path != other:
            path.unlink()
            path.symlink_to(other)

    @rule()
    @precondition(lambda self: self.folder.is_dir())
    def lose_the_journal(self) -> None:
        shutil.rmtree(self.folder / "journal", ignore_errors=True)

    @rule()
    def put_a_file_of_ones_own(self) -> None:
        """Beside what the run wrote, or into a folder that no run has used."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / FOREIGN).write_text("mine")

    @rule(seed=st.integers(0, 1))
    def run_twice_at_once(self, seed: int) -> None:
        with hold_folder(self.folder):
            before = read_files(self.folder)
            code, told = self.execute("explain", seed)
            assert (code, "is being written by another run" in told) == (2, True)
            assert read_files(self.folder) == before


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[RunFolders]]:
    """The machine with its configs and with what undisturbed runs leave."""
    monkeypatch.setattr("seewhy.runs.record.describe_process", dict)
    monkeypatch.setattr(tasks, "check_settings", lambda cfg, overrides: None)
    monkeypatch.setattr("seewhy.cli.tasks.gc.collect", lambda: 0)
    disk = Disk()
    configs = {
        task: composed(task, ["hydra.mode=RUN", "page=false"] if task == "explain" else ["hydra.mode=RUN"])
        for task in ("train", "explain")
    }
    values: dict[str, Any] = {"base": tmp_path, "configs": configs, "disk": disk, "expected": {}}
    built = type("Machine", (RunFolders,), values)
    with contextlib.ExitStack() as patches:
        for name in ("fsync", "mkdir", "replace", "unlink", "rmdir"):
            patches.enter_context(patch.object(os, name, disk.stand_in(name)))
        for task, seed in (("explain", 0), ("explain", 1), ("train", 0), ("train", 1)):
            whole = built()
            whole.folder = tmp_path / f"{task}_{seed}"
            assert whole.execute(task, seed) == (0, "")
            built.expected[task, seed] = select_products(read_files(whole.folder))
        assert len(built.expected["explain", 0]) == 5 + 5 + 3
        assert built.expected["explain", 0] != built.expected["explain", 1]
        yield built


def settings_of(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
def test_a_run_folder_survives_what_happens_to_it(machine: type[RunFolders]) -> None:
    run_state_machine_as_test(machine, settings=settings_of(15, 8))


@pytest.mark.slow
def test_a_run_folder_survives_whatever_happens_to_it(machine: type[RunFolders]) -> None:
    run_state_machine_as_test(machine, settings=settings_of(400, 30))
