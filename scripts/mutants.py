"""How many small faults in the package the tests notice: `python scripts/mutants.py`, and again to go on.

Draws faults evenly over the lines of each room, writes each into a copy of the checkout, and runs the tests that execute its
line until one fails. Which tests these are is recorded first. Faults that nothing can notice stand in
`mutation/equivalent.toml` with their reasons. Exit code 1 where fewer are noticed than the goals say.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from mutation.changes import Change, list_function_lines, sample_changes  # noqa: E402
from mutation.trials import Record, Trials, copy_checkout, import_libraries, run_afresh, run_in_fork, run_session  # noqa: E402

EQUIVALENT = ROOT / "scripts" / "mutation" / "equivalent.toml"
GOAL, GOAL_OF_A_ROOM = 0.95, 0.90
LEAST = 8
"""Faults of a small room."""


def list_rooms() -> dict[str, list[str]]:
    """The files of each room, below `src`; modules beside the rooms belong to `cli`."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src" / "seewhy").rglob("*.py")):
        parts = path.relative_to(ROOT / "src" / "seewhy").parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "cli", []).append(str(path.relative_to(ROOT / "src")))
    return rooms


def draw_changes(count: int, seed: int) -> dict[str, list[Change]]:
    """The faults of each room, in proportion to its lines."""
    rooms = list_rooms()
    sizes = {room: sum(len((ROOT / "src" / file).read_bytes().splitlines()) for file in rooms[room]) for room in rooms}
    counts = {room: max(LEAST, round(count * size / sum(sizes.values()))) for room, size in sizes.items()}
    return {room: list(sample_changes(ROOT / "src", rooms[room], counts[room], seed)) for room in rooms}


def read_records(folder: Path) -> dict[str, Record]:
    """What is recorded and still holds, by test file."""
    records = {}
    for path in folder.glob("*.json"):
        record = Record(*json.loads(path.read_text()))
        if record.is_current(ROOT):
            records[path.stem.replace("+", "/")] = record
    return records


def choose_tests(change: Change, records: dict[str, Record], budget: float) -> Iterator[tuple[str, float]]:
    """The tests that execute the line of a change, the fastest first, with their seconds, up to a budget.

    A line that runs while the module is imported counts as executed by each test that runs any line of its file.
    """
    tests, is_inside = [], change.line in list_function_lines((ROOT / "src" / change.file).read_bytes())
    for record in records.values():
        for name, seconds in record.seconds.items():
            lines = record.lines[name].get(change.file, [])
            if change.line in lines or (lines and not is_inside):
                tests.append((seconds, name))
    for seconds, name in sorted(tests):
        budget -= seconds
        if budget < 0:
            return
        yield name, seconds


class Results:
    """Which test noticed each change, in a file that grows.

    Args:
        path: The file.
        again: Names of changes whose earlier results do not count.
    """

    def __init__(self, path: Path, again: set[str]) -> None:
        self.path, self.again = path, again
        self.earlier = len(self._read_lines())

    def _read_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def read(self) -> dict[str, dict[str, Any]]:
        """The last result of each change, by its name."""
        return {line["name"]: line for line in self._read_lines()}

    def list_left(self, changes: list[Change]) -> list[Change]:
        """Those without a result."""
        lines = self._read_lines()
        names = {line["name"] for line in lines[self.earlier :]}
        names |= {line["name"] for line in lines[: self.earlier]} - self.again
        return [change for change in changes if change.name not in names]

    def try_each(
        self, changes: list[Change], run: Callable[[Change, list[str], float], str | None], records: Path, budget: float
    ) -> None:
        """Run the tests of each change without a result, and write down which one noticed it."""
        recorded = read_records(records)
        for change in self.list_left(changes):
            chosen = list(choose_tests(change, recorded, budget))
            begin = time.monotonic()
            limit = 60 + 8 * sum(seconds for _, seconds in chosen)
            by = run(change, [name for name, _ in chosen], limit) if chosen else ""
            if by is not None:
                seconds = round(time.monotonic() - begin, 1)
                print(f"src/{change.file}:{change.line} {by or 'SURVIVED'} ({seconds} s)", flush=True)
                with self.path.open("a") as file:
                    result = {"name": change.name, "by": by, "tests": len(chosen), "seconds": seconds}
                    file.write(json.dumps(result) + "\n")


def read_equivalent() -> dict[tuple[str, str, str], str]:
    """Why a change cannot be noticed, by (file, line before, line after) without the space around."""
    listed = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(each["file"], each["before"], each["after"]): each["reason"] for each in listed}


def is_equivalent(change: Change, listed: dict[tuple[str, str, str], str]) -> bool:
    """Whether it stands in the list."""
    return (change.file, change.before.strip(), change.after.strip()) in listed


def print_table(drawn: dict[str, list[Change]], results: dict[str, dict[str, Any]]) -> bool:
    """Print what was noticed by room, and each survivor; whether the goals are reached."""
    listed, total, reached, rows, survivors = read_equivalent(), [0, 0, 0, 0], True, [], []
    for room, changes in drawn.items():
        tried = [change for change in changes if change.name in results]
        noticed = [change for change in tried if results[change.name]["by"]]
        same = [change for change in tried if change not in noticed and is_equivalent(change, listed)]
        lost = [change for change in tried if change not in noticed and change not in same]
        counts = [len(noticed), len(lost), len(same), len(changes) - len(tried)]
        rows.append((room, counts))
        survivors += lost
        total = [before + more for before, more in zip(total, counts, strict=True)]
    print(f"{'room':12} noticed survived equivalent to try  share")
    for room, (noticed, lost, same, left) in [*rows, ("all", total)]:
        share = noticed / max(noticed + lost, 1)
        reached &= share >= (GOAL if room == "all" else GOAL_OF_A_ROOM)
        print(f"{room:12} {noticed:7} {lost:8} {same:10} {left:6} {share:6.1%}")
    for change in survivors:
        lines = [change.before.splitlines(), change.after.splitlines()]
        print(f"\nsrc/{change.file}:{change.line} ({change.kind}, {results[change.name]['tests']} tests)")
        print("\n".join(list(difflib.unified_diff(*lines, n=0, lineterm=""))[3:]))
    return reached


def main() -> int:
    """Go on where the last call ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=240, help="faults, over all rooms (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="+", help="only these")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="folders of tests (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests for a fault (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    parser.add_argument("--table", action="store_true", help="only print the table")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "seewhy-mutants"
    parser.add_argument("--folder", type=Path, default=cache, help="records and results (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    drawn = draw_changes(options.count, options.seed)
    drawn = {room: changes for room, changes in drawn.items() if not options.rooms or room in options.rooms}
    changes, listed = [change for each in drawn.values() for change in each], read_equivalent()
    copy, folder = options.folder / "checkout", options.folder / "records"
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.folder / "results.jsonl", set())
    if options.again:
        survivors = {name for name, result in results.read().items() if not result["by"]}
        results.again = {each.name for each in changes if each.name in survivors and not is_equivalent(each, listed)}

    def work(trials: Trials) -> None:
        for file in [file for file in trials.list_files() if file not in read_records(folder)]:
            print(f"record {file}", flush=True)
            trials.record(file, folder / f"{file.replace('/', '+')}.json")
        results.try_each(changes, trials.run, folder, options.budget)

    if not options.table and results.list_left(changes):
        copy_checkout(ROOT, copy)
        import_libraries()
        log = options.folder / "session.log"
        run_in_fork(lambda: run_session(copy, options.folder, options.tests, work), 86400, log, makes_forks=True)
        run = partial(run_afresh, copy, options.folder)
        results.try_each(changes, run, folder, options.budget)
    return 0 if print_table(drawn, results.read()) else 1


if __name__ == "__main__":
    sys.exit(main())
