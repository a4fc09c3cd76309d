"""Study 3 in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from seewhy.core.errors import UserError
from seewhy.statistics.intervals import SHARE
from studies.contact_sheet import NOTE, contact_sheet
from studies.found_runs import maps, mean, metric_mean, records, run_of, runs, share
from studies.leaderboard import means_by_explainer
from studies.picture_row import picture_row
from studies.pictures import save_figure, save_picture, save_thumbnail
from studies.render import interval, number

METHODS = ("saliency", "guided_backprop", "grad_cam", "guided_grad_cam")
LONG, SHORT = "synthesis.rate=2.26", "synthesis.rate=0.25"
SHOWN = 5
SURE = 0.9
PANEL = "hens"
"""The photograph whose fooling image is shown, where it is among them."""


def page_values(folders: Mapping[str, Path], figures: Path) -> dict[str, Any]:
    """The numbers of the page; writes maps.webp, fooling.webp, cs231n.webp and fourier.webp as far as there are runs."""
    found: dict[str, Any] = {}
    if "fooling" in folders:
        found |= _fooling(folders["fooling"], figures)
    for part, variant in (("classes", "cs231n"), ("spectrum", "fourier")):
        if part in folders:
            found |= _classes(folders[part], variant, figures)
    if "maps" in folders:
        found |= _maps(folders["maps"], figures)
    return found


def synthesis_of(folder: Path, override: str) -> tuple[Path, dict[str, Any], pd.DataFrame]:
    """(folder, record, synthesis.csv) of the completed synthesis with this override. UserError where it is not one."""
    found = [
        (place, record)
        for place, record in records(folder)
        if override in record["overrides"] and record["status"] == "completed"
    ]
    if len(found) != 1:
        raise UserError(f"{folder} holds {len(found)} completed syntheses with {override}, not one")
    place, record = found[0]
    return place, record, pd.read_csv(place / "synthesis.csv")


def _fooling(folder: Path, figures: Path) -> dict[str, Any]:
    (place, record, short), (_, _, long) = synthesis_of(folder, SHORT), synthesis_of(folder, LONG)
    shown = PANEL if PANEL in set(short["image"]) else str(short["image"].iloc[0])
    with Image.open(place / "figures" / f"{shown}.png") as panel:
        save_picture(panel, figures / "fooling.webp", 1100)
    save_thumbnail(figures / "fooling.webp")
    both = short.merge(long, on="image", suffixes=("", "_long"), validate="one_to_one")
    return {
        "fooling_network": str(record["model"]["name"]),
        "fooled_n": len(short),
        "fooled": share(short["success"] == "yes"),
        "fooled_long": share(long["success"] == "yes"),
        "fooled_target": str(short["target"].iloc[0]),
        "rate_ratio": float(LONG.split("=")[1]) / float(SHORT.split("=")[1]),
        "l2": mean(short["l2"]),
        "l2_long": mean(long["l2"]),
        "l2_ratio": mean(both["l2_long"] / both["l2"]),
        "steps": mean(short["steps"]),
        "steps_long": mean(long["steps"]),
        "fooled_probability": mean(short["target_probability_after"], bounds=SHARE),
        "fooling_rows": [
            {
                "image": str(row["image"]),
                "predicted": f"{row['predicted']} {row['predicted_probability_before']:.2f}",
                "afterwards": f"{row['predicted_after']} {row['target_probability_after']:.2f}",
                "steps": number(row["steps"], 0),
                "L2": number(row["l2"]),
                "L-inf": number(row["linf"], 3),
                "PSNR": number(row["psnr"], 1),
                "L2, the study's step": number(row["l2_long"]),
            }
            for _, row in both.iterrows()
        ],
    }


def _classes(folder: Path, variant: str, figures: Path) -> dict[str, Any]:
    """The class visualizations of one run under the name of their variant."""
    ((place, record),) = records(folder)
    table = pd.read_csv(place / "synthesis.csv")
    ends = table.groupby("class", sort=False).last()
    pictures = {
        f"{name} {row['probability']:.2f}": next((place / "images").glob(f"{row['index']:03.0f}_*.png"))
        for name, row in ends.iterrows()
    }
    save_figure(picture_row(pictures), figures / f"{variant}.webp")
    rows = [
        {
            "class": str(name),
            "steps": number(part["step"].iloc[-1], 0),
            "score, first": number(part["score"].iloc[0], 1),
            "score, last": number(part["score"].iloc[-1], 1),
            "probability, last": number(part["probability"].iloc[-1], 3),
        }
        for name, part in table.groupby("class", sort=False)
    ]
    return {
        "classes_network": str(record["model"]["name"]),
        variant: {"sure": share(ends["probability"] > SURE), "rows": rows},
    }


def _maps(folder: Path, figures: Path) -> dict[str, Any]:
    columns = {name: run_of(folder, name) for name in METHODS}
    cam = maps(columns["grad_cam"])
    peaks = pd.Series({name: float(one.max()) for name, one in cam.items()})
    shown = list(cam)[:SHOWN]
    save_figure(contact_sheet(columns, shown, NOTE), figures / "maps.webp")
    save_thumbnail(figures / "maps.webp", (0, 0, 1, 0.42))
    means = means_by_explainer(folder, ["model_randomization", "insertion"])
    return {
        "n": len(cam),
        "network": str(columns["grad_cam"].record["model"]["name"]),
        "size": columns["grad_cam"].record["model"]["size"],
        "right": share(columns["grad_cam"].predictions["correct"] == "yes"),
        "faintest": float(peaks.min() / peaks.max()),
        "faintest_image": str(peaks.idxmin()),
        "randomized": {name: means["model_randomization"][name] for name in METHODS},
        "draws": len(columns["grad_cam"].facts["model_randomization"].draws),
        "variant": columns["grad_cam"].facts["model_randomization"].variant,
        "map_rows": [
            {
                "explainer": f"`{run.explainer}`",
                "similarity to random weights": interval(metric_mean(run, "model_randomization")),
                "insertion": interval(metric_mean(run, "insertion")),
                "seconds an image": number(run.record["attribution_seconds"] / run.record["images_explained"], 2),
            }
            for run in runs(folder)
        ],
    }
