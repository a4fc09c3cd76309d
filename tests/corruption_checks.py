"""Corruptions of the configs, built, and a picture to corrupt."""

from __future__ import annotations

from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from commands import CONFIGS
from seewhy.data.corruptions.patterns import draw_cloud


def built(name: str) -> Any:
    return instantiate(OmegaConf.load(CONFIGS / "corruption" / f"{name}.yaml"), _convert_="all")[name]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A colourful picture with structure at all scales and few clipped values."""
    draw = np.random.default_rng(seed)
    channels = [draw_cloud(height, width, 2.0, draw) for _ in range(3)]
    return np.rint(30 + 190 * np.stack(channels, 2)).astype(np.uint8)
