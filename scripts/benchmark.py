"""What every method and metric costs beside its floor and beside its peers: python scripts/benchmark.py --help."""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarking.command import main  # noqa: E402

if __name__ == "__main__":
    main()
