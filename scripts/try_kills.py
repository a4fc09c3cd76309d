#!/usr/bin/env python
"""Does any command lose or change anything when it is killed? kill -9 at random moments, the same command again, compare.

python scripts/try_kills.py --kills 200          # about ten seconds of one core a kill
python scripts/try_kills.py --pairs 30           # two runs at once in one folder, or beginning in one second
python scripts/try_kills.py --repeats 20         # the same command again and again, also on a busy machine: same bytes
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; a process with one thread can be forked

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
NETWORK = ["model=cifar_cnn", "trainer=cpu", "threads=1", "probe_batch_size=16", "seed=3"]
MEASURED = ["explainer=rise", "explainer.n_masks=60", "metric=[deletion,sparseness]", "++metric.deletion.n_steps=4"]
PICTURES = ("data=folder", "data.root=pictures")
COMMANDS: dict[str, tuple[str, ...]] = {
    "explain": ("explain", *NETWORK, *MEASURED, *PICTURES, "data.batch_size=1"),
    "train": ("train", *NETWORK, "model.weights=random", *PICTURES, "trainer.max_epochs=2", "data.validation=0.3"),
    "robustness": ("robustness", *NETWORK, "corruption=[gaussian_noise,fgsm]", *PICTURES),
    "synthesize": ("synthesize", *NETWORK, "synthesis=fooling_image", "synthesis.target=2", "synthesis.max_steps=60"),
    "report": ("report", "runs=finished"),
    "sweep": (
        *("explain", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *NETWORK, *MEASURED[2:]),
        *("explainer=saliency,occlusion", *PICTURES, "data.batch_size=1"),
    ),
}
"""The task and overrides of each command, given in a folder with `pictures` and `finished` runs."""
ROUND = (*list(COMMANDS)[:-1] * 3, "sweep")
"""The order of the commands; a sweep takes ten times as long as any other."""
PRODUCTS = (".csv", ".npy", ".npz", ".png", ".safetensors", "metrics.json")
LONGEST = 600.0


def start(command: str, folder: Path) -> int:
    """Fork a process that gives the command, in a group of its own; its words go to `<folder>.txt`."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    log = os.open(f"{folder}.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    task, *overrides = COMMANDS[command]
    kind = "sweep" if "-m" in overrides else "run"
    _run(task, [*overrides, f"hydra.{kind}.dir={folder}"])


def _run(task: str, arguments: list[str]) -> NoReturn:
    """End this process as the command of a task ends."""
    from seewhy.cli.main import run_task

    sys.argv = [str(SOURCE / f"{task}.py"), *arguments]
    code = 1
    try:
        run_task(task, arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int, seconds: float = LONGEST) -> int | None:
    """Exit code of a process, negative for a signal; None where it still works after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def list_group(process: int) -> list[int]:
    """The living processes of a session."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process and fields[0] != "Z":
            members.append(int(path.parent.name))
    return members


def run_undisturbed(command: str, folder: Path) -> float:
    """Run a command to its end; return how long it took."""
    begun = time.monotonic()
    if code := wait(start(command, folder)):
        raise SystemExit(f"{command} ended with {code}: see {folder}.txt")
    return time.monotonic() - begun


def kill_and_repeat(command: str, folder: Path, moments: list[tuple[float, bool]]) -> Iterator[str]:
    """Kill a command at each moment, then let it end; yields what went wrong.

    Args:
        command: One of `COMMANDS`.
        folder: Of the run.
        moments: Seconds after the start, and whether the whole group is killed or its first process alone.
    """
    for seconds, group in moments:
        process = start(command, folder)
        if wait(process, seconds) is None:
            (os.killpg if group else os.kill)(process, signal.SIGKILL)
            wait(process)
        end = time.monotonic() + 60
        while list_group(process) and time.monotonic() < end:  # workers end in order with their parent
            time.sleep(0.05)
        if left := list_group(process):
            yield f"{len(left)} processes outlive their parent by a minute"
    if code := wait(start(command, folder)):
        yield f"it ended with {code}"


def compare(one: Path, other: Path) -> tuple[int, list[str]]:
    """(number of files, names of those that differ) of two runs; one row of the logger `csv` holds the seconds."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.name.endswith(PRODUCTS) and path.name != "run.csv"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    first, second = read(one), read(other)
    return len(first), sorted(name for name in first | second if first.get(name) != second.get(name))


def prepare(folder: Path) -> dict[str, float]:
    """Make pictures, finished runs, and an undisturbed run of each command; return how long each took."""
    for number, path in enumerate(sorted((ROOT / "logbook" / "images" / "cifar10").glob("*_00*.png"))[:14]):
        target = folder / "pictures" / ("cat" if number % 2 else "dog") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    os.chdir(folder)
    run_undisturbed("sweep", folder / "finished")
    return {command: run_undisturbed(command, folder / f"undisturbed_{command}") for command in COMMANDS}


def try_kills(folder: Path, kills: int, seed: int) -> int:
    """Kill commands at random moments; print what went wrong and return how often."""
    lasted, numbers = prepare(folder), random.Random(seed)
    print("undisturbed:", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in lasted.items()), flush=True)
    done, wrong, attempt = Counter[str](), 0, 0
    while sum(done.values()) < kills:
        command, attempt = ROUND[attempt % len(ROUND)], attempt + 1
        moments = [
            (lasted[command] * numbers.random(), numbers.random() < 0.5) for _ in range(numbers.choice((1, 1, 2, 3)))
        ]
        run = folder / f"{attempt:03d}_{command}"
        faults = list(kill_and_repeat(command, run, moments))
        files, different = compare(folder / f"undisturbed_{command}", run)
        faults += [f"{len(different)} of {files} files differ: {', '.join(different[:4])}"] if different else []
        done[command] += len(moments)
        wrong += bool(faults)
        for fault in faults:
            print(f"{run.name}, killed after {[round(each, 2) for each, _ in moments]} s: {fault}", flush=True)
        if not faults:
            shutil.rmtree(run)
    print(f"{sum(done.values())} kills ({', '.join(f'{name} {n}' for name, n in done.items())}): {wrong} went wrong")
    return wrong


def try_pairs(folder: Path, pairs: int, seed: int) -> int:
    """Begin two runs at once; print what went wrong and return how often."""
    prepare(folder)
    numbers, wrong = random.Random(seed), 0
    codes = Counter[str]()
    for pair in range(pairs):
        command = ROUND[pair % len(ROUND)]
        run, processes = folder / f"pair_{pair:03d}_{command}", []
        for _ in range(2):
            processes.append(start(command, run))
            time.sleep(numbers.choice((0, 0, 0.05, 0.5)))
        ended = sorted(str(wait(process)) for process in processes)
        codes[" and ".join(ended)] += 1
        files, different = compare(folder / f"undisturbed_{command}", run)
        if different or "0" not in ended or not set(ended) <= {"0", "2"}:
            wrong += 1
            print(
                f"{run.name}: exit codes {ended}, {len(different)} of {files} files differ {different[:4]}", flush=True
            )
    print(f"{pairs} pairs, exit codes {dict(codes)}: {wrong} went wrong")
    return wrong


def try_repeats(folder: Path, repeats: int) -> int:
    """Give the same commands again and again; print whose files differ and return how often they did."""
    prepare(folder)
    wrong, counts = 0, Counter[str]()
    for number in range(repeats):
        command = ROUND[number % (len(COMMANDS) - 1)]
        run_undisturbed(command, folder / "again")
        files, different = compare(folder / f"undisturbed_{command}", folder / "again")
        counts["files"] += files
        wrong += bool(different)
        if different:
            print(f"{command}: {len(different)} of {files} files differ: {different[:4]}", flush=True)
        shutil.rmtree(folder / "again")
    print(f"{repeats} repeats, {counts['files']} files compared: {wrong} went wrong")
    return wrong


def main() -> None:
    """Try kills, pairs and repeats; exit code 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="logbook/outputs/kills", help="for all runs; must not exist")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    folder = Path(given.folder).resolve()
    folder.mkdir(parents=True)
    import lightning.pytorch  # noqa: F401  once, for all runs

    import seewhy.callbacks.results  # noqa: F401

    wrong = try_kills(folder / "killed", given.kills, given.seed) if given.kills else 0
    wrong += try_pairs(folder / "pairs", given.pairs, given.seed) if given.pairs else 0
    wrong += try_repeats(folder / "repeats", given.repeats) if given.repeats else 0
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    main()
