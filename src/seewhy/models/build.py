"""Building a classifier from the config group `model`, ready to be explained or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen

from seewhy.core.errors import MissingWeights, UserError, find_nearest, name_key
from seewhy.core.facts import FITS, INTERPOLATIONS, Facts
from seewhy.core.files import refuse_address
from seewhy.core.outputs import SCORES, settle_classes
from seewhy.core.settings import Auto, OneOf, Pixels, Positive, Seed, Share, Text
from seewhy.core.words import count_noun
from seewhy.models.architectures import Architecture
from seewhy.models.facts import check_threshold, gather_facts, read_class_names

if TYPE_CHECKING:
    from torch import nn

    from seewhy.models.classifier import AutoOptimization, Classifier, Optimization
    from seewhy.models.weights import Checkpoint

Mean = Annotated[float, Ge(-1000), Le(1000)]
SHIPPED = Path(__file__).parent.parent / "weights"
"""Weights that this project trained, each with a model card beside it."""
WORDS = ("auto", "pretrained", "shipped", "random", "built")
"""What `model.weights` may be, beside a path."""


def choose_origin(name: str, architecture: Architecture, weights: str) -> str:
    """Choose where the weights come from on this machine, without importing torch: what is missing is said at once.

    `auto` takes the published weights (cache, package, then hub), else those that this project ships.

    Args:
        name: The name of the network, by which shipped weights are called.
        architecture: Its source.
        weights: `auto`, `pretrained`, `shipped`, `random`, `built` (the code that builds the network loads them) or a path.

    Returns:
        `random`, `built`, `pretrained`, `shipped` or the path.

    Raises:
        MissingWeights: Nothing is at hand.
        UserError: The path is no file.
    """
    if weights == "built" and not architecture.loads_weights:
        raise UserError(
            "model.weights=built is for model=own, whose code may load weights; model.weights=auto looks for some"
        )
    if weights not in ("auto", "pretrained", "shipped"):
        refuse_address("model.weights", weights)
        if weights not in ("random", "built") and not Path(weights).is_file():
            near = find_nearest(weights, WORDS, 1)
            raise UserError(
                f"model.weights={weights}: {'it is not a file' if Path(weights).exists() else 'there is no such file'}; "
                + (f"did you mean model.weights={near[0]}?" if near else f"give a path, or one of {', '.join(WORDS)}")
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
        f"{architecture.advice}"
    )


def build_classifier(
    name: Text | None,
    architecture: Architecture,
    weights: Text = "auto",
    classes: Text | Annotated[int, Ge(1), Le(100_000)] | Annotated[Sequence[str], MinLen(1)] | None = None,
    size: Pixels | Annotated[Sequence[Pixels], Len(2, 2)] | None = None,
    mean: Mean | Annotated[Sequence[Mean], MinLen(1)] | None = None,
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
    compile: bool = False,
    width: Annotated[float, Gt(0), Le(64)] | None = None,
    arguments: Mapping[str, Any] | None = None,
    build: Text | None = None,
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
        compile: Whether torch.compile computes passes in which nobody looks at a layer, while explaining.
        width: Multiplies the channels of networks that have such a setting.
        arguments: Further arguments of the class or function that builds the network.
        build: `module:name` of the user's own network, which the source imports.
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
    if name is None:  # a source that needs one to build the network has refused by now
        raise UserError("model.name=null must be text that is not empty: what the network is called in tables")
    source = choose_origin(name, architecture, weights)

    import torch

    from seewhy.models.classifier import Classifier
    from seewhy.models.contract import check_contract, unify_weights
    from seewhy.models.unwrapping import set_mode, unwrap_network
    from seewhy.models.weights import find_head, fit_weights, hash_weights, match_names

    checkpoint, origin = _read_source(name, source, seed, ema)
    state, stored, notes = checkpoint.state, checkpoint.facts, [checkpoint.note]
    settings = {
        "classes": read_class_names(classes),
        "score": score,
        "threshold": threshold,
        "output": output,
        "size": size,
        "channels": channels,
        "mean": mean,
        "std": std,
        "display": display,
        "crop": crop,
        "fit": fit,
        "interpolation": interpolation,
    }
    file = None if source in WORDS else Path(source)
    facts = gather_facts(name, architecture, file, stored, settings, notes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = ({} if width is None else {"width": width}) | dict(arguments or {})
        architecture.check_options(options)
        count = facts.output_count if facts.classes else 0
        try:
            built = architecture.network(count, facts.size, facts.channels, **options)
        except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
            if not arguments:
                raise
            raise UserError(f"model.arguments={dict(arguments)} does not suit {name}: {error}") from error
        network = unwrap_network(built)
    if source == "pretrained":
        state, origin = architecture.pretrained(network)
    elif state and stored is None and (doubt := architecture.find_doubt(options)):
        raise UserError(doubt)
    renewed: list[str] = []
    if state and new_head:
        state, prefixes = match_names(network, state, ema)
        renewed = find_head(network, state, facts.output_count)
        state = state | {name: network.state_dict()[name] for name in renewed}
        notes += prefixes + ([f"new head {', '.join(renewed)}"] if renewed else [])
    if state:
        notes.append(fit_weights(network, state, origin, ema, lambda key: architecture.name_setting(key, options)))
    if ema is True and not any("average" in note and "not the" not in note for note in notes):
        raise UserError(f"model.ema=true: {origin} holds no moving average of the weights; set model.ema=auto")
    network, converted = unify_weights(network)
    origin += "".join(f", {note}" for note in (*notes, converted) if note)
    set_mode(network, training=False)
    if size is not None or architecture.loads_weights:  # the size of own code is from a file beside its weights
        _check_size(network, facts)
    if not facts.classes:
        names, meaning = settle_classes(_count_outputs(network, facts), score)
        facts = facts.replace({"classes": names, "score": meaning})
    check_threshold(threshold, facts)
    result = Classifier(
        network,
        facts,
        name=architecture.shorten_name(name),
        origin=origin,
        weights_sha256=hash_weights(network),
        cam_layer=cam_layer,
        influence_layer=influence_layer,
        channels_last=channels_last,
        fold=fold,
        compiled=compile,
        optimization=optimization,
        renewed=renewed,
    )
    result.code_sha256 = architecture.hash_code()
    result.doubts = (
        () if source == "random" else _list_doubts(facts, settings, stored is not None or source in WORDS[1:3])
    )
    for key, layer in (("cam_layer", cam_layer), ("influence_layer", influence_layer)):
        if layer is not None:
            with name_key(f"model.{key}={layer}"):
                result.find_layer(layer)
    return check_contract(result, score)


def _list_doubts(facts: Facts, settings: Mapping[str, Any], published: bool) -> tuple[str, ...]:
    """The settings that may be wrong where trained weights answer like chance: all that the weights did not bring."""
    raw = set(facts.mean) == {0.0} and set(facts.std) == {1.0}
    statistics = "model.mean and model.std" + (" (images go in as they are, in [0, 1])" if raw else "")
    words = {statistics: ("mean", "std"), "the order of model.classes": ("classes",), "model.fit": ("fit",)}
    return tuple(
        word for word, keys in words.items() if not published or any(settings[key] is not None for key in keys)
    )


def _count_outputs(network: nn.Module, facts: Facts) -> tuple[str, ...]:
    """A name for each output of a network whose classes nobody named."""
    import torch

    from seewhy.models.read_outputs import read_outputs

    with torch.no_grad():
        returned = network(torch.zeros(1, facts.channels, *facts.shape))
    return tuple(f"class {index}" for index in range(read_outputs(returned, 1, 0, facts.output).shape[1]))


def _read_source(name: str, source: str, seed: int, ema: bool | str) -> tuple[Checkpoint, str]:
    """(what the file holds, origin in words); nothing is read for random and published weights."""
    from seewhy.models.weights import Checkpoint, read_checkpoint

    if source in ("random", "pretrained", "built"):
        return Checkpoint({}, None), "as its code builds it" if source == "built" else f"random (seed {seed})"
    path = SHIPPED / f"{name}.safetensors" if source == "shipped" else Path(source)
    return read_checkpoint(path, ema), f"shipped: {path.name}" if source == "shipped" else f"file: {path}"


def _check_size(network: nn.Module, facts: Facts) -> None:
    """UserError where the network cannot take images of that size."""
    import torch

    def takes(channels: int) -> bool:
        try:
            with torch.no_grad():
                network(torch.zeros(1, channels, *facts.shape))
        except (RuntimeError, ValueError, AssertionError):
            return False
        return True

    try:
        with torch.no_grad():
            network(torch.zeros(1, facts.channels, *facts.shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        first = next((each.in_channels for each in network.modules() if isinstance(each, torch.nn.Conv2d)), 1)
        if fitting := [count for count in dict.fromkeys((first, 1, 3)) if count != facts.channels and takes(count)]:
            raise UserError(
                f"the network takes images of {count_noun(fitting[0], 'channel')}, not {facts.channels}: "
                f"set model.channels={fitting[0]}, and model.mean and model.std where they are lists"
            ) from error
        reason = str(error).split("\n")[0] or type(error).__name__
        size = list(facts.size) if isinstance(facts.size, tuple) else facts.size
        raise UserError(f"model.size={size} does not suit the network ({reason}); null is its own size") from error
