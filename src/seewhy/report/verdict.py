"""The verdict on the methods of a comparison: six lines from scores, tests and the certificate, and one recommendation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seewhy.analyses.ground_truth.certificate import COLUMNS
from seewhy.core.cells import quote_cell
from seewhy.core.files import RunFolder
from seewhy.core.types import Classes, Images
from seewhy.explainers.base import Explainer
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.metrics.faithfulness.average_drop import Completeness
from seewhy.metrics.faithfulness.removers import REMOVERS, RemoverGain
from seewhy.metrics.randomisation.model_randomization import ModelRandomization
from seewhy.metrics.robustness.stability import Stability
from seewhy.models.classifier import Classifier
from seewhy.report.comparison import CONTROLS, Comparison, JoinedRuns, compare_runs
from seewhy.statistics.recommendation import Recommendation, recommend
from seewhy.statistics.schema import MetricFact, collect_metric_facts
from seewhy.statistics.verdict import (
    LINE_COLUMNS,
    LINES,
    TRUTH,
    Estimate,
    Line,
    judge_completeness,
    judge_cost,
    judge_network,
    judge_planted,
    judge_removers,
    judge_stability,
)

NAME = "verdict.csv"
GAPS = ("completeness_gap_relative", "completeness_relative")
"""The relative gap: of methods that promise completeness, and as the metric `completeness` gives it for any."""
ASKED = ("model_randomization", "stability", *(f"srg_{remover}" for remover in REMOVERS))
"""A verdict is given where one of these was measured."""
BATCH = 20
"""Images that are explained and measured at once."""
STYLES = {"green": "green", "yellow": "yellow", "red": "red", "none": "dim"}
SHAPES = {"green": "●", "yellow": "▲", "red": "■", "none": "○"}
"""Lights have shapes of their own: no line is told by colour alone."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on the methods of one model.

    Args:
        model: Its label.
        lines: {method: its six lines}, in the order of the leaderboard, without controls.
        recommendation: What the rule makes of them.
    """

    model: str
    lines: dict[str, list[Line]]
    recommendation: Recommendation

    def to_table(self) -> pd.DataFrame:
        """Write the lines as a table.

        Returns:
            A row per method and line: model, `LINE_COLUMNS` and `recommended` (yes or no).
        """
        table = pd.DataFrame(tabulate_lines(self.lines), columns=list(LINE_COLUMNS))
        table.insert(0, "model", self.model)
        return table.assign(
            recommended=["yes" if name == self.recommendation.name else "no" for name in table["explainer"]]
        )


def tabulate_lines(lines: dict[str, list[Line]]) -> list[dict[str, object]]:
    """Write lines as rows with `LINE_COLUMNS`, what `recommend` takes as a table."""
    return [line.to_row(name) for name, each in lines.items() for line in each]


def judge_methods(comparison: Comparison, certificate: pd.DataFrame) -> Judgement | None:
    """Judge every method of a comparison that is no control.

    Args:
        comparison: Of the explainers of one model.
        certificate: As `seewhy.analyses.ground_truth.certificate.read_certificate` returns it.

    Returns:
        The verdict; None where nothing of what it needs was measured, or there are only controls.
    """
    if not set(ASKED) & set(comparison.ranks):
        return None
    runs = comparison.joined.explainers
    names = [name for name in comparison.explainers if not runs["control"][name]]
    if not names:
        return None
    lines = {name: _judge(comparison, name, names, certificate) for name in names}
    table = pd.DataFrame(tabulate_lines(lines), columns=list(LINE_COLUMNS))
    return Judgement(comparison.joined.model, lines, recommend(table))


def _judge(comparison: Comparison, name: str, names: Sequence[str], certificate: pd.DataFrame) -> list[Line]:
    runs = comparison.joined.explainers
    tolerance, passes = float(runs["tolerance"][name]), runs.loc[list(names), "passes"]
    blind = find_control(comparison, "edges") or find_control(comparison, "centre")
    drawn = find_control(comparison, "random")
    removers = [f"srg_{remover}" for remover in REMOVERS if f"srg_{remover}" in comparison.ranks]
    controls = {control: label for control in CONTROLS if (label := find_control(comparison, control))}
    outcomes = {
        metric: {control: find_outcome(comparison, metric, name, label) for control, label in controls.items()}
        for metric in removers
    }
    cheapest = str(passes.idxmin()) if passes.notna().any() else ""
    return [
        _judge_completeness(comparison.summary, name, None if math.isnan(tolerance) else tolerance),
        judge_network(*_hold_against(comparison, "model_randomization", name, blind)),
        judge_removers(outcomes, CONTROLS, _average_gain(comparison.summary, removers, name)),
        judge_stability(*_hold_against(comparison, "stability", name, drawn)),
        judge_certificate(comparison.joined.network, str(runs["method"][name]), certificate, comparison.joined.chosen),
        judge_cost(float(passes[name]), float(runs["seconds"][name]), cheapest, float(passes.min())),
    ]


def judge_alone(
    summary: pd.DataFrame,
    method: str,
    network: str,
    tolerance: float | None,
    cost: tuple[float, float],
    certificate: pd.DataFrame,
) -> list[Line]:
    """Judge the method of one run without any control beside it.

    Args:
        summary: summary.csv of the run.
        method: The explainer.
        network: The architecture.
        tolerance: Of the completeness gap; None: it promises none.
        cost: Passes and seconds per image.
        certificate: As `seewhy.analyses.ground_truth.certificate.read_certificate` returns it.

    Returns:
        Six lines; none where nothing was measured that a verdict asks for. Whether a method beats the controls is open.
    """
    measured = set(summary["metric"])
    if not set(ASKED) & measured:
        return []
    removers: dict[str, dict[str, str]] = {name: {} for name in ASKED if name in measured and name.startswith("srg_")}
    return [
        _judge_completeness(summary, method, tolerance),
        judge_network(_estimate(summary, "model_randomization", method)),
        judge_removers(removers, CONTROLS, _average_gain(summary, list(removers), method)),
        judge_stability(_estimate(summary, "stability", method)),
        judge_certificate(network, method, certificate),
        judge_cost(*cost),
    ]


def _judge_completeness(summary: pd.DataFrame, name: str, tolerance: float | None) -> Line:
    gaps = [estimate for metric in GAPS if math.isfinite((estimate := _estimate(summary, metric, name)).mean)]
    return judge_completeness(gaps[0] if gaps else Estimate(), tolerance)


def judge_certificate(network: str, method: str, certificate: pd.DataFrame, chosen: str = "") -> Line:
    """Judge a method by what is known of it where the truth is known.

    Args:
        network: The architecture.
        method: The explainer.
        certificate: As `seewhy.analyses.ground_truth.certificate.read_certificate` returns it.
        chosen: The settings that choose the architecture in a command; empty: `model=` and its name.

    Returns:
        The line of planted data; open, with the command that measures it, where the certificate has no such rows.
    """
    same = (certificate["model"] == network) & (certificate["explainer"] == method) & (certificate["metric"] == TRUTH)
    controls = ",".join((method, *CONTROLS))
    command = f"python src/ground_truth.py ground_truth=patch {chosen or f'model={network}'} 'explainer=[{controls}]'"
    return judge_planted(certificate[same], command)


def _estimate(summary: pd.DataFrame, metric: str, name: str) -> Estimate:
    rows = summary[(summary["metric"] == metric) & (summary["explainer"] == name)]
    if rows.empty:
        return Estimate()
    row, others = rows.iloc[0], summary[summary["explainer"] == name]
    measured, explained = int(row["n"] + row["failures"]), int((others["n"] + others["failures"]).max())
    return Estimate(float(row["mean"]), float(row["low"]), float(row["high"]), measured, explained)


def _average_gain(summary: pd.DataFrame, removers: Sequence[str], name: str) -> float:
    """The mean over the removers of the mean gain of a method."""
    return float(np.mean([_estimate(summary, remover, name).mean for remover in removers])) if removers else math.nan


def _hold_against(comparison: Comparison, metric: str, name: str, control: str) -> tuple[Estimate, str, float, bool]:
    """(the score of a method, its control, that of the control, whether the method is significantly better)."""
    mean = _estimate(comparison.summary, metric, control).mean if control else math.nan
    if not math.isfinite(mean):
        return _estimate(comparison.summary, metric, name), "", math.nan, True
    beaten = find_outcome(comparison, metric, name, control) == "better"
    return _estimate(comparison.summary, metric, name), control, mean, beaten


def find_control(comparison: Comparison, control: str) -> str:
    """Find the label of a control, the first of several; empty where it was not run."""
    methods = comparison.joined.explainers["method"]
    return next((str(name) for name in methods.index[methods == control]), "")


def find_outcome(comparison: Comparison, metric: str, name: str, other: str) -> str:
    """Find the one verdict of a pair, as the table of pairs has it.

    Args:
        comparison: Of the explainers of one model.
        metric: With a direction.
        name: A method.
        other: Another.

    Returns:
        `better`, `worse`, `n.s.`, or `untested` where no p below 0.05 can be reached.
    """
    pairs = comparison.pairwise
    pair = (name, other)
    rows = pairs[(pairs["metric"] == metric) & pairs["explainer"].isin(pair) & pairs["other"].isin(pair)]
    if rows.empty or pd.isna(rows.iloc[0]["p_holm"]):
        return "untested"
    row = rows.iloc[0]
    if row["winner"]:
        return "better" if row["winner"] == name else "worse"
    return "untested" if "too few" in str(row["note"]) else "n.s."


def write_verdict(out: RunFolder, judgements: Iterable[Judgement]) -> Path | None:
    """Write verdict.csv: a row per model, method and line.

    Args:
        out: Where it is written.
        judgements: Of each model.

    Returns:
        The path; None where there is no verdict.
    """
    tables = [judgement.to_table() for judgement in judgements]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True).map(quote_cell)
    return out.write_bytes(NAME, table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


def build_verdict_table(judgement: Judgement) -> RenderableType:
    """Build the verdict for the terminal: a row per method, a column per line, then what is recommended.

    Args:
        judgement: Of one model.

    Returns:
        Table and sentence.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    for line in LINES:
        table.add_column(line, overflow="fold")
    for name, lines in judgement.lines.items():
        cells: list[Any] = [
            Text(f"{SHAPES[each.light]} {describe_cell(each)}", style=STYLES[each.light]) for each in lines
        ]
        table.add_row(escape(name), *cells)
    best, reason = judgement.recommendation
    heading = Text(f"\nverdict on {judgement.model}", style="bold")
    return Group(
        heading, table, Text(f"{reason[0].upper()}{reason[1:]}.", style="bold green" if best else "bold yellow")
    )


def describe_cell(line: Line) -> str:
    """Describe a line in a few words.

    Args:
        line: Of a verdict.

    Returns:
        Its light and its value.
    """
    shown = line.to_row("")["shown"]
    return f"{line.word}, {shown}" if shown else line.word


class Measured(NamedTuple):
    """What the metrics of the verdict say of one method on images in memory.

    Attributes:
        table: Columns image, metric and value.
        run: Its row of `JoinedRuns.explainers`.
        facts: Of the metrics.
    """

    table: pd.DataFrame
    run: dict[str, Any]
    facts: dict[str, MetricFact]


def measure_method(
    classifier: Classifier,
    name: str,
    explainer: Explainer,
    images: Images,
    targets: Classes,
    seed: int = 0,
    n_samples: int = 3,
) -> Measured:
    """Measure one method by what a verdict asks for.

    Args:
        classifier: The network.
        name: What the method is called; `random`, `edges` and `centre` are controls.
        explainer: The method.
        images: float32 [n, channels, height, width] in [0, 1].
        targets: int64 [n].
        seed: Of the metrics.
        n_samples: Noisy images of `stability`.

    Returns:
        A value per image and metric, and the cost of the maps.
    """
    metrics: list[ImageMetric] = [
        Completeness(),
        ModelRandomization(),
        Stability(n_samples),
        *(RemoverGain(remover) for remover in REMOVERS),
    ]
    before, started = copy.copy(classifier.passes), time.perf_counter()
    maps = torch.cat(
        [explainer(classifier, *pair) for pair in zip(images.split(BATCH), targets.split(BATCH), strict=True)]
    )
    spent, seconds = classifier.passes.since(before), time.perf_counter() - started
    for part in zip(images.split(BATCH), targets.split(BATCH), maps.split(BATCH), strict=True):
        context = MetricContext(classifier, *part, explainer=explainer, seed=seed)
        for metric in metrics:
            metric.update(classifier, *part, context=context)
    tables = []
    for metric in metrics:
        for column, values in metric.compute().items():
            labels = [f"{number:06d}" for number in range(len(values))]
            tables.append(pd.DataFrame({"image": labels, "metric": column, "value": values.tolist()}))
    tolerance = getattr(explainer, "tolerance", None)
    run = {
        "method": name,
        "parameters": explainer.parameters,
        "control": name in CONTROLS,
        "tolerance": math.nan if tolerance is None else float(tolerance),
        "passes": float(spent.forward + spent.backward) / len(images),
        "seconds": seconds / len(images),
        "device": str(images.device),
        "folder": name,
    }
    facts = collect_metric_facts(metrics, classifier.facts.has_probabilities)
    return Measured(pd.concat(tables, ignore_index=True), run, facts)


def judge_measured(classifier: Classifier, measured: Mapping[str, Measured], seed: int = 0) -> Judgement | None:
    """Judge methods that were measured on the same images.

    Args:
        classifier: The network.
        measured: By name, with the controls `random`, `edges` and `centre` among them.
        seed: Of bootstrap and tests.

    Returns:
        The verdict, whose line of planted data is open; None where there are only controls.
    """
    tables = [each.table.assign(explainer=name) for name, each in measured.items()]
    table = pd.concat(tables, ignore_index=True)
    runs = pd.DataFrame.from_dict({name: each.run for name, each in measured.items()}, orient="index")
    facts = next(iter(measured.values())).facts
    joined = JoinedRuns(
        classifier.name,
        table["image"].nunique(),
        "true",
        table,
        runs.rename_axis("explainer").sort_index(),
        facts,
        classifier.name,
    )
    return judge_methods(compare_runs(joined, seed), pd.DataFrame(columns=list(COLUMNS)))
