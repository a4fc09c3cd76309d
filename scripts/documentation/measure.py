"""What the galleries show: every method on three photographs, every metric on the pictures of CIFAR-10."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from documentation.choices import DOCS, ROOT, Choice, list_choices

PHOTOGRAPHS = ("german_shepherd", "cat", "espresso")
"""In the public domain or CC0 (logbook/images/README.md)."""
NETWORKS = ("efficientnet_lite0", "vit_cifar")
"""A method is shown on the first that it explains; the second is a transformer."""
COMPARED = ("grad_cam", "saliency", "edges", "random")
"""The maps that the metrics gallery measures: two methods and two controls."""
METRICS_ON = "cifar_cnn"
"""Small, so that every metric takes seconds on all sample pictures of CIFAR-10."""
JUDGED_ON = ("cifar_cnn", "vit_cifar")
"""A method is judged on the first that it explains."""
JUDGED_EACH = (2, 5)
"""A method is judged on each second of the sample pictures of CIFAR-10, a dear one on each fifth."""
DEAR = 110
"""Passes for a map, in the gallery, above which a method is dear: path methods of 50 steps are not."""
HELD_AGAINST = ("random", "edges", "centre")
FEWER: dict[str, dict[str, Any]] = {
    "guided_ig": {"n_steps": 20, "check_rounding": "false"},
    "rise": {"n_masks": 500},
    "hsic": {"n_masks": 250},
    "lime": {"n_samples": 300},
    "kernel_shap": {"n_samples": 300},
    "score_cam": {"channels": 128},
    "expected_gradients": {"n_samples": 50},
    "blur_ig": {"n_steps": 50},
    "xrai": {"n_steps": 20},
    "shapley_value_sampling": {"n_segments": 10},
    **{name: {"explainer.n_steps": 5} for name in ("ig_smooth_grad", "ig_smooth_grad_sq", "ig_var_grad")},
}
"""Settings of the pictures that keep dear methods short; their pages say so."""
SIDE = 168
MEASURED = DOCS / "measured.json"
PICTURES = DOCS / "methods" / "pictures"


def read_measured() -> dict[str, Any]:
    """Read what was measured last.

    Returns:
        {"methods": {name: facts}, "metrics": {name: facts}}.
    """
    return json.loads(MEASURED.read_text()) if MEASURED.is_file() else {"methods": {}, "metrics": {}}


def measure_missing(again: Iterable[str] = ()) -> None:
    """Run every method and metric that is new, or whose yaml changed.

    Args:
        again: Names that are run whatever is known of them.
    """
    measured = read_measured()
    networks = [name for name in NETWORKS if _load(name)]
    for kind, group, run in (("methods", "explainer", _run_method), ("metrics", "metric", _run_metric)):
        choices = list_choices(group)
        measured[kind] = {choice.name: measured[kind].get(choice.name, {}) for choice in choices}
        for choice in choices:
            before = measured[kind][choice.name]
            could = before.get("refused") and before.get("networks") != networks
            if before.get("digest") == choice.digest and not could and choice.name not in set(again):
                continue
            print(f"{kind}: {choice.name}", flush=True)
            measured[kind][choice.name] = {"digest": choice.digest, **run(choice, networks)}
            _write(measured)
    for choice in list_choices("explainer"):
        facts = measured["methods"][choice.name]
        if choice.name in HELD_AGAINST or ("verdict" in facts and choice.name not in set(again)):
            continue
        print(f"verdict: {choice.name}", flush=True)
        facts["verdict"] = _judge_method(choice, sum(facts.get("passes", ())))
        _write(measured)


def _write(measured: dict[str, Any]) -> None:
    MEASURED.write_text(json.dumps(measured, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@functools.cache
def _load(network: str) -> Any:
    """Load a network with its weights; None where there are none."""
    import seewhy
    from seewhy.core.errors import UserError

    try:
        return seewhy.load_classifier(network)
    except UserError:
        return None


def _list_photographs(names: Iterable[str] | None = None) -> list[Path]:
    paths = sorted((ROOT / "logbook" / "images" / "photographs").glob("*.jpg"))
    return paths if names is None else [path for name in names for path in paths if path.stem == name]


def _run_method(choice: Choice, networks: list[str]) -> dict[str, Any]:
    """Explain the photographs, and draw the maps; the reason where every network is refused."""
    import seewhy
    from seewhy.core.errors import UserError

    overrides = ["trainer=cpu", *(f"explainer.{key}={value}" for key, value in FEWER.get(choice.name, {}).items())]
    refusals = []
    for network in networks:
        try:
            explanations = seewhy.explain(
                _load(network), _list_photographs(PHOTOGRAPHS), choice.name, overrides=overrides
            )
        except UserError as error:
            refusals.append(str(error))
            continue
        if explanations.skipped or not explanations:
            refusals.append("; ".join(dict.fromkeys(each.reason for each in explanations.skipped)))
            continue
        _draw(explanations, PICTURES / f"{choice.name}.webp")
        if not (PICTURES / "photographs.webp").is_file():
            _draw(explanations, PICTURES / "photographs.webp", overlay=False)
        cost = explanations[0].origin.costs["attribution"]
        facts: dict[str, Any] = {
            "network": network,
            "passes": [round(count / len(explanations), 2) for count in (cost.forward, cost.backward)],
            "expected": choice.instance.passes_per_image(size=224, classes=1000),
            "targets": [each.target.name for each in explanations],
            "fewer": FEWER.get(choice.name, {}),
        }
        gaps = [
            each.facts["completeness_gap_relative"]
            for each in explanations
            if "completeness_gap_relative" in each.facts
        ]
        if gaps:
            facts["gap"] = float(f"{max(gaps):.2g}")
        return facts
    return {"refused": refusals[-1], "networks": networks}


def _judge_method(choice: Choice, passes: float) -> dict[str, Any]:
    """Judge a method beside the controls, by each line but that of planted data.

    Args:
        choice: Its yaml.
        passes: For a map, where that is known; dear methods are judged on fewer images.

    Returns:
        Network, number of images, lines and changed settings; the reason where every network refuses the method.
    """
    from seewhy.core.errors import UserError
    from seewhy.report.verdict import describe_cell, judge_measured
    from seewhy.statistics.verdict import PLANTED

    step, refusals = JUDGED_EACH[passes > DEAR], []
    for network in (name for name in JUDGED_ON if _load(name)):
        try:
            measured = _measure_lines(network, choice, step)
        except UserError as error:
            refusals.append(str(error))
            continue
        beside = {name: _measure_control(network, name, step) for name in HELD_AGAINST}
        judgement = judge_measured(_load(network), beside | {choice.name: measured})
        assert judgement is not None
        lines = [line for line in judgement.lines[choice.name] if line.line != PLANTED]
        rows = [
            {"line": line.line, "light": line.light, "verdict": describe_cell(line), "meaning": line.sentence}
            for line in lines
        ]
        images = measured.table["image"].nunique()
        return {"network": network, "images": images, "lines": rows, "fewer": FEWER.get(choice.name, {})}
    return {"refused": refusals[-1] if refusals else "no network of this gallery has weights"}


@functools.cache
def _measure_control(network: str, name: str, step: int) -> Any:
    """What the metrics say of a control, once for all methods."""
    return _measure_lines(network, next(each for each in list_choices("explainer") if each.name == name), step)


def _measure_lines(network: str, choice: Choice, step: int) -> Any:
    """What the metrics of the verdict say of a method; its seconds, which are those of this machine, are left out."""
    import numpy as np
    import torch
    from PIL import Image

    from seewhy.data.folder import SAMPLES
    from seewhy.report.verdict import measure_method

    classifier = _load(network)
    pictures = [np.asarray(Image.open(path)) for path in sorted((SAMPLES / "cifar10").glob("*.png"))[::step]]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        targets = classifier(images).argmax(1)
    explainer = _shorten(choice).resolve(classifier, tuple(images.shape[2:]))
    measured = measure_method(classifier, choice.name, explainer, images, targets)
    return measured._replace(run=measured.run | {"seconds": math.nan})


def _shorten(choice: Choice) -> Any:
    """The method with the settings of `FEWER`."""
    changed: Any = choice.instance
    for key, value in FEWER.get(choice.name, {}).items():
        value = {"false": False}.get(value, value)
        inner, _, name = key.rpartition(".")
        part = dataclasses.replace(getattr(changed, inner) if inner else changed, **{name: value})
        changed = dataclasses.replace(changed, **{inner: part}) if inner else part
    return changed


def _run_metric(choice: Choice, networks: list[str]) -> dict[str, Any]:
    """Measure the maps of two methods and two controls: mean values and passes for each map."""
    import seewhy
    from seewhy.data.folder import SAMPLES

    if choice.target.needs_masks:
        return {}
    given = {"explainer": list(COMPARED), "metrics": [choice.name], "overrides": ["trainer=cpu"]}
    explanations = seewhy.explain(_load(METRICS_ON), SAMPLES / "cifar10", **given)
    costs = {each.explainer: each.origin.costs["metrics"] for each in explanations}
    count = len(explanations) // len(COMPARED)
    means = {}
    for method in COMPARED:
        values = [each.metrics[choice.name] for each in explanations if each.explainer == method]
        finite = [value for value in values if math.isfinite(value)]
        means[method] = float(f"{sum(finite) / len(finite):.3g}") if finite else None
    passes = [round(max(getattr(cost, way) for cost in costs.values()) / count, 1) for way in ("forward", "backward")]
    return {"network": METRICS_ON, "means": means, "images": count, "passes": passes}


def _draw(explanations: Any, path: Path, overlay: bool = True) -> None:
    """Write the overlays, or the photographs, in a row."""
    import numpy as np
    from PIL import Image

    from seewhy.plots import heatmaps
    from seewhy.plots.explanation import normalise_map

    row = Image.new("RGB", (len(explanations) * (SIDE + 6) - 6, SIDE), "white")
    for position, each in enumerate(explanations):
        picture = heatmaps.to_rgb(each.picture)
        scale = heatmaps.compute_scale(each.attribution)
        if overlay and scale:
            normalised, colours = normalise_map(each, scale, "default")
            picture = heatmaps.blend_overlay(each.picture, heatmaps.average_fine_map(normalised), colours)
        tile = Image.fromarray(np.asarray(heatmaps.to_uint8(picture)))
        how = Image.Resampling.LANCZOS if tile.width > SIDE else Image.Resampling.NEAREST
        row.paste(tile.resize((SIDE, SIDE), how), (position * (SIDE + 6), 0))
    path.parent.mkdir(exist_ok=True)
    row.save(path, quality=72, method=6)
