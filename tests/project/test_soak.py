"""The soak script on a few images: what CI runs of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "soak.py"


@pytest.mark.slow
def test_killed_sweeps_leave_what_an_undisturbed_one_leaves(tmp_path: Path) -> None:
    moments = ["--kills", "2", "--seed", "18"]  # after the first batch and after the second of 15: long before the end
    given = ["--folder", "soak", *moments, "--explainers", "saliency", "--metrics", "deletion,sparseness"]
    command = [sys.executable, str(SCRIPT), *given, "data=samples", "data.batch_size=4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undisturbed: 15 batches" in done.stdout
    assert "compared: 68 files" in done.stdout
    assert re.search(r"kill -9: [12] times", done.stdout)
    assert (tmp_path / "soak" / "killed").is_dir()
