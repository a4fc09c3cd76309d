"""Train a classifier, test its best checkpoint, explain test images with it: python src/train.py --help."""

from seewhy.core import signals

signals.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy.cli import tasks
from seewhy.cli.main import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(cfg: DictConfig) -> None:
    """Compose, build, run."""
    tasks.execute(tasks.train, cfg)


if __name__ == "__main__":
    main()
