"""The facts of a network: what is set, what its weights carry, what lies beside them, what is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts, read_size
from seewhy.core.files import refuse_address
from seewhy.core.outputs import settle_classes
from seewhy.core.words import count_noun
from seewhy.models.architectures import Architecture, read_imagenet_classes
from seewhy.models.companions import read_companion


def gather_facts(
    name: str,
    architecture: Architecture,
    file: Path | None,
    stored: Facts | None,
    settings: Mapping[str, Any],
    notes: list[str],
) -> Facts:
    """Gather the facts: what is set, else what the weights carry, else what lies beside them, else what is published.

    Args:
        name: The name of the network.
        architecture: Its source.
        file: The file of the weights; None for weights from elsewhere.
        stored: The facts that the weights carry; None: they carry none.
        settings: What is set, by the names of the settings; None where nothing is.
        notes: What was taken, in words, is added.

    Returns:
        The facts; without classes where nobody names them, which are then as many as the network has outputs.

    Raises:
        UserError: They do not fit each other, or the size of the images is nowhere.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if stored is None and file is not None:
        beside, source = read_companion(file)
        notes += [f"facts of {source}"] if beside else []
        given = beside | given
    base = architecture.facts() if stored is None else stored
    is_published = stored is None and base is not None
    if base is None:
        base = _begin_facts(given, notes)
    elif stored is None and file is not None:
        assumed = [key for key in ("size", "mean", "std") if key not in given]
        notes += [f"{', '.join(assumed)} as usual for this network"] if assumed else []
    statistics = expand_statistics(given.pop("channels", None), given.pop("mean", None), given.pop("std", None), base)
    names, meaning = given.pop("classes", None), given.pop("score", None)
    if names or base.classes or is_published:
        names, meaning = settle_meaning(base, name, names, meaning, is_published)
    else:
        meaning = None  # of outputs that are not counted yet
    size = given.pop("size", None)
    changes = {"classes": names, "score": meaning, "size": None if size is None else read_size(size)}
    return base.replace({**given, **statistics, **changes})


def _begin_facts(given: Mapping[str, Any], notes: list[str]) -> Facts:
    """The facts of a network of which nothing is known but what is given."""
    if "size" not in given:
        raise UserError(
            "model.size is not known: set it to the height and width in pixels of the images that the network was trained "
            "for, or put a config.json with size, classes, mean and std beside the weights"
        )
    listed = [len(given[key]) for key in ("mean", "std") if isinstance(given.get(key), list | tuple)]
    channels = max(1, given.get("channels", (listed or [3])[0]))
    if "mean" not in given and "std" not in given:
        notes.append("images in [0, 1] as they are (model.mean and model.std are not set)")
    return Facts((), read_size(given["size"]), (0.0,) * channels, (1.0,) * channels)


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
                    f"{source} is for {count_noun(count, 'channel')}, and the {key} that comes with the weights "
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


def check_threshold(threshold: float | None, facts: Facts) -> None:
    """Refuse a threshold where no label is told by one.

    Args:
        threshold: What was set; None: nothing.
        facts: Of the classifier.

    Raises:
        UserError: Classes exclude each other, or the outputs are no probabilities.
    """
    if threshold is not None and facts.score != "sigmoid":
        raise UserError(
            f"model.threshold={threshold:g} is for networks with several labels an image, and this one has "
            f"model.score={facts.score}: set model.score=sigmoid, or leave the threshold out"
        )


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
    refuse_address("model.classes", classes)
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
