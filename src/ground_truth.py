"""Judge explainers where the truth is known by construction: python src/ground_truth.py --help."""

import sys

from seewhy.core import signals

signals.exit_while_starting()

from seewhy.cli.main import run_task

if __name__ == "__main__":  # run_task calls @hydra.main; fish completes scripts that hold this word
    run_task("ground_truth", sys.argv[1:])
