"""From attribution values to what is painted: a robust scale, normalised values and colours over a grey image."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.colours import INK, MUTED, RIGHT, WRONG, ColourMap, Colours
from seewhy.errors import UserError
from seewhy.explanation import Explanation, Prediction

Lines: TypeAlias = list[tuple[str, str]]
"""Lines of (text, colour)."""
MARKS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} ", None: ""}


def values(map_or_image: Tensor) -> NDArray[np.floating]:
    """The tensor as an array on the host: float32 as it is, anything else as float64."""
    tensor = map_or_image.detach()
    array: NDArray[np.floating] = (tensor if tensor.dtype == torch.float32 else tensor.double()).cpu().numpy()
    return array


def scale(attribution: Tensor, outlier_percent: float = 2.0) -> float:
    """The absolute value at which colours saturate.

    With |values| in rising order, the first one whose cumulative sum reaches (1 - outlier_percent / 100) of the total:
    the top `outlier_percent` % of the attribution mass, not of the pixels, lies there or above (the rule of Captum's
    visualisation). 0.0 for a map that is zero everywhere or not finite. Raises UserError outside 0 <= percent < 100.
    """
    if not 0 <= outlier_percent < 100:
        raise UserError(
            f"outlier_percent={outlier_percent:g}: set callbacks.figures.outlier_percent from 0 to below 100"
        )
    rising = np.sort(np.abs(values(attribution)), axis=None)
    mass = np.cumsum(rising, dtype=np.float64)
    if not mass.size or not np.isfinite(mass[-1]) or mass[-1] == 0:
        return 0.0
    return float(rising[np.searchsorted(mass, (100 - outlier_percent) * mass[-1] / 100)])


def normalise(attribution: Tensor, scale: float, signed: bool) -> NDArray[np.float32]:
    """attribution / scale, float32 [height, width], clipped to [-1, 1] (signed) or [0, 1]; zeros where scale is 0."""
    if scale == 0:
        return np.zeros(tuple(attribution.shape), np.float32)
    return np.clip(values(attribution) / scale, -1 if signed else 0, 1).astype(np.float32, copy=False)


def positive(attribution: Tensor) -> Tensor:
    """max(attribution, 0): the evidence for the target."""
    return attribution.clamp(min=0)


def negative(attribution: Tensor) -> Tensor:
    """max(-attribution, 0): the evidence against the target, as positive values."""
    return (-attribution).clamp(min=0)


def photograph(image: Tensor) -> NDArray[np.float32]:
    """[3, height, width] in [0, 1] -> [height, width, 3], clipped, with 0 where a value is missing."""
    return np.fmin(np.fmax(values(image), 0), 1).transpose(1, 2, 0).astype(np.float32, copy=False)


def overlay(
    image: Tensor, normalised: NDArray[np.float32], colour_map: ColourMap, strength: float = 0.7
) -> NDArray[np.float32]:
    """Colours over the grey image, float32 [height, width, 3] in [0, 1].

    grey is the mean of the channels; the opacity of a pixel is strength * |normalised|, so the picture shows through
    unchanged where the map is zero. The colour is that of the value or, for a signed map, the full colour of its sign:
    pale colours would hide small values in a white haze.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength={strength:g}: set callbacks.figures.strength from 0 to 1")
    red, green, blue = photograph(image).transpose(2, 0, 1)
    grey = (red + green + blue) / 3
    opacity = strength * np.abs(normalised)
    tint = colour_map(np.sign(normalised) if colour_map.lowest < 0 else normalised)
    ground = (1 - opacity) * grey
    for channel in range(3):
        tint[..., channel] = ground + opacity * tint[..., channel]
    return tint


def flaw(attribution: Tensor) -> str:
    """Why the map cannot be drawn: it is zero everywhere or holds NaN or infinite values; empty when it can be."""
    array = values(attribution)
    for name, count in (("NaN", np.isnan(array).sum()), ("infinite", np.isinf(array).sum())):
        if count:
            return f"the map has {count:,} {name} value{'s' if count > 1 else ''}"
    return "" if array.any() else "the map is zero everywhere"


class Cell(NamedTuple):
    """One picture of the row under lines of (text, colour); `message` stands in for a picture that cannot be drawn."""

    titles: Lines
    colours: Colours | None
    message: str = ""


def verdict(prediction: Prediction) -> tuple[str, str]:
    """The true class in words, marked right or wrong, and its colour; empty where it is unknown."""
    if not prediction.label:
        return "", MUTED
    colour = {True: RIGHT, False: WRONG, None: MUTED}[prediction.correct]
    return f"{MARKS[prediction.correct]}true: {prediction.label}", colour


def share(probability: float) -> str:
    """A probability with two digits, or with one significant digit where those would be 0.00."""
    return f"{probability:.2f}" if probability >= 0.005 else f"{probability:.1g}"


def original(explanation: Explanation) -> Cell:
    """The image under what the classifier says of it."""
    prediction = explanation.prediction
    titles = [(f"predicted: {prediction.name} {share(prediction.probability)}", INK), verdict(prediction)]
    return Cell([title for title in titles if title[0]], photograph(explanation.image))
