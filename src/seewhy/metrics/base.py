"""What every metric of an explanation is: a torchmetrics.Metric that keeps one value per image."""

from __future__ import annotations

import functools
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from seewhy.classifier import Classifier
from seewhy.metrics.evidence import Evidence
from seewhy.types import Attributions, Images, Targets


class ImageMetric(Metric):
    """`update` with (classifier, images, targets, attributions); `compute` gives {column: one value per image [n]}.

    NaN marks an image for which the metric is not defined; the docstring of each metric says when that is.
    """

    full_state_update = False
    higher_is_better: bool | None
    """The direction of the first column; None where neither end is better."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns beside the score, such as ("coverage",); they are written as `<name>_<column>`."""

    needs_masks: ClassVar[bool] = False
    """Whether the metric compares maps with masks of the object."""

    def __init__(self) -> None:
        super().__init__()
        for column in ("score", *self.columns):
            self.add_state(column, default=[], dist_reduce_fx="cat")

    @property
    def name(self) -> str:
        """The metric's name in snake case, as in its yaml."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    @abstractmethod
    def variant(self) -> str:
        """The exact definition in words: mask, score space, baseline, steps, denominator."""

    @abstractmethod
    def measure(self, evidence: Evidence) -> Mapping[str, Tensor]:
        """{"score": [batch], and each of `columns`: [batch]}; runs without gradients, with a frozen classifier."""

    def update(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets,
        attributions: Attributions,
        *,
        evidence: Evidence | None = None,
    ) -> None:
        """Measure one batch. `evidence` of the same batch lets several metrics share their passes."""
        known = evidence or Evidence(classifier, images, targets, attributions)
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.inference_mode(False), torch.no_grad(), classifier.frozen(), torch.random.fork_rng(devices=devices):
            measured = self.measure(known)
        for column in ("score", *self.columns):
            values = measured[column].detach().float()
            assert values.shape == (len(images),), f"{self.name}: {column} is {list(values.shape)}"
            getattr(self, column).append(values)

    def compute(self) -> dict[str, Tensor]:
        """{"<name>": [n], "<name>_<column>": [n]} over all images seen."""
        labels = {"score": self.name} | {column: f"{self.name}_{column}" for column in self.columns}
        return {label: _joined(getattr(self, column)) for column, label in labels.items()}

    def _wrap_compute(self, compute: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        """Torchmetrics makes a scalar of the value of a single image: keep it a row."""
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def rows() -> dict[str, Tensor]:
            return {label: values.reshape(-1) for label, values in wrapped().items()}

        return rows

    def plot(self, *arguments: Any, **options: Any) -> Any:
        """Curves and intervals are drawn from the tables, not here."""
        raise NotImplementedError


def _joined(values: list[Tensor] | Tensor) -> Tensor:
    return dim_zero_cat(values) if isinstance(values, Tensor) or values else torch.zeros(0)
