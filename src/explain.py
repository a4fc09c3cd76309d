"""Explain the decisions of a classifier: python src/explain.py --help."""

from seewhy import interrupt

interrupt.exit_while_starting()

import hydra
from omegaconf import DictConfig

from seewhy import go_on, run
from seewhy.command import command


@command
@hydra.main(version_base="1.3", config_path="../configs", config_name="explain")
def main(cfg: DictConfig) -> None:
    """Compose, build, run."""
    run.execute(run.explain, cfg)


if __name__ == "__main__":
    go_on.take_up("explain")
    main()
