"""The command `python src/explain.py` as a function.

What `seewhy.explain` returns: a list of explanations that shows itself in a notebook.
A classifier by name, or around a network of one's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seewhy.cli import build
from seewhy.cli.config import compose, find_config_folder
from seewhy.cli.instantiate import build_object
from seewhy.cli.quiet import quieten
from seewhy.cli.suggestions import describe_unknown_key, find_nearest
from seewhy.core.errors import UserError
from seewhy.core.targets import check_policy
from seewhy.core.types import Batch, Explanation, Skipped
from seewhy.data.in_memory import ImageInput, is_paths, iterate_batches, list_roots, order_by_root
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
    """One explanation per image, in the order of the images; `skipped` holds those that could not be explained."""

    def __init__(self, made: Iterable[ExplainedImage] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(made)
        self.skipped = list(skipped)

    def figure(self, **style: Any) -> Image:
        """Original and overlay of every image in one picture; `style` goes to `seewhy.plots.grid.draw_grid`."""
        from seewhy.plots.canvas import open_figure
        from seewhy.plots.grid import draw_grid

        return open_figure(draw_grid(self, **style))

    def table(self) -> pd.DataFrame:
        """One row per image: true class, prediction, target, facts of the map and metrics."""
        import pandas as pd

        rows = [
            {
                "image": one.name,
                "label": one.prediction.label,
                "predicted": one.prediction.name,
                "probability": one.prediction.probability,
                "target": one.target.name,
                "target_probability": one.target.probability,
                **one.facts,
                **one.metrics,
            }
            for one in self
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} images skipped" if self.skipped else ""
        shown = [f"  {one.name}: {one.target.name} {one.target.probability:.3f} ({one.explainer})" for one in self[:10]]
        shown += [f"  ... and {len(self) - 10} more"] if len(self) > 10 else []
        return "\n".join([f"{len(self)} explanation{'s' if len(self) != 1 else ''}{left_out}", *shown])

    def _repr_png_(self) -> bytes | None:
        from seewhy.plots.canvas import encode_figure
        from seewhy.plots.grid import draw_grid

        return encode_figure(draw_grid(self)) if self else None


def load_classifier(
    model: str | Classifier | nn.Module,
    *,
    classes: str | int | Sequence[str] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> Classifier:
    """The classifier that `model` names: a yaml of configs/model, or a network of timm (`timm/resnet18`, `resnet18`).

    What is None comes from the weights (`weights` as in `model.weights=`); `overrides` are those of the command line.
    A torch.nn.Module that takes normalised images needs `classes` (names, or their number), `size`, `mean` and `std`, the
    last two for images in [0, 1]; it is used as it is, on its device. A Classifier is returned. UserError for an
    unknown name, with the nearest ones, or where one of these is missing.
    """
    from torch import nn

    from seewhy.models.classifier import Classifier

    given = {"classes": classes, "size": size, "mean": mean, "std": std}
    named = [key for key, value in {**given, "weights": weights}.items() if value is not None]
    if isinstance(model, Classifier):
        if named:
            raise UserError(f"{', '.join(named)}: this classifier has its own; give the network to change them")
        return model
    if isinstance(model, nn.Module):
        if weights is not None:
            raise UserError(f"weights={weights}: this network has its own; load them with network.load_state_dict")
        return _around(model, classes, size, mean, std)
    quieten()
    given |= {"weights": None if weights is None else os.fspath(weights)}
    return build_named_classifier(compose("explain", [*choose_model(model), *overrides]), given)


def build_named_classifier(cfg: DictConfig, changes: Mapping[str, Any]) -> Classifier:
    """The classifier of a config on the device of its trainer; `changes` that are not None replace those of the yaml."""
    given = {key: value for key, value in changes.items() if value is not None}
    classifier = build.build_classifier(cfg, **given)
    return classifier.to(build.build_trainer(cfg, logger=False).strategy.root_device)


def _around(
    network: nn.Module,
    classes: str | int | Sequence[str] | None,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Classifier:
    from seewhy.core.facts import Facts
    from seewhy.models.build import class_names
    from seewhy.models.classifier import Classifier
    from seewhy.models.weights import weights_sha256

    names = class_names(classes)
    if names is None or size is None or mean is None or std is None:
        given = {"classes": classes, "size": size, "mean": mean, "std": std}
        missing = ", ".join(key for key, value in given.items() if value is None)
        raise UserError(
            f"a network of your own needs {missing}: for example classes=10, size=224, mean=[0.485, 0.456, 0.406], "
            "std=[0.229, 0.224, 0.225] (0 and 1 where the network takes images in [0, 1])"
        )
    facts = Facts(names, size, tuple(mean), tuple(std))
    built = Classifier(
        network, facts, name=type(network).__name__, origin="given", weights_sha256=weights_sha256(network)
    )
    parameter = next(network.parameters(), None)
    return built if parameter is None else built.to(parameter.device)


def choose_model(model: str) -> list[str]:
    """The overrides that choose a network by name."""
    known = [path.stem for path in sorted((find_config_folder() / "model").glob("*.yaml"))]
    if model in known:
        return [f"model={model}"]
    import timm

    name = model.removeprefix("timm/")
    if timm.is_model(name):
        return ["model=timm", f"model.name={name}"]
    near = find_nearest(model, known) if "/" not in model else []
    near += [f"timm/{one}" for one in find_nearest(name, timm.list_models())]
    raise UserError(
        f"model={model!r} is neither one of {', '.join(known)} nor a network of timm; nearest: {', '.join(near) or 'none'}"
    )


def explain(
    model: str | Classifier | nn.Module = "efficientnet_lite0",
    images: ImageInput | None = None,
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
    chosen_model = choose_model(model) if isinstance(model, str) else []
    chosen_data = ["data=folder"] if images is not None and is_paths(images) else []
    common = [f"seed={seed}", f"probe_batch_size={probe_batch_size}"]
    cfg = _compose(explainer, metrics, parameters, [*chosen_model, *chosen_data, *common, *overrides])
    given: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
    classifier = build_named_classifier(cfg, given) if isinstance(model, str) else load_classifier(model, **given)
    check_policy("true" if target is True else target, classifier.facts.classes)
    method = explainer if isinstance(explainer, Explainer) else build_object(cfg.explainer, "explainer")
    chosen: dict[str, ImageMetric] = build_object(cfg.metric, "metric", "all")
    made = Explanations()
    with build.build_trainer(cfg, logger=False).precision_plugin.forward_context():
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
            raise describe_unknown_key(f"explainer.{key}", cfg.explainer, chosen=f"explainer={explainer}")
        cfg.explainer[key] = value
    return cfg


def _batches(cfg: DictConfig, classifier: Classifier, images: ImageInput | None) -> Iterable[Batch]:
    if images is not None and not is_paths(images):
        return iterate_batches(images, classifier.facts, cfg.data.batch_size)
    options = {} if images is None else {"root": list_roots(images)}  # type: ignore[arg-type]
    data: Any = build.build_data(cfg, facts=classifier.facts, **options)
    data.setup("test")
    if images is not None:
        found = [item.path for item in data.items]
        data.items = [data.items[position] for position in order_by_root(found, options["root"])]
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
        chosen, _ = select_measurable(metrics, batch.masks is not None)
        options = {"seed": cfg.seed, "probe_batch_size": cfg.probe_batch_size}
        context = build_context(classifier, explanations, explainer, masks=select_masks(batch, explanations), **options)
        explanations = measure_batch(context, explanations, chosen)
    made += [ExplainedImage(**vars(explanation)) for explanation in explanations]
