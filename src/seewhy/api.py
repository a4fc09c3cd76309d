"""The command `explain` as a function: explanations that show themselves in a notebook, and classifiers to reuse."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seewhy.cli.build import build_classifier, build_data, build_trainer
from seewhy.cli.config import compose, find_config_folder
from seewhy.cli.instantiate import build_object
from seewhy.cli.program import quieten
from seewhy.cli.suggestions import describe_unknown_key
from seewhy.core.errors import UserError, find_nearest
from seewhy.core.targets import check_policy
from seewhy.core.types import Batch, Explanation, Skipped
from seewhy.data.dataset import ImageInput, is_paths, iterate_batches, list_roots, order_by_root
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import build_context, measure_batch, select_masks, select_measurable
from seewhy.models.classifier import Classifier

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig
    from PIL.Image import Image
    from torch import nn


class ExplainedImage(Explanation):
    """One image with its prediction and one attribution map for one target, which draws itself."""

    def figure(self, **style: Any) -> Image:
        """Draw the figure of a run's figures/<image>.png.

        Args:
            **style: Options of `seewhy.plots.explanation.draw_panel`, such as colours, strength and views.

        Returns:
            An RGB picture.
        """
        from seewhy.plots.canvas import open_figure
        from seewhy.plots.explanation import draw_panel

        return open_figure(draw_panel(self, **style))

    def _repr_png_(self) -> bytes:
        from seewhy.plots.canvas import encode_figure
        from seewhy.plots.explanation import draw_panel

        return encode_figure(draw_panel(self))


class Explanations(list[ExplainedImage]):
    """One explanation per image, in the order of the images; shown in a notebook as one picture.

    Args:
        explanations: Those of the images that could be explained.
        skipped: The images that could not, each with the reason.
    """

    def __init__(self, explanations: Iterable[ExplainedImage] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(explanations)
        self.skipped = list(skipped)

    def figure(self, **style: Any) -> Image:
        """Draw original and overlay of every image in one picture.

        Args:
            **style: Options of `seewhy.plots.grid.draw_grid`.

        Returns:
            An RGB picture.
        """
        from seewhy.plots.canvas import open_figure
        from seewhy.plots.grid import draw_grid

        return open_figure(draw_grid(self, **style))

    def table(self) -> pd.DataFrame:
        """Collect the numbers of all explanations.

        Returns:
            One row per image: true class, prediction, target, facts of the map and metrics.
        """
        import pandas as pd

        rows = [
            {
                "image": each.name,
                "label": each.prediction.label,
                "predicted": each.prediction.name,
                "probability": each.prediction.probability,
                "target": each.target.name,
                "target_probability": each.target.probability,
                **each.facts,
                **each.metrics,
            }
            for each in self
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} images skipped" if self.skipped else ""
        lines = [
            f"  {each.name}: {each.target.name} {each.target.probability:.3f} ({each.explainer})" for each in self[:10]
        ]
        lines += [f"  ... and {len(self) - 10} more"] if len(self) > 10 else []
        return "\n".join([f"{len(self)} explanation{'s' if len(self) != 1 else ''}{left_out}", *lines])

    def _repr_png_(self) -> bytes | None:
        from seewhy.plots.canvas import encode_figure
        from seewhy.plots.grid import draw_grid

        return encode_figure(draw_grid(self)) if self else None


def load_classifier(
    model: str | Classifier | nn.Module,
    *,
    classes: str | int | Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int | None = None,
    display: Sequence[int] | None = None,
    fit: str | None = None,
    score: str | None = None,
    threshold: float | None = None,
    output: str | int | None = None,
    weights: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> Classifier:
    """Load a classifier once for many calls of `explain`.

    Args:
        model: A yaml of configs/model, a network of timm (`timm/resnet18`, `resnet18`), a torch.nn.Module that takes
            normalised images (used as it is, on its device; also a LightningModule, a compiled module, TorchScript or an
            exported program), or a Classifier, which is returned.
        classes: Class names, a file of them, or their number; None: those of the weights.
        size: (height, width) of the input images in pixels, or one number for squares; None: that of the weights.
        mean: The mean that is subtracted from images in [0, 1], per channel or one number for all; None: that of the
            weights.
        std: The standard deviation that images in [0, 1] are divided by, as `mean`.
        channels: Of the input images; None: as many as `mean`, or as the weights take.
        display: Numbers, from 1, of the channels that figures show as red, green and blue, or of the one shown as grey;
            None: the first three, or the first of fewer.
        fit: `crop` (pictures keep their proportions and are cut) or `squash` (both sides are resized); None: that of the
            weights, or `crop`.
        score: What the outputs mean: `softmax`, `sigmoid` (several labels an image), `binary` (one logit, two classes) or
            `none` (values as they are); None: that of the weights, else `binary` for one class and `softmax` for more.
        threshold: The probability above which a label of several is predicted; None: 0.5.
        output: Key or position of the class scores where the network returns several things.
        weights: As `model.weights=` of the command line; None: `auto`.
        overrides: Those of the command line.

    Returns:
        The classifier, on the device of the trainer or of the given network.

    Raises:
        UserError: There is no such network (the message names the nearest), or a torch.nn.Module comes without
            `classes`, `size`, `mean` or `std`.
    """
    from torch import nn

    from seewhy.models.classifier import Classifier

    facts: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
    facts |= {"channels": channels, "display": display, "fit": fit}
    facts |= {"score": score, "threshold": threshold, "output": output}
    changed = [key for key, value in {**facts, "weights": weights}.items() if value is not None]
    if isinstance(model, Classifier):
        if changed:
            raise UserError(f"{', '.join(changed)}: this classifier has its own; give the network to change them")
        return model
    if isinstance(model, nn.Module) or type(model).__name__ == "ExportedProgram":  # whose import is slow
        if weights is not None:
            raise UserError(f"weights={weights}: this network has its own; load them with network.load_state_dict")
        return _wrap_network(model, **facts)  # type: ignore[arg-type]
    quieten()
    facts |= {"weights": None if weights is None else os.fspath(weights)}
    return _load_named(compose("explain", [*_choose_model(model), *overrides]), facts)


def _load_named(cfg: DictConfig, changes: Mapping[str, Any]) -> Classifier:
    """Load the classifier of a config on the device of its trainer; `changes` that are not None replace its settings."""
    classifier = build_classifier(cfg, **{key: value for key, value in changes.items() if value is not None})
    return classifier.to(build_trainer(cfg, logger=False).strategy.root_device)


def _wrap_network(
    network: nn.Module,
    classes: str | int | Sequence[str] | None,
    size: int | Sequence[int] | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    channels: int | None,
    display: Sequence[int] | None,
    fit: str | None,
    score: str | None,
    threshold: float | None,
    output: str | int | None,
) -> Classifier:
    from seewhy.core.types import Facts, read_size
    from seewhy.models.build import expand_statistics, read_class_names
    from seewhy.models.classifier import Classifier
    from seewhy.models.contract import check_contract, settle_names, unify_weights
    from seewhy.models.unwrapping import unwrap_network
    from seewhy.models.weights import hash_weights

    names = read_class_names(classes)
    if (names is None and score != "none") or size is None or mean is None or std is None:
        facts = {"classes": classes, "size": size, "mean": mean, "std": std}
        missing = ", ".join(key for key, value in facts.items() if value is None)
        raise UserError(
            f"a network of your own needs {missing}: for example classes=10, size=224, mean=[0.485, 0.456, 0.406], "
            "std=[0.229, 0.224, 0.225] (0 and 1 where the network takes images in [0, 1])"
        )
    names, meaning = settle_names(names, score)
    (network, converted), statistics = (
        unify_weights(unwrap_network(network)),
        expand_statistics(channels, mean, std, None),
    )
    stated = Facts(names, read_size(size), **statistics, score=meaning)  # type: ignore[arg-type]
    classifier = Classifier(
        network,
        stated.replace({"display": display, "fit": fit, "threshold": threshold, "output": output}),
        name=getattr(network, "original_name", type(network).__name__),  # TorchScript keeps the name of the class
        origin=", ".join(["given", *([converted] if converted else [])]),
        weights_sha256=hash_weights(network),
    )
    parameter = next(network.parameters(), None)
    return check_contract(classifier if parameter is None else classifier.to(parameter.device), score)


def _choose_model(model: str) -> list[str]:
    """Choose a network by name: the overrides of a yaml of configs/model, or of timm."""
    names = [path.stem for path in sorted((find_config_folder() / "model").glob("*.yaml"))]
    if model in names:
        return [f"model={model}"]
    import timm

    name = model.removeprefix("timm/")
    if timm.is_model(name):
        return ["model=timm", f"model.name={name}"]
    near = find_nearest(model, names) if "/" not in model else []
    near += [f"timm/{match}" for match in find_nearest(name, timm.list_models())]
    raise UserError(
        f"model={model!r} is neither one of {', '.join(names)} nor a network of timm; nearest: {', '.join(near) or 'none'}"
    )


def explain(
    model: str | Classifier | nn.Module = "efficientnet_lite0",
    images: ImageInput | None = None,
    explainer: str | Explainer = "grad_cam",
    target: str | int = "predicted",
    metrics: str | Sequence[str] = (),
    *,
    classes: str | int | Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    display: Sequence[int] | None = None,
    fit: str | None = None,
    score: str | None = None,
    threshold: float | None = None,
    output: str | int | None = None,
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

    Args:
        model: What `load_classifier` takes.
        images: A folder, a file, a pattern, Pillow images, a list of those, or floats [n, channels, height, width] in
            [0, 1]; None: the sample images.
        explainer: A yaml of configs/explainer, or an Explainer.
        target: `predicted`, `true`, `runner_up`, a class index or a class name.
        metrics: Names of configs/metric.
        classes: As in `load_classifier`.
        size: As in `load_classifier`.
        mean: As in `load_classifier`; its length is the number of channels.
        std: As in `load_classifier`.
        display: As in `load_classifier`.
        fit: As in `load_classifier`.
        score: As in `load_classifier`.
        threshold: As in `load_classifier`.
        output: As in `load_classifier`.
        seed: Of every random number.
        probe_batch_size: How many images are in the network at once, or `auto`.
        overrides: Further ones of the command line, such as `["data.limit=10", "trainer=cpu"]`.
        **parameters: Keys of the explainer's yaml, such as `n_steps=20`.

    Returns:
        For each image its `attribution` [height, width], `prediction`, `target`, `metrics` and `figure()`.

    Raises:
        UserError: Something cannot be done as asked; the message names what is wrong and the nearest that is right.
    """
    quieten()
    choices = _choose_model(model) if isinstance(model, str) else []
    choices += ["data=folder"] if images is not None and is_paths(images) else []
    choices += [f"seed={seed}", f"probe_batch_size={probe_batch_size}"]
    cfg = _compose(explainer, metrics, parameters, [*choices, *overrides])
    facts: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
    facts |= {"display": display, "fit": fit}
    facts |= {"score": score, "threshold": threshold, "output": output}
    classifier = _load_named(cfg, facts) if isinstance(model, str) else load_classifier(model, **facts)
    check_policy("true" if target is True else target, classifier.facts.classes)
    method = explainer if isinstance(explainer, Explainer) else build_object(cfg.explainer, "explainer")
    measures: dict[str, ImageMetric] = build_object(cfg.metric, "metric", "all")
    results = Explanations()
    with build_trainer(cfg, logger=False).precision_plugin.forward_context():
        for batch in _read_batches(cfg, classifier, images):
            _add_batch(results, classifier, batch.to(classifier.device), method, target, measures, cfg)
    if not results and results.skipped:
        raise UserError(f"no image could be explained; {results.skipped[0].path}: {results.skipped[0].reason}")
    return results


def _compose(
    explainer: str | Explainer, metrics: str | Sequence[str], parameters: Mapping[str, Any], overrides: Sequence[str]
) -> DictConfig:
    """Compose the config of the command, with the explainer's `parameters` filled in."""
    if isinstance(explainer, Explainer) and parameters:
        raise UserError(f"{', '.join(parameters)}: set on the explainer itself where it is not given by name")
    method = [] if isinstance(explainer, Explainer) else [f"explainer={explainer}"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    cfg = compose("explain", [*method, f"metric=[{','.join(names)}]", *overrides])
    for key, value in parameters.items():
        if key not in cfg.explainer:
            raise describe_unknown_key(f"explainer.{key}", cfg.explainer, choice=f"explainer={explainer}")
        cfg.explainer[key] = value
    return cfg


def _read_batches(cfg: DictConfig, classifier: Classifier, images: ImageInput | None) -> Iterable[Batch]:
    if images is not None and not is_paths(images):
        return iterate_batches(images, classifier.facts, cfg.data.batch_size)
    options = {} if images is None else {"root": list_roots(images)}  # type: ignore[arg-type]
    data: Any = build_data(cfg, facts=classifier.facts, **options)
    data.setup("test")
    if images is not None:
        paths = [item.path for item in data.items]
        data.items = [data.items[position] for position in order_by_root(paths, options["root"])]
    loader: Iterable[Batch] = data.test_dataloader()
    return loader


def _add_batch(
    results: Explanations,
    classifier: Classifier,
    batch: Batch,
    explainer: Explainer,
    target: str | int,
    metrics: Mapping[str, ImageMetric],
    cfg: DictConfig,
) -> None:
    """Explain and measure one batch as the callbacks `attribution` and `faithfulness` do."""
    results.skipped += batch.skipped
    if not batch.names:
        return
    with torch.inference_mode(), classifier.frozen():
        logits = classifier(batch.images)
    explanations, left_out = explain_batch(classifier, batch, logits, explainer, target)
    results.skipped += left_out
    if metrics and explanations:
        metrics, _ = select_measurable(metrics, batch.masks is not None)
        options = {"seed": cfg.seed, "probe_batch_size": cfg.probe_batch_size}
        context = build_context(classifier, explanations, explainer, masks=select_masks(batch, explanations), **options)
        explanations = measure_batch(context, explanations, metrics)
    results += [ExplainedImage(**vars(explanation)) for explanation in explanations]
