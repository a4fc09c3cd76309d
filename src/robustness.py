"""Measure how decisions and their explanations change under corruption: python src/robustness.py --help."""

from seewhy.core import signals

signals.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy.cli import resume, tasks
from seewhy.cli.main import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="robustness")
def main(cfg: DictConfig) -> None:
    """Compose, build, run."""
    tasks.execute(tasks.explain, cfg)


if __name__ == "__main__":
    resume.take_up("robustness")
    main()
