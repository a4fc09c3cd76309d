#!/usr/bin/env python
"""Does a long run stay flat and survive being killed? Sweeps explainers twice, undisturbed and killed at random moments.

python scripts/soak.py --kills 20 data=cifar10 data.root=FOLDER data.limit=5000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src"
PRODUCTS = ("*.csv", "*.npy", "*.npz", "*.safetensors", "metrics.json", "curves.png")
FIXED = ["model=cifar_cnn", "callbacks=numbers", "trainer=cpu", "threads=1", "probe_batch_size=64", "logger=[]"]


class Sample(NamedTuple):
    """What the process held at one moment."""

    job: str
    batches: int
    """Finished batches of that job."""
    megabytes: float
    files: int


def look(process: int, folder: Path) -> Sample | None:
    """The job at work, which is the last with a finished batch; None before and after it."""
    jobs = sorted({path.parents[1] for path in folder.glob("*/journal/0*.json")}, key=lambda job: job.name)
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return None
    size = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Sample(jobs[-1].name, batches(jobs[-1]), size, files) if jobs else None


def flat(samples: list[Sample], folder: Path) -> str:
    """The slope of the memory over the images after the first tenth of each job, and the open files there."""
    lines = []
    for job in dict.fromkeys(sample.job for sample in samples):
        total = batches(folder / job)
        images = json.loads((folder / job / "run.json").read_text())["images"]
        late = [each for each in samples if each.job == job and total / 10 <= each.batches < total]
        if len(late) < 3:
            lines.append(f"{job}: too short to see anything")
            continue
        x = [each.batches * images / total / 1000 for each in late]
        slope = linear_regression(x, [each.megabytes for each in late]).slope
        sizes, opened = [[getattr(each, part) for each in late] for part in ("megabytes", "files")]
        lines.append(
            f"{job}: {slope:+.2f} MB per 1,000 images ({min(sizes):.0f} to {max(sizes):.0f} MB), "
            f"{min(opened)} to {max(opened)} open files, {len(late)} looks"
        )
    return "\n".join(lines)


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """The sweep in a folder, in a process group of its own; what it says goes to `<folder>.txt`."""
    command = [sys.executable, str(SOURCE / "explain.py"), "-m", *FIXED, *overrides, f"hydra.sweep.dir={folder}"]
    with open(f"{folder}.txt", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def batches(job: Path) -> int:
    """Those that a job has finished."""
    return sum(1 for _ in job.glob("journal/0*.json"))


def finished(folder: Path) -> int:
    """Batches that all jobs of a sweep have finished."""
    return sum(map(batches, folder.glob("*/")))


def undisturbed(folder: Path, overrides: list[str]) -> tuple[list[Sample], float]:
    """(what the process held from time to time, seconds) of a sweep that nobody stops."""
    begun, process = time.monotonic(), start(folder, overrides)
    samples: list[Sample] = []
    while process.poll() is None:
        sample = look(process.pid, folder)
        samples += [sample] if sample else []
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"the undisturbed sweep failed: see {folder}.txt")
    return samples, time.monotonic() - begun


def killed(folder: Path, overrides: list[str], total: int, kills: int, seed: int, pause: float) -> list[int]:
    """How many batches were finished at each kill -9, up to `pause` seconds after one; the last attempt is left alone."""
    moments = random.Random(seed)
    survived = []
    for target in sorted(moments.randrange(total) for _ in range(kills)):
        process = start(folder, overrides)
        while process.poll() is None and finished(folder) < target:
            time.sleep(0.05)
        time.sleep(pause * moments.random())
        if process.poll() is None:
            survived.append(finished(folder))
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if start(folder, overrides).wait():
        raise SystemExit(f"the last attempt failed: see {folder}.txt")
    return survived


def compare(one: Path, other: Path) -> tuple[int, int, list[str]]:
    """(files, bytes, names of those that differ) of two sweeps."""
    names = sorted(path.relative_to(one) for part in PRODUCTS for path in one.rglob(part))
    size, different = 0, []
    for name in names:
        content = (one / name).read_bytes()
        size += len(content)
        if not (other / name).is_file() or (other / name).read_bytes() != content:
            different.append(str(name))
    missing = {path.relative_to(other) for part in PRODUCTS for path in other.rglob(part)} - set(names)
    return len(names), size, different + sorted(map(str, missing))


def main() -> None:
    """Run both sweeps, print what was found; exit code 1 where the bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="logbook/outputs/soak", help="for both sweeps; must not exist")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--explainers", default="saliency,grad_cam,integrated_gradients")
    parser.add_argument("--metrics", default="deletion,insertion,sparseness,complexity")
    given, overrides = parser.parse_known_args()
    folder = Path(given.folder).resolve()
    folder.mkdir(parents=True)
    overrides += [f"explainer={given.explainers}", f"metric=[{given.metrics}]"]
    print("overrides:", shlex.join(overrides))
    samples, seconds = undisturbed(folder / "undisturbed", overrides)
    total = finished(folder / "undisturbed")
    print(f"undisturbed: {total} batches in {seconds:.0f} s")
    print(f"after the first tenth of each job:\n{flat(samples, folder / 'undisturbed')}", flush=True)
    survived = killed(folder / "killed", overrides, total, given.kills, given.seed, seconds / total / 4)
    print(f"kill -9: {len(survived)} times, after {', '.join(map(str, survived))} of {total} batches")
    files, size, different = compare(folder / "undisturbed", folder / "killed")
    print(f"compared: {files} files, {size:,} bytes; {len(different)} differ {' '.join(different[:5])}")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
