"""Start-up: the help, and a run until the first pass, beside importing torch, lightning and hydra alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from benchmarking.clock import Spread, ratio
from benchmarking.place import ROOT
from benchmarking.row import Row

ALONE = [sys.executable, "-c", "import torch, lightning.pytorch, hydra"]
HELP = [sys.executable, str(ROOT / "src" / "explain.py"), "--help"]
FIRST_PASS = [sys.executable, "-m", "benchmarking.start"]


def start_rows(model: str, repeats: int, threads: int) -> Iterator[Row]:
    """Seconds of each command, in turn, and the ratio to the imports alone; with one thread those of the processor."""
    commands = {
        "imports of torch, lightning and hydra alone": ALONE,
        "explain.py --help": HELP,
        "to the first pass": FIRST_PASS,
    }
    measured: dict[str, list[float]] = {name: [] for name in commands}
    parts: list[list[float]] = []
    for _ in range(repeats):
        for name, command in commands.items():
            environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "BENCHMARK_MODEL": model}
            environment["OMP_NUM_THREADS"] = str(threads)
            start = _read_clock(threads)
            done = subprocess.run(
                command, cwd=ROOT / "scripts", env=environment, capture_output=True, text=True, check=True
            )
            measured[name].append(_read_clock(threads) - start)
            if command is FIRST_PASS:
                parts.append([float(word) for word in done.stdout.split()[-2:]])
    for name, spent in measured.items():
        spread = ratio(spent, measured[next(iter(commands))])
        note = ""
        if name == "to the first pass":
            middle = [Spread.of(values).median for values in zip(*parts, strict=True)]
            note = "imports and building {:.2f} s, first image and pass {:.2f} s".format(*middle)
        yield Row(
            part="start", model=model, name=name, seconds=Spread.of(spent).median, note=note,
            ratio=spread.median, smallest=spread.smallest, largest=spread.largest,
        )  # fmt: skip


def _read_clock(threads: int) -> float:
    """Seconds; with one thread those that processes which have ended took of the processor."""
    return time.perf_counter() if threads > 1 else sum(os.times()[2:4])


def first_pass(model: str) -> None:
    """The body of such a process: prints the seconds of imports with building, and of the first image with its pass."""
    start = time.perf_counter()
    from hydra import compose, initialize_config_dir

    from seewhy.cli.build import build_job
    from seewhy.cli.program import quieten

    quieten()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose(
            "explain", [f"model={model}", "explainer=saliency", "data.limit=1", "output=/nowhere", "logger=[]"]
        )
    job = build_job(cfg)
    built = time.perf_counter()
    job.data.setup("test")
    batch = next(iter(job.data.test_dataloader()))
    with torch.no_grad():
        job.classifier.eval()(batch.images)
    print(built - start, time.perf_counter() - built)


if __name__ == "__main__":
    first_pass(os.environ["BENCHMARK_MODEL"])
