"""Make images with a classifier, fooling images or class visualizations: python src/synthesize.py --help."""

from seewhy.core import signals

signals.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy.cli import tasks
from seewhy.cli.main import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="synthesize")
def main(cfg: DictConfig) -> None:
    """Compose, build, run."""
    tasks.execute(tasks.synthesize, cfg)


if __name__ == "__main__":
    main()
