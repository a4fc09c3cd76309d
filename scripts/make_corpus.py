"""Write a folder of images as bad as they come, and of unusual ones that are perfectly good.

usage: python scripts/make_corpus.py FOLDER

Each case states what a run makes of it. To see it: python src/explain.py data=folder data.root=FOLDER; everything that
cannot be used is in skipped.csv with the reason. What cannot exist on this file system is left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def main() -> None:
    """Write the corpus and say what is in it."""
    from corpus.write import write_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    folder = parser.parse_args().folder
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    cases = write_corpus(folder)
    for case in cases:
        print(f"{case.title:44} {case.outcome}")
    counts = {word: sum(case.outcome.startswith(word) for case in cases) for word in ("used", "skipped", "left out")}
    print(f"{len(cases)} cases: " + ", ".join(f"{count} {word}" for word, count in counts.items()))


if __name__ == "__main__":
    main()
