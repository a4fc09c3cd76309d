#!/usr/bin/env python
"""Does a long run stay flat and survive being killed? Sweeps explainers twice, undisturbed and killed at random moments.

python scripts/soak.py --kills 20 data=cifar10 data.root=FOLDER data.limit=5000
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PRODUCTS = ("*.csv", "*.npy", "*.npz", "metrics.json", "curves.png")
FIXED = ["model=cifar_cnn", "callbacks=numbers", "trainer=cpu", "threads=1", "probe_batch_size=64", "logger={}"]


@dataclass
class Watched:
    """What a process was seen to hold: (finished batches, megabytes, open files) from time to time."""

    samples: list[tuple[int, float, int]] = field(default_factory=list)

    def look(self, process: int, batches: int) -> None:
        """Add a sample of a running process."""
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            files = len(os.listdir(f"/proc/{process}/fd"))
        except OSError:
            return
        self.samples.append((batches, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files))

    def flat(self, total: int) -> tuple[float, int, int, float]:
        """(MB per 1 % of the run after its first tenth, fewest and most open files, most MB)."""
        late = [sample for sample in self.samples if sample[0] >= total / 10]
        shares = [100 * batches / total for batches, _, _ in late]
        sizes = [size for _, size, _ in late]
        centre, mean = sum(shares) / len(shares), sum(sizes) / len(sizes)
        spread = sum((share - centre) ** 2 for share in shares) or 1.0
        slope = sum((share - centre) * (size - mean) for share, size in zip(shares, sizes, strict=True)) / spread
        opened = [files for *_, files in late]
        return slope, min(opened), max(opened), max(sizes)


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """The sweep in a folder, in a process group of its own; what it says goes to `<folder>.txt`."""
    command = [sys.executable, str(SOURCE / "explain.py"), "-m", *FIXED, *overrides, f"hydra.sweep.dir={folder}"]
    with open(f"{folder}.txt", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finished(folder: Path) -> int:
    """Batches that all jobs of a sweep have finished."""
    return sum(1 for _ in folder.glob("*/journal/0*.json"))


def undisturbed(folder: Path, overrides: list[str]) -> tuple[Watched, float]:
    """(what the process held, seconds) of a sweep that nobody stops."""
    begun, watched, process = time.monotonic(), Watched(), start(folder, overrides)
    while process.poll() is None:
        watched.look(process.pid, finished(folder))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the undisturbed sweep failed: see {folder}.txt")
    return watched, time.monotonic() - begun


def killed(folder: Path, overrides: list[str], total: int, kills: int, seed: int) -> list[int]:
    """How many batches were finished at each kill -9, the last attempt being left alone."""
    moments = random.Random(seed)
    survived = []
    for target in sorted(moments.randrange(total) for _ in range(kills)):
        process = start(folder, overrides)
        while process.poll() is None and finished(folder) < target:
            time.sleep(0.05)
        time.sleep(moments.random())
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
    watched, seconds = undisturbed(folder / "undisturbed", overrides)
    total = finished(folder / "undisturbed")
    slope, fewest, most, largest = watched.flat(total)
    print(f"undisturbed: {total} batches in {seconds:.0f} s")
    print(f"memory after the first tenth: {slope:+.3f} MB per 1 % of the run, at most {largest:.0f} MB")
    print(f"open files after the first tenth: {fewest} to {most}")
    survived = killed(folder / "killed", overrides, total, given.kills, given.seed)
    print(f"kill -9: {len(survived)} times, after {', '.join(map(str, survived))} of {total} batches")
    files, size, different = compare(folder / "undisturbed", folder / "killed")
    print(f"compared: {files} files, {size:,} bytes; {len(different)} differ {' '.join(different[:5])}")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
