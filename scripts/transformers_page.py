"""docs/transformers.md: how methods do on trained transformers, from the folders that `src/report.py` wrote.

usage: python scripts/transformers_page.py TITLE=FOLDER ... [--output docs/transformers.md]

Each FOLDER is the output of a comparison of runs on one network; TITLE becomes a heading. Every number, and every word that
says which method is ahead, is read from its leaderboard.csv and pairwise.csv. The page's introduction is
scripts/transformers_page.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

METRICS = {
    "morf_lerf": ("SRG", True),
    "deletion": ("deletion", False),
    "insertion": ("insertion", True),
    "pointing_game": ("pointing game", True),
}
"""Metrics of the page, in this order: their names there, and whether higher is better."""
FAVOURITE = "attn_lrp"
"""What is asked about: whether this rule leads, as published."""
INTRODUCTION = Path(__file__).with_suffix(".md")


def write_section(title: str, folder: Path) -> str:
    """The table of one network and what it says about the favourite."""
    board = pd.read_csv(folder / "leaderboard.csv").set_index("explainer")
    pairs = pd.read_csv(folder / "pairwise.csv")
    metrics = [metric for metric in METRICS if metric in board]
    board = board.sort_values(metrics[0], ascending=not METRICS[metrics[0]][1])
    rows = ["| method | " + " | ".join(METRICS[metric][0] for metric in metrics) + " | passes |"]
    rows.append("|---" * (len(metrics) + 2) + "|")
    for name, row in board.iterrows():
        cells = [f"{row[m]:.3f} [{row[f'{m}_low']:.3f}, {row[f'{m}_high']:.3f}]" for m in metrics]
        passes = "" if pd.isna(row["passes"]) else f"{row['passes']:.0f}"
        rows.append(f"| `{name}`{' (control)' if row['control'] else ''} | " + " | ".join(cells) + f" | {passes} |")
    sentences = [judge(metric, board, pairs) for metric in metrics]
    images = int(pairs["n"].max())
    return "\n".join([f"## {title}", "", f"{images} images.", "", *rows, "", *(f"- {each}" for each in sentences), ""])


def judge(metric: str, board: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Whether the favourite leads by a metric: its place, what is better and what it beats beyond chance."""
    label, higher = METRICS[metric]
    order = list(board[metric].dropna().sort_values(ascending=not higher).index)
    favourites = [name for name in order if FAVOURITE in name]
    words = []
    for name in favourites:
        of = pairs[(pairs["metric"] == metric) & ((pairs["explainer"] == name) | (pairs["other"] == name))]
        decided = of[of["winner"].notna()]
        better = sorted(decided.loc[decided["winner"] != name, "winner"])
        beaten = len(decided) - len(better)
        ahead = ", ".join(f"`{each}`" for each in better) or "none"
        words.append(
            f"`{name}` is at place {order.index(name) + 1} of {len(order)}; better beyond chance: {ahead}; "
            f"it is better than {beaten} of {len(of)}"
        )
    return f"{label}: first is `{order[0]}`. " + ". ".join(words) + "."


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", metavar="TITLE=FOLDER")
    parser.add_argument("--output", type=Path, default=Path("docs/transformers.md"))
    arguments = parser.parse_args()
    sections = [each.rpartition("=") for each in arguments.sections]
    text = [INTRODUCTION.read_text(), *(write_section(title, Path(folder)) for title, _, folder in sections)]
    arguments.output.write_text("\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    main()
