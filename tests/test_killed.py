"""Runs as a person starts them, killed at random moments."""

import random
import signal
import time
from pathlib import Path

from killing import start, stop, wait_for
from test_resume import explain, images, products, record

BUSY = ["explainer=rise", "explainer.n_masks=200", "data.batch_size=1", "callbacks=[attribution,faithfulness,tables]"]
GIVEN = [
    "metric=[deletion,sparseness]",
    "++metric.deletion.n_steps=4",
    "model=cifar_cnn",
    "model.weights=random",
    "trainer=cpu",
    "probe_batch_size=16",
    "logger={}",
]


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    data, folder, moments = images(tmp_path / "data", 8), tmp_path / "a run", random.Random(0)
    arguments = [*GIVEN, *BUSY, "data=folder", f"data.root={data}"]
    process = start(tmp_path, "explain.py", *arguments, f"hydra.run.dir='{folder}'")
    wait_for(process, folder, 2)
    time.sleep(moments.random() / 10)
    assert stop(process, signal.SIGKILL)[0] == -signal.SIGKILL
    assert record(folder)["status"] == "running"
    process = start(tmp_path, "explain.py", f"resume={folder}")
    wait_for(process, folder, 4)
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
