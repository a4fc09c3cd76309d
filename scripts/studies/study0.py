"""Study 0 in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.report.runs import Run
from seewhy.statistics.intervals import DIFFERENCE
from studies.found_runs import Mean, maps, mean, metric_values, rank_correlation, read_parameter, run_of, runs, share
from studies.interval_figure import interval_figure
from studies.leaderboard import leaderboard_rows, means_by_explainer, not_better
from studies.pictures import save_figure, save_thumbnail
from studies.render import number, percent

GAP = "completeness_gap_relative"
PAPER = 0.05
"""The relative gap that Sundararajan, Taly and Yan call small enough."""
STEPS = 50


def mix_up(predicted: Run, true: Run) -> tuple[Mean, Mean]:
    """(share of the images on which both classes differ, rank correlation of the two maps on them)."""
    one, other = predicted.predictions["target"], true.predictions["target"]
    wrong = {str(name): bool(one[name] != other[name]) for name in one.index}
    first, second = maps(predicted), maps(true)
    pairs = (rank_correlation(first[name], second[name]) for name, differs in wrong.items() if differs)
    return share(wrong.values()), mean(pairs, bounds=DIFFERENCE)


def page_values(folders: Mapping[str, Path], figures: Path) -> dict[str, Any]:
    """The numbers of the page; writes methods.webp."""
    methods, true = folders["methods"], folders["true_class"]
    ig, saliency = run_of(methods, "integrated_gradients"), run_of(methods, "saliency")
    wrong, mixed = mix_up(ig, run_of(true, "integrated_gradients"))
    fixed, auto = (run_of(folders["baselines"], "", f"explainer.n_steps={steps}") for steps in (STEPS, "auto"))
    black_maps, grey_maps = maps(ig), maps(fixed)
    means = means_by_explainer(methods, ["deletion", "insertion"])
    panels = {"deletion (lower is better)": means["deletion"], "insertion (higher is better)": means["insertion"]}
    save_figure(interval_figure(panels), figures / "methods.webp")
    save_thumbnail(figures / "methods.webp")
    return {
        "n": len(ig.predictions),
        "wrong": wrong,
        "mixed_ig": mixed,
        "mixed_saliency": mix_up(saliency, run_of(true, "saliency"))[1],
        "grey": mean((rank_correlation(black_maps[name], grey_maps[name]) for name in black_maps), bounds=DIFFERENCE),
        "halved": mean(_ratio(run_of(folders["halved"]), run_of(methods, "gradient_shap"))),
        "board": leaderboard_rows(folders["report"], {"deletion": "deletion", "insertion": "insertion"}),
        "not_better": {metric: not_better(folders["report"], metric) for metric in means},
        "gaps": [_gap_row(run) for run in runs(methods) if GAP in set(run.metrics["metric"])],
        "cost": [cost_row(run) for run in runs(methods)],
        **_completeness(fixed, auto),
        **_test_images(folders),
    }


def _completeness(fixed: Run, auto: Run) -> dict[str, Any]:
    """The gap of a fixed number of steps, and of as many as it takes."""
    gaps, steps = metric_values(fixed, GAP), metric_values(auto, "n_steps")
    return {
        "gap50_median": float(gaps.median()),
        "gap50_max": float(gaps.max()),
        "gap50_over": share(gaps > PAPER),
        "auto_within": share(converged(auto)),
        "auto_tolerance": float(read_parameter(auto, "tolerance")),
        "auto_map_tolerance": float(read_parameter(auto, "map_tolerance")),
        "auto_steps_median": float(steps.median()),
        "auto_steps_max": float(steps.max()),
    }


def converged(run: Run) -> list[bool]:
    """Whether gap and estimated error of each map of a run with n_steps=auto are within its tolerances."""
    gaps, errors = metric_values(run, GAP), metric_values(run, "map_error")
    tolerance, map_tolerance = (float(read_parameter(run, key)) for key in ("tolerance", "map_tolerance"))
    within = (gaps <= tolerance) & (errors <= map_tolerance)
    return [bool(value) for value in within]


def _test_images(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The mix-up on the test part, where it is at hand."""
    if "test_images" not in folders:
        return {}
    found = {}
    for name in ("saliency", "integrated_gradients"):
        predicted, true = (run_of(folders["test_images"], name, target=one) for one in ("predicted", "true"))
        wrong, found[name] = mix_up(predicted, true)
    return {"test": {"n": len(predicted.predictions), "wrong": wrong, **found}}


def _ratio(part: Run, whole: Run) -> list[float]:
    """For each image the factor by which one map is the other (least squares)."""
    one, other = maps(part), maps(whole)
    return [float((one[name] * other[name]).sum() / np.square(other[name]).sum()) for name in other]


def _gap_row(run: Run) -> dict[str, str]:
    gaps = metric_values(run, GAP)
    return {
        "explainer": f"`{run.explainer}`",
        "parameters": str(run.record["explainer"]["parameters"]),
        "median gap": percent(float(gaps.median()), 3),
        "largest gap": percent(float(gaps.max()), 3),
    }


def cost_row(run: Run) -> dict[str, str]:
    """Passes and seconds for each image."""
    passes, images = run.record["passes_per_image"], run.record["images_explained"]
    return {
        "explainer": f"`{run.explainer}`",
        "forward passes an image": number(passes["forward"], 0),
        "backward passes": number(passes["backward"], 0),
        "seconds an image": number(run.record["attribution_seconds"] / images, 3),
    }
