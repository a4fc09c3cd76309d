"""The certificate: which explainer is right where the truth is known, with intervals over images and networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seewhy.core.cells import quote_cell, restore_cell
from seewhy.core.errors import UserError
from seewhy.core.files import CHECKOUT
from seewhy.statistics.intervals import DIFFERENCE, SHARE, Bounds, compute_mean_intervals, widen_by_draws
from seewhy.statistics.tests import ALPHA, compute_sign_flip_p, correct_by_holm, note_too_few
from seewhy.statistics.verdict import TRUTH

COLUMNS = (
    *("ground_truth", "model", "explainer", "metric", "value", "low", "high", "chance", "edges", "p_chance", "p_edges"),
    *("n_images", "n_networks", "used", "reason", "beats_chance", "beats_edges"),
)
NUMBERS = COLUMNS[4:13]
"""Columns of numbers; an empty cell is no value."""
CERTIFICATE = CHECKOUT / "logbook" / "certificate.csv"
"""The certificate of the checkout."""
FEWEST_NETWORKS = 2
"""Networks below which a cell has no score: nothing is known of how much networks differ."""
FEWEST_CELLS = 4
"""Kinds of truth and architectures below which nothing is said of them together."""
CONTROLS = ("random", "edges", "centre")
WORDS = {
    "relevance_mass": "share of the attribution on the feature",
    "average_precision": "area under the precision-recall curve",
    "rank_share": "share of the largest values on the feature",
    "pointing": "largest value on the feature",
}
SCORES = tuple(WORDS)
"""The scores of a certificate."""


class Cell(NamedTuple):
    """What one explainer did on one network.

    Attributes:
        ground_truth: The setting.
        explainer: The method.
        seed: Of the network.
        values: A row per image with `image`, the scores and their chances; None where there are none.
        reason: Why there are none.
        level: Whether the reason lies with the `network` or the `explainer`.
    """

    ground_truth: str
    explainer: str
    seed: int
    values: pd.DataFrame | None
    reason: str = ""
    level: str = ""


class Gap(NamedTuple):
    """A difference over images and networks: its mean, the 95 % interval of it, and the images' means that are tested."""

    value: float
    low: float
    high: float
    images: np.ndarray


def compute_gap(values: pd.DataFrame, seed: int = 0, bounds: Bounds = DIFFERENCE) -> Gap:
    """Compute the mean of values that several networks have of the same images, for new images and new networks.

    Args:
        values: A row per image, a column per network; NaN where there is no value.
        seed: Of the bootstrap.
        bounds: The least and the largest value.

    Returns:
        The mean over the images of their means over the networks; its interval over the images
        (`compute_mean_intervals`), widened by the spread of the networks' means (`widen_by_draws`), inside of the bounds.
    """
    kept = values.dropna(how="all").dropna(axis=1, how="all").sort_index()
    images = kept.mean(axis=1).to_numpy(dtype=float)
    if not len(images):
        return Gap(math.nan, math.nan, math.nan, images)
    value = float(np.sort(images).mean())
    interval = widen_by_draws(compute_mean_intervals([images], seed)[0], value, kept.mean(axis=0).to_numpy(dtype=float))
    low, high, _ = interval.clip(bounds)
    return Gap(value, low, high, images)


def build_certificate(cells: Sequence[Cell], model: str, seed: int = 0) -> pd.DataFrame:
    """Build the certificate of a model.

    Args:
        cells: Of all settings, explainers and networks.
        model: The name of the architecture.
        seed: Of the bootstrap and the sign flips.

    Returns:
        One row per setting, explainer and score, with `COLUMNS`. `value` is the mean over images and networks with its
        interval for new ones of both. `p_chance` and `p_edges` test the differences from chance and
        from the control `edges` on the same images (sign flips of the images' means over these networks), corrected by
        Holm for the comparisons of that score in the run. `beats_chance` and `beats_edges` are yes where p < 0.05, the
        difference is positive, and its interval over images and networks leaves out zero; worse where it is negative so;
        untested where there are too few images; else no. Where fewer than two networks
        use the feature, or the method was refused, there is no value but a reason.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.ground_truth, cell.explainer), []).append(cell)
    rows: list[dict[str, Any]] = []
    gaps: list[dict[str, Gap]] = []
    for (setting, explainer), members in groups.items():
        edges = groups.get((setting, "edges"), [])
        for metric in SCORES:
            row = {"ground_truth": setting, "model": model, "explainer": explainer, "metric": metric}
            described, compared = _describe(members, edges, metric, explainer, seed)
            rows.append(row | described)
            gaps.append(compared)
    for name in ("chance", "edges"):
        _test(rows, gaps, name, seed)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _describe(
    members: Sequence[Cell], edges: Sequence[Cell], metric: str, explainer: str, seed: int
) -> tuple[dict[str, Any], dict[str, Gap]]:
    """(the columns of a row, its differences from chance and from edges)."""
    scored = [cell for cell in members if cell.values is not None]
    used = [cell for cell in members if cell.level != "network"]
    row: dict[str, Any] = {"used": len(used) >= FEWEST_NETWORKS, "n_images": 0, "n_networks": len(scored)}
    if len(scored) < FEWEST_NETWORKS:
        return row | {"reason": _give_reason(members, used)}, {}
    values, chance = _spread(scored, metric), _spread(scored, f"{metric}_chance")
    gap = compute_gap(values, seed, SHARE)
    row |= {"value": gap.value, "low": gap.low, "high": gap.high, "chance": float(chance.mean(axis=1).mean())}
    row |= {"n_images": len(gap.images), "reason": _note_networks(members, used)}
    compared = {"chance": compute_gap(values - chance, seed)}
    beside = [cell for cell in edges if cell.values is not None]
    if beside:
        control = _spread(beside, metric)
        row["edges"] = compute_gap(control, seed).value
        if explainer != "edges":
            compared["edges"] = compute_gap(values - control, seed)
    return row, compared


def _spread(cells: Iterable[Cell], column: str) -> pd.DataFrame:
    """A row per image, a column per network."""
    series = {cell.seed: cell.values.set_index("image")[column] for cell in cells if cell.values is not None}
    return pd.DataFrame(series)


def _give_reason(members: Sequence[Cell], used: Sequence[Cell]) -> str:
    if len(used) < FEWEST_NETWORKS:
        reasons = [f"network {cell.seed}: {cell.reason}" for cell in members if cell.level == "network"]
        return f"{len(used)} of {len(members)} networks use the feature; {'; '.join(reasons)}"
    return next((cell.reason for cell in members if cell.level == "explainer" and cell.reason), "too few networks")


def _note_networks(members: Sequence[Cell], used: Sequence[Cell]) -> str:
    left = [str(cell.seed) for cell in members if cell.level == "network"]
    return f"without the networks {', '.join(left)}, which do not use the feature" if left else ""


def _test(rows: list[dict[str, Any]], gaps: Sequence[Mapping[str, Gap]], name: str, seed: int) -> None:
    """Add the corrected p and the verdict of the differences from chance or from edges."""
    for metric in SCORES:
        numbers = [number for number, row in enumerate(rows) if row["metric"] == metric and name in gaps[number]]
        samples = [gaps[number][name].images for number in numbers]
        p = compute_sign_flip_p(samples, seed)
        p = np.where([bool(note_too_few(len(sample))) for sample in samples], np.nan, p) if samples else p
        for number, value in zip(numbers, correct_by_holm(p), strict=True):
            gap = gaps[number][name]
            clear = "yes" if gap.low > 0 else "worse" if gap.high < 0 else "no"
            beats = "untested" if math.isnan(value) else clear if value < ALPHA else "no"
            rows[number] |= {f"p_{name}": value, f"beats_{name}": beats}


def write_table(certificate: pd.DataFrame) -> bytes:
    """Write a certificate as CSV.

    Args:
        certificate: See `build_certificate`.

    Returns:
        The bytes of the file; numbers with six digits, true and false in lower case.
    """
    table = certificate.copy()
    table["used"] = table["used"].map({True: "true", False: "false"})
    return table.map(quote_cell).to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def read_certificate(path: str | Path | None = None) -> pd.DataFrame:
    """Read a certificate.

    Args:
        path: Of a certificate.csv; None: the one of the checkout.

    Returns:
        The table with `COLUMNS`, numbers as such and `used` as truth values; without rows where the checkout has none.

    Raises:
        UserError: A file that was named is not there, a column is missing, or a cell holds no number.
    """
    file = CERTIFICATE if path is None else Path(path)
    if not file.is_file():
        if path is None:
            return pd.DataFrame(columns=list(COLUMNS))
        raise UserError(
            f"certificate={path} is no file; give the certificate.csv of a ground_truth run, or leave it out"
        )
    try:
        table = pd.read_csv(file, keep_default_na=False, dtype=str).map(restore_cell)
    except (ValueError, OverflowError) as error:
        raise UserError(f"certificate={file} is no table: {str(error).splitlines()[0][:120]}") from None
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(
            f"certificate={file} lacks {', '.join(missing)}; give the certificate.csv of a ground_truth run"
        )
    for name in NUMBERS:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name][numbers.isna() & ~table[name].isin(("", "nan"))]
        if len(wrong):
            raise UserError(f"certificate={file}: {name} {wrong.iloc[0][:40]!a} is no number; it was edited or damaged")
        table[name] = numbers
    return table.assign(used=table["used"].str.lower().isin(("true", "yes", "1")))


def describe_finding(certificate: pd.DataFrame, metric: str = TRUTH) -> list[str]:
    """Describe in words what a certificate shows, a sentence for each setting and model.

    Args:
        certificate: See `build_certificate`.
        metric: The score that is named.

    Returns:
        The sentences: over all settings and models where there are several, then one for each. Of the methods that beat
        both, chance and edges, and of those that do not, the fewer are named.
    """
    sentences = _sum_up(certificate, metric)
    for (setting, model), table in certificate[certificate["metric"] == metric].groupby(
        ["ground_truth", "model"], sort=False
    ):
        methods = table[~table["explainer"].isin(CONTROLS)]
        scored = methods[methods["value"].notna()]
        if scored.empty:
            reasons = "; ".join(dict.fromkeys(methods["reason"]))
            sentences.append(f"**{setting}** on `{model}`: no score. {reasons}.")
            continue
        best = scored.sort_values(["value", "explainer"], ascending=[False, True]).iloc[0]
        above, won = scored["beats_chance"] == "yes", _beat_both(scored)
        both, most = scored[won], 2 * won.sum() > len(scored)
        words = [
            f"**{setting}** on `{model}`: `{best['explainer']}` is highest, {WORDS[metric]} {best['value']:.2f} "
            f"({_write_interval(best)}; chance {best['chance']:.2f}, edges "
            f"{best['edges']:.2f}; {int(best['n_images'])} images, {int(best['n_networks'])} networks)",
            f"{len(both)} of {len(scored)} methods beat both chance and edges" + ("" if most else _list_names(both)),
        ]
        if most and len(chance := scored[above & ~won]):
            words.append(f"above chance, but not above edges{_list_names(chance)}")
        if len(none := scored[~above]):
            words.append(f"not above chance{_list_names(none)}")
        if len(refused := methods[methods["value"].isna()]):
            words.append(f"without a score{_list_names(refused)}")
        sentences.append("; ".join(words) + ".")
    return sentences


def _sum_up(certificate: pd.DataFrame, metric: str) -> list[str]:
    """A sentence on the methods that beat both, chance and edges, in most and in fewest of several cells."""
    table = certificate[(certificate["metric"] == metric) & certificate["value"].notna()]
    scored = table[~table["explainer"].isin(CONTROLS)]
    cells = len(scored[["ground_truth", "model"]].drop_duplicates())
    if cells < FEWEST_CELLS:
        return []
    counts = _beat_both(scored).groupby(scored["explainer"]).agg(["sum", "count"]).reset_index()
    counts = counts[counts["count"] >= cells / 2]
    counts["share"] = counts["sum"] / counts["count"]

    def name_few(few: pd.DataFrame) -> str:
        return ", ".join(f"`{row.explainer}` {row.sum} of {row.count}" for row in few.itertuples(index=False))

    most = counts.sort_values(["share", "sum", "explainer"], ascending=[False, False, True])
    least = counts.sort_values(["share", "explainer"])
    return [
        f"Of {cells} cells (a kind of truth and an architecture) with scores, most often beat both chance and edges, of the "
        f"methods with a score in at least half of them: {name_few(most.head(5))}; least often: {name_few(least.head(3))}."
    ]


def _beat_both(table: pd.DataFrame) -> pd.Series:
    """Which rows beat both, chance and edges."""
    return (table["beats_chance"] == "yes") & (table["beats_edges"] == "yes")


def _list_names(table: pd.DataFrame) -> str:
    names = ", ".join(f"`{name}`" for name in table["explainer"])
    return f": {names}" if names else ""


def write_page(certificate: pd.DataFrame, title: str, command: str, facts: Sequence[str] = ()) -> str:
    """Write the certificate as Markdown.

    Args:
        certificate: See `build_certificate`.
        title: Of the page.
        command: That repeats the run.
        facts: Further lines, such as seeds and seconds.

    Returns:
        The page: the finding in words, then method x kind of truth for every score.
    """
    lines = [f"# {title}", "", "Which explanation is right where the truth is known by construction.", ""]
    lines += [f"    {command}", ""] if command else []
    lines += [*(f"- {fact}" for fact in facts), "", "## Finding", ""]
    lines += [f"- {sentence}" for sentence in describe_finding(certificate)]
    lines += [
        "",
        "A value is the mean over images and networks, with its 95 % interval for new ones of both. **Bold** beats "
        "chance and the edge detector; *italic* beats chance alone; plain beats neither: p < 0.05 by sign flips, Holm's "
        "correction over the comparisons of the score in its run, and an interval of the difference over images and "
        "networks that leaves out zero. `-` has no score; certificate.csv says why.",
        "",
    ]
    lines += [*_write_counts(certificate), ""]
    for metric in SCORES:
        lines += [f"## {metric.replace('_', ' ').capitalize()}: {WORDS[metric]}", ""]
        for model, table in certificate[certificate["metric"] == metric].groupby("model", sort=False):
            lines += [f"### {model}", "", *_write_matrix(table), ""]
    return "\n".join(lines)


def _write_counts(certificate: pd.DataFrame, metric: str = TRUTH) -> list[str]:
    """The table of how many kinds of truth each method beats both, chance and edges, on; the most first."""
    table = certificate[(certificate["metric"] == metric) & ~certificate["explainer"].isin(CONTROLS)]
    models = list(dict.fromkeys(table["model"]))
    rows = []
    for explainer, group in table.groupby("explainer", sort=False):
        scored = group[group["value"].notna()]
        won = scored[_beat_both(scored)]
        cells = []
        for model in models:
            kinds = scored[scored["model"] == model]["ground_truth"]
            named = ", ".join(won[won["model"] == model]["ground_truth"])
            cells.append(f"{len(won[won['model'] == model])} of {len(kinds)}{': ' * bool(named)}{named}")
        rows.append((-len(won), str(explainer), [cell if cell != "0 of 0" else "-" for cell in cells]))
    lines = [f"## On which kinds a method beats chance and edges: {WORDS[metric]}", ""]
    lines += ["| method | " + " | ".join(f"`{model}`" for model in models) + " |", "|---|" + "---|" * len(models)]
    return [*lines, *(f"| `{name}` | " + " | ".join(cells) + " |" for _, name, cells in sorted(rows))]


def _write_matrix(table: pd.DataFrame) -> list[str]:
    """The table of one score on one model."""
    settings = list(dict.fromkeys(table["ground_truth"]))
    lines = ["| method | " + " | ".join(settings) + " |", "|---|" + "---|" * len(settings)]
    for explainer, group in table.groupby("explainer", sort=False):
        rows = {row["ground_truth"]: _write_value(row) for row in group.to_dict("records")}
        lines.append(f"| `{explainer}` | " + " | ".join(rows.get(setting, "") for setting in settings) + " |")
    means = [table[table["ground_truth"] == setting]["chance"].mean() for setting in settings]
    return [*lines, "| chance | " + " | ".join("-" if math.isnan(mean) else f"{mean:.2f}" for mean in means) + " |"]


def _write_value(row: Any) -> str:
    if math.isnan(row["value"]):
        return "-"
    mark = "" if row["beats_chance"] != "yes" else "**" if row["beats_edges"] == "yes" else "*"
    ends = "" if math.isnan(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{mark}{row['value']:.2f}{mark}{ends}"


def _write_interval(row: Any) -> str:
    if math.isnan(row["low"]):
        return "too few images for an interval"
    return f"95 % interval {row['low']:.2f} to {row['high']:.2f}"
