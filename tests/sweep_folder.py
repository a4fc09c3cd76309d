"""A sweep as `src/explain.py -m` leaves it, with made-up values, without running a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seewhy.core.files import RunFolder
from seewhy.statistics.schema import MetricFact, write_metric_facts

FACTS = {
    "average_drop": MetricFact("lower", "soft mask, probability", "faithfulness", variant_of="average_drop"),
    "deletion": MetricFact("lower", "AUC, black, 50 steps, probability", "faithfulness"),
    "faithfulness_correlation": MetricFact(
        "higher", "pearson, 100 subsets", "faithfulness", variant_of="sensitivity_n"
    ),
    "insertion": MetricFact("higher", "AUC, blurred, 50 steps, probability", "faithfulness"),
    "max_sensitivity": MetricFact("lower", "radius 0.02, 10 draws", "robustness"),
    "sparseness": MetricFact("higher", "Gini", "complexity"),
    "coverage": MetricFact(None, "share of positive mass", "faithfulness"),
}
QUALITY = {  # explainer: (how good, forward passes, backward passes, seconds for 30 images)
    "random": (0.0, 0, 0, 0.012),
    "edges": (0.15, 0, 0, 0.09),
    "centre": (0.1, 0, 0, 0.01),
    "saliency": (0.35, 1, 1, 4.1),
    "input_x_gradient": (0.3, 1, 1, 4.2),
    "integrated_gradients": (0.75, 52, 50, 160.0),
    "grad_cam": (1.1, 1, 1, 3.9),
    "occlusion": (0.9, 170, 0, 260.0),
    "rise": (1.05, 1001, 0, 1500.0),
}
CENTRE = {"average_drop": 0.5, "deletion": 0.3, "insertion": 0.45, "max_sensitivity": 0.6, "sparseness": 0.4}


def names(count: int) -> list[str]:
    return [f"image_{number:04d}" for number in range(count)]


def values(explainer: str, metric: str, images: int, effect: float) -> np.ndarray:
    """Correlated over explainers by image, better with `effect` times the explainer's quality."""
    key = [*f"{metric}".encode()]
    shared = np.random.default_rng(key).normal(size=images)
    own = np.random.default_rng([*key, *explainer.encode()]).normal(size=images)
    sign = {"higher": 1, "lower": -1, None: 0}[FACTS[metric].better]
    quality = QUALITY.get(explainer, (0.5, 0, 0, 0))[0] if metric != "sparseness" else 0.0
    return CENTRE.get(metric, 0.2) + 0.1 * shared + 0.06 * own + sign * effect * quality


def write_run(
    folder: Path,
    method: str,
    metrics: Mapping[str, Sequence[float]] | None = None,
    *,
    images: int = 30,
    facts: Mapping[str, MetricFact] = FACTS,
    order: Sequence[int] | None = None,
    effect: float = 0.15,
    **changes: Any,
) -> Path:
    """One run folder; `changes` replace entries of run.json, `order` the order of the images in its tables."""
    out = RunFolder(folder)
    _, forward, backward, seconds = QUALITY.get(method, (0.5, 10, 0, 3.0))
    record = {
        "status": "completed",
        "task": "explain",
        "overrides": [f"explainer={method}"],
        "seed": 0,
        "device": "cpu",
        "model": {"name": "efficientnet_lite0", "weights": "hub", "weights_sha256": "a" * 64},
        "explainer": {"name": method, "parameters": "", "target": "predicted"},
        "images": images,
        "images_explained": images,
        "passes_per_image": {"forward": float(forward), "backward": float(backward)},
        "attribution_seconds": seconds * images / 30,
        "seconds": 9.0,
    } | changes
    out.write_json("run.json", record)
    chosen = metrics or {metric: values(method, metric, images, effect) for metric in facts}
    places = list(range(images)) if order is None else list(order)
    rows = [
        {"image": names(images)[place], "explainer": method, "metric": metric, "value": repr(float(found[place]))}
        for place in places
        for metric, found in chosen.items()
    ]
    out.write_csv("metrics.csv", ("image", "explainer", "metric", "value"), rows)
    said = pd.DataFrame({"image": [names(images)[place] for place in places]})
    said = said.assign(path="photo.png", label="cat", predicted="cat", probability="0.9", correct="yes", target="cat")
    said["target_probability"], said["target_policy"] = "0.900000", record["explainer"]["target"]
    out.write_bytes("predictions.csv", said.to_csv(index=False).encode())
    write_metric_facts(out, facts)
    return folder


def write_sweep(folder: Path, explainers: Sequence[str] = tuple(QUALITY), **options: Any) -> Path:
    """One run folder per explainer."""
    for number, explainer in enumerate(explainers):
        write_run(folder / f"{number}_efficientnet_lite0_{explainer}", explainer, **options)
    return folder


def edit_record(folder: Path, **changes: Any) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
