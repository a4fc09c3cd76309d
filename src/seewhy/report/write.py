"""Tables, figures and the page of a report, from run folders to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seewhy.analyses.ground_truth.certificate import read_certificate
from seewhy.core.cells import quote_cell
from seewhy.core.disclosure import print_error, print_line
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder, name_files
from seewhy.plots.canvas import encode_figure
from seewhy.report.agreement import Agreement, measure_agreement, write_agreement
from seewhy.report.comparison import Comparison, compare_runs, join_runs
from seewhy.report.html.content import PageContent, build_page_content
from seewhy.report.html.render import IndexEntry, render_index, render_page
from seewhy.report.leaderboard import build_leaderboard_table, draw_leaderboard
from seewhy.report.ranks import NO_RANK, draw_pareto, draw_ranks
from seewhy.report.results import write_results
from seewhy.report.runs import Run, UnusedRun, find_runs, group_runs
from seewhy.report.sheets import write_sheets
from seewhy.report.verdict import Judgement, build_verdict_table, judge_methods, write_verdict
from seewhy.runs.console import TextConsole
from seewhy.statistics.schema import write_metric_facts

NAME = "report.html"


def write_report(
    runs: Iterable[str],
    folder: Path,
    seed: int = 0,
    faithfulness: str | None = None,
    page: bool = False,
    command: str = "",
    certificate: str | None = None,
) -> dict[str, Any]:
    """Compare runs: print the leaderboards and the verdict, write tables, figures and sheets.

    Args:
        runs: Folders or glob patterns; the runs in and below them are compared.
        folder: Where the files are written.
        seed: Of the bootstrap.
        faithfulness: The metric of the Pareto plot; None: the mean rank in each construct.
        page: Whether report.html is written too.
        command: That the page names.
        certificate: Table of the methods on planted data, for the verdict; None: the one of the checkout.

    Returns:
        What the record of the report says: models, images, runs, unused, and what is recommended on each model.

    Raises:
        UserError: If the runs cannot be compared, or `faithfulness` is no metric with a direction.
    """
    used, unused = find_runs(runs)
    comparisons = [compare_runs(joined, seed) for joined in join_runs(used)]
    planted = read_certificate(certificate)
    out = RunFolder(folder)
    write_tables(out, comparisons)
    judgements, agreements = _judge(comparisons, planted, seed)
    figures: dict[str, dict[str, bytes]] = {}
    undrawn: list[str] = []
    folders = name_files(comparison.joined.model for comparison in comparisons)
    for comparison in comparisons:
        model = comparison.joined.model
        figures[model], reasons = _draw_figures(comparison, faithfulness)
        undrawn += reasons
        below = "" if len(comparisons) == 1 else f"{folders[model]}/"
        for name, content in figures[model].items():
            out.write_bytes(f"{below}{name}", content)
    write_results(out, [(run.folder, run.record) for run in used])
    write_sheets(out, comparisons, used)
    _print_comparisons(comparisons, unused, undrawn)
    _tell_verdicts(out, judgements, agreements, TextConsole())
    if page:
        judged = judgements, agreements, planted
        attempt_page(lambda: write_page(out, comparisons, used, unused, figures, seed, command, *judged))
    return {
        "models": [comparison.joined.model for comparison in comparisons],
        "images": comparisons[0].joined.images,
        "runs": [str(run.folder) for run in used],
        "unused": [run._asdict() for run in unused],
    } | ({"recommended": {each.model: each.recommendation.name for each in judgements}} if judgements else {})


def _judge(
    comparisons: Sequence[Comparison], certificate: pd.DataFrame, seed: int
) -> tuple[list[Judgement], list[Agreement]]:
    """Judge the methods of each model, and the metrics themselves."""
    judged = [judge_methods(comparison, certificate) for comparison in comparisons]
    agreements = [measure_agreement(comparison, seed) for comparison in comparisons]
    return [each for each in judged if each is not None], agreements


def _tell_verdicts(
    out: RunFolder, judgements: Sequence[Judgement], agreements: Sequence[Agreement], console: TextConsole | None
) -> None:
    """Write the tables of verdict and agreement, and print the verdict."""
    write_verdict(out, judgements)
    write_agreement(out, agreements)
    if console is not None:
        for judgement in judgements:
            console.print(build_verdict_table(judgement))


def write_tables(out: RunFolder, comparisons: Sequence[Comparison]) -> None:
    """Write leaderboard.csv, pairwise.csv and summary.csv with a column `model`, and metrics.json."""
    for name in ("leaderboard", "pairwise", "summary"):
        tables = []
        for comparison in comparisons:
            table: pd.DataFrame = getattr(comparison, name)
            table = table.reset_index() if name == "leaderboard" else table.copy()
            table.insert(0, "model", comparison.joined.model)
            tables.append(table)
        text = (
            pd.concat(tables, ignore_index=True)
            .map(quote_cell)
            .to_csv(index=False, float_format="%.6g", lineterminator="\n")
        )
        out.write_bytes(f"{name}.csv", text.encode())
    facts = {metric: fact for comparison in comparisons for metric, fact in comparison.joined.facts.items()}
    write_metric_facts(out, dict(sorted(facts.items())))


def _draw_figures(comparison: Comparison, faithfulness: str | None = None) -> tuple[dict[str, bytes], list[str]]:
    """The figures of one model by file name, and why others are not drawn."""
    model = comparison.joined.model
    if not comparison.ranks:
        return {}, [f"{model}: no metric with a direction was measured, so there is nothing to draw or to rank"]
    figures, reasons = {"leaderboard.png": draw_leaderboard(comparison)}, []
    if faithfulness is not None or any(construct.is_ranked for construct in comparison.constructs):
        figures["pareto.png"] = draw_pareto(comparison, faithfulness)
    else:
        reasons.append(f"{model}: no pareto.png, {NO_RANK}")
    if any(len(ranks.explainers) > 1 and ranks.n for ranks in comparison.ranks.values()):
        figures["ranks.png"] = draw_ranks(comparison)
    else:
        reasons.append(f"{model}: no ranks.png, ranks need two explainers with values of one metric")
    return {name: encode_figure(figure) for name, figure in figures.items()}, reasons


def _print_comparisons(comparisons: Sequence[Comparison], unused: Sequence[UnusedRun], undrawn: Sequence[str]) -> None:
    console = TextConsole()
    for comparison in comparisons:
        console.print(build_leaderboard_table(comparison, console.width))
    for line in [*(f"not used, {run.status}: {run.folder}: {run.reason}" for run in unused), *undrawn]:
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def write_page(
    out: RunFolder,
    comparisons: Sequence[Comparison],
    runs: Sequence[Run],
    unused: Sequence[UnusedRun] = (),
    figures: Mapping[str, Mapping[str, bytes]] | None = None,
    seed: int = 0,
    command: str = "",
    judgements: Sequence[Judgement] = (),
    agreements: Sequence[Agreement] = (),
    certificate: pd.DataFrame | None = None,
) -> Path:
    """Write the page of runs that were compared.

    Args:
        out: Where report.html is written.
        comparisons: Of each model.
        runs: That were compared.
        unused: Runs that take no part, which the page names.
        figures: {model: {file name: PNG}}.
        seed: Of the bootstrap.
        command: That made the report, where it was a command of its own.
        judgements: The verdict on the methods of each model.
        agreements: Of the metrics, for each model.
        certificate: Of the methods on planted data; None: nothing is known.

    Returns:
        The path of the page.
    """
    judged = judgements, agreements, certificate
    content = build_page_content(comparisons, runs, unused, figures, seed, command, *judged)
    _locate_figures(content, out.path)
    return out.write_bytes(NAME, render_page(content).encode())


def write_run_page(
    folder: Path, seed: int = 0, certificate: str | None = None, console: TextConsole | None = None
) -> Path:
    """Write the page of the finished runs in and below a folder, their verdict, and of several runs the sheets.

    Runs that explained different images or targets get a page for each group that can be compared, and report.html joins
    these.

    Args:
        folder: Of a run or of a sweep, where the page is written.
        seed: Of the bootstrap.
        certificate: Table of the methods on planted data, for the verdict; None: the one of the checkout.
        console: Where the verdict is printed; None: nowhere.

    Returns:
        The path of the page.

    Raises:
        UserError: If no runs can be compared.
    """
    planted = read_certificate(certificate)
    runs, unused = find_runs([str(folder)])
    out, groups = RunFolder(folder), group_runs(runs)
    if len(groups) == 1:
        comparisons = [compare_runs(joined, seed) for joined in join_runs(runs)]
        write_sheets(out, comparisons, runs)
        judgements, agreements = _judge(comparisons, planted, seed)
        _tell_verdicts(out, judgements, agreements, console)
        figures = _draw_all(comparisons)
        return write_page(out, comparisons, runs, unused, figures, seed, "", judgements, agreements, planted)
    pages: list[IndexEntry] = []
    all_judgements: list[Judgement] = []
    all_agreements: list[Agreement] = []
    files = name_files(groups)
    for title, group in groups.items():
        name = f"report_{files[title]}.html"
        try:
            comparisons = [compare_runs(joined, seed) for joined in join_runs(group)]
        except UserError as error:
            pages.append(IndexEntry(title, "", None, str(error)))
            continue
        judgements, agreements = _judge(comparisons, planted, seed)
        all_judgements, all_agreements = all_judgements + judgements, all_agreements + agreements
        figures = _draw_all(comparisons)
        content = build_page_content(comparisons, group, (), figures, seed, "", judgements, agreements, planted)
        _locate_figures(content, out.path)
        out.write_bytes(name, render_page(content).encode())
        pages.append(IndexEntry(title, name, content))
    _tell_verdicts(out, all_judgements, all_agreements, console)
    return out.write_bytes(NAME, render_index(pages, unused).encode())


def _locate_figures(content: PageContent, place: Path) -> None:
    """Name the folders of the runs as they lie from the page, else by their name alone, and the images with a figure."""
    for gallery in (model.gallery.facts for model in content.models):
        for explainer in gallery["explainers"]:
            folder = Path(explainer["folder"]).resolve()
            files = {path.name for path in (folder / "figures").glob("*.png")}
            drawn = [number for number, row in enumerate(gallery["images"]) if f"{row['image']}.png" in files]
            explainer["drawn"] = None if len(drawn) == len(gallery["images"]) else drawn
            explainer["below"] = folder.is_relative_to(place.resolve())
            explainer["folder"] = folder.relative_to(place.resolve()).as_posix() if explainer["below"] else folder.name


def _draw_all(comparisons: Sequence[Comparison]) -> dict[str, dict[str, bytes]]:
    return {each.joined.model: _draw_figures(each)[0] for each in comparisons if len(each.explainers) > 1}


def attempt_page(write: Callable[[], Path]) -> Path | None:
    """Write a page; where that fails say why and go on, as the results themselves are safe.

    Args:
        write: Writes the page.

    Returns:
        The path of the page; None where it could not be written.
    """
    try:
        path = write()
    except UserError as error:
        print_error(f"no {NAME}: {error}")
    except Exception as error:
        print_error(f"no {NAME}: {error!r}; everything else was written")
    else:
        print_line(f"page: {path}")
        return path
    return None
