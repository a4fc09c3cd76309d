"""What a classifier uses besides the object: python src/audit.py --help."""

import sys

from seewhy.core import signals

signals.exit_while_starting()

from seewhy.cli.main import run_task

if __name__ == "__main__":  # run_task calls @hydra.main; fish completes scripts that hold this word
    run_task("audit", sys.argv[1:])
