"""What a run says of its metrics beside their values: metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.statistics.intervals import Bounds

if TYPE_CHECKING:
    from seewhy.metrics.base import ImageMetric


Direction: TypeAlias = Literal["higher", "lower"] | None


NAME = "metrics.json"
UNSTATED = {"construct": ""}
"""Of a file that does not say which metrics are forms of one score: without that there is no mean rank."""
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", None: ""}


@dataclass(frozen=True)
class MetricFact:
    """What is to be known of a column of metric values.

    Args:
        better: Which end is better, `higher` or `lower`; None: neither.
        variant: The exact definition in words.
        construct: What is measured, one of `metrics.base.CONSTRUCTS`; empty in files of earlier versions.
        outcomes: The two values that an image can have, such as (0, 1); None: any number.
        draws: Columns whose mean is the value of an image, one for each random network that all images share.
        absolute: Whether it is the mean of their absolute values.
        variant_of: The score that it is another form of (`ImageMetric.variant_of`); empty: a score of its own.
        in_mean_rank: Whether it can count in the mean rank of its construct.
        bounds: The least and the largest value that an image can have; None in the place of one, or of both: none.

    Raises:
        UserError: If a field has another form.
    """

    better: Direction = None
    variant: str = ""
    construct: str = ""
    outcomes: tuple[float, float] | None = None
    draws: tuple[str, ...] = ()
    absolute: bool = False
    variant_of: str = ""
    in_mean_rank: bool = True
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        if self.better not in ARROWS:
            raise UserError(f"better={self.better!r} of a metric must be 'higher', 'lower' or null")
        if self.outcomes is not None:
            low, high = (float(value) for value in self.outcomes)
            if not low < high:
                raise UserError(f"outcomes={list(self.outcomes)} of a metric must be two ascending numbers")
            object.__setattr__(self, "outcomes", (low, high))
        if self.bounds is not None:
            least, most = (None if value is None else float(value) for value in self.bounds)
            if least is most is None or (least is not None and most is not None and not least < most):
                raise UserError(
                    f"bounds={list(self.bounds)} of a metric must be two ascending numbers, or one and null"
                )
            object.__setattr__(self, "bounds", (least, most))
        if isinstance(self.draws, str) or not all(isinstance(column, str) for column in self.draws):
            raise UserError(f"draws={self.draws!r} of a metric must be a list of columns")
        for key in ("construct", "variant_of"):
            if not isinstance(getattr(self, key), str):
                raise UserError(f"{key}={getattr(self, key)!r} of a metric must be a word")
        if not isinstance(self.in_mean_rank, bool):
            raise UserError(f"in_mean_rank={self.in_mean_rank!r} of a metric must be true or false")
        object.__setattr__(self, "draws", tuple(self.draws))


def describe_variant(metric: ImageMetric, has_probabilities: bool = True) -> str:
    """Describe the variant of a metric on a network.

    Args:
        metric: Of a run.
        has_probabilities: Whether the outputs of the network have any; else a metric reads the outputs in their place.

    Returns:
        Its variant in words.
    """
    return metric.variant if has_probabilities else metric.variant.replace("probability", "output value")


def collect_metric_facts(
    metrics: Iterable[ImageMetric], has_probabilities: bool = True, has_contrast: bool = False
) -> dict[str, MetricFact]:
    """Collect what metrics say of their columns.

    Args:
        metrics: Of a run.
        has_probabilities: As in `describe_variant`.
        has_contrast: Whether a target weighs several outputs, so that its score is no probability.

    Returns:
        {column: fact}: the score with its direction, the columns beside it without one.
    """
    facts, bounded = {}, has_probabilities and not has_contrast
    for metric in metrics:
        better: Direction = {True: "higher", False: "lower", None: None}[metric.higher_is_better]
        for column in ("score", *metric.columns):
            score, draws = column == "score", metric.draws.get(column)
            facts[metric.name if score else f"{metric.name}_{column}"] = MetricFact(
                better if score else None,
                describe_variant(metric, has_probabilities),
                metric.construct,
                metric.outcomes if score else None,
                tuple(f"{metric.name}_{draw}" for draw in draws.columns) if draws else (),
                draws.absolute if draws else False,
                metric.variant_of if score else "",
                metric.in_mean_rank,
                metric.find_bounds(column, bounded),
            )
    return facts


def list_draws(facts: Mapping[str, MetricFact]) -> set[str]:
    """List the columns that hold the value under one random network each, and are shown only where that is asked for.

    Args:
        facts: {column: fact}.

    Returns:
        Names of columns.
    """
    return {draw for fact in facts.values() for draw in fact.draws}


def write_metric_facts(folder: RunFolder, facts: Mapping[str, MetricFact]) -> Path:
    """Write metrics.json: {column: the fields of its fact}.

    Args:
        folder: Of the run.
        facts: {column: fact}.

    Returns:
        The file.
    """
    return folder.write_json(NAME, {metric: asdict(fact) for metric, fact in facts.items()})


def read_metric_facts(folder: Path) -> dict[str, MetricFact]:
    """Read metrics.json of a run folder, also of an earlier version, which has fewer fields.

    Args:
        folder: Of the run.

    Returns:
        {column: fact}; empty where the run measured nothing.

    Raises:
        UserError: If the file does not follow the form.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text()).items()
        return {metric: MetricFact(**fact if "variant_of" in fact else fact | UNSTATED) for metric, fact in facts}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not what a run writes: {error}") from error
