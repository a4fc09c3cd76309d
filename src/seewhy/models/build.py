"""Building a classifier from the config group `model`, ready to be explained or trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen

from seewhy.core.errors import MissingWeights, UserError
from seewhy.core.files import refuse_address
from seewhy.core.outputs import SCORES, settle_classes
from seewhy.core.settings import Auto, OneOf, Pixels, Positive, Seed, Share, Text
from seewhy.core.types import CIFAR10_CLASSES, FITS, INTERPOLATIONS, Facts, read_size
from seewhy.models.architectures import Architecture, read_imagenet_classes

if TYPE_CHECKING:
    from torch import nn

    from seewhy.models.classifier import AutoOptimization, Classifier, Optimization
    from seewhy.models.weights import Checkpoint

SHIPPED = Path(__file__).parent.parent / "weights"
"""Weights that this project trained, each with a model card beside it."""

OFFLINE = "efficientnet_lite0 (ImageNet), cifar_cnn, vgg16_cifar and mobilenetv3 (CIFAR-10)"


def choose_origin(name: str, architecture: Architecture, weights: str) -> str:
    """Choose where the weights come from on this machine, without importing torch: what is missing is said at once.

    `auto` takes the published weights (cache, package, then hub), else those that this project ships.

    Args:
        name: The name of the network, by which shipped weights are called.
        architecture: Its source.
        weights: `auto`, `pretrained`, `shipped`, `random` or a path.

    Returns:
        `random`, `pretrained`, `shipped` or the path.

    Raises:
        MissingWeights: Nothing is at hand.
        UserError: The path is no file.
    """
    if weights not in ("auto", "pretrained", "shipped"):
        refuse_address("model.weights", weights)
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
    name: Text,
    architecture: Architecture,
    weights: Text = "auto",
    classes: str | int | Sequence[str] | None = None,
    size: Pixels | Annotated[Sequence[Pixels], Len(2, 2)] | None = None,
    mean: float | Annotated[Sequence[float], MinLen(1)] | None = None,
    std: Positive | Annotated[Sequence[Positive], MinLen(1)] | None = None,
    channels: Annotated[int, Ge(1), Le(1000)] | None = None,
    display: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] | None = None,
    crop: Share | None = None,
    fit: Annotated[str, OneOf(FITS)] | None = None,
    interpolation: Annotated[str, OneOf(INTERPOLATIONS)] | None = None,
    score: Annotated[str, OneOf(SCORES)] | None = None,
    threshold: Annotated[float, Gt(0), Lt(1)] | None = None,
    output: Text | Annotated[int, Ge(0)] | None = None,
    cam_layer: Text | None = None,
    influence_layer: Text | None = None,
    channels_last: bool = True,
    fold: bool = True,
    width: Annotated[float, Gt(0), Le(64)] | None = None,
    seed: Seed = 0,
    ema: bool | Auto = "auto",
    optimization: Optimization | AutoOptimization | None = None,
    new_head: bool = False,
) -> Classifier:
    """Build a classifier with its weights and facts; what is None comes from the weights.

    Args:
        name: The name of the network.
        architecture: Its source.
        weights: See `choose_origin`.
        classes: See `read_class_names`.
        size: [height, width] of its images in pixels, or one number for squares.
        mean: Of each channel, or one number for all, for images in [0, 1].
        std: As `mean`.
        channels: Of its images; None: as many as `mean`, or as the weights take.
        display: Numbers, from 1, of the channels that figures show as red, green and blue, or of the one shown as grey;
            None: the first three, or the first of fewer.
        crop: Share of the shorter side that the centre crop keeps, in (0, 1].
        fit: How a picture of other proportions becomes an image: `crop` cuts, `squash` changes its proportions.
        interpolation: How images are resized: nearest, bilinear or bicubic.
        score: What the outputs mean, one of `seewhy.core.outputs.SCORES`; None: that of the weights, else `binary` for one
            class and `softmax` for more.
        threshold: Probability above which a label of several counts as predicted.
        output: Key or position of the class scores where the network returns several things.
        cam_layer: The layer that class activation maps are drawn from; None for the last one with a grid
            that every path from the image crosses.
        influence_layer: The layer of influence-directed explanations.
        channels_last: Whether the network runs in that order of memory.
        fold: Whether convolutions compute the batch normalisations and activations behind them while explaining: the
            same values up to rounding.
        width: Multiplies the channels of networks that have such a setting.
        seed: Of random weights.
        ema: Whether to take the exponential moving average of the weights from a file that holds both; `auto`: where there
            is one. The origin of the classifier says what was taken.
        optimization: Optimiser and schedule; None for a classifier that is not trained.
        new_head: Whether weights for another number of classes are taken up to their last layer, which then begins at
            random; for a classifier that is trained on.

    Returns:
        The classifier in evaluation mode.

    Raises:
        UserError: The weights, the size or a layer do not fit the network, or it cannot be explained (see `check_contract`).
        MissingWeights: There are no weights at hand.
    """
    source = choose_origin(name, architecture, weights)

    import torch

    from seewhy.models.classifier import Classifier
    from seewhy.models.contract import check_contract, unify_weights
    from seewhy.models.weights import find_head, fit_weights, hash_weights, match_names

    checkpoint, origin = _read_source(name, source, seed, ema)
    state, stored, notes = checkpoint.state, checkpoint.facts, [checkpoint.note]
    facts = stored or architecture.facts()
    names, meaning = settle_meaning(facts, name, read_class_names(classes), score, is_published=stored is None)
    facts = facts.replace(
        {
            "classes": names,
            "score": meaning,
            "threshold": threshold,
            "output": output,
            "size": None if size is None else read_size(size),
            **expand_statistics(channels, mean, std, facts),
            "display": display,
            "crop": crop,
            "fit": fit,
            "interpolation": interpolation,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {} if width is None else {"width": width}
        network = architecture.network(facts.output_count, facts.size, channels=facts.channels, **options)
    if source == "pretrained":
        state, origin = architecture.pretrained(network)
    renewed: list[str] = []
    if state and new_head:
        state, prefixes = match_names(network, state, ema)
        renewed = find_head(network, state, facts.output_count)
        state = state | {name: network.state_dict()[name] for name in renewed}
        notes += prefixes + ([f"new head {', '.join(renewed)}"] if renewed else [])
    if state:
        notes.append(fit_weights(network, state, origin, ema))
    if ema is True and not any("average" in note and "not the" not in note for note in notes):
        raise UserError(f"model.ema=true: {origin} holds no moving average of the weights; set model.ema=auto")
    network, converted = unify_weights(network)
    origin += "".join(f", {note}" for note in (*notes, converted) if note)
    network.eval()
    if size is not None:
        _check_size(network, facts)
    result = Classifier(
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
        renewed=renewed,
    )
    for layer in (cam_layer, influence_layer):
        if layer is not None:
            result.find_layer(layer)
    return check_contract(result, score)


def _read_source(name: str, source: str, seed: int, ema: bool | str) -> tuple[Checkpoint, str]:
    """(what the file holds, origin in words); nothing is read for random and published weights."""
    from seewhy.models.weights import Checkpoint, read_checkpoint

    if source in ("random", "pretrained"):
        return Checkpoint({}, None), f"random (seed {seed})"
    path = SHIPPED / f"{name}.safetensors" if source == "shipped" else Path(source)
    return read_checkpoint(path, ema), f"shipped: {path.name}" if source == "shipped" else f"file: {path}"


def _check_size(network: nn.Module, facts: Facts) -> None:
    """UserError where the network cannot take images of that size."""
    import torch

    try:
        with torch.no_grad():
            network(torch.zeros(1, facts.channels, *facts.shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        size = list(facts.size) if isinstance(facts.size, tuple) else facts.size
        raise UserError(f"model.size={size} does not suit the network ({reason}); null is its own size") from error


def expand_statistics(
    channels: int | None, mean: float | Sequence[float] | None, std: float | Sequence[float] | None, facts: Facts | None
) -> dict[str, tuple[float, ...] | None]:
    """Expand what a config says of the channels to a mean and a standard deviation for each.

    Args:
        channels: How many there are; None: as many as are listed, or as the weights take.
        mean: One number for each channel, or one for all; None: that of the weights.
        std: As `mean`.
        facts: Of the weights; None: they carry none.

    Returns:
        `mean` and `std`, None where that of the weights stays.

    Raises:
        UserError: The lengths differ, or the weights have no statistics for so many channels.
    """
    given = {"mean": mean, "std": std}
    lengths = [len(values) for values in given.values() if values is not None and not isinstance(values, int | float)]
    lengths = lengths if channels is None else [channels]
    count = lengths[0] if lengths else facts.channels if facts else 3
    if count < 1:
        raise UserError(f"model.channels={count} must be at least 1")
    expanded: dict[str, tuple[float, ...] | None] = {}
    for key, values in given.items():
        if values is None:
            if facts is not None and facts.channels != count:
                other, listed = next(((key, values) for key, values in given.items() if values is not None), ("", 0))
                source = f"model.channels={count}" if channels is not None else f"model.{other}={listed}"
                raise UserError(
                    f"{source} is for {count} channel{'s' if count > 1 else ''}, and the {key} that comes with the weights "
                    f"for {facts.channels}: set model.{key} too, one number for each channel or one for all"
                )
            expanded[key] = None
            continue
        numbers = (float(values),) * count if isinstance(values, int | float) else tuple(values)
        if len(numbers) != count:
            raise UserError(f"model.{key}={list(numbers)} needs one number for each of {count} channels")
        expanded[key] = numbers
    return expanded


def settle_meaning(
    facts: Facts, name: str, classes: tuple[str, ...] | None, score: str | None, is_published: bool
) -> tuple[tuple[str, ...], str]:
    """Settle the class names of a network and what its outputs mean, from its facts and what was set.

    Args:
        facts: Of the weights or of the architecture.
        name: The name of the network.
        classes: Names that were set; None: those of the facts.
        score: What was set; None: what the facts say, where they say more than the default.
        is_published: Whether the facts are those of published weights, not of a file.

    Returns:
        (the name of each class, what the outputs mean).

    Raises:
        UserError: They do not fit each other, or published weights give an embedding and not classes.
    """
    if facts.score == "none" and is_published:
        if classes is None and score != "none":
            raise UserError(
                f"{name} has no head of classes: it gives the {len(facts.classes) or 'pooled'} units of an embedding; "
                "set model.score=none to explain units, or model.classes with weights that have a head "
                "(model.weights=random or a file)"
            )
        return (facts.classes, "none") if classes is None else settle_classes(classes, score)
    stated = None if facts.score == "softmax" else facts.score
    return settle_classes(facts.classes if classes is None else classes, score or stated)


def read_class_names(classes: str | int | Sequence[str] | None) -> tuple[str, ...] | None:
    """Read class names from what a config says of them.

    Args:
        classes: `imagenet`, `cifar10`, a number of classes, a text file with one name a line, a list of names, or None.

    Returns:
        The names; None for None.

    Raises:
        UserError: It is none of these, or names no class.
    """
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
