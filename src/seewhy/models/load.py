"""A classifier by name, or around a network of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seewhy import run
from seewhy.compose import compose, config_folder
from seewhy.errors import UserError
from seewhy.mistyped import nearest
from seewhy.quiet import quieten

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from seewhy.classifier import Classifier


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

    from seewhy.classifier import Classifier

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
    return named_classifier(compose("explain", [*model_choice(model), *overrides]), given)


def named_classifier(cfg: DictConfig, changes: Mapping[str, Any]) -> Classifier:
    """The classifier of a config on the device of its trainer; `changes` that are not None replace those of the yaml."""
    given = {key: value for key, value in changes.items() if value is not None}
    classifier = run.build_classifier(cfg, **given)
    return classifier.to(run.build_trainer(cfg, logger=False).strategy.root_device)


def _around(
    network: nn.Module,
    classes: str | int | Sequence[str] | None,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Classifier:
    from seewhy.classifier import Classifier
    from seewhy.models.build import class_names
    from seewhy.models.facts import Facts
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


def model_choice(model: str) -> list[str]:
    """The overrides that choose a network by name."""
    known = [path.stem for path in sorted((config_folder() / "model").glob("*.yaml"))]
    if model in known:
        return [f"model={model}"]
    import timm

    name = model.removeprefix("timm/")
    if timm.is_model(name):
        return ["model=timm", f"model.name={name}"]
    near = nearest(model, known) if "/" not in model else []
    near += [f"timm/{one}" for one in nearest(name, timm.list_models())]
    raise UserError(
        f"model={model!r} is neither one of {', '.join(known)} nor a network of timm; nearest: {', '.join(near) or 'none'}"
    )
