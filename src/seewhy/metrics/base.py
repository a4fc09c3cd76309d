"""What every metric of an explanation is: a torchmetrics.Metric that keeps one value per image.

What the metrics of one batch share: the images with their maps, the explainer, and what was measured already.
"""

from __future__ import annotations

import functools
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from seewhy.core.errors import UserError
from seewhy.core.tensors import finite_rows
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers.base import Explainer
from seewhy.explainers.baselines import build_baselines
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

Result = TypeVar("Result")


class Evidence:
    """One batch under measurement; `once` keeps results, so that no metric pays for the passes of another.

    `masks` is bool [batch, height, width], true on the object, where that is known. `explainer` made the maps and is
    needed by the metrics that explain again. `seed` together with an image decides every random number.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets,
        attributions: Attributions,
        *,
        explainer: Explainer | None = None,
        masks: Tensor | None = None,
        seed: int = 0,
        probe_batch_size: int | str = "auto",
    ) -> None:
        if attributions.shape != (len(images), *images.shape[2:]):
            expected = [len(images), *images.shape[2:]]
            raise UserError(f"attributions must be {expected} like the images, not {list(attributions.shape)}")
        if masks is not None and masks.shape != attributions.shape:
            raise UserError(f"masks must be {list(attributions.shape)} like the maps, not {list(masks.shape)}")
        self.classifier = classifier
        self.images = images.detach().clone()
        self.targets = targets.detach().clone()
        self.attributions = attributions.detach().clone().to(images.device, torch.float32)
        self.explainer = explainer
        self.masks = masks
        self.seed = seed
        self.evaluator = BatchedEvaluator(classifier, self.images[0], probe_batch_size)
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, measure: Callable[[], Result]) -> Result:
        """The result of `measure`, which is called only the first time that anyone asks for `key`."""
        if key not in self._known:
            self._known[key] = measure()
        result: Result = self._known[key]
        return result

    def logits(self) -> Tensor:
        """The classifier's logits [batch, classes] of the images themselves."""
        return self.once("logits", lambda: self.evaluator.logits(self.images))

    def scores(self, space: str = "logit") -> Tensor:
        """The target's logit or softmax probability [batch] of the images themselves."""
        return target_scores(self.logits(), self.targets, space)

    def baseline(self, name: str) -> Images:
        """The baseline of that name [batch, 3, height, width] beside each image."""
        return self.once(("baseline", name), lambda: build_baselines(name, self.images, self.seed))

    def baseline_logits(self, name: str) -> Tensor:
        """The classifier's logits [batch, classes] of the baseline of that name."""
        return self.once(("baseline logits", name), lambda: self.evaluator.logits(self.baseline(name)))

    def need_explainer(self, metric: str) -> Explainer:
        """The explainer; UserError where the maps came without one."""
        if self.explainer is None:
            raise UserError(f"{metric} explains again and needs the explainer that made the maps: pass explainer=")
        return self.explainer

    def need_masks(self, metric: str) -> Tensor:
        """The masks bool [batch, height, width], beside the maps; UserError where the images came without any."""
        if self.masks is None:
            raise UserError(f"{metric} compares the map with where the object is: set data.masks to a folder of masks")
        return self.masks.to(self.attributions.device, torch.bool)

    def finite_maps(self) -> tuple[Attributions, Tensor]:
        """(the maps, zero where one holds a value that is not finite; whether each map is finite, bool [batch])."""
        finite = self.once("finite maps", lambda: finite_rows(self.attributions))
        return self.attributions.masked_fill(~finite[:, None, None], 0), finite


SPACES = ("logit", "probability")


def target_scores(logits: Tensor, targets: Targets, space: str) -> Tensor:
    """The target's logit or softmax probability [...] out of logits [..., classes]; targets have the leading shape."""
    values = logits.softmax(-1) if space == "probability" else logits
    return values.gather(-1, targets[..., None])[..., 0]


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
