"""Run the commands and keep what they left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from regression.commands import API, COMMANDS, Command
from regression.inputs import write_inputs
from regression.keep import Clean, keep_runs, write_table

LONGEST = 600.0
"""Seconds after which a command is ended."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MPLBACKEND": "Agg",
    "COLUMNS": "120",
    "PYTHONHASHSEED": "0",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONWARNINGS": "ignore",
}


def record(folder: Path, checkout: Path, cifar10: Path | None, only: Sequence[str] = (), keep: bool = False) -> bool:
    """Run the commands with the sources of a checkout and write what they leave to `folder`.

    Args:
        folder: Where the record is written; it must be empty or not exist.
        checkout: Folder with `src/` and `configs/`.
        cifar10: Folder with `cifar-10-batches-bin`; without it the commands that need it are left out.
        only: Names of commands; empty: all.
        keep: Whether the run folders stay, in `folder` with `_work` behind its name.

    Returns:
        Whether every command ended as it should.

    Raises:
        FileExistsError: The folder is not empty.
        ValueError: There is no command of a name in `only`.
    """
    unknown = set(only) - {command.name for command in COMMANDS}
    if unknown:
        raise ValueError(f"no command is called {', '.join(sorted(unknown))}: see regression/commands.py")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: give a new folder")
    chosen = [command for command in COMMANDS if not only or command.name in only]
    left_out = [command.name for command in chosen if command.needs_cifar10 and cifar10 is None]
    if left_out:
        print(f"left out, as --cifar10 is not given: {', '.join(left_out)}")
    work = Path(tempfile.mkdtemp(prefix="behaviour-")).resolve()
    try:
        write_inputs(work / "inputs", checkout, cifar10)
        (work / "runs").mkdir()
        clean = cleaner(work, checkout)
        rows, right = [], True
        for command in chosen:
            if command.name not in left_out:
                code, fine = _run(command, work, checkout, folder, clean)
                rows.append([command.name, str(code), " ".join([command.task, *command.full_arguments()])])
                right = right and fine
        keep_runs(work / "runs", folder, clean)
        write_table(folder / "_commands.csv", (["command", "exit_code", "arguments"], rows))
        if keep:
            shutil.move(work, folder.with_name(f"{folder.name}_work"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return right


def cleaner(work: Path, checkout: Path) -> Clean:
    """What replaces the folders of this machine in a text, and takes colours and addresses of objects out."""
    names = {str(work): "WORK", str(checkout): "CHECKOUT", sys.prefix: "ENVIRONMENT"}

    def clean(text: str) -> str:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
        for path, word in sorted(names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(path, word)
        return re.sub(r"\b0x[0-9a-f]{6,}", "ADDRESS", text)

    return clean


def _run(command: Command, work: Path, checkout: Path, folder: Path, clean: Clean) -> tuple[int, bool]:
    """(exit code, whether that is right) of one command; its text is kept where it is asked for."""
    script = (
        Path(__file__).with_name("python_api.py") if command.task == API else checkout / "src" / f"{command.task}.py"
    )
    cache = {name: str(work / "cache") for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME")}
    environment = {**os.environ, **ENVIRONMENT, **cache, "PYTHONPATH": str(checkout / "src")}
    start = time.monotonic()
    with (work / "stdout").open("w") as out, (work / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(script), *command.full_arguments()],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
        try:
            if command.interrupted:
                _interrupt(process, work / "runs" / command.name)
            code = process.wait(LONGEST)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    stdout, stderr = (clean((work / name).read_text(errors="replace")) for name in ("stdout", "stderr"))
    expected = 130 if command.interrupted else 2 if command.fails else 0
    print(f"{time.monotonic() - start:6.1f} s  exit code {code}  {command.name}", flush=True)
    if code != expected:
        print(f"  exit code {expected} was expected; the end of its output:\n{stdout[-1500:]}\n{stderr[-1500:]}")
    if command.fails or command.keeps_output:
        place = folder / command.name / ("_stderr.txt" if command.fails else "_stdout.txt")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_without_dates(stderr if command.fails else stdout))
    return code, code == expected


def _without_dates(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "DATE", text)


def _interrupt(process: subprocess.Popen[bytes], run: Path) -> None:
    """Send Ctrl-C to a process when its run folder has the first file with an attribution map."""
    end = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < end:
        if (run / "attributions").is_dir() and any(run.glob("attributions/[!.]*")):
            time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            return
        time.sleep(0.02)
