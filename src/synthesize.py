"""Make images with a classifier, fooling images or class visualizations: python src/synthesize.py --help."""

from seewhy import interrupt

interrupt.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy import run
from seewhy.command import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="synthesize")
def main(cfg: DictConfig) -> None:
    """Compose, build, run."""
    run.execute(run.synthesize, cfg)


if __name__ == "__main__":
    main()
