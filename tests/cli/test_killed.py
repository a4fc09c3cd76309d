"""Runs as a person starts them, killed at random moments."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killed_runs import BUSY, GIVEN
from killing import SOURCE, start, stop, wait_for
from resuming import explain, images, products, record


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    data, folder, moments = images(tmp_path / "data", 8), tmp_path / "a run", random.Random(0)
    arguments = [*GIVEN, *BUSY, "data=folder", f"data.root={data}"]
    process = start(tmp_path, "explain.py", *arguments, f"hydra.run.dir='{folder}'")
    wait_for(process, folder, 2)
    time.sleep(moments.random() / 10)
    assert stop(process, signal.SIGKILL)[0] == -signal.SIGKILL
    assert record(folder)["status"] == "running"
    process = start(tmp_path, "explain.py", f"resume={folder}")
    wait_for(process, folder, 1)
    time.sleep(moments.random() / 10)
    code, errors = stop(process, signal.SIGINT)
    assert code == 130, errors
    assert "explain.py 'resume=" in errors
    assert (record(folder)["status"], record(folder)["reason"]) == ("interrupted", "Ctrl-C")
    explain(folder, data, *BUSY)
    assert [one["status"] for one in record(folder)["earlier"]] == ["running", "interrupted"]  # type: ignore[attr-defined]
    explain(tmp_path / "undisturbed", data, *BUSY)
    assert len(products(folder)) == 8 + 7
    assert products(folder) == products(tmp_path / "undisturbed")


@pytest.mark.parametrize("script", ["explain", "report", "robustness", "synthesize", "train"])
def test_ctrl_c_while_a_command_starts_is_one_line(script: str, tmp_path: Path) -> None:
    (tmp_path / "hydra.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    run = f"import runpy; runpy.run_path({str(SOURCE / script)!r} + '.py', run_name='__main__')"
    begin = f"import sys; sys.path.insert(1, {str(SOURCE)!r}); {run}"
    done = subprocess.run([sys.executable, "-c", begin], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (130, "\ninterrupted (Ctrl-C)\n", "")
