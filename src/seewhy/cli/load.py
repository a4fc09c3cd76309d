"""Classifiers by the name of a network, or from a network itself: for those who call seewhy from Python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seewhy.cli.build import build_classifier, build_trainer
from seewhy.cli.config import compose, find_config_folder
from seewhy.cli.own_configs import find_registered_folders
from seewhy.cli.program import quieten
from seewhy.core.errors import UserError, find_nearest
from seewhy.core.facts import Facts

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from seewhy.models.classifier import Classifier


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
        model: A yaml of configs/model, a network of timm (`timm/resnet18`, `resnet18`), of torchvision
            (`torchvision/resnet18`), of Hugging Face (`transformers/<folder or name>`) or of your own code (`mynet:MyNet`
            with `weights=`); a torch.nn.Module that takes normalised images (used as it is, on its device; also a
            LightningModule, a compiled module, TorchScript or an exported program); or a Classifier, which is returned.
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
    if not isinstance(model, str):
        raise UserError(
            f"model={describe_type(model)}: give a name, a torch.nn.Module, or what load_classifier returned"
        )
    quieten()
    facts |= {"weights": None if weights is None else os.fspath(weights)}
    return load_named(compose("explain", [*choose_model(model), *overrides]), facts)


def load_named(cfg: DictConfig, changes: Mapping[str, Any]) -> Classifier:
    """Load the classifier of a config on the device of its trainer.

    Args:
        cfg: The composed config of a task.
        changes: Settings of its model by name; those that are not None replace the config's.

    Returns:
        The classifier.

    Raises:
        UserError: A setting is not allowed, or the weights are not at hand.
    """
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
    from seewhy.core.facts import read_size
    from seewhy.models.classifier import Classifier
    from seewhy.models.contract import check_contract, settle_names, unify_weights
    from seewhy.models.facts import check_threshold, expand_statistics, read_class_names
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
    check_threshold(threshold, stated)
    classifier = Classifier(
        network,
        stated.replace({"display": display, "fit": fit, "threshold": threshold, "output": output}),
        name=getattr(network, "original_name", type(network).__name__),  # TorchScript keeps the name of the class
        origin=", ".join(["given", *([converted] if converted else [])]),
        weights_sha256=hash_weights(network),
    )
    parameter = next(network.parameters(), None)
    return check_contract(classifier if parameter is None else classifier.to(parameter.device), score)


def choose_model(model: str) -> list[str]:
    """Choose a network by name.

    Args:
        model: A yaml of configs/model, or a network of timm or another source, as `load_classifier` takes it.

    Returns:
        The overrides that choose it.

    Raises:
        UserError: There is none of this name; the message names the nearest.
    """
    folders = [find_config_folder(), *find_registered_folders().values()]
    names = [path.stem for folder in folders for path in sorted((folder / "model").glob("*.yaml"))]
    if model in names:
        return [f"model={model}"]
    source, slash, title = model.partition("/")
    if slash and source in ("torchvision", "transformers"):
        return [f"model={source}", f"model.name='{title}'"]
    if re.fullmatch(r"[\w.]+:[\w.]+", model):
        return ["model=own", f"model.build={model}"]
    import timm

    name = model.removeprefix("timm/")
    if timm.is_model(name):
        return ["model=timm", f"model.name={name}"]
    near = find_nearest(model, names) if "/" not in model else []
    near += [f"timm/{match}" for match in find_nearest(name, timm.list_models())]
    raise UserError(
        f"model={model!r} is neither one of {', '.join(names)} nor a network of timm; nearest: {', '.join(near) or 'none'}"
    )


def describe_type(value: Any) -> str:
    """Describe what was given instead of what is taken.

    Args:
        value: Any object, or a class.

    Returns:
        The name of its class, or its own where it is a class.
    """
    return value.__name__ + " (a class)" if isinstance(value, type) else type(value).__name__
