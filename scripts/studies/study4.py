"""Study 4 in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from seewhy.core.errors import UserError
from seewhy.report.runs import Run
from seewhy.statistics.intervals import DIFFERENCE, SHARE, average_clusters
from studies.contact_sheet import NOTE, contact_sheet
from studies.found_runs import Mean, maps, mean, metric_values, rank_correlation, read_parameter, records, run_of, runs
from studies.interval_figure import interval_figure
from studies.pictures import save_figure, save_picture, save_thumbnail
from studies.render import interval
from studies.study0 import cost_row

NETWORKS = ("efficientnet_lite0", "tf_mobilenetv3_large_minimal_100", "tf_mobilenetv3_small_100")
SHEET = ("integrated_gradients", "ig_smooth_grad_sq", "gradient_shap", "occlusion", "grad_cam", "grad_cam_plus_plus")
SHOWN = ("german_shepherd", "hens", "cat", "espresso")
WORST = 5
"""The highest level of a corruption."""


def page_values(folders: Mapping[str, Path], figures: Path) -> dict[str, Any]:
    """The numbers of the page; writes best.webp, insertion.webp and robustness.webp."""
    main = folders["efficientnet_lite0"]
    alone = {run.explainer: run for run in (run_of(folders["squared"]), run_of(folders["occlusion"]))}
    columns = {name: alone.get(name) or run_of(main, name) for name in SHEET}
    names = list(columns["grad_cam"].predictions.index)
    shown = [name for name in SHOWN if name in names] or names[:1]
    save_figure(contact_sheet(columns, shown, NOTE), figures / "best.webp")
    save_thumbnail(figures / "best.webp", (0, 0, 1, 0.55))
    networks = [name for name in NETWORKS if name in folders]
    insertion = {
        name: {run.explainer: mean(metric_values(run, "insertion"), bounds=SHARE) for run in runs(folders[name])}
        for name in networks
    }
    save_figure(interval_figure(insertion), figures / "insertion.webp")
    return {
        "n": len(columns["grad_cam"].predictions),
        "networks": networks,
        "cams": _alike(columns["grad_cam"], columns["grad_cam_plus_plus"]),
        "shap": _second_opinions(columns["integrated_gradients"], columns["gradient_shap"], folders),
        "against": mean(_negative_share(columns["integrated_gradients"]), bounds=SHARE),
        "method_rows": _method_rows(folders, networks, list(alone.values())),
        "cost": [cost_row(run) for run in [*runs(main), *alone.values()]],
        "prediction_rows": _prediction_rows(folders, networks),
        **_robustness(folders["robustness"], figures),
    }


def _alike(one: Run, other: Run) -> Mean:
    """Rank correlation of two methods' maps of the same image."""
    first, second = maps(one), maps(other)
    return mean((rank_correlation(first[name], second[name]) for name in first), bounds=DIFFERENCE)


def _second_opinions(integrated: Run, shap: Run, folders: Mapping[str, Path]) -> dict[str, Mean]:
    """Rank correlation of integrated gradients from black with Gradient SHAP, by the baselines of the latter."""
    others = runs(folders["shap_baselines"]) if "shap_baselines" in folders else []
    opinions: dict[str, Mean] = {}
    for run in (shap, *others):
        baselines = read_baselines(run)
        if baselines in opinions:
            raise UserError(f"{run.folder} repeats the baselines {baselines} of an earlier run of Gradient SHAP")
        opinions[baselines] = _alike(integrated, run)
    return opinions


def read_baselines(run: Run) -> str:
    """Such as `black` or `black + uniform` (a mixture), from the parameters of a run of Gradient SHAP."""
    return " + ".join(read_parameter(run, "baseline").split("+"))


def _negative_share(run: Run) -> list[float]:
    """The share of each map's absolute mass that speaks against the class: what squares and absolute values hide."""
    return [float(-np.minimum(one, 0).sum() / np.abs(one).sum()) for one in maps(run).values()]


def _method_rows(folders: Mapping[str, Path], networks: list[str], alone: list[Run]) -> list[dict[str, str]]:
    rows = []
    for run in [*runs(folders[networks[0]]), *alone]:
        row = {"explainer": f"`{run.explainer}`"}
        for name in networks:
            same = [other for other in runs(folders[name]) if other.explainer == run.explainer]
            if name == networks[0]:
                same = [run]
            row[f"insertion, {name}"] = (
                interval(mean(metric_values(same[0], "insertion"), bounds=SHARE)) if same else "-"
            )
        rows.append(row)
    return rows


def _prediction_rows(folders: Mapping[str, Path], networks: list[str]) -> list[dict[str, str]]:
    said = {name: run_of(folders[name], "random").predictions for name in networks}
    first = said[networks[0]]
    return [
        {"image": str(image), "true": first["label"][image]}
        | {
            name: f"{table['predicted'][image]} {float(table['probability'][image]):.2f}"
            for name, table in said.items()
        }
        for image in first.index
    ]


def _robustness(folder: Path, figures: Path) -> dict[str, Any]:
    """Flips, probabilities and stability of the maps by corruption and level."""
    ((place, record),) = records(folder)
    with Image.open(place / "robustness" / "table.png") as table:
        save_picture(table, figures / "robustness.webp", 1200)
    summary = pd.read_csv(place / "robustness_summary.csv", dtype={"level": str})
    keyed = summary.set_index(["corruption", "level", "quantity"])[["mean", "low", "high", "n"]].astype(float)
    found = {
        key: Mean(middle, low, high, int(n))
        for key, (middle, low, high, n) in zip(keyed.index, keyed.to_numpy().tolist(), strict=True)
    }
    cells = pd.read_csv(place / "robustness.csv")
    names = [name for name in summary["corruption"].unique() if name not in ("clean", "mean")]
    similarity = f"{record['explainer']['name']}_spearman"

    def at(name: str, level: int, quantity: str) -> Mean:
        return found[name, str(level), quantity]

    return {
        "robust_n": at(names[0], 1, "flip").n,
        "corruptions": len(names),
        "flips": {level: _share_of_flips(cells, level) for level in (1, WORST)},
        "similarity": {(name, level): at(name, level, similarity) for name in names for level in (1, WORST)},
        "same": _similarity(cells, similarity, "no"),
        "changed": _similarity(cells, similarity, "yes"),
        "robust_rows": [
            {
                "corruption": name.replace("_", " "),
                "level": str(level),
                "predictions changed": f"{_count(at(name, level, 'flip'))} of {at(name, level, 'flip').n}",
                "probability of the clean class": interval(at(name, level, "clean_probability")),
                "rank correlation with the clean map": interval(at(name, level, similarity)),
            }
            for name in names
            for level in (1, 3, WORST)
        ],
    }


def _count(share: Mean) -> int:
    return round(share.mean * share.n)


class Flips(NamedTuple):
    """Predictions that changed at a level, of all corruptions."""

    changed: int
    cells: int
    """Images times corruptions."""
    share: Mean
    """Over images, of each the share of its corruptions."""


def _share_of_flips(rows: pd.DataFrame, level: int) -> Flips:
    chosen = rows[(rows["corruption"] != "clean") & (rows["level"] == level)]
    changed = (chosen["flip"] == "yes").astype(float)
    return Flips(int(changed.sum()), len(changed), mean(average_clusters(changed, chosen["image"]), bounds=SHARE))


def _similarity(rows: pd.DataFrame, similarity: str, flip: str) -> Mean:
    """The similarity of the maps at the highest level where the prediction changed (flip `yes`) or did not.

    The cells of an image, one for each corruption, are averaged first: the interval is over images.
    """
    chosen = rows[(rows["corruption"] != "clean") & (rows["level"] == WORST) & (rows["flip"] == flip)]
    return mean(average_clusters(chosen[similarity], chosen["image"]), bounds=DIFFERENCE)
