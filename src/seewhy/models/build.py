"""From the model part of a config to a classifier that is ready to be explained or trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seewhy.core.errors import MissingWeights, UserError
from seewhy.core.facts import CIFAR10_CLASSES
from seewhy.models.architectures import Architecture, read_imagenet_classes

if TYPE_CHECKING:
    from torch import nn

    from seewhy.models.classifier import Classifier
    from seewhy.models.optimizers import Optimization

SHIPPED = Path(__file__).parent.parent / "weights"
"""Weights that this project trained, each with a model card beside it."""

OFFLINE = "efficientnet_lite0 (ImageNet), cifar_cnn, vgg16_cifar and mobilenetv3 (CIFAR-10)"


def choose_origin(name: str, architecture: Architecture, weights: str) -> str:
    """`random`, `pretrained`, `shipped` or a path: what `weights` comes to on this machine.

    `auto` takes the published weights (cache, package, then hub), else those that this project ships. Imports neither
    torch nor timm, so that missing weights are reported at once. MissingWeights where nothing is at hand.
    """
    if weights not in ("auto", "pretrained", "shipped"):
        if weights != "random" and not Path(weights).is_file():
            raise UserError(
                f"model.weights={weights}: {'it is not a file' if Path(weights).exists() else 'there is no such file'}; "
                "give a path, or one of auto, pretrained, shipped, random"
            )
        return weights
    shipped = (SHIPPED / f"{name}.safetensors").is_file()
    reason = None if weights == "shipped" else architecture.missing()
    if weights != "shipped" and reason is None:
        return "pretrained"
    if shipped:
        own = reason == "this network has no published weights"
        if weights != "pretrained" or own:
            return "shipped"
    raise MissingWeights(
        f"no weights for model={name} (model.weights={weights}): {reason or 'this project ships none for it'}\n"
        f"  give them by hand: model.weights=<file.safetensors or .pth>, or try model.weights=random\n"
        f"  what works without a network: {OFFLINE}"
    )


def build_classifier(
    name: str,
    architecture: Architecture,
    weights: str = "auto",
    classes: str | int | Sequence[str] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
    cam_layer: str | None = None,
    influence_layer: str | None = None,
    channels_last: bool = True,
    fold: bool = True,
    width: float | None = None,
    seed: int = 0,
    optimization: Optimization | None = None,
) -> Classifier:
    """The classifier with its weights and facts; what is None comes from the weights.

    `fold`: while explaining, batch normalisations are computed by the convolutions before them (float rounding apart the
    same values). `width` multiplies the channels of networks that have such a setting.
    """
    choice = choose_origin(name, architecture, weights)

    import torch

    from seewhy.models.classifier import Classifier
    from seewhy.models.weights import fit_weights, hash_weights, read_weights

    state, carried = None, None
    path = SHIPPED / f"{name}.safetensors" if choice == "shipped" else Path(choice)
    if choice not in ("random", "pretrained"):
        state, carried = read_weights(path)
    facts = (carried or architecture.facts()).replace(
        {
            "classes": read_class_names(classes),
            "size": size,
            "mean": None if mean is None else tuple(mean),
            "std": None if std is None else tuple(std),
            "crop": crop,
            "interpolation": interpolation,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {} if width is None else {"width": width}
        network = architecture.network(len(facts.classes), facts.size, **options)
    origin = {"random": f"random (seed {seed})", "shipped": f"shipped: {path.name}"}.get(choice, f"file: {path}")
    if choice == "pretrained":
        state, origin = architecture.pretrained(network)
    if state is not None:
        fit_weights(network, state, origin)
    network.eval()
    if size is not None:
        _check_size(network, size)
    built = Classifier(
        network,
        facts,
        name=name,
        origin=origin,
        weights_sha256=hash_weights(network),
        cam_layer=cam_layer,
        influence_layer=influence_layer,
        channels_last=channels_last,
        fold=fold,
        optimization=optimization,
    )
    for layer in (cam_layer, influence_layer):
        if layer is not None:
            built.layer(layer)
    return built


def _check_size(network: nn.Module, size: int) -> None:
    """UserError where the network cannot take images of that size."""
    import torch

    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"model.size={size} does not suit the network ({reason}); null is its own size") from error


def read_class_names(classes: str | int | Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names from `imagenet`, `cifar10`, a number of classes, a text file with one name a line, or a list."""
    if classes is None:
        return None
    if isinstance(classes, int):
        if classes < 1:
            raise UserError(f"model.classes={classes} must be at least 1")
        return tuple(f"class {index}" for index in range(classes))
    if not isinstance(classes, str):
        if not classes:
            raise UserError("model.classes=[] names no class")
        return tuple(str(name) for name in classes)
    if classes == "cifar10":
        return CIFAR10_CLASSES
    if classes == "imagenet":
        return read_imagenet_classes()
    if Path(classes).is_file():
        lines = Path(classes).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        if not names:
            raise UserError(f"model.classes={classes} is empty: write one class name a line")
        return names
    raise UserError(f"model.classes={classes!r}: give imagenet, cifar10, a number, a list of names, or a text file")
