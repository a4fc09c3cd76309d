"""What a run says of its metrics beside their values: metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder

if TYPE_CHECKING:
    from seewhy.metrics.base import ImageMetric

Direction: TypeAlias = Literal["higher", "lower"] | None
NAME = "metrics.json"
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", None: ""}


@dataclass(frozen=True)
class MetricFact:
    """Which end of a metric is better (None: neither) and its exact definition in words."""

    better: Direction = None
    variant: str = ""

    def __post_init__(self) -> None:
        if self.better not in ARROWS:
            raise UserError(f"better={self.better!r} of a metric must be 'higher', 'lower' or null")


def collect_metric_facts(metrics: Iterable[ImageMetric]) -> dict[str, MetricFact]:
    """{column: fact} of metrics: the score with its direction, the columns beside it without one."""
    found = {}
    for metric in metrics:
        better: Direction = {True: "higher", False: "lower", None: None}[metric.higher_is_better]
        found[metric.name] = MetricFact(better, metric.variant)
        for column in metric.columns:
            found[f"{metric.name}_{column}"] = MetricFact(None, metric.variant)
    return found


def write_metric_facts(folder: RunFolder, facts: Mapping[str, MetricFact]) -> Path:
    """Write metrics.json: {metric: {"better": "higher" | "lower" | null, "variant": words}}."""
    return folder.write_json(NAME, {metric: asdict(fact) for metric, fact in facts.items()})


def read_metric_facts(folder: Path) -> dict[str, MetricFact]:
    """The content of metrics.json below a run folder; empty where the run measured nothing.

    Raises UserError for a file that does not follow the form.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        return {metric: MetricFact(**fact) for metric, fact in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what a run writes: {error}") from error
