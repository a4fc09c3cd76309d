"""Join the runs of a sweep into one comparison: python src/report.py --help."""

from seewhy.core import signals

signals.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy.cli import tasks
from seewhy.cli.main import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="report")
def main(cfg: DictConfig) -> None:
    """Compose, read, compare."""
    tasks.execute(tasks.report, cfg)


if __name__ == "__main__":
    main()
