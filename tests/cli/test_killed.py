"""Runs as a person starts them, killed at random moments."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from forked import Command
from killed_runs import BUSY, GIVEN
from killing import SOURCE, wait_for
from resuming import explain, images, products, record
from seewhy.cli import tasks
from seewhy.core.signals import Stop


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    data, folder, moments = images(tmp_path / "data", 8), tmp_path / "a run", random.Random(0)
    arguments = [*GIVEN, *BUSY, "data=folder", f"data.root={data}", f"hydra.run.dir='{folder}'"]
    script, variables = str(SOURCE / "explain.py"), {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = Command(tmp_path, script, *arguments, **variables)
    wait_for(process, folder, 2)
    time.sleep(moments.random() / 10)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.finish().returncode == -signal.SIGKILL
    assert record(folder)["status"] == "running"
    process = Command(tmp_path, script, f"resume={folder}", **variables)
    wait_for(process, folder, 1)
    time.sleep(moments.random() / 10)
    os.killpg(process.pid, signal.SIGINT)
    ended = process.finish()
    assert ended.returncode == 130, ended.stderr
    assert "explain.py 'resume=" in ended.stderr
    assert (record(folder)["status"], record(folder)["reason"]) == ("interrupted", "Ctrl-C")
    explain(folder, data, *BUSY)
    assert [one["status"] for one in record(folder)["earlier"]] == ["running", "interrupted"]  # type: ignore[attr-defined]
    explain(tmp_path / "undisturbed", data, *BUSY)
    assert len(products(folder)) == 8 + 7
    assert products(folder) == products(tmp_path / "undisturbed")


@pytest.mark.parametrize(("name", "begins"), [("LokyProcess-2", False), ("MainProcess", True)])
def test_a_job_whose_sweep_has_died_does_not_begin(monkeypatch: pytest.MonkeyPatch, name: str, begins: bool) -> None:
    """joblib's processes take jobs after their parent's death; a scheduler's processes never have the sweep as parent."""
    begun = []

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(Stop, "parent", None)
    monkeypatch.setattr(tasks.multiprocessing, "current_process", lambda: SimpleNamespace(name=name))
    monkeypatch.setattr(tasks.os, "_exit", leave)
    monkeypatch.setattr(tasks, "execute", lambda task, cfg: begun.append(cfg))
    with contextlib.suppress(SystemExit) if begins else pytest.raises(SystemExit, match="143"):
        tasks.execute_in_worker(tasks.explain, OmegaConf.create({}), parent=-1)
    assert len(begun) == begins


@pytest.mark.slow
def test_commands_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    script = SOURCE.parent / "scripts" / "try_kills.py"
    given = [
        sys.executable,
        str(script),
        "--folder",
        str(tmp_path / "all"),
        "--kills",
        "6",
        "--pairs",
        "2",
        "--repeats",
        "2",
    ]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 0 went wrong") == 3


@pytest.mark.slow
@pytest.mark.parametrize("script", ["explain", "report", "robustness", "synthesize", "train"])
def test_ctrl_c_while_a_command_starts_is_one_line(script: str, tmp_path: Path) -> None:
    (tmp_path / "hydra.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    run = f"import runpy; runpy.run_path({str(SOURCE / script)!r} + '.py', run_name='__main__')"
    begin = f"import sys; sys.path.insert(1, {str(SOURCE)!r}); {run}"
    done = subprocess.run([sys.executable, "-c", begin], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (130, "\ninterrupted (Ctrl-C)\n", "")
