"""The class scores in what a network returns: a tensor, or one inside of a tuple, a mapping or a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.words import count_noun

LOGITS = "logits"
"""The name under which networks of many libraries return their class scores."""


def read_outputs(returned: Any, images: int, outputs: int, key: str | int | None = None) -> Tensor:
    """Read the class scores from what a network returns.

    Several things are told apart by `key`; without one, by the name `logits`, else by shape where only one tensor has a
    number for each output.

    Args:
        returned: A tensor, or a tuple, list, mapping, dataclass or named tuple with one.
        images: Number of images that went in.
        outputs: Number of outputs that the network should have; 0: any number.
        key: Key, field or position of the class scores.

    Returns:
        [images, outputs]; also of [images] and [images, outputs, 1, 1].

    Raises:
        UserError: There are no class scores, or they cannot be told from the rest.
    """
    if isinstance(returned, Tensor) and key is None:
        return _arrange(returned, images, outputs)
    entries = _list_entries(returned)
    if key is not None:
        entry = entries.get(str(key))
        if not isinstance(entry, Tensor):
            raise UserError(
                f"model.output={key}: the network returns {describe(returned)}; give one of its tensors, or null"
            )
        return _arrange(entry, images, outputs)
    if isinstance(entries.get(LOGITS), Tensor):
        return _arrange(entries[LOGITS], images, outputs)
    tensors = {name: entry for name, entry in entries.items() if isinstance(entry, Tensor)}
    fitting = [entry for entry in tensors.values() if _fits(entry, images, outputs)]
    if len(fitting) == 1:
        return _arrange(fitting[0], images, outputs)
    if len(tensors) == 1:
        return _arrange(next(iter(tensors.values())), images, outputs)
    raise UserError(
        f"the network returns {describe(returned)}: "
        + (
            "set model.output to the one with the class scores"
            if tensors
            else "it must return class scores [n, classes]"
        )
    )


def describe(returned: Any) -> str:
    """Describe what a network returned.

    Args:
        returned: A tensor or several things.

    Returns:
        Such as `a dict of logits [2, 10], features [2, 512]`.
    """
    if isinstance(returned, Tensor):
        return f"[{', '.join(map(str, returned.shape))}]"
    entries = _list_entries(returned)
    if not entries:
        return f"{type(returned).__name__}, in which there is no tensor"
    words = [
        f"{name} {describe(entry) if isinstance(entry, Tensor) else type(entry).__name__}"
        for name, entry in entries.items()
    ]
    return f"a {type(returned).__name__} of {', '.join(words)}"


def _list_entries(returned: Any) -> dict[str, Any]:
    """What is inside, by key, field or position."""
    if isinstance(returned, Mapping):
        return {str(key): entry for key, entry in returned.items()}
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    if isinstance(returned, tuple | list):
        names = getattr(returned, "_fields", range(len(returned)))
        return {str(name): entry for name, entry in zip(names, returned, strict=True)}
    return {}


def _fits(values: Tensor, images: int, outputs: int) -> bool:
    shape = _shape_scores(values, images, outputs)
    return shape is not None and values.is_floating_point() and (not outputs or shape[1] == outputs)


def _shape_scores(values: Tensor, images: int, outputs: int) -> tuple[int, int] | None:
    """The shape [images, outputs] that the values have without their empty axes; None where there is none."""
    shape = tuple(values.shape)
    if len(shape) >= 2 and shape[0] == images and all(side == 1 for side in shape[2:]):
        return images, shape[1]
    if shape == (images,) and (images > 1 or outputs < 2):
        return images, 1
    if images == 1 and len(shape) <= 1 and values.numel() == max(1, outputs):
        return 1, values.numel()
    return None


def _arrange(values: Tensor, images: int, outputs: int) -> Tensor:
    if values.ndim == 2 and values.shape[0] == images and values.is_floating_point():
        return values
    if not values.is_floating_point():
        dtype = str(values.dtype).removeprefix("torch.")
        raise UserError(
            f"the network returns {dtype} {describe(values)}: it must return class scores (logits or probabilities), not "
            "class indices"
        )
    shape = _shape_scores(values, images, outputs)
    if shape is not None:
        return values.reshape(shape)
    what = "a value for each position, as in segmentation" if values.ndim > 2 else "no row for each image"
    raise UserError(
        f"the network returns {describe(values)} for {count_noun(images, 'image')}: {what}; it must return "
        "class scores [n, classes], so wrap it in a module that averages or selects them"
    )
