"""Every metric, and sets of metrics that share passes, beside the floor of the passes they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from benchmarking.over_floor import counted, over_floor
from benchmarking.place import ROOT
from benchmarking.row import Row, spread_cells
from benchmarking.subject import Subject, explainer_named, metric_named
from seewhy.metrics.base import ImageMetric, MetricContext

FILES = sorted((ROOT / "configs" / "metric").glob("*.yaml"))
NAMES = tuple(path.stem for path in FILES if path.stem in OmegaConf.load(path))  # the others are sets of these
SETS = ("curves together", "all together")
QUICK_NAMES = "deletion morf_lerf average_drop road infidelity max_sensitivity sparseness random_logit".split()
"""One of each kind, for a look in minutes."""
CURVES = (
    "deletion insertion morf_lerf necessity_ordering sufficiency_ordering tpn tps average_drop increase_in_confidence"
).split()
"""Metrics that read the same perturbation curves, and those of one pass."""
QUICK = {"n_steps": 10, "n_samples": 8, "n_layers": 2, "shares": [0.1, 0.5, 0.9]}

FEWEST, BUDGET = 4, {"quick": 32, "full": 200}
"""As many images as `BUDGET` passes allow: a metric of few passes for each image fills a batch, as in real use."""


def built(name: str, quick: bool) -> ImageMetric:
    """The metric of the config, with fewer steps and samples where it must be quick."""
    metric = metric_named(name)
    fewer = {key: value for key, value in QUICK.items() if quick and hasattr(metric, key)}
    return metric_named(name, *(f"++metric.{name}.{key}={value}" for key, value in fewer.items()))


def sets(names: Sequence[str]) -> dict[str, Sequence[str]]:
    """Each metric alone, the curves together, and everything."""
    found: dict[str, Sequence[str]] = {name: (name,) for name in names}
    if set(CURVES) <= set(names):
        found[SETS[0]] = CURVES
    if len(names) == len(NAMES):
        found[SETS[1]] = NAMES
    return found


def metric_rows(
    subject: Subject, names: Sequence[str], sizes: tuple[int, int], repeats: int, quick: bool
) -> Iterator[Row]:
    """A row for each metric and each set."""
    budget = BUDGET["quick" if quick else "full"]
    for name, members in sets(names).items():
        metrics = [built(member, quick) for member in members]
        yield _timed(subject, name, metrics, budget, sizes, repeats, 1 if quick else 3)


def _timed(
    subject: Subject,
    name: str,
    metrics: Sequence[ImageMetric],
    budget: int,
    sizes: tuple[int, int],
    repeats: int,
    rounds: int,
) -> Row:
    explainer = explainer_named("input_x_gradient")
    maps = subject.maps  # made before anything is counted

    def measure(part: Subject) -> None:
        given = part.classifier, part.images, part.targets, maps[: len(part.images)]
        context = MetricContext(*given, explainer=explainer, masks=part.masks)
        for metric in metrics:
            metric.reset()
            metric.update(*given, context=context)

    few = subject.first(FEWEST)
    passes = counted(few.classifier, lambda: measure(few), len(few.images))
    part = subject.first(max(FEWEST, budget // max(1, passes.forward + passes.backward)))
    found = over_floor(part.classifier, part.images, lambda: measure(part), sizes, repeats, rounds)
    return Row(
        "metric",
        part.classifier.name,
        name,
        images=len(part.images),
        seconds=found.seconds.median,
        forward=found.passes.forward,
        backward=found.passes.backward,
        **spread_cells(found.ratio),
    )
