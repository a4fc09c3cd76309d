"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from seewhy.synthesis.fooled_image import FooledImage
from seewhy.synthesis.visualization import Visualization
from seewhy.views import share


def fooling_table(shown: Sequence[FooledImage], total: int) -> Table:
    """One row per image: what it was, what it is taken for, and how large the change is."""
    table = _table(("image", "predicted", "p", "taken for", "p(target)", "steps", "L2", "L∞", "PSNR"), left=(0, 1, 3))
    for made in shown:
        colour = "green" if made.success else "red"
        table.add_row(
            escape(made.name),
            escape(made.predicted.name),
            f"{share(made.predicted.before)} → {share(made.predicted.after)}",
            f"[{colour}]{escape(made.answer)}[/]",
            f"{share(made.target.before)} → {share(made.target.after)}",
            str(made.steps),
            f"{made.l2:.2f}",
            f"{made.linf * 255:.0f}/255",
            f"{made.psnr:.1f} dB",
        )
    if total > len(shown):
        table.caption = f"... and {total - len(shown):,} more in synthesis.csv"
    return table


def _table(titles: Sequence[str], left: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for place, title in enumerate(titles):
        words = place in left
        table.add_column(title, justify="left" if words else "right", overflow="ellipsis", no_wrap=True)
    return table


def visualization_table(shown: Sequence[Visualization], total: int) -> Table:
    """One row per class: the score at the first and the last kept step."""
    table = _table(("class", "score", "probability"), left=(0,))
    for made in shown:
        first, last = made.frames[0], made.frames[-1]
        score = f"{first.score:.4g} → {last.score:.4g}"
        table.add_row(escape(made.name), score, f"{share(first.probability)} → {share(last.probability)}")
    if total > len(shown):
        table.caption = f"... and {total - len(shown):,} more in synthesis.csv"
    return table
