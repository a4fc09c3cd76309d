"""Pages of titled pictures, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from seewhy.analyses.synthesis.class_visualization import Visualization
from seewhy.analyses.synthesis.fooling_image import FooledImage
from seewhy.plots.canvas import Page
from seewhy.plots.explanation import GAP, MARGIN
from seewhy.plots.text import format_probability


def enlarge_to(height: int, width: int, target: int) -> tuple[int, int]:
    """The whole multiple of height x width whose longer side comes nearest to `target`, at least themselves."""
    factor = max(1, round(target / max(height, width)))
    return factor * height, factor * width


def create_page(columns: int, width: int, least: int = 900) -> Page:
    """A page as wide as that many pictures, but wide enough for its words."""
    return Page(max(least, 2 * MARGIN + columns * (width + GAP) - GAP))


def build_fooling_table(results: Sequence[FooledImage], total: int) -> Table:
    """One row per image: what it was, what it is taken for, and how large the change is."""
    rows = [
        (
            escape(result.name),
            escape(result.predicted.name),
            f"[{'green' if result.success else 'red'}]{escape(result.answer)}[/]",
            f"{format_probability(result.target.before)} → {format_probability(result.target.after)}",
            str(result.steps),
            f"{result.l2:.2f}",
            f"{result.psnr:.1f}",
        )
        for result in results
    ]
    titles = ("image", "predicted", "taken for", "p(target)", "steps", "L2", "PSNR/dB")
    return _table(titles, rows, words=(0, 1, 2), more=total - len(results))


def build_visualization_table(results: Sequence[Visualization], total: int) -> Table:
    """One row per class: score and probability of the first and of the last kept frame."""
    rows = []
    for result in results:
        first, last = result.frames[0], result.frames[-1]
        score = f"{first.score:.4g} → {last.score:.4g}"
        rows.append(
            (
                escape(result.name),
                score,
                f"{format_probability(first.probability)} → {format_probability(last.probability)}",
            )
        )
    return _table(("class", "score", "probability"), rows, words=(0,), more=total - len(results))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int], more: int) -> Table:
    """Columns of `words` are folded where the terminal is narrow; numbers never are."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for column, title in enumerate(titles):
        if column in words:
            table.add_column(title, overflow="fold")
        else:
            width = max(len(text) for text in (title, *(row[column] for row in rows)))
            table.add_column(title, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row)
    if more:
        table.caption = f"... and {more:,} more in synthesis.csv"
    return table
