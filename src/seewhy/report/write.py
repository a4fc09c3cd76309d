"""Tables, figures and the page of a report, from run folders to files."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.plots.canvas import encode_figure
from seewhy.report.comparison import Comparison, compare_runs
from seewhy.report.html.content import build_page_content
from seewhy.report.html.render import render_page
from seewhy.report.joining import join_runs
from seewhy.report.leaderboard import draw_leaderboard
from seewhy.report.pareto import draw_pareto
from seewhy.report.ranks import draw_ranks
from seewhy.report.runs import Run, UnusedRun, find_runs
from seewhy.report.terminal_tables import build_leaderboard_table
from seewhy.statistics.schema import write_metric_facts


def write_report(
    runs: Iterable[str],
    folder: Path,
    seed: int = 0,
    faithfulness: str | None = None,
    page: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Compare the runs in and below `runs`, print the leaderboards, write tables and figures; what the record says of it.

    `faithfulness` is the metric of the Pareto plot (None: the mean rank). Raises UserError where runs cannot be compared.
    `page` writes report.html too, which names the `command`.
    """
    found, unused = find_runs(runs)
    comparisons = [compare_runs(joined, seed) for joined in join_runs(found)]
    out = RunFolder(folder)
    write_tables(out, comparisons)
    undrawn = [reason for made in comparisons for reason in write_figures(out, made, len(comparisons), faithfulness)]
    _say(comparisons, unused, undrawn)
    if page:
        drawn = {made.joined.model: _drawn(out, made, len(comparisons)) for made in comparisons}
        attempt_page(lambda: write_page(out, comparisons, found, unused, drawn, seed, command))
    return {
        "models": [made.joined.model for made in comparisons],
        "images": comparisons[0].joined.images,
        "runs": [str(run.folder) for run in found],
        "unused": [one._asdict() for one in unused],
    }


def write_tables(out: RunFolder, comparisons: Sequence[Comparison]) -> None:
    """leaderboard.csv, pairwise.csv, summary.csv with a column `model`, and metrics.json."""
    for name in ("leaderboard", "pairwise", "summary"):
        parts = []
        for made in comparisons:
            part: pd.DataFrame = getattr(made, name)
            part = part.reset_index() if name == "leaderboard" else part.copy()
            part.insert(0, "model", made.joined.model)
            parts.append(part)
        text = pd.concat(parts, ignore_index=True).to_csv(index=False, float_format="%.6g", lineterminator="\n")
        out.write_bytes(f"{name}.csv", text.encode())
    facts = {metric: fact for made in comparisons for metric, fact in made.joined.facts.items()}
    write_metric_facts(out, dict(sorted(facts.items())))


def write_figures(out: RunFolder, made: Comparison, models: int, faithfulness: str | None) -> list[str]:
    """leaderboard.png, pareto.png and ranks.png, below a folder per model where there are several; what is not drawn.

    Raises UserError for a `faithfulness` that is not one of the metrics.
    """
    below = _below(made, models)
    if not made.ranks:
        return [f"{made.joined.model}: no metric with a direction was measured, so there is nothing to draw or to rank"]
    out.write_bytes(f"{below}leaderboard.png", encode_figure(draw_leaderboard(made)))
    undrawn = []
    if faithfulness is not None or made.leaderboard["mean_rank"].notna().any():
        out.write_bytes(f"{below}pareto.png", encode_figure(draw_pareto(made, faithfulness)))
    else:
        undrawn.append(
            f"{made.joined.model}: no pareto.png, no metric ranks every explainer; set faithfulness=<metric>"
        )
    if any(len(ranks.explainers) > 1 and ranks.n for ranks in made.ranks.values()):
        out.write_bytes(f"{below}ranks.png", encode_figure(draw_ranks(made)))
    else:
        undrawn.append(f"{made.joined.model}: no ranks.png, ranks need two explainers with values of one metric")
    return undrawn


def _below(made: Comparison, models: int) -> str:
    return "" if models == 1 else re.sub(r"[^\w.-]+", "_", made.joined.model) + "/"


def _drawn(out: RunFolder, made: Comparison, models: int) -> dict[str, bytes]:
    """The figures of one model that were written."""
    folder = out.path / _below(made, models)
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def _say(comparisons: Sequence[Comparison], unused: Sequence[UnusedRun], undrawn: Sequence[str]) -> None:
    console = Console(highlight=False)
    for made in comparisons:
        console.print(build_leaderboard_table(made, console.width))
    for one in unused:
        console.print(
            f"not used, {one.status}: {one.folder}: {one.reason}", style="yellow", markup=False, soft_wrap=True
        )
    for reason in undrawn:
        console.print(reason, style="yellow", markup=False, soft_wrap=True)


NAME = "report.html"


def write_page(
    out: RunFolder,
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[UnusedRun] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
) -> Path:
    """Write the page of runs that were compared."""
    content = build_page_content(comparisons, runs, unused, figures, seed, command)
    return out.write_bytes(NAME, render_page(content).encode())


def write_run_page(folder: Path, seed: int = 0) -> Path:
    """Write the page of the finished runs in and below a folder into it. Raises UserError where they do not fit."""
    runs, unused = find_runs([str(folder)])
    comparisons = [compare_runs(joined, seed) for joined in join_runs(runs)]
    figures = {made.joined.model: _figures(made) for made in comparisons}
    return write_page(RunFolder(folder), comparisons, runs, unused, figures, seed)


def attempt_page(make: Callable[[], Path]) -> Path | None:
    """Make a page; where that fails say why and go on, as the results themselves are safe."""
    try:
        path = make()
    except UserError as error:
        print(f"no {NAME}: {error}", file=sys.stderr)
    except Exception as error:
        print(f"no {NAME}: {error!r}; everything else was written", file=sys.stderr)
    else:
        print(f"page: {path}")
        return path
    return None


def _figures(made: Comparison) -> dict[str, bytes]:
    if len(made.leaderboard) < 2 or not made.ranks:
        return {}
    found = {}
    if made.leaderboard["mean_rank"].notna().any():
        found["pareto.png"] = encode_figure(draw_pareto(made))
    if any(len(ranks.explainers) > 1 and ranks.n for ranks in made.ranks.values()):
        found["ranks.png"] = encode_figure(draw_ranks(made))
    return found
