"""report.html beside the tables of a report, in a run folder, or in a sweep folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seewhy.errors import UserError
from seewhy.png import png
from seewhy.report.comparison import Comparison, compare
from seewhy.report.find_runs import Unused, find_runs
from seewhy.report.join import join
from seewhy.report.page_content import page_content
from seewhy.report.pareto_figure import pareto_figure
from seewhy.report.ranks_figure import ranks_figure
from seewhy.report.render import render
from seewhy.report.run_files import Run
from seewhy.run_folder import RunFolder

NAME = "report.html"


def write_page(
    out: RunFolder,
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[Unused] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
) -> Path:
    """Write the page of runs that were compared."""
    content = page_content(comparisons, runs, unused, figures, seed, command)
    return out.write_bytes(NAME, render(content).encode())


def page_of(folder: Path, seed: int = 0) -> Path:
    """Write the page of the finished runs in and below a folder into it. Raises UserError where they do not fit."""
    runs, unused = find_runs([str(folder)])
    comparisons = [compare(joined, seed) for joined in join(runs)]
    figures = {made.joined.model: _figures(made) for made in comparisons}
    return write_page(RunFolder(folder), comparisons, runs, unused, figures, seed)


def attempt(make: Callable[[], Path]) -> Path | None:
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
        found["pareto.png"] = png(pareto_figure(made))
    if any(len(ranks.explainers) > 1 and ranks.n for ranks in made.ranks.values()):
        found["ranks.png"] = png(ranks_figure(made))
    return found
