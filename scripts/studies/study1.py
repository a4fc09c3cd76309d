"""Study 1 in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy.report.runs import Run
from seewhy.statistics.intervals import DIFFERENCE
from studies.contact_sheet import NOTE, contact_sheet
from studies.found_runs import maps, mean, metric_values, rank_correlation, read_parameter, run_of, share
from studies.pictures import save_figure, save_thumbnail
from studies.render import number, percent
from studies.study0 import GAP, PAPER, converged

SHOWN = 5


def page_values(folders: Mapping[str, Path], figures: Path) -> dict[str, Any]:
    """The numbers of the page; writes sheet.webp."""
    few, fixed, auto = (run_of(folders["steps"], "", f"explainer.n_steps={steps}") for steps in (50, 200, "auto"))
    riemann = run_of(folders["riemann"])
    columns = {
        "right Riemann sum, 50 steps": riemann,
        "Gauss-Legendre, 200 steps": fixed,
        "steps by themselves (auto)": auto,
    }
    save_figure(contact_sheet(columns, list(auto.predictions.index)[:SHOWN], NOTE), figures / "sheet.webp")
    save_thumbnail(figures / "sheet.webp", (0, 0, 1, 0.42))
    gaps, logits = metric_values(fixed, GAP), metric_values(fixed, "completeness_gap").abs()
    steps = metric_values(auto, "n_steps")
    one, other = maps(few), maps(auto)
    return {
        "n": len(fixed.predictions),
        "network": str(fixed.record["model"]["name"]),
        "size": fixed.record["model"]["size"],
        "logits_low": float(logits.min()),
        "logits_high": float(logits.max()),
        "gap_low": float(gaps.min()),
        "gap_high": float(gaps.max()),
        "gap_median": float(gaps.median()),
        "over": share(gaps > PAPER),
        "over_few": share(metric_values(few, GAP) > PAPER),
        "within": share(converged(auto)),
        "tolerance": float(read_parameter(auto, "tolerance")),
        "map_tolerance": float(read_parameter(auto, "map_tolerance")),
        "auto_share": _gradients(auto) / _gradients(fixed),
        "steps_low": int(steps.min()),
        "steps_median": float(steps.median()),
        "steps_high": int(steps.max()),
        "riemann_median": float(metric_values(riemann, GAP).median()),
        "few_median": float(metric_values(few, GAP).median()),
        "few_like_auto": mean((rank_correlation(one[name], other[name]) for name in other), bounds=DIFFERENCE),
        "rows": [_image_row(name, few, fixed, auto) for name in auto.predictions.index],
        "settings": [_setting_row(run) for run in (riemann, few, fixed, auto)],
    }


def _gradients(run: Run) -> float:
    """Backward passes for an image."""
    return float(run.record["passes_per_image"]["backward"])


def _image_row(name: str, few: Run, fixed: Run, auto: Run) -> dict[str, str]:
    return {
        "image": str(name),
        "predicted": str(auto.predictions["predicted"][name]),
        "probability": number(float(auto.predictions["probability"][name])),
        "gap, 50 steps": percent(metric_values(few, GAP)[name], 2),
        "gap, 200 steps": percent(metric_values(fixed, GAP)[name], 2),
        "the same in logits": number(abs(metric_values(fixed, "completeness_gap")[name]), 4),
        "gap, auto": percent(metric_values(auto, GAP)[name], 2),
        "estimated error of the map, auto": percent(metric_values(auto, "map_error")[name], 1),
        "steps, auto": number(metric_values(auto, "n_steps")[name], 0),
    }


def _setting_row(run: Run) -> dict[str, str]:
    gaps, images = metric_values(run, GAP), run.record["images_explained"]
    return {
        "parameters": str(run.record["explainer"]["parameters"]),
        "median gap": percent(float(gaps.median()), 2),
        "largest gap": percent(float(gaps.max()), 2),
        "over 5 %": f"{int((gaps > PAPER).sum())} of {len(gaps)}",
        "gradients an image": number(run.record["passes_per_image"]["backward"], 0),
        "seconds an image": number(run.record["attribution_seconds"] / images, 1),
    }
