"""The command `explain` as a function, for any networks, images and methods; and classifiers to reuse."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from seewhy.cli.build import build_data, build_trainer
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.cli.load import choose_model, describe_type, load_classifier, load_named
from seewhy.cli.program import quieten
from seewhy.cli.suggestions import describe_unknown_key
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.precision import compute_in_full, doubt_speed, find_narrow_type, name_type
from seewhy.core.target_choice import describe_target, parse_targets
from seewhy.core.types import Batch, Skipped
from seewhy.data.in_memory import (
    ImageInput,
    LabelInput,
    is_paths,
    iterate_batches,
    list_labels,
    list_roots,
    order_by_root,
    read_label,
    read_several_labels,
    refuse_shuffling,
)
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.metrics.base import CONSTRUCTS, ImageMetric
from seewhy.metrics.batch import build_context, measure_batch, select_masks, select_measurable
from seewhy.models.classifier import Classifier, Passes
from seewhy.report.explanations import ExplainedImage, Explanations, Origin
from seewhy.runs.batch_results import Cost, CurveRow, collect_curve_rows
from seewhy.runs.precision import (
    COMPARED,
    add_float32,
    describe_precision,
    read_compared,
    summarise_precision,
    warn_of_precision,
)
from seewhy.statistics.schema import collect_metric_facts

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

__all__ = ["ExplainedImage", "Explanations", "explain", "load_classifier"]

ModelInput: TypeAlias = "str | Classifier | nn.Module"
MetricInput: TypeAlias = "str | ImageMetric | Sequence[str | ImageMetric]"


def explain(
    model: ModelInput | Sequence[ModelInput] = "efficientnet_lite0",
    images: ImageInput | None = None,
    explainer: str | Explainer | Sequence[str | Explainer] = "grad_cam",
    target: Any = "predicted",
    metrics: MetricInput = (),
    *,
    labels: LabelInput = None,
    classes: str | int | Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    display: Sequence[int] | None = None,
    fit: str | None = None,
    score: str | None = None,
    threshold: float | None = None,
    output: str | int | None = None,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    probe_batch_size: int | str = "auto",
    overrides: Sequence[str] = (),
    **parameters: Any,
) -> Explanations:
    """Explain images: the bytes of `python src/explain.py` with the same values, with nothing written.

    >>> explanations = explain("cifar_cnn", explainer="integrated_gradients", n_steps=8, overrides=["data.limit=2"])
    >>> [each.prediction.name for each in explanations], tuple(explanations[0].attribution.shape)
    (['airplane', 'truck'], (32, 32))
    >>> explanations[0].figure().mode
    'RGB'

    Several networks and methods at once, on arrays with their true classes; the results stay results:

    >>> import numpy as np
    >>> grey = np.full((2, 40, 50, 3), 128, np.uint8)
    >>> both = explain(["cifar_cnn", "vgg16_cifar"], grey, ["saliency", "edges"], labels=["cat", 8])
    >>> len(both), both.filter(lambda each: each.explainer == "saliency").table()["label"].tolist()
    (8, ['cat', 'ship', 'cat', 'ship'])
    >>> type(both[:2] + both[4:]).__name__
    'Explanations'

    Args:
        model: What `load_classifier` takes, or a list of those.
        images: A folder, a file or a pattern; Pillow images; numpy arrays [height, width, channels] (or channels first,
            where only that fits) and tensors [channels, height, width], with or without a dimension of images in front;
            a list of any of those; a map-style data set or a DataLoader, also of (image, label). Whole numbers of 8 or 16
            bits are pictures, which are resized and cropped as files are; floats must be in [0, 1] and of the size of the
            network. None: the sample images.
        explainer: A yaml of configs/explainer, an Explainer, or a list of those.
        target: `predicted`, `true`, `runner_up`, a class by index or name, `labels` (every predicted label), a contrast
            (`dog - 0.5*cat`, `predicted - runner_up`), or a list of those: one explanation each.
        metrics: Names of configs/metric, metric objects, or a list of those.
        labels: The true class of each image, by index or name (None where it is unknown), or a list of labels for each
            with `score="sigmoid"`; of a folder also the path of a CSV file. None: what folders, tables and data sets say.
        classes: As in `load_classifier`.
        size: As in `load_classifier`.
        mean: As in `load_classifier`; its length is the number of channels.
        std: As in `load_classifier`.
        display: As in `load_classifier`.
        fit: As in `load_classifier`.
        score: As in `load_classifier`.
        threshold: As in `load_classifier`.
        output: As in `load_classifier`.
        weights: As in `load_classifier`; of several networks, load those that need it with `load_classifier`.
        seed: Of every random number.
        probe_batch_size: How many images are in the network at once, or `auto`.
        overrides: Further ones of the command line, such as `["data.limit=10", "trainer=cpu"]`.
        **parameters: Keys of the explainer's yaml, such as `n_steps=20`; of several explainers each takes those it has.

    Returns:
        For each network, method and image, in this order, its `attribution` [height, width], `prediction`, `target`,
        `metrics` and `figure()`; of all together `table()`, `figure()`, `filter()`, `report()` and `save()`.

    Raises:
        UserError: Something cannot be done as asked; the message names what is wrong and the nearest that is right.
    """
    quieten()
    facts: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
    facts |= {"display": display, "fit": fit, "score": score, "threshold": threshold, "output": output}
    facts |= {"weights": None if weights is None else os.fspath(weights)}
    shared = ["data=folder"] if images is not None and is_paths(images) else []
    shared += [f"seed={seed}", f"probe_batch_size={probe_batch_size}", *overrides]
    methods = _list_members("explainer", explainer, str | Explainer)
    models = _list_members("model", model, object)
    if len(models) > 1:
        refuse_shuffling(images)
        if weights is not None:
            raise UserError(
                f"weights={weights}: of which network? Give what load_classifier(..., weights=) returns instead"
            )
    results = Explanations()
    for each in models:
        choices = choose_model(each) if isinstance(each, str) else []
        configs = _compose_methods(methods, metrics, parameters, [*choices, *shared])
        classifier = load_named(configs[0], facts) if choices else load_classifier(each, **facts)
        results += _explain_all(classifier, configs, methods, (images, labels), target, metrics)
    if not results and results.skipped:
        raise UserError(f"no image could be explained; {results.skipped[0].path}: {results.skipped[0].reason}")
    return results


def _list_members(key: str, value: Any, kinds: Any) -> list[Any]:
    """The members of a list, or the one that stands for it; each of the right kind."""
    members = list(value) if isinstance(value, list | tuple) else [value]
    if not members:
        raise UserError(f"{key}=[] names none")
    for member in members:
        if not isinstance(member, kinds):
            kind = "explainer" if key == "explainer" else "metric"
            made = f"{member.__name__}()" if isinstance(member, type) else "an object of a class of seewhy or your own"
            raise UserError(f"{key}={describe_type(member)}: give a name of configs/{kind}, or {made}")
    return members


def _compose_methods(
    methods: Sequence[str | Explainer], metrics: MetricInput, parameters: Mapping[str, Any], overrides: Sequence[str]
) -> list[DictConfig]:
    """Compose the config of each method, with those of the `parameters` filled in that it has."""
    named = [method for method in methods if isinstance(method, str)]
    if parameters and not named:
        raise UserError(f"{', '.join(parameters)}: set on the explainer itself where it is not given by name")
    listed = metrics if isinstance(metrics, list | tuple) else [metrics]
    names = [name for name in listed if isinstance(name, str)]
    configs, unknown = [], dict(parameters)
    for method in methods:
        chosen = [f"explainer={method}"] if isinstance(method, str) else []
        cfg = compose("explain", [*chosen, f"metric=[{','.join(names)}]", *overrides])
        for key, value in parameters.items() if chosen else ():
            if key in cfg.explainer:
                cfg.explainer[key] = value
                unknown.pop(key, None)
        configs.append(cfg)
    for key in unknown:
        cfg, method = configs[methods.index(named[0])], named[0]
        raise describe_unknown_key(f"explainer.{key}", cfg.explainer, choice=f"explainer={method}")
    return configs


def _build_metrics(cfg: DictConfig, metrics: MetricInput) -> dict[str, ImageMetric]:
    """The metrics by name: those of the config, and objects."""
    built: dict[str, ImageMetric] = build_object(cfg.metric, "metric", "all")
    for metric in _list_members("metrics", metrics, str | ImageMetric) if metrics else ():
        if not isinstance(metric, ImageMetric):
            continue
        if getattr(metric, "construct", None) not in CONSTRUCTS:
            raise UserError(f"the metric {metric.name} does not say what it measures: construct is one of {CONSTRUCTS}")
        if metric.name in {each.name for each in built.values()}:
            raise UserError(f"metrics holds {metric.name} twice, and both write one column: measure them in two calls")
        built[metric.name] = metric
    return built


class _Run(NamedTuple):
    """A method with the metrics of its maps, and what both did so far."""

    explainer: Explainer
    metrics: dict[str, ImageMetric]
    origin: Origin
    explanations: list[ExplainedImage]


def _explain_all(
    classifier: Classifier,
    configs: Sequence[DictConfig],
    methods: Sequence[str | Explainer],
    data: tuple[ImageInput | None, LabelInput],
    target: Any,
    metrics: MetricInput,
) -> Explanations:
    """Explain the images with one network and every method; an image is read and predicted once."""
    cfg, target = configs[0], "true" if target is True else target
    parse_targets(target, classifier.facts.classes)
    measures, runs = _build_metrics(cfg, metrics), []
    for method, config in zip(methods, configs, strict=True):
        explainer = method if isinstance(method, Explainer) else build_object(config.explainer, "explainer")
        runs.append(_Run(explainer, measures, _describe_origin(classifier, explainer, target, cfg.seed), []))
    skipped: list[Skipped] = []
    with build_trainer(cfg, logger=False).precision_plugin.forward_context():
        for batch in _read_batches(cfg, classifier, *data):
            skipped += batch.skipped
            if batch.names:
                placed = batch.to(classifier.device)
                with torch.inference_mode(), compute_in_full(classifier.device.type), classifier.frozen():
                    logits = classifier(placed.images)
                for run in runs:
                    skipped += _explain_batch(classifier, placed, logits, run, target, cfg)
        narrow = find_narrow_type(classifier.device.type)
        if narrow is not None:
            for run in runs:
                _report_precision(run, name_type(narrow), doubt_speed(classifier.device.type))
    return Explanations((each for run in runs for each in run.explanations), dict.fromkeys(skipped))


def _explain_batch(
    classifier: Classifier, batch: Batch, logits: Tensor, run: _Run, target: Any, cfg: DictConfig
) -> list[Skipped]:
    """Explain and measure one batch as the callbacks `attribution` and `faithfulness` do; what could not be explained."""
    explainer, metrics, origin, kept = run
    with _record_cost(classifier, origin, "attribution"):
        explanations, left_out = explain_batch(classifier, batch, logits, explainer, target)
    rows: list[CurveRow] = []
    options = {"seed": cfg.seed, "probe_batch_size": cfg.probe_batch_size}
    if metrics and explanations:
        metrics, _ = select_measurable(metrics, batch.masks is not None)
        with _record_cost(classifier, origin, "metrics"):
            masks = select_masks(batch, explanations)
            context = build_context(classifier, explanations, explainer, masks=masks, **options)
            explanations = measure_batch(context, explanations, metrics)
        rows = collect_curve_rows(context, explanations)
        facts = classifier.facts
        contrast = any(each.is_contrast for each in parse_targets(target, facts.classes))
        origin.facts = collect_metric_facts(metrics.values(), facts.has_probabilities, contrast)
        for metric in metrics.values():
            metric.reset()  # the explanations have the values
    if find_narrow_type(batch.images.device.type) is not None and origin.images < COMPARED:
        count = COMPARED - origin.images
        run_again = batch.first(count), logits[:count], explainer, target, metrics
        explanations = add_float32(explanations, classifier, *run_again, **options)
    origin.images += len({each.image_name for each in explanations})
    for each in explanations:
        kept.append(ExplainedImage.of(each, origin, (row for row in rows if row.image == each.name)))
    return left_out


def _report_precision(run: _Run, dtype: str, doubt: str) -> None:
    """Log what a shorter type changed of the first images, as a command prints it."""
    compared, log = read_compared(run.explanations), logging.getLogger(__name__)
    summary = summarise_precision(compared, dtype) if compared else None
    if summary is not None:
        log.info("%s: %s", run.explainer.name, describe_precision(summary))
    for warning in filter(None, (warn_of_precision(summary) if summary else "", doubt)):
        log.warning("%s: %s", run.explainer.name, warning)


@contextmanager
def _record_cost(classifier: Classifier, origin: Origin, stage: str) -> Iterator[None]:
    before, start = Passes(**vars(classifier.passes)), time.perf_counter()
    yield
    passes = classifier.passes.since(before)
    origin.add_cost(stage, Cost(passes.forward, passes.backward, time.perf_counter() - start))


def _describe_origin(classifier: Classifier, explainer: Explainer, target: Any, seed: int) -> Origin:
    facts = classifier.facts
    model: dict[str, Any] = {
        "name": classifier.name,
        "weights": classifier.origin,
        "weights_sha256": classifier.weights_sha256,
        "classes": len(facts.classes),
        "size": facts.size,
        "mean": facts.mean,
        "std": facts.std,
    }
    method: dict[str, Any] = {
        "name": explainer.name,
        "parameters": explainer.parameters,
        "target": describe_target(target),
        "signed": explainer.signed,
        "rectified": explainer.rectified,
        "tolerance": getattr(explainer, "tolerance", None),
    }
    return Origin(model, method, seed, str(classifier.device))


def _read_batches(
    cfg: DictConfig, classifier: Classifier, images: ImageInput | None, labels: LabelInput
) -> Iterable[Batch]:
    if images is not None and not is_paths(images):
        yield from iterate_batches(images, classifier.facts, cfg.data.batch_size, labels)
        return
    options: dict[str, Any] = {} if images is None else {"root": list_roots(images)}
    is_table = isinstance(labels, str | os.PathLike) and images is not None
    options |= {"labels": os.fspath(labels)} if is_table else {}
    data: Any = build_data(cfg, facts=classifier.facts, **options)
    data.setup("test")
    if images is not None:
        paths = [item.path for item in data.items]
        data.items = [data.items[position] for position in order_by_root(paths, options["root"])]
    if labels is not None and not is_table:
        _set_labels(data, labels, classifier.facts)
    if images is not None and (cut := data.describe_cut()):
        logging.getLogger("seewhy").warning(cut)
    loader: Iterable[Batch] = data.test_dataloader()
    yield from loader


def _set_labels(data: Any, labels: LabelInput, facts: Facts) -> None:
    """Give the files of a data module the true classes that the caller states."""
    values = list_labels(labels)
    if len(values) != len(data.items):
        raise UserError(
            f"labels has {len(values)} values for {len(data.items)} images: give one for each, in the order of the files, "
            "or the path of a CSV file"
        )
    read_one = read_several_labels if facts.score == "sigmoid" else read_label
    read = [read_one(value, facts.classes) for value in values]
    data.items = [
        item._replace(label=label.number, label_name=label.name, several=label.several)
        for item, label in zip(data.items, read, strict=True)
    ]
