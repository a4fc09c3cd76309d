"""The leaderboard, explainers x metrics with intervals: leaderboard.png and the tables of the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seewhy.core.errors import UserError
from seewhy.core.words import join_names
from seewhy.plots.charts import (
    BODY,
    MARGIN,
    MARK_STYLES,
    SMALL,
    TITLE,
    Chart,
    build_value_scale,
    draw_legend,
    draw_line,
    draw_mark,
)
from seewhy.plots.heatmaps import FRAME, GROUND, INK, MUTED
from seewhy.plots.text import LEADING, measure_width, shorten, wrap
from seewhy.report.comparison import Comparison
from seewhy.report.constructs import ConstructRanks
from seewhy.statistics.schema import ARROWS


def find_mark(comparison: Comparison, explainer: str, metric: str) -> str:
    """Find the mark of one cell: that of a leader needs evidence, see `Comparison.list_leaders`.

    Args:
        comparison: Of the explainers of one model.
        explainer: Its label.
        metric: With a direction.

    Returns:
        A key of `seewhy.plots.charts.MARK_STYLES`.
    """
    return "best" if explainer in comparison.list_leaders(metric) else comparison.get_verdict(explainer, metric)


PANEL, GAP, ROW, LABELS = 330, 44, 36, 560
WIDEST = 2600
NOTE = (
    "Lines are 95 % intervals of the mean (bootstrap-t). Significant: sign-flip permutation test of the mean on the same "
    "images, with p below 0.05 after Holm's correction for the comparisons of a score{control}. The number beside a method "
    "is its mean rank in the construct with its 95 % interval, 1 is best, by which it is sorted; controls are grey."
)


def draw_leaderboard(comparison: Comparison) -> Figure:
    """Draw for each construct one panel per metric with a direction, one row per explainer.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        The figure.

    Raises:
        UserError: If no metric has a direction.
    """
    metrics = list(comparison.ranks)
    if not metrics:
        raise UserError("no metric with a direction was measured; run with metric=[...]")
    names = comparison.explainers
    bold = max(measure_width(shorten(name, 1e9, BODY), BODY) for name in names)
    page = Chart(WIDEST)
    rank = math.ceil(page.pixels(measure_width("10.00 [10.00, 10.00]", BODY))) + 24
    labels = min(LABELS, math.ceil(page.pixels(bold)) + 10) + rank
    fitting = max(1, (WIDEST - 2 * MARGIN - labels) // (PANEL + GAP))
    rows = [_split_evenly(construct.metrics, fitting) for construct in comparison.constructs]
    columns = max(len(row) for each in rows for row in each)
    page = Chart(max(1300, 2 * MARGIN + labels + columns * (PANEL + GAP)))
    y = draw_heading(page, comparison)
    words = {"best": f"leads: {describe_leaders(comparison)}"}
    y = draw_legend(page, y, _list_marks(comparison, names, metrics), words) + 14
    for construct, bands in zip(comparison.constructs, rows, strict=True):
        y = draw_construct(page, y, construct)
        for shown in bands:
            y = _draw_band(page, y, comparison, construct, shown, labels, rank)
        if evidence := comparison.describe_evidence(construct):
            y = page.lines(
                MARGIN, y, wrap(evidence, page.points(page.width - 2 * MARGIN), BODY, True), BODY, weight="bold"
            )
    control = "" if comparison.joined.control is None else " with random. The dashed line is the mean of random"
    y = page.lines(
        MARGIN, y, wrap(NOTE.format(control=control), page.points(page.width - 2 * MARGIN), SMALL), SMALL, MUTED
    )
    return page.finish(y + MARGIN * 0.6)


def _split_evenly(metrics: Sequence[str], most: int) -> list[Sequence[str]]:
    """Split into the fewest rows of at most `most`, of like lengths."""
    length = -(-len(metrics) // -(-len(metrics) // most))
    return [metrics[start : start + length] for start in range(0, len(metrics), length)]


def write_rank(construct: ConstructRanks, explainer: str) -> str:
    """Write the mean rank of an explainer with its interval.

    Args:
        construct: With mean ranks.
        explainer: Its label.

    Returns:
        Such as `2.50 [1.90, 3.10]`.
    """
    low, high = construct.intervals.get(explainer, (math.nan, math.nan))
    ends = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""
    return f"{construct.mean_ranks[explainer]:.2f}{ends}"


def draw_construct(page: Chart, y: float, construct: ConstructRanks) -> float:
    """Draw the heading of a construct: its name, and what its mean rank is over.

    Args:
        page: The chart.
        y: Where it begins.
        construct: With its metrics.

    Returns:
        The y below the heading.
    """
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, y + 10, wrap(construct.title.capitalize(), room, TITLE, True), TITLE, weight="bold")
    return page.lines(MARGIN, y, wrap(construct.describe(), room, SMALL), SMALL, MUTED) + 6


def draw_heading(page: Chart, comparison: Comparison) -> float:
    """Draw the line that says what is compared.

    Args:
        page: The chart.
        comparison: Of the explainers of one model.

    Returns:
        The y below the line.
    """
    joined = comparison.joined
    words = f"{joined.model}: {len(joined.explainers)} methods on the same {joined.images:,} images"
    lines = wrap(f"{words}, target: {joined.target}", page.points(page.width - 2 * MARGIN), TITLE, True)
    return page.lines(MARGIN, MARGIN * 0.6, lines, TITLE, weight="bold") + 6


def _list_marks(comparison: Comparison, names: list[str], metrics: list[str]) -> list[str]:
    used = {find_mark(comparison, name, metric) for name in names for metric in metrics}
    return [kind for kind in MARK_STYLES if kind in used]


def _draw_band(
    page: Chart,
    y: float,
    comparison: Comparison,
    construct: ConstructRanks,
    metrics: Sequence[str],
    labels: int,
    rank: int,
) -> float:
    """One line of panels, its names and mean ranks `labels` wide, the ranks `rank`; the y below their axes."""
    names = construct.explainers
    titles = [wrap(metric.replace("_", " "), page.points(PANEL), BODY, True) for metric in metrics]
    step = page.pixels(LEADING * BODY)
    top = y + step * max(map(len, titles)) + step + 4
    bottom = top + ROW * len(names)
    for row, name in enumerate(names):
        if row % 2 == 0:
            page.box(MARGIN, top + row * ROW, page.width - 2 * MARGIN, ROW, GROUND)
        control = bool(comparison.leaderboard["control"][name])
        text = shorten(name, page.points(labels - rank - 10), BODY)
        base, colour = top + (row + 0.5) * ROW + page.pixels(0.36 * BODY), MUTED if control else INK
        page.text(MARGIN + 4, base, text, BODY, colour)
        if construct.is_ranked:
            mean = write_rank(construct, name)
            page.text(MARGIN + labels - 14, base, mean, BODY, colour, ha="right")
    for column, (metric, title) in enumerate(zip(metrics, titles, strict=True)):
        x = MARGIN + labels + column * (PANEL + GAP) + GAP / 2
        fact = comparison.joined.facts[metric]
        page.lines(x, top - step * (len(title) + 1) - 4, title, BODY, weight="bold")
        page.lines(x, top - step - 4, [f"{ARROWS[fact.better]} {fact.better} is better"], SMALL, MUTED)
        _draw_panel(page, x, top, bottom, comparison, names, metric)
    return bottom + 2.6 * page.pixels(LEADING * SMALL)


def _draw_panel(
    page: Chart, x: float, top: float, bottom: float, comparison: Comparison, names: list[str], metric: str
) -> None:
    cells = [comparison.get_mean(name, metric) for name in names]
    coverage = find_coverage(comparison, metric)
    beside = page.pixels(measure_width("coverage", SMALL)) + 12 if coverage else 0
    scale = build_value_scale([value for cell in cells for value in cell], x, x + PANEL - beside)
    if coverage:
        page.lines(x + PANEL, top - page.pixels(LEADING * SMALL) - 4, ["coverage"], SMALL, MUTED, ha="right")
    draw_line(page, [x, x + PANEL], [bottom, bottom], FRAME)
    step = page.pixels(LEADING * SMALL)
    for tick, label in scale.ticks(4):
        draw_line(page, [tick, tick], [top, bottom], FRAME, 0.6, zorder=1)
        page.text(tick, bottom + step, label, SMALL, MUTED, ha="center")
    control = comparison.joined.control
    if control is not None and math.isfinite(comparison.get_mean(control, metric)[0]):
        x_control = scale(comparison.get_mean(control, metric)[0])
        draw_line(page, [x_control, x_control], [top, bottom], MUTED, 1.0, linestyle=(0, (4, 3)))
    for row, (name, (mean, low, high)) in enumerate(zip(names, cells, strict=True)):
        y = top + (row + 0.5) * ROW
        if name in coverage:
            words = format_value(coverage[name])
            page.text(x + PANEL, y + page.pixels(0.36 * SMALL), words, SMALL, MUTED, ha="right")
        if not math.isfinite(mean):
            page.text(x + (PANEL - beside) / 2, y + page.pixels(0.36 * SMALL), "missing", SMALL, MUTED, ha="center")
            continue
        kind = find_mark(comparison, name, metric)
        colour = MUTED if comparison.leaderboard["control"][name] else MARK_STYLES[kind]["color"]
        if math.isfinite(low):
            draw_line(page, [scale(low), scale(high)], [y, y], colour, 1.8, zorder=3)
        draw_mark(page, scale(mean), y, kind, colour)


CELL, RANK = 30, 20
"""Characters that a column of the leaderboard and that of its mean ranks need at most."""
SIGNS = {"no": " n.s.", "worse": " worse", "untested": " untested"}
LEGEND = {
    "no": "n.s.: not significantly better than random (p >= 0.05)",
    "worse": "worse: significantly worse than random",
    "untested": "untested: too few images for a test against random",
}


def build_leaderboard_table(comparison: Comparison, width: int = 100) -> RenderableType:
    """Build the leaderboard: mean [low, high], leaders in bold, a word where a method is not better than random.

    Args:
        comparison: Of the explainers of one model.
        width: Characters of the terminal; metrics that do not fit side by side stand below.

    Returns:
        For each construct explainers x metrics with a direction, by mean rank; then what the signs mean and the notes.
    """
    metrics = list(comparison.ranks)
    room = width - max(map(len, comparison.explainers)) - 2
    parts: list[RenderableType] = [Text(_write_heading(comparison), style="bold")]
    for construct in comparison.constructs:
        parts += [Text(f"\n{construct.title}", style="bold"), Text(construct.describe(), style="dim")]
        first = max(1, (room - RANK) // CELL) if construct.is_ranked else 0
        parts += [_build_block(comparison, construct, construct.metrics[:first], True)] if first else []
        beside = max(1, room // CELL)
        for start in range(first, len(construct.metrics), beside):
            parts.append(_build_block(comparison, construct, construct.metrics[start : start + beside], False))
        if evidence := comparison.describe_evidence(construct):
            parts.append(Text(evidence, style="yellow"))
    signs = {comparison.get_verdict(name, metric) for name in comparison.explainers for metric in metrics}
    parts += [Text(words, style="yellow") for sign, words in LEGEND.items() if sign in signs]
    if comparison.joined.control is None and metrics:
        parts.append(Text(NO_BASELINE, style="yellow"))
    if any(comparison.list_leaders(metric) for metric in metrics):
        parts.append(Text(f"bold: {describe_leaders(comparison)}", style="dim"))
    if families := describe_families(comparison):
        parts.append(Text(families, style="dim"))
    notes = list_notes(comparison.summary[comparison.summary["metric"].isin(metrics)])
    return Group(*parts, *(Text(note, style="yellow") for note in notes))


NO_BASELINE = "no random baseline was run, so scores cannot be compared with chance"


def describe_leaders(comparison: Comparison) -> str:
    """Describe what a leading method has shown: `random` is named only where it was run.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        A phrase for the legends of tables and charts.
    """
    rival = "another method" if comparison.joined.control is None else "random"
    return f"significantly better than {rival}, and no method is significantly better"


def describe_families(comparison: Comparison) -> str:
    """Describe the tests behind all verdicts of a comparison: one family of tests for a pair, stated once.

    Args:
        comparison: Of the explainers of one model.

    Returns:
        One sentence; empty where nothing was tested.
    """
    families = dict.fromkeys(" and over the ".join(comparison.list_families(metric)) for metric in comparison.ranks)
    named = [family for family in families if family]
    if not named:
        return ""
    return (
        "significant: sign-flip permutation test of the mean difference on the same images, p < 0.05 after Holm's "
        f"correction, for each score over the {named[0]}; scores are not corrected for each other"
    )


def _write_heading(comparison: Comparison) -> str:
    joined = comparison.joined
    return f"{joined.model}: {joined.images:,} images, target {joined.target}, mean [95 % interval]"


def _build_block(comparison: Comparison, construct: ConstructRanks, metrics: Sequence[str], with_ranks: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    if with_ranks:
        table.add_column("mean rank", justify="right", no_wrap=True)
    for metric in metrics:
        table.add_column(f"{escape(metric)} {ARROWS[comparison.joined.facts[metric].better]}", justify="right")
    best = {metric: comparison.list_leaders(metric) for metric in metrics}
    for name in construct.mean_ranks:
        cells = [_build_cell(comparison, name, metric, name in best[metric]) for metric in metrics]
        label = Text(name, style="dim" if comparison.leaderboard["control"][name] else "")
        table.add_row(label, *([write_rank(construct, name)] if with_ranks else []), *cells)
    return table


def _build_cell(comparison: Comparison, name: str, metric: str, best: bool) -> Text:
    mean, low, high = comparison.get_mean(name, metric)
    sign = SIGNS.get(comparison.get_verdict(name, metric), "")
    coverage = find_coverage(comparison, metric).get(name)
    beside = "" if coverage is None else f", coverage {format_value(coverage)}"
    return Text(_write_interval(mean, low, high) + sign + beside, style="bold" if best else "")


def find_coverage(comparison: Comparison, metric: str) -> dict[str, float]:
    """Find how much of an image maps kept while a score was taken, which large maps get for free.

    Args:
        comparison: Of the explainers of one model.
        metric: The score.

    Returns:
        {explainer: mean coverage}; empty where the score has none.
    """
    rows = comparison.summary[comparison.summary["metric"] == f"{metric}_coverage"]
    return {str(name): float(mean) for name, mean in zip(rows["explainer"], rows["mean"], strict=True)}


def _write_interval(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return "missing"
    return (
        format_value(mean) if math.isnan(low) else f"{format_value(mean)} [{format_value(low)}, {format_value(high)}]"
    )


def format_value(value: float) -> str:
    """Format a value with three significant digits, or with three decimals between 0.01 and 1.

    Args:
        value: Any number.

    Returns:
        Such as 0.873 or 12.4.
    """
    return f"{value:.3f}" if 0.01 <= abs(value) < 1 or value == 0 else f"{value:.3g}"


def build_scores_table(summary: pd.DataFrame) -> RenderableType:
    """Build the scores of one explainer, a metric a row: mean, interval, median, n and failures.

    Args:
        summary: `summarise_metrics` or `summarise_targets` of one explainer.

    Returns:
        The table and, below it, each note once.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    if "target" in summary:
        table.add_column("target", overflow="fold")
    table.add_column("metric", overflow="fold")
    table.add_column("")
    for title in ("mean", "95 % interval", "median", "n", "failures"):
        table.add_column(title, justify="right", no_wrap=True)
    arrows: dict[str, str] = {direction or "none": arrow for direction, arrow in ARROWS.items()}
    for row in summary.to_dict("records"):
        interval = "" if math.isnan(row["low"]) else f"[{format_value(row['low'])}, {format_value(row['high'])}]"
        mean, median = ("" if row["n"] == 0 else format_value(row[key]) for key in ("mean", "median"))
        cells = [row["target"]] if "target" in row else []
        cells += [row["metric"], arrows[row["better"]], mean, interval, median, row["n"], row["failures"]]
        table.add_row(*(escape(str(cell)) for cell in cells))
    noted = summary[summary["note"] != ""]
    notes = []
    for note, rows in noted.groupby("note"):
        subject = (
            "every score" if len(rows) == len(summary) else join_names(list(dict.fromkeys(map(str, rows["metric"]))))
        )
        notes.append(Text(f"{subject}: {note}", style="yellow"))
    return Group(table, *notes)


def list_notes(summary: pd.DataFrame) -> list[str]:
    """List the notes of a summary.

    Args:
        summary: `summarise_metrics` of any explainers.

    Returns:
        Each note once, with the explainers and metrics that it is about.
    """
    noted = summary[summary["note"] != ""]
    return [
        f"{note}: {join_names([f'{row.explainer} {row.metric}' for row in rows.itertuples()])}"
        for note, rows in noted.groupby("note")
    ]
