"""What every synthesis is: a value that makes images with a classifier and writes them to a run's folder."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from seewhy.classifier import Classifier

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    from seewhy.synthesis.output import Output


@dataclass(frozen=True, kw_only=True)
class Synthesis(ABC):
    """A frozen set of parameters; the classifier, its modes and all random states stay as they were.

    `probe_batch_size` bounds how many images are in the network at once (`auto`: the fastest size).
    """

    seed: int = 0
    probe_batch_size: int | str = "auto"

    @property
    def name(self) -> str:
        """The synthesis in snake case, as in its yaml."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that decide the images."""
        return {key: value for key, value in vars(self).items() if key != "probe_batch_size" and value is not None}

    @abstractmethod
    def run(self, classifier: Classifier, data: LightningDataModule, output: Output) -> dict[str, Any]:
        """Make the images on the classifier's device, write everything, and return what the run's record says of it."""


@contextmanager
def sheltered(classifier: Classifier) -> Iterator[None]:
    """Outside inference mode, without gradients, with a frozen classifier."""
    with torch.inference_mode(False), torch.no_grad(), classifier.frozen():
        yield
