"""Study 2 in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from seewhy.statistics.intervals import SHARE
from studies.found_runs import mean, metric_values, records, run_of, runs, share
from studies.interval_figure import interval_figure
from studies.leaderboard import leaderboard_rows, means_by_explainer, not_better, smallest_detectable
from studies.ordering_toy import linear_toy, ordering_toy
from studies.pictures import save_figure, save_thumbnail
from studies.render import interval, percent, rate

METHODS = ("input_x_gradient", "integrated_gradients", "expert")
HEADINGS = {
    "average_drop": "average drop, %",
    "average_drop_binary_logit": "the study's variant (logits, binary), %",
    "necessity_ordering": "necessity ordering",
}


def page_values(folders: Mapping[str, Path], figures: Path) -> dict[str, Any]:
    """The numbers of the page; writes comparison.webp."""
    comparison, report = folders["comparison"], folders["report"]
    means = means_by_explainer(comparison, list(HEADINGS))
    panels = {
        f"{heading} (lower is better)": means[metric] for metric, heading in HEADINGS.items() if "logit" not in metric
    }
    save_figure(interval_figure(panels), figures / "comparison.webp")
    save_thumbnail(figures / "comparison.webp")
    found = [run_of(comparison, name) for name in METHODS]
    logit = pd.concat([metric_values(run, "average_drop_binary_logit") for run in found])
    same = not_better(report, "necessity_ordering")
    found_values: dict[str, Any] = {
        "detectable": smallest_detectable(report, "necessity_ordering", same) if same else 0.0,
        "network": str(found[0].record["model"]["name"]),
        "n": len(found[0].predictions),
        "methods": len(METHODS),
        "toy": ordering_toy(*linear_toy()),
        "board": leaderboard_rows(report, HEADINGS, 2),
        "not_better": {metric: not_better(report, metric) for metric in HEADINGS},
        "drop": means["average_drop"],
        "ordering": means["necessity_ordering"],
        "logit_drop": means["average_drop_binary_logit"],
        "logit_over": share(logit.dropna() > 100),
        "logit_worst": float(logit.max()),
        "coverage_rows": [
            {
                "explainer": f"`{run.explainer}`",
                "share of the pixels with positive attribution": interval(
                    mean(metric_values(run, "necessity_ordering_coverage"), bounds=SHARE)
                ),
                "mean of the soft mask": interval(mean(metric_values(run, "average_drop_coverage"), bounds=SHARE)),
            }
            for run in runs(comparison)
        ],
    }
    return found_values | _experts(folders) | _representers(folders) | _wrong_labels(folders)


def _experts(folders: Mapping[str, Path]) -> dict[str, Any]:
    """What is left of a class when only its top experts, or as many random units, are kept."""
    if "experts" not in folders:
        return {}
    ((place, record),) = records(folders["experts"])
    curve = pd.read_csv(place / "experts_curve.csv")
    orders = sorted(curve["order"].unique())
    rows = []
    for count, part in curve.groupby("units_kept"):
        means = part.groupby("order")[["recall", "false_alarms"]].mean()
        row = {"units kept": str(count)}
        for column in ("recall", "false_alarms"):
            row |= {f"{column.replace('_', ' ')}, {order}": percent(float(means[column][order])) for order in orders}
        rows.append(row)
    return {"expert_rows": rows, "experts": record["experts"], "experts_network": str(record["model"]["name"])}


def _representers(folders: Mapping[str, Path]) -> dict[str, Any]:
    if "representers" not in folders:
        return {}
    ((_, record),) = records(folders["representers"])
    found = record["representers"]
    rows = [
        {"quantity": name.replace("_", " "), "value": _plain(found[name])}
        for name in found
        if isinstance(found[name], int | float) and name != "seconds"
    ]
    return {"representers": found, "representer_rows": rows, "representers_network": str(record["model"]["name"])}


LABEL_NOISE = {"label_noise": "trained on the right labels", "label_noise_trained": "trained on the wrong ones too"}
"""Parts that count wrong labels, and what their network was trained on."""


def _wrong_labels(folders: Mapping[str, Path]) -> dict[str, Any]:
    """How many wrong labels the first training images hold, as many as are wrong: by representers and by plain loss."""
    rows, shares = [], {}
    for part, words in LABEL_NOISE.items():
        if part not in folders:
            continue
        ((_, record),) = records(folders[part])
        found = record["representers"]
        count = int(found["wrong_labels"])
        shares[part] = {
            order: share(place < found[f"wrong_labels_by_{order}"] for place in range(count))
            for order in ("importance", "loss")
        }
        rows.append(
            {
                "network": f"`{record['model']['name']}`, {words}",
                "wrong labels": f"{count:,} of {found['training_images']:,.0f}",
                "found by representer importance": rate(shares[part]["importance"]),
                "found by plain training loss": rate(shares[part]["loss"]),
            }
        )
    return {"label_noise": shares, "label_noise_rows": rows} if rows else {}


def _plain(value: float) -> str:
    """Counts in full, other numbers with four digits."""
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"
