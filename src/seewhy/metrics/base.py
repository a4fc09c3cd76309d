"""What every metric of an explanation is, and the context that the metrics of a batch share."""

from __future__ import annotations

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar

import torch
from annotated_types import Gt, Lt, MinLen
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from seewhy.core.errors import UserError, name_own_code
from seewhy.core.precision import compute_in_full, find_narrow_type
from seewhy.core.settings import OneOf, check_when_made
from seewhy.core.tensors import find_finite_rows
from seewhy.core.types import Attributions, Classes, Images, Targets
from seewhy.core.words import write_snake_case
from seewhy.explainers.baselines import build_baselines
from seewhy.models.batched import BatchedEvaluator

if TYPE_CHECKING:
    from seewhy.explainers.base import Explainer
    from seewhy.models.classifier import Classifier

Result = TypeVar("Result")
SPACES = ("logit", "probability")
Space = Annotated[str, OneOf(SPACES)]
Shares = Annotated[Sequence[Annotated[float, Gt(0), Lt(1)]], MinLen(1)]
"""Shares of the pixels: neither none nor all."""
"""In which a target's score can be read; what a probability is, the classifier's facts say."""
CONSTRUCTS = ("faithfulness", "randomisation", "robustness", "localisation", "complexity")
"""What a metric can measure. Values of different constructs are never averaged or ranked together."""


class MetricContext:
    """Per-batch context for metrics: inputs, attributions, cached forward passes.

    Args:
        classifier: The classifier that was explained.
        images: float32 [batch, channels, height, width] in [0, 1].
        targets: int64 [batch], the target class of each image, or weights [batch, outputs].
        attributions: float32 [batch, height, width], the maps to measure.
        explainer: What made the maps; metrics that explain again need it.
        masks: bool [batch, height, width], true on the object; metrics of localisation need them.
        seed: Decides, together with an image, every random number.
        probe_batch_size: Most images in the network at once, or `auto`.

    Raises:
        UserError: If the maps or masks are not shaped like the images.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets | Classes,
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
        self.images = images.detach().to(torch.promote_types(images.dtype, classifier.mean.dtype), copy=True)
        self.targets = Targets.of(targets).clone()
        self.attributions = attributions.detach().clone().to(images.device, torch.float32)
        self.explainer = explainer
        self.masks = masks
        self.seed = seed
        self.evaluator = BatchedEvaluator(classifier, self.images[0], probe_batch_size)
        self._results: dict[Hashable, Any] = {}

    def renew(self) -> MetricContext:
        """Build the same context without what was computed in it.

        Returns:
            The context.
        """
        options: dict[str, Any] = {"explainer": self.explainer, "masks": self.masks, "seed": self.seed}
        batch = self.classifier, self.images, self.targets, self.attributions
        return MetricContext(*batch, **options, probe_batch_size=self.evaluator.batch_size)

    def compute_once(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """Compute a result the first time that any metric asks for it, and cache it.

        Args:
            key: Names the result.
            compute: Called without arguments where the key is new.

        Returns:
            The result of `compute`.
        """
        if key not in self._results:
            self._results[key] = compute()
        result: Result = self._results[key]
        return result

    @property
    def logits(self) -> Tensor:
        """The classifier's logits [batch, classes] of the images."""
        return self.compute_once("logits", lambda: self.evaluator.compute_logits(self.images))

    def compute_scores(self, space: str = "logit") -> Tensor:
        """Compute the targets' scores of the images.

        Args:
            space: `logit` or `probability`.

        Returns:
            float32 [batch].
        """
        return self.select_scores(self.logits, space)

    def select_scores(self, logits: Tensor, space: str, rows: Tensor | None = None) -> Tensor:
        """Compute the targets' scores from logits: weights . logits, or weights . probabilities.

        Args:
            logits: [n, classes] of versions of the images.
            space: `logit` or `probability`.
            rows: int64 [n], the image of the batch that each row of `logits` belongs to; None where they are the batch.

        Returns:
            float32 [n].
        """
        values = self.classifier.facts.compute_probabilities(logits) if space == "probability" else logits
        return (self.targets if rows is None else self.targets[rows]).score(values)

    def decide(self, logits: Tensor, rows: Tensor | None = None) -> list[Hashable]:
        """Read what the network predicts: what is equal is the same prediction.

        Args:
            logits: [n, classes] of versions of the images.
            rows: int64 [n], the image of the batch that each row of `logits` belongs to; None where they are the batch.

        Returns:
            Of each row the likeliest class; where labels are independent, which of those that are explained are above the
            threshold; where several classes are weighed, or outputs are no classes, the sign of the score.
        """
        facts, targets = self.classifier.facts, self.targets if rows is None else self.targets[rows]
        weights = targets.expand(logits.shape[1])
        if facts.score == "sigmoid":
            above = (facts.compute_probabilities(logits) > facts.threshold) & (weights != 0)
            return [tuple(row.nonzero()[:, 0].tolist()) for row in above]
        classes, signs = logits.argmax(1).tolist(), (targets.score(logits) > 0).tolist()
        single = ((weights != 0).sum(1) == 1) & (weights.amax(1) > 0) & (facts.score != "none")
        return [each if alone else sign for each, sign, alone in zip(classes, signs, single.tolist(), strict=True)]

    def build_baseline(self, name: str) -> Images:
        """Build the baseline beside each image.

        Args:
            name: One of `explainers.baselines.BASELINES`.

        Returns:
            float32 [batch, channels, height, width] in [0, 1].
        """
        return self.compute_once(("baseline", name), lambda: build_baselines(name, self.images, self.seed))

    def compute_baseline_logits(self, name: str) -> Tensor:
        """Compute the classifier's logits of a baseline.

        Args:
            name: One of `explainers.baselines.BASELINES`.

        Returns:
            float32 [batch, classes].
        """
        return self.compute_once(
            ("baseline logits", name), lambda: self.evaluator.compute_logits(self.build_baseline(name))
        )

    def require_explainer(self, metric: str) -> Explainer:
        """Return the explainer, or refuse the metric.

        Args:
            metric: The name for the message.

        Returns:
            The explainer that made the maps.

        Raises:
            UserError: If the maps came without one.
        """
        if self.explainer is None:
            raise UserError(f"{metric} explains again and needs the explainer that made the maps: pass explainer=")
        return self.explainer

    def require_masks(self, metric: str) -> Tensor:
        """Return the masks of the objects, or refuse the metric.

        Args:
            metric: The name for the message.

        Returns:
            bool [batch, height, width] on the device of the maps.

        Raises:
            UserError: If the images came without masks.
        """
        if self.masks is None:
            raise UserError(f"{metric} compares the map with where the object is: set data.masks to a folder of masks")
        return self.masks.to(self.attributions.device, torch.bool)

    def replace_non_finite(self) -> tuple[Attributions, Tensor]:
        """Replace maps that hold NaN or infinite values by zeros, so that passes can go on.

        Returns:
            The maps float32 [batch, height, width], and whether each was finite, bool [batch].
        """
        finite = self.compute_once("finite maps", lambda: find_finite_rows(self.attributions))
        return self.attributions.masked_fill(~finite[:, None, None], 0), finite


class Draws(NamedTuple):
    """The columns whose mean over random networks, which all images share, is the value of an image."""

    columns: tuple[str, ...]
    """One per network; an interval of the mean takes their spread in."""
    absolute: bool = False
    """Whether it is the mean of their absolute values."""


class Range(NamedTuple):
    """The least and the largest value that an image can have."""

    low: float
    high: float | None = None
    """None: no limit."""
    of_probability: bool = False
    """Whether that holds only where the score of the target is a probability, and not an output or a contrast."""


SHARE, CORRELATION, AMOUNT = Range(0, 1), Range(-1, 1), Range(0)
PROBABILITY, GAIN = Range(0, 1, of_probability=True), Range(-1, 1, of_probability=True)


class ImageMetric(Metric):
    """A torchmetrics metric of explanations that keeps one value per image.

    NaN marks an image for which the metric is not defined; the docstring of each metric says when that is.
    """

    full_state_update = False
    construct: ClassVar[str]
    """What is measured, one of `CONSTRUCTS`."""
    variant_of: ClassVar[str] = ""
    """The score that this is another form of; empty: a score of its own. Forms of one score move together, so that one
    counts in the mean rank of the construct: the score itself or, where it was not measured, the first form by name."""
    in_mean_rank: bool = True
    """Whether methods can be ranked by the score; the docstring says why not."""
    higher_is_better: bool | None
    """The direction of the score; None where neither end is better."""
    explanations: int = 0
    """How many explanations of an image are needed beside its map."""
    passes: int | None = None
    """Most passes that a run may spend on these: of a dear method fewer images are measured
    (`seewhy.metrics.batch.limit_images`). None: all are."""
    columns: tuple[str, ...] = ()
    """Columns beside the score, such as ("coverage",); they are written as `<name>_<column>`."""
    outcomes: ClassVar[tuple[float, float] | None] = None
    """The two scores that an image can have, such as (0, 1); None: any number."""
    ranges: Mapping[str, Range] = {}
    """{"score" or column: its range}; one that is not there can have any value."""
    needs_float32: ClassVar[bool] = False
    """Whether the metric is measured in float32 also in a run in bfloat16: it is a small difference of scores."""
    needs_masks: ClassVar[bool] = False
    """Whether the metric compares maps with masks of the object."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            check_when_made("metric.{}")(cls)

    def __init__(self) -> None:
        super().__init__()
        for column in ("score", *self.columns):
            self.add_state(column, default=[], dist_reduce_fx="cat")

    @property
    def name(self) -> str:
        """The metric's name in snake case, as in its yaml."""
        return write_snake_case(type(self).__name__)

    @property
    def draws(self) -> Mapping[str, Draws]:
        """{"score" or column: the columns that hold it under one random network each}."""
        return {}

    @property
    def reads_probability(self) -> bool:
        """Whether the score of a target is read as its probability, not as its logit."""
        return getattr(self, "space", "probability") == "probability"

    def find_bounds(self, column: str, has_probabilities: bool = True) -> tuple[float, float | None] | None:
        """Find the range of a column with these settings.

        Args:
            column: `score`, or one of `columns`.
            has_probabilities: Whether the targets of the run have a probability.

        Returns:
            (least, largest value, None where there is no limit); None: it can have any value.
        """
        found = self.ranges.get(column)
        if found is None or (found.of_probability and not (has_probabilities and self.reads_probability)):
            return self.outcomes if column == "score" else None
        return found.low, found.high

    @property
    @abstractmethod
    def variant(self) -> str:
        """The exact definition in words: mask, score space, baseline, steps, denominator."""

    @abstractmethod
    def measure(self, context: MetricContext) -> Mapping[str, Tensor]:
        """Measure one batch, without gradients and with a frozen classifier.

        Args:
            context: The batch with its maps.

        Returns:
            {"score": [batch], and each of `columns`: [batch]}.
        """

    def update(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets | Classes,
        attributions: Attributions,
        *,
        context: MetricContext | None = None,
    ) -> None:
        """Measure one batch and keep its values.

        Args:
            classifier: The classifier that was explained.
            images: float32 [batch, channels, height, width] in [0, 1].
            targets: int64 [batch], the target class of each image, or weights [batch, outputs].
            attributions: float32 [batch, height, width], the maps.
            context: Of the same batch, so that several metrics share their passes.
        """
        shared = context or MetricContext(classifier, images, targets, attributions)
        full = contextlib.ExitStack()
        if self.needs_float32 and find_narrow_type(images.device.type) is not None:
            shared = shared.renew()
            full.enter_context(compute_in_full(images.device.type))
        devices = [images.device] if images.device.type == "cuda" else []
        drawing, own_code = torch.random.fork_rng(devices=devices), name_own_code(f"metric {self.name}", self)
        with full, torch.inference_mode(False), torch.no_grad(), classifier.frozen(), drawing, own_code:
            measured = self.measure(shared)
        for column in ("score", *self.columns):
            values = measured.get(column) if isinstance(measured, Mapping) else None
            if not isinstance(values, Tensor) or values.shape != (len(images),):
                form = type(measured).__name__ if values is None else list(getattr(values, "shape", ()))
                raise UserError(
                    f"{type(self).__name__}.measure must return {{{column!r}: a tensor [{len(images)}]}} for "
                    f"{len(images)} images, not {form}"
                )
            values = values.detach().float()
            getattr(self, column).append(values)

    def compute(self) -> dict[str, Tensor]:
        """Join the values of all batches.

        Returns:
            {"<name>": [n], "<name>_<column>": [n]} over all images since the last reset.
        """
        labels = {"score": self.name} | {column: f"{self.name}_{column}" for column in self.columns}
        return {label: _join(getattr(self, column)) for column, label in labels.items()}

    def _wrap_compute(self, compute: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        """Undo what torchmetrics does to the value of a single image, of which it makes a scalar."""
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def compute_rows() -> dict[str, Tensor]:
            return {label: values.reshape(-1) for label, values in wrapped().items()}

        return compute_rows

    def plot(self, *_arguments: Any, **_options: Any) -> Any:
        """Refuse: curves and intervals are drawn from the tables.

        Returns:
            Nothing.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError


def _join(values: list[Tensor] | Tensor) -> Tensor:
    return dim_zero_cat(values) if isinstance(values, Tensor) or values else torch.zeros(0)
