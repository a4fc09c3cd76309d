"""docs/precision.md: which methods and metrics may be computed in bfloat16, measured beside float32 on trained networks.

usage: python scripts/precision.py [--models efficientnet_lite0 cifar_cnn ...] [--methods saliency ...] [--images 8]

Every method explains the same images of the samples both ways, and the metrics measure the maps both ways; each pair is
timed in turn, the best of several, in processor time, where the processor has instructions for bfloat16. Rows are kept in
docs/precision.csv, and rows of other networks stay there, so that networks can be measured one after the other. The text
before the tables is scripts/precision.md.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from seewhy.cli.build import build_classifier, build_data
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.precision import compute_in_full, doubt_speed
from seewhy.core.types import Batch
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import build_context, measure_batch
from seewhy.models.classifier import Classifier
from seewhy.runs.precision import LEAST, compare_precisions, summarise_precision
from seewhy.statistics.agreement import compute_tau

OUTPUT = Path("docs/precision.md")
METHODS = (
    "saliency input_x_gradient smooth_grad integrated_gradients gradient_shap blur_ig guided_ig xrai guided_backprop "
    "deconvolution guided_grad_cam grad_cam grad_cam_plus_plus layer_cam hires_cam eigen_cam score_cam ablation_cam "
    "full_grad le_grad attention_rollout attention_gradient libra_grad occlusion rise lime kernel_shap hsic lrp deep_lift "
    "edges"
).split()
METRICS = (
    "deletion insertion morf_lerf road infidelity sensitivity_n faithfulness_correlation max_sensitivity average_drop "
    "sparseness complexity model_randomization random_logit"
).split()
SMALLER = {
    "rise": {"n_masks": 100},
    "lime": {"n_samples": 100},
    "kernel_shap": {"n_samples": 100},
    "occlusion": {"stride": 32, "window": 32},
}
"""Settings with which slow methods take seconds an image; of images of 32 pixels they stay as they are."""
RANKED = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "grad_cam",
    "layer_cam",
    "smooth_grad",
    "guided_backprop",
    "edges",
)
"""Methods whose order by each metric is compared."""
ROUNDS = 2
SLOW = ("hsic", "ablation_cam", "xrai", "kernel_shap", "guided_ig")
"""Methods that are left out of networks whose images are larger than 32 pixels: a minute an image."""


def load(name: str, images: int) -> tuple[Classifier, Batch, Any]:
    """The trained classifier, its first sample images, and the config."""
    cfg = compose("explain", [f"model={name}", f"data.limit={images}", f"data.batch_size={images}"])
    classifier = build_classifier(cfg).eval()
    data = build_data(cfg, facts=classifier.facts)
    data.prepare_data()
    data.setup("test")
    return classifier, next(iter(data.test_dataloader())), cfg


def build_method(name: str, size: int) -> Explainer:
    """A method as its yaml has it, with fewer samples where it is slow."""
    settings = SMALLER.get(name, {}) if size > 32 else {}
    cfg = compose("explain", [f"explainer={name}", *(f"explainer.{key}={value}" for key, value in settings.items())])
    built: Explainer = build_object(cfg.explainer, "explainer")
    return built


def build_metrics(names: Sequence[str]) -> dict[str, ImageMetric]:
    """Metrics as their yaml has them."""
    cfg = compose("explain", [f"metric=[{','.join(names)}]"])
    built: dict[str, ImageMetric] = build_object(cfg.metric, "metric", "all")
    return built


def compare_times(narrow: float, full: float) -> float:
    """Seconds in bfloat16 over those in float32; NaN on a processor that emulates the former, whose values alone count."""
    return np.nan if doubt_speed("cpu") else narrow / full


def time_both(run: Callable[[], Any], rounds: int) -> tuple[float, float, Any, Any]:
    """(processor seconds in bfloat16, in float32, result in bfloat16, in float32): in turn, the best of several."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    results: dict[bool, Any] = {}
    counts = not doubt_speed("cpu")
    for turn in range(rounds + 1 if counts else 1):
        for narrow in (True, False):
            if turn > 1 and sum(seconds[narrow]) > 10:
                continue
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16) if narrow else compute_in_full("cpu"):
                results[narrow] = run()
            seconds[narrow] += [time.process_time() - start] if turn or not counts else []
    return min(seconds[True]), min(seconds[False]), results[True], results[False]


def measure_methods(name: str, methods: Sequence[str], metrics: Sequence[str], images: int) -> list[dict[str, Any]]:
    """A row for each method, and for each metric of the maps of the ranked ones."""
    classifier, batch, _ = load(name, images)
    with torch.no_grad(), classifier.frozen():
        logits = classifier(batch.images)
    rows: list[dict[str, Any]] = []
    values: dict[str, list[tuple[str, float, float, float]]] = {}
    large = max(classifier.facts.shape) > 32
    for method in methods:
        if large and method in SLOW:
            continue
        try:
            explainer = build_method(method, classifier.facts.size if isinstance(classifier.facts.size, int) else 224)

            def run(explainer: Explainer = explainer) -> Any:
                return explain_batch(classifier, batch, logits, explainer, "predicted")[0]

            narrow_time, full_time, narrow, full = time_both(run, 1 if large else ROUNDS)
        except (Incompatible, UserError) as reason:
            rows.append({"model": name, "kind": "method", "name": method, "refused": str(reason).splitlines()[0]})
            print(f"{name} {method}: {reason}")
            continue
        pairs = zip(narrow, compare_precisions(narrow, full), strict=True)
        narrow = [each.__class__(**{**vars(each), "float32": values_}) for each, values_ in pairs]
        summary = summarise_precision(narrow, "bfloat16")
        row = {
            "model": name,
            "kind": "method",
            "name": method,
            "images": len(narrow),
            "time": compare_times(narrow_time, full_time),
        }
        row |= {key: summary[key] for key in summary if key.startswith(("rank", "top"))}
        rows.append(row)
        print(row)
        if method in RANKED and metrics:
            for metric, (first, second, before, after) in measure_metrics(
                classifier, explainer, narrow, full, metrics
            ).items():
                values.setdefault(metric, []).append((method, first, second, compare_times(after, before)))
                print(" ", metric, first, second)
    for metric, entries in values.items():
        narrow_means, full_means = (np.array([entry[side] for entry in entries]) for side in (1, 2))
        size = float(np.abs(full_means).mean())
        rows.append(
            {
                "model": name,
                "kind": "metric",
                "name": metric,
                "images": images,
                "time": float(np.median([entry[3] for entry in entries])),
                "change": float(np.abs(narrow_means - full_means).max()) / size if size else 0.0,
                "tau": float(compute_tau(narrow_means, full_means)),
            }
        )
    return rows


def measure_metrics(
    classifier: Classifier, explainer: Explainer, narrow: Sequence[Any], full: Sequence[Any], names: Sequence[str]
) -> dict[str, tuple[float, float, float, float]]:
    """{metric: (mean in bfloat16, in float32, seconds in float32, in bfloat16)} of the maps of a method."""
    found = {}
    for name in names:
        metrics = build_metrics([name])
        means, seconds = [], []
        for on, explanations in ((True, narrow), (False, full)):
            best = np.inf
            for _ in range(1 if classifier.facts.shape[0] > 32 or doubt_speed("cpu") else 3):
                start = time.process_time()
                with torch.autocast("cpu", torch.bfloat16) if on else compute_in_full("cpu"):
                    context = build_context(classifier, explanations, explainer)
                    measured = measure_batch(context, explanations, metrics)
                best = min(best, time.process_time() - start)
                for metric in metrics.values():
                    metric.reset()
            means.append(float(np.nanmean([each.metrics[name] for each in measured])))
            seconds.append(best)
        found[name] = means[0], means[1], seconds[1], seconds[0]
    return found


def write_page(table: pd.DataFrame) -> str:
    """The page: a table of methods and one of metrics for each network."""
    parts = [Path(__file__).with_suffix(".md").read_text().rstrip(), ""]
    for model, rows in table.groupby("model", sort=False):
        methods, metrics = (rows[rows["kind"] == kind] for kind in ("method", "metric"))
        count = int(rows["images"].max())
        parts += [f"## {model}", "", f"{count} images of the samples.", ""]
        parts += [
            "| method | rank correlation (least) | top 10 % shared (least) | time | for ranking |",
            "|---|---|---|---|---|",
        ]
        parts += [_write_method(row) for _, row in methods.iterrows()]
        if len(metrics):
            parts += ["", "| metric | largest change of a mean | tau of the methods | time |", "|---|---|---|---|"]
            parts += [
                f"| `{row['name']}` | {100 * row['change']:.2f} % | {row['tau']:.2f} | {_write_time(row)} |"
                for _, row in metrics.iterrows()
            ]
        parts += [""]
    return "\n".join(parts)


def _write_method(row: pd.Series) -> str:
    if isinstance(row.get("refused"), str) and row["refused"]:
        return f"| `{row['name']}` | | | | {row['refused']} |"
    cells = [
        "" if pd.isna(row[name]) else f"{row[name]:.3f} ({row[f'{name}_least']:.3f})"
        for name in ("rank_correlation", "top_overlap")
    ]
    good = row["rank_correlation"] >= LEAST and row["top_overlap"] >= LEAST
    return f"| `{row['name']}` | {cells[0]} | {cells[1]} | {_write_time(row)} | {'yes' if good else 'no'} |"


def _write_time(row: pd.Series) -> str:
    return "" if pd.isna(row["time"]) else f"{row['time']:.2f}"


def main() -> None:
    """Measure, keep the rows, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["efficientnet_lite0", "cifar_cnn", "vit_cifar"])
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--metrics", nargs="*", default=METRICS)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = OUTPUT.with_suffix(".csv")
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["model"])
    for model in arguments.models:
        rows = measure_methods(model, arguments.methods, arguments.metrics, arguments.images)
        table = pd.concat([table[table["model"] != model], pd.DataFrame(rows)], ignore_index=True)
        table.to_csv(path, index=False, float_format="%.4f")
    OUTPUT.write_text(write_page(table) + f"\nMeasured with torch {torch.__version__} on {platform.machine()}.\n")


if __name__ == "__main__":
    main()
