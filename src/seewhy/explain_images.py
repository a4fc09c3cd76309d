"""The command `python src/explain.py` as a function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seewhy import run
from seewhy.build_part import build_part
from seewhy.classifier import Classifier
from seewhy.compose import compose
from seewhy.data.given_images import Given, batches, in_given_order, is_paths, roots_of
from seewhy.errors import UserError
from seewhy.explain_batch import explain_batch
from seewhy.explainers.base import Explainer
from seewhy.explanations import Explanations
from seewhy.measure_batch import evidence_of, masks_of, measurable, measure_batch
from seewhy.metrics.base import ImageMetric
from seewhy.mistyped import unknown_key
from seewhy.models.load import load_classifier, model_choice, named_classifier
from seewhy.quiet import quieten
from seewhy.targets import check_policy
from seewhy.types import Batch

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn


def explain(
    model: str | Classifier | nn.Module = "efficientnet_lite0",
    images: Given | None = None,
    explainer: str | Explainer = "grad_cam",
    target: str | int = "predicted",
    metrics: str | Sequence[str] = (),
    *,
    classes: str | int | Sequence[str] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    probe_batch_size: int | str = "auto",
    overrides: Sequence[str] = (),
    **parameters: Any,
) -> Explanations:
    """One `Explanation` per image: its `attribution` [height, width], `prediction`, `target`, `metrics` and `figure()`.

    `model` is what `load_classifier` takes, with `classes`, `size`, `mean` and `std`. `images` is a folder, file or
    pattern, a list of those, Pillow images, or floats [n, 3, size, size] in [0, 1]; None: the sample images. `explainer`
    is a yaml of configs/explainer, whose keys are `parameters` (n_steps=20), or an Explainer. `target` is predicted,
    true, runner_up, a class index or a class name. `metrics` are yaml names of configs/metric. `overrides` are further
    ones of the command line ("data.limit=10", "trainer=cpu"). The same bytes as `python src/explain.py` with the same
    values; nothing is written. UserError names what is wrong and the nearest that would be right.

    >>> found = explain("cifar_cnn", explainer="integrated_gradients", n_steps=8, overrides=["data.limit=2"])
    >>> [one.prediction.name for one in found], tuple(found[0].attribution.shape)
    (['airplane', 'deer'], (32, 32))
    >>> found[0].figure().format
    'PNG'
    """
    quieten()
    chosen_model = model_choice(model) if isinstance(model, str) else []
    chosen_data = ["data=folder"] if images is not None and is_paths(images) else []
    common = [f"seed={seed}", f"probe_batch_size={probe_batch_size}"]
    cfg = _compose(explainer, metrics, parameters, [*chosen_model, *chosen_data, *common, *overrides])
    given: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
    classifier = named_classifier(cfg, given) if isinstance(model, str) else load_classifier(model, **given)
    check_policy("true" if target is True else target, classifier.facts.classes)
    method = explainer if isinstance(explainer, Explainer) else build_part(cfg.explainer, "explainer")
    chosen: dict[str, ImageMetric] = build_part(cfg.metric, "metric", "all")
    made = Explanations()
    with run.build_trainer(cfg, logger=False).precision_plugin.forward_context():
        for batch in _batches(cfg, classifier, images):
            _add(made, classifier, batch.to(classifier.device), method, target, chosen, cfg)
    if not made and made.skipped:
        raise UserError(f"no image could be explained; {made.skipped[0].path}: {made.skipped[0].reason}")
    return made


def _compose(
    explainer: str | Explainer, metrics: str | Sequence[str], parameters: Mapping[str, Any], overrides: Sequence[str]
) -> DictConfig:
    """The config of the command with the explainer's `parameters` filled in."""
    if isinstance(explainer, Explainer) and parameters:
        raise UserError(f"{', '.join(parameters)}: set on the explainer itself where it is not given by name")
    method = [] if isinstance(explainer, Explainer) else [f"explainer={explainer}"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    cfg = compose("explain", [*method, f"metric=[{','.join(names)}]", *overrides])
    for key, value in parameters.items():
        if key not in cfg.explainer:
            raise unknown_key(f"explainer.{key}", cfg.explainer, chosen=f"explainer={explainer}")
        cfg.explainer[key] = value
    return cfg


def _batches(cfg: DictConfig, classifier: Classifier, images: Given | None) -> Iterable[Batch]:
    if images is not None and not is_paths(images):
        return batches(images, classifier.facts, cfg.data.batch_size)
    options = {} if images is None else {"root": roots_of(images)}  # type: ignore[arg-type]
    data: Any = run.build_data(cfg, facts=classifier.facts, **options)
    data.setup("test")
    if images is not None:
        found = [item.path for item in data.items]
        data.items = [data.items[position] for position in in_given_order(found, options["root"])]
    loader: Iterable[Batch] = data.test_dataloader()
    return loader


def _add(
    made: Explanations,
    classifier: Classifier,
    batch: Batch,
    explainer: Explainer,
    target: str | int,
    metrics: Mapping[str, ImageMetric],
    cfg: DictConfig,
) -> None:
    """Explain and measure one batch as the callbacks `attribution` and `faithfulness` do."""
    made.skipped += batch.skipped
    if not batch.names:
        return
    with torch.inference_mode(), classifier.frozen():
        logits = classifier(batch.images)
    explanations, left_out = explain_batch(classifier, batch, logits, explainer, target)
    made.skipped += left_out
    if metrics and explanations:
        chosen, _ = measurable(metrics, batch.masks is not None)
        options = {"seed": cfg.seed, "probe_batch_size": cfg.probe_batch_size}
        evidence = evidence_of(classifier, explanations, explainer, masks=masks_of(batch, explanations), **options)
        explanations = measure_batch(evidence, explanations, chosen)
    made += explanations
