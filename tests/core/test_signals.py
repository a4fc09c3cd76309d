"""Processes that end with the one that began them, sweeps that end in order, and output that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import ROOT
from seewhy.core import signals

BEGIN = f"import os, signal, sys, time; sys.path.insert(0, {str(ROOT / 'src')!r}); from seewhy.core import signals\n"


def begin(code: str, *arguments: str) -> subprocess.Popen[str]:
    given = [sys.executable, "-c", BEGIN + code, *arguments]
    return subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + 60
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        if " Z " in Path(f"/proc/{process}/stat").read_text():
            return
        time.sleep(0.01)
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
@pytest.mark.parametrize("told", [True, False])
def test_a_worker_ends_in_order_when_its_parent_is_killed(tmp_path: Path, told: bool) -> None:
    """By the signal of the system, and by the thread that looks where the system sends none."""
    worker = f"""
if not {told}:
    signals.INTERVAL, signals.sys = 0.01, type("Elsewhere", (), {{"platform": "darwin"}})
signals.end_with_parent(os.getppid())
with signals.handle_signals():
    try:
        print(os.getpid(), flush=True)
        time.sleep(300)
    except KeyboardInterrupt:
        open({str(tmp_path / "ended")!r}, "w").write(f"{{int(signals.Stop.signum)}} {{signals.Stop.is_orphan()}}")
"""
    with begin(f"import subprocess; subprocess.run([sys.executable, '-c', {BEGIN + worker!r}])") as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        parent.kill()
        wait_until_gone(process)
    assert (tmp_path / "ended").read_text() == f"{int(signal.SIGTERM)} True"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")
def test_a_worker_of_joblib_that_has_no_job_ends_with_its_parent() -> None:
    pytest.importorskip("joblib")
    sweep = """
signals.end_idle_workers_with_parent()
from joblib import Parallel, delayed
print(*Parallel(n_jobs=2, backend="loky")(delayed(os.getpid)() for _ in range(2)), flush=True)
time.sleep(300)
"""
    with begin(sweep) as parent:
        assert parent.stdout is not None
        workers = {int(word) for word in parent.stdout.readline().split()}
        assert parent.pid not in workers
        parent.kill()
        for process in workers:
            wait_until_gone(process)


def test_a_process_of_a_scheduler_does_not_end_with_a_stranger() -> None:
    alone = begin("signals.end_with_parent(1 if os.getppid() != 1 else 2); print(signals.Stop.parent)")
    assert alone.communicate() == ("None\n", "")


SWEEP = """
import multiprocessing

def work(folder, number):
    with signals.handle_signals():
        try:
            open(f"{folder}/begun_{number}", "w").close()
            time.sleep(300)
        except KeyboardInterrupt:
            time.sleep(0.2)
            open(f"{folder}/ended_{number}", "w").write(str(signals.Stop.signum))

for number in range(2):
    multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1], number)).start()
signals.end_sweep_in_order(lambda reason: print("reason:", reason, len(os.listdir(sys.argv[1])), flush=True))
print("ready", flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize(("signum", "reason"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_sweep_ends_its_jobs_in_order_and_waits_for_them(tmp_path: Path, signum: signal.Signals, reason: str) -> None:
    sweep = begin(SWEEP, str(tmp_path))
    assert sweep.stdout is not None and sweep.stdout.readline() == "ready\n"
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("begun_*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    if signum == signal.SIGINT:
        os.killpg(sweep.pid, signum)  # a terminal's Ctrl-C reaches the jobs, too
    else:
        sweep.send_signal(signum)
    output, errors = sweep.communicate(timeout=120)
    assert (sweep.returncode, output, errors) == (128 + signum, f"reason: {reason} 4\n", "")


PRINTING = """
signals.outlive_readers()
for number in range(5000):
    print("line", number)
sys.stdout.flush()
print("a word", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write("done")
    os.write(1, b"of a library")
"""


@pytest.mark.parametrize("redirection", ["| head -1", "2>&1 | head -1", "| true", ">&-", "2>&-", ">&- 2>&-"])
def test_the_end_of_the_reader_is_not_that_of_the_run(tmp_path: Path, redirection: str) -> None:
    script, mark = tmp_path / "script.py", tmp_path / "mark"
    script.write_text(BEGIN + PRINTING)
    command = f"set -o pipefail; {sys.executable} {script} {mark} {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert mark.read_text() == "done"
    assert "Error" not in done.stderr
    if "head" in redirection:
        assert done.stdout == "line 0\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_to_a_full_disk_ends_with_one_sentence(tmp_path: Path) -> None:
    script, mark = tmp_path / "script.py", tmp_path / "mark"
    script.write_text(BEGIN + PRINTING)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} {mark} > /dev/full"], capture_output=True, text=True
    )
    assert (done.returncode, mark.read_text()) == (0, "done")
    assert done.stderr == "the output cannot be written (No space left on device); the run goes on without it\na word\n"


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"])
def test_other_processes_are_told_by_what_launchers_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(each, raising=False)
    assert signals.is_first_process()
    monkeypatch.setenv(name, "0")
    assert signals.is_first_process()
    monkeypatch.setenv(name, "1")
    assert not signals.is_first_process()


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is that of Linux")
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_parent_that_died_before_it_was_watched_ends_its_worker(
    is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([7, 1 if is_gone else 7])  # when it begins, and when the system knows
    asked: list[tuple[int, ...]] = []
    sent: list[tuple[int, int]] = []
    system = SimpleNamespace(prctl=lambda *words: asked.append(words) or 0)
    monkeypatch.setattr(signals.Stop, "parent", None)
    monkeypatch.setattr(signals.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(signals.os, "kill", lambda process, signum: sent.append((process, signum)))
    monkeypatch.setattr(signals.ctypes, "CDLL", lambda _: system)
    signals.end_with_parent(7)
    assert asked == [(1, signal.SIGTERM, 0, 0, 0)]
    assert sent == ([(os.getpid(), signal.SIGTERM)] if is_gone else [])
