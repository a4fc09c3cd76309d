"""docs/precision.md: which methods and metrics may be computed in bfloat16, measured beside float32 on trained networks.

usage: python scripts/precision.py [--models efficientnet_lite0 cifar_cnn ...] [--methods saliency ...] [--images 8]
           [--overrides model.name=resnet50 model.weights=FILE data=folder data.root=FOLDER ...]

Every method explains the same images of the samples both ways, and the metrics measure the maps both ways. Where the
processor has instructions for bfloat16, each pair is timed in turn, the best of several, in processor time; elsewhere its
products are computed as those instructions do (`Products`), and a row keeps the time that it had. Rows are kept in
docs/precision.csv and replaced one by one, so that networks, methods and metrics can be measured one after the other. The
text before the tables is scripts/precision.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

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
TABLE = OUTPUT.with_suffix(".csv")
METHODS = (
    "saliency input_x_gradient smooth_grad noise_tunnel integrated_gradients expected_gradients gradient_shap "
    "ig_smooth_grad ig_smooth_grad_sq ig_var_grad internal_influence blur_ig guided_ig xrai guided_backprop "
    "deconvolution guided_grad_cam grad_cam grad_cam_plus_plus layer_cam hires_cam eigen_cam score_cam ablation_cam "
    "full_grad le_grad attention_rollout attention_gradient libra_grad occlusion feature_ablation "
    "shapley_value_sampling rise lime kernel_shap hsic lrp deep_lift deep_lift_shap edges"
).split()
METRICS = (
    "deletion insertion morf_lerf road infidelity sensitivity_n faithfulness_correlation max_sensitivity average_drop "
    "sparseness complexity model_randomization random_logit f_fidelity srg_black srg_imputed stability "
    "sufficient_region necessity_ordering sufficiency_ordering tps tpn efficient_model_randomization "
    "model_randomization_cascading model_randomization_independent average_drop_binary_logit average_drop_top_half "
    "increase_in_confidence infidelity_normalised srg_blur srg_mean srg_noise srg_white"
).split()
SMALLER = {
    "rise": {"n_masks": 400},
    "lime": {"n_samples": 200},
    "kernel_shap": {"n_samples": 200},
    "hsic": {"n_masks": 500},
    "occlusion": {"stride": 32, "window": 32},
    "feature_ablation": {"n_segments": 25},
    "shapley_value_sampling": {"n_segments": 25, "options.n_samples": 4},
    "guided_ig": {"n_steps": 20, "check_rounding": "false"},
    "ig_smooth_grad": {"n_samples": 4},
    "ig_smooth_grad_sq": {"n_samples": 4},
    "ig_var_grad": {"n_samples": 4},
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
MANY_PASSES = ("integrated_gradients", "smooth_grad")
"""Those that are left out of this where images are larger than 32 pixels: some metrics explain dozens of times."""
ROUNDS = 2


class Products(TorchDispatchMode):
    """Computes products in bfloat16 as a processor with instructions for it does, on any processor.

    Those instructions multiply numbers of 8 bits exactly, add the products up in float32 and round the sum. That is what
    float32 gives for the same numbers once its result is rounded; what else a network computes is torch's own either way.
    """

    aten = torch.ops.aten
    KINDS = frozenset(
        (
            aten.convolution,
            aten.convolution_backward,
            aten.mm,
            aten.addmm,
            aten.bmm,
            aten.baddbmm,
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_flash_attention_for_cpu_backward,
        )
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run a product of bfloat16 on the same numbers in float32, and everything else as it is."""
        kwargs = kwargs or {}
        if func.overloadpacket not in self.KINDS or not any(_is(torch.bfloat16, value) for value in args):
            return func(*args, **kwargs)
        wide = tree_map(lambda value: value.float() if _is(torch.bfloat16, value) else value, (args, kwargs))
        found = func(*wide[0], **wide[1])
        return tree_map(lambda value: value.bfloat16() if _is(torch.float32, value) else value, found)


def _is(dtype: torch.dtype, value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype


def compute_in(narrow: bool) -> AbstractContextManager[Any]:
    """Compute in bfloat16 inside the block, or in float32."""
    if not narrow:
        return compute_in_full("cpu")
    stack = ExitStack()
    stack.enter_context(torch.autocast("cpu", torch.bfloat16))
    if doubt_speed("cpu"):
        stack.enter_context(Products())
    return stack


def load(name: str, images: int, overrides: Sequence[str] = ()) -> tuple[Classifier, Batch, Any]:
    """The trained classifier, its first images, and the config."""
    cfg = compose("explain", [f"model={name}", *overrides, f"data.limit={images}", f"data.batch_size={images}"])
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
            with compute_in(narrow):
                results[narrow] = run()
            seconds[narrow] += [time.process_time() - start] if turn or not counts else []
    return min(seconds[True]), min(seconds[False]), results[True], results[False]


def measure(
    name: str, methods: Sequence[str], metrics: Sequence[str], images: int, overrides: Sequence[str] = ()
) -> None:
    """Measure a network: a row for each method, and for each metric of the maps of the ranked ones, kept as they come."""
    classifier, batch, _ = load(name, images, overrides)
    name = classifier.name
    with torch.no_grad(), classifier.frozen():
        logits = classifier(batch.images)
    large = max(classifier.facts.shape) > 32
    pairs = {}
    for method in methods:
        row: dict[str, Any] = {"model": name, "kind": "method", "name": method}
        try:
            explainer = build_method(method, max(classifier.facts.shape))

            def run(explainer: Explainer = explainer) -> Any:
                return explain_batch(classifier, batch, logits, explainer, "predicted")[0]

            narrow_time, full_time, narrow, full = time_both(run, 1 if large else ROUNDS)
        except (Incompatible, UserError) as reason:
            keep(row | {"refused": str(reason).splitlines()[0]})
            continue
        if not narrow:
            keep(row | {"refused": "explains none of these images"})
            continue
        compared = zip(narrow, compare_precisions(narrow, full), strict=True)
        summary = summarise_precision([replace(each, float32=pair) for each, pair in compared], "bfloat16")
        row |= {"images": len(narrow), "time": compare_times(narrow_time, full_time)}
        keep(row | {key: summary[key] for key in summary if key.startswith(("rank", "top"))})
        if method in RANKED and not (large and method in MANY_PASSES):
            pairs[method] = explainer, narrow, full
    for metric in metrics if pairs else ():
        keep(
            {"model": name, "kind": "metric", "name": metric, "images": images}
            | measure_metric(classifier, pairs, metric)
        )


def measure_metric(classifier: Classifier, pairs: dict[str, tuple[Any, Any, Any]], name: str) -> dict[str, Any]:
    """A row of a metric: what it gives in bfloat16 for each method's maps in float32 (its own change) and in bfloat16."""
    means: dict[str, list[float]] = {"full": [], "metric": [], "both": []}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    try:
        for explainer, narrow, full in pairs.values():
            for part, on, explanations in (("full", False, full), ("metric", True, full), ("both", True, narrow)):
                metrics = build_metrics([name])
                start = time.process_time()
                with compute_in(on):
                    context = build_context(classifier, explanations, explainer)
                    measured = measure_batch(context, explanations, metrics)
                seconds[on].append(time.process_time() - start)
                values = [each.metrics.get(name, np.nan) for each in measured]
                means[part].append(float(np.nanmean(values)) if np.isfinite(values).any() else np.nan)
    except (Incompatible, UserError) as reason:
        return {"refused": str(reason).splitlines()[0]}
    table = np.array(list(means.values()))
    table = table[:, np.isfinite(table).all(0)]
    if table.shape[1] < 2:
        return {"refused": "gives a value to fewer than two of the methods"}
    full, own, both = table
    size = float(np.abs(full).mean())
    return {
        "time": compare_times(sum(seconds[True]) / 2, sum(seconds[False])),
        "change": float(np.abs(own - full).max()) / size if size else 0.0,
        "change_both": float(np.abs(both - full).max()) / size if size else 0.0,
        "tau": float(compute_tau(own, full)),
        "tau_both": float(compute_tau(both, full)),
        "methods": table.shape[1],
    }


def keep(row: dict[str, Any]) -> None:
    """Put a row into the table, in the place of the one that was there; its time stays where none was measured now."""
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=["model", "kind", "name"])
    same = (table["model"] == row["model"]) & (table["kind"] == row["kind"]) & (table["name"] == row["name"])
    old = table[same]
    if len(old) and "refused" not in row and pd.isna(row.get("time")):
        row["time"] = old["time"].iloc[0]
    print(row, flush=True)
    table = pd.concat([table[~same], pd.DataFrame([row])], ignore_index=True)
    table.to_csv(TABLE, index=False, float_format="%.4f")


def write_page(table: pd.DataFrame) -> str:
    """The page: a table of methods and one of metrics for each network."""
    order = {name: place for place, name in enumerate((*METHODS, *METRICS))}
    table = table.sort_values("name", key=lambda names: names.map(order), kind="stable")
    parts = [Path(__file__).with_suffix(".md").read_text().rstrip(), "", *_list_fit(table), ""]
    for model in sorted(table["model"].unique()):
        rows = table[table["model"] == model]
        methods, metrics = (rows[rows["kind"] == kind] for kind in ("method", "metric"))
        count, fewer = (int(each["images"].max()) if len(each) else 0 for each in (methods, metrics))
        parts += [
            f"## {model}",
            "",
            f"{count} images{f', {fewer} for the metrics' if fewer not in (0, count) else ''}.",
            "",
            "| method | rank correlation (least) | top 10 % shared (least) | time | for ranking |",
            "|---|---|---|---|---|",
        ]
        parts += [_write_method(row) for _, row in methods.iterrows()]
        if len(metrics):
            parts += [
                "",
                "| metric | change | tau | change with its maps | tau with its maps | time | for ranking |",
                "|---|---|---|---|---|---|---|",
            ]
            parts += [_write_metric(row) for _, row in metrics.iterrows()]
        parts += [""]
    return "\n".join(parts)


def _list_fit(table: pd.DataFrame) -> list[str]:
    """A line for each network, and what is fit for ranking on every network where it was measured, and on none."""
    measured = table[~table.apply(_is_refused, axis=1)]
    lines = [
        "| network | methods | for ranking | median rank correlation | metrics | for ranking | median change | with maps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in sorted(measured["model"].unique()):
        rows = measured[measured["model"] == model]
        methods, metrics = (rows[rows["kind"] == kind] for kind in ("method", "metric"))
        cells = [model, str(len(methods)), str(methods.apply(_is_fit, axis=1).sum())]
        cells += [f"{methods['rank_correlation'].median():.3f}", str(len(metrics))]
        if len(metrics):
            cells += [str(metrics.apply(_keeps_order, axis=1).sum())]
            cells += [f"{100 * metrics[name].median():.1f} %" for name in ("change", "change_both")]
        lines.append(f"| {' | '.join(cells + [''] * (8 - len(cells)))} |")
    for kind, judge in (("method", _is_fit), ("metric", _keeps_order)):
        rows = measured[measured["kind"] == kind]
        fit = rows.apply(judge, axis=1).groupby(rows["name"], sort=False)
        names = [
            ", ".join(f"`{name}`" for name, each in fit if which(each)) for which in (all, lambda each: not any(each))
        ]
        everywhere, nowhere = (each or "none" for each in names)
        lines += [
            "",
            f"{kind.capitalize()}s fit on every network where they were measured: {everywhere}; on none: {nowhere}.",
        ]
    return lines


def _write_method(row: pd.Series) -> str:
    if _is_refused(row):
        return f"| `{row['name']}` | | | | {row['refused']} |"
    cells = [
        "" if pd.isna(row[name]) else f"{row[name]:.3f} ({row[f'{name}_least']:.3f})"
        for name in ("rank_correlation", "top_overlap")
    ]
    return f"| `{row['name']}` | {cells[0]} | {cells[1]} | {_write_time(row)} | {'yes' if _is_fit(row) else 'no'} |"


def _write_metric(row: pd.Series) -> str:
    if _is_refused(row):
        return f"| `{row['name']}` | | | | | | {row['refused']} |"
    taus = ["" if pd.isna(row[name]) else f"{row[name]:.2f}" for name in ("tau", "tau_both")]
    cells = [f"{100 * row[name]:.2f} % | {tau}" for name, tau in zip(("change", "change_both"), taus, strict=True)]
    return f"| `{row['name']}` | {' | '.join(cells)} | {_write_time(row)} | {'yes' if _keeps_order(row) else 'no'} |"


def _is_fit(row: pd.Series) -> bool:
    return bool(row["rank_correlation"] >= LEAST and row["top_overlap"] >= LEAST)


def _keeps_order(row: pd.Series) -> bool:
    return bool(row["change"] <= 1 - LEAST and not row["tau"] < 1)  # all methods alike: there is no order to lose


def _is_refused(row: pd.Series) -> bool:
    return isinstance(row.get("refused"), str) and bool(row["refused"])


def _write_time(row: pd.Series) -> str:
    return "" if pd.isna(row["time"]) else f"{row['time']:.2f}"


def main() -> None:
    """Measure, keep the rows, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["efficientnet_lite0", "cifar_cnn", "vit_cifar"])
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--metrics", nargs="*", default=METRICS)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--overrides", nargs="*", default=[], help="of the config of src/explain.py, for all models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.models:
        measure(model, arguments.methods, arguments.metrics, arguments.images, arguments.overrides)
    OUTPUT.write_text(write_page(pd.read_csv(TABLE)))


if __name__ == "__main__":
    main()
