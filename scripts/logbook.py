"""Run the five studies and write their pages.

usage: python scripts/logbook.py [key=value ...]      keys: the first lines of configs/logbook.yaml

Every part of a study is a command that a person can give. What needs data or weights that are not at hand is not run, and
the page says so; a committed page is not replaced by one that rests on fewer parts. Runs: logbook/outputs/logbook/.
With limit=N every command takes N images: a quick look, whose pages stay with its runs in logbook/outputs/logbook_limit_N/.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


def main(words: list[str]) -> int:
    """Run first, write afterwards: a page that is written would change the checkout under the runs."""
    from studies.run_part import run_study
    from studies.studies import asked
    from studies.write import write_index, write_page

    from seewhy.core.errors import UserError

    logbook = ROOT / "logbook"
    try:
        wanted = asked(ROOT / "configs" / "logbook.yaml", words)
        quick = wanted.limit is not None
        outputs = logbook / "outputs" / (f"logbook_limit_{wanted.limit}" if quick else "logbook")
        ran = [run_study(study, wanted.inputs, ROOT, outputs, wanted.reuse, wanted.limit) for study in wanted.studies]
        for study, one in zip(wanted.studies, ran, strict=True):
            print(write_page(study, one, outputs if quick else logbook, quick or wanted.force))
        if not quick:
            write_index(logbook, ROOT / "README.md")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
        raise SystemExit(0)
    raise SystemExit(main(sys.argv[1:]))
