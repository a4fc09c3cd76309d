"""Freeze what the commands compute, and see what a change of the code changed.

usage: python scripts/behaviour.py record FOLDER [--checkout DIR] [--cifar10 DIR] [--only NAME ...] [--keep]
       python scripts/behaviour.py compare OLD NEW [--only NAME ...] [--without WORD ...]

`record` runs the commands of scripts/regression/commands.py, one after the other on one thread of the processor, with the
sources of a checkout, and keeps their tables, attribution maps, pictures' digests, records and error messages, without
what depends on time and machine. `compare` prints what differs; its exit code is 1 where anything does. Both records have
to come from one machine: float rounding is not the same on every processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from regression.compare import compare_records
from regression.record import record


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    recording = tasks.add_parser("record", help="run the commands and keep what they leave")
    recording.add_argument("folder", type=Path, help="where the record is written; a new folder")
    recording.add_argument("--checkout", type=Path, default=Path(__file__).parents[1], help="whose src/ is run")
    recording.add_argument("--cifar10", type=Path, help="folder that holds cifar-10-batches-bin; no training without")
    recording.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these commands")
    recording.add_argument("--keep", action="store_true", help="keep the run folders beside the record")
    comparing = tasks.add_parser("compare", help="print what differs; exit code 1 where anything does")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these commands")
    comparing.add_argument(
        "--without", nargs="+", default=[], metavar="WORD", help="leave out files with this in their path (_pictures)"
    )
    given = parser.parse_args(arguments)
    try:
        if given.task == "record":
            start = time.monotonic()
            right = record(given.folder.resolve(), given.checkout.resolve(), given.cifar10, given.only, given.keep)
            print(f"recorded in {time.monotonic() - start:.0f} s: {given.folder}")
            return 0 if right else 1
        lines = list(compare_records(given.old, given.new, given.without, given.only))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or "nothing differs")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
