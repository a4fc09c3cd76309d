"""The command beside what a user would write instead: seconds and peak memory of both, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torchvision import transforms

from benchmarking.clock import Spread, ratio
from benchmarking.data_path import pictures
from benchmarking.peers.plain import plain_of
from benchmarking.place import ROOT
from benchmarking.row import Row
from benchmarking.subject import Subject
from seewhy.explainers.occlusion import Occlusion

RUNS = {"quick": {"saliency": 8}, "full": {"saliency": 100, "integrated_gradients": 24, "occlusion": 12}}
"""How many pictures are explained with what."""


def script_rows(subject: Subject, quick: bool, repeats: int, threads: int) -> Iterator[Row]:
    """Rows of whole processes: theirs over ours in seconds, and the peaks of both."""
    side, name = subject.images.shape[-1], subject.classifier.name
    window, stride = Occlusion().choose_geometry(side, side)
    for method, count in RUNS["quick" if quick else "full"].items():
        with tempfile.TemporaryDirectory() as place:
            folder, network = Path(place) / "pictures", Path(place) / "network.pt"
            folder.mkdir()
            pictures(folder, count)
            plain = plain_of(subject.classifier).cpu()
            normalise = transforms.Normalize(plain.mean.flatten().tolist(), plain.std.flatten().tolist())
            torch.save(nn.Sequential(normalise, plain.network), network)  # nothing of ours but perhaps the network
            script = [str(ROOT / "scripts" / "benchmarking" / "plain_script.py"), str(network), str(side), str(folder)]
            commands = {
                "script": [*script, "{output}", method, *([str(window), str(stride)] if method == "occlusion" else [])],
                "seewhy": [
                    *(str(ROOT / "src" / "explain.py"), f"model={name}", f"explainer={method}", "data=folder"),
                    *(f"data.root={folder}", f"model.size={side}", "output={output}", "logger=[]"),
                ],
            }
            spent: dict[str, list[float]] = {each: [] for each in commands}
            peaks: dict[str, float] = {}
            for turn in range(repeats):
                for each, command in commands.items():
                    output = Path(place) / f"{each}_{turn}"
                    output.mkdir()
                    filled = [word.replace("{output}", str(output)) for word in command]
                    seconds, megabytes = run_command(filled, threads)
                    spent[each].append(seconds)
                    peaks[each] = max(megabytes, peaks.get(each, 0))
            spread = ratio(spent["script"], spent["seewhy"])
            note = (
                f"{Spread.of(spent['script']).median:.1f} s and {peaks['script']:.0f} MB; ours {peaks['seewhy']:.0f} MB"
            )
            yield Row(
                part="script", model=name, name=method, setting=f"on {count} pictures, start included", images=count,
                seconds=Spread.of(spent["seewhy"]).median, ratio=spread.median, smallest=spread.smallest,
                largest=spread.largest, megabytes=peaks["seewhy"], note=note,
            )  # fmt: skip


LAUNCH = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(code)"""
"""A small process that begins the measured one: a child's peak is at least what its parent held when it began."""


def run_command(command: Sequence[str], threads: int) -> tuple[float, float]:
    """(seconds, peak of resident memory in MB) of a Python process, its start included; with one thread of the processor."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(threads)}
    launched = [sys.executable, "-c", LAUNCH, sys.executable, *command]
    start = time.perf_counter()
    done = subprocess.run(launched, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    peak, of_processor = done.stdout.split()
    return float(of_processor) if threads == 1 else seconds, int(peak) / 1024
