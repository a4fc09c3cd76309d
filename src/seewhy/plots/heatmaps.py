"""The pictures of one row of a figure, by name.

From attribution values to what is painted: a robust scale, normalised values and colours over a grey image.
What a map keeps of its image: its positive points, and the image seen through them.
A small picture of an image as the network saw it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.types import Explanation, Prediction
from seewhy.plots.colormaps import INK, MUTED, RIGHT, WRONG, ColourMap, Colours, build_colour_map, to_uint8

Lines: TypeAlias = list[tuple[str, str]]
"""Lines of (text, colour)."""
MARKS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} ", None: ""}


def to_array(map_or_image: Tensor) -> NDArray[np.floating]:
    """The tensor as an array on the host: float32 as it is, anything else as float64."""
    tensor = map_or_image.detach()
    array: NDArray[np.floating] = (tensor if tensor.dtype == torch.float32 else tensor.double()).cpu().numpy()
    return array


def compute_scale(attribution: Tensor, outlier_percent: float = 2.0) -> float:
    """The absolute value at which colours saturate.

    With |values| in rising order, the first one whose cumulative sum reaches (1 - outlier_percent / 100) of the total:
    the top `outlier_percent` % of the attribution mass, not of the pixels, lies there or above (the rule of Captum's
    visualisation). 0.0 for a map that is zero everywhere or not finite. Raises UserError outside 0 <= percent < 100.
    """
    if not 0 <= outlier_percent < 100:
        raise UserError(
            f"outlier_percent={outlier_percent:g}: set callbacks.figures.outlier_percent from 0 to below 100"
        )
    rising = np.sort(np.abs(to_array(attribution)), axis=None)
    mass = np.cumsum(rising, dtype=np.float64)
    if not mass.size or not np.isfinite(mass[-1]) or mass[-1] == 0:
        return 0.0
    return float(rising[np.searchsorted(mass, (100 - outlier_percent) * mass[-1] / 100)])


def normalise(attribution: Tensor, scale: float, signed: bool) -> NDArray[np.float32]:
    """attribution / scale, float32 [height, width], clipped to [-1, 1] (signed) or [0, 1]; zeros where scale is 0."""
    if scale == 0:
        return np.zeros(tuple(attribution.shape), np.float32)
    return np.clip(to_array(attribution) / scale, -1 if signed else 0, 1).astype(np.float32, copy=False)


def clip_positive(attribution: Tensor) -> Tensor:
    """max(attribution, 0): the evidence for the target."""
    return attribution.clamp(min=0)


def clip_negative(attribution: Tensor) -> Tensor:
    """max(-attribution, 0): the evidence against the target, as positive values."""
    return (-attribution).clamp(min=0)


def to_rgb(image: Tensor) -> NDArray[np.float32]:
    """[3, height, width] in [0, 1] -> [height, width, 3], clipped, with 0 where a value is missing."""
    return np.fmin(np.fmax(to_array(image), 0), 1).transpose(1, 2, 0).astype(np.float32, copy=False)


def blend_overlay(
    image: Tensor, normalised: NDArray[np.float32], colour_map: ColourMap, strength: float = 0.7
) -> NDArray[np.float32]:
    """Colours over the grey image, float32 [height, width, 3] in [0, 1].

    grey is the mean of the channels; the opacity of a pixel is strength * |normalised|, so the picture shows through
    unchanged where the map is zero. The colour is that of the value or, for a signed map, the full colour of its sign:
    pale colours would hide small values in a white haze.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength={strength:g}: set callbacks.figures.strength from 0 to 1")
    red, green, blue = to_rgb(image).transpose(2, 0, 1)
    grey = (red + green + blue) / 3
    opacity = strength * np.abs(normalised)
    tint = colour_map(np.sign(normalised) if colour_map.lowest < 0 else normalised)
    ground = (1 - opacity) * grey
    for channel in range(3):
        tint[..., channel] = ground + opacity * tint[..., channel]
    return tint


def describe_flaw(attribution: Tensor) -> str:
    """Why the map cannot be drawn: it is zero everywhere or holds NaN or infinite values; empty when it can be."""
    array = to_array(attribution)
    for name, count in (("NaN", np.isnan(array).sum()), ("infinite", np.isinf(array).sum())):
        if count:
            return f"the map has {count:,} {name} value{'s' if count > 1 else ''}"
    return "" if array.any() else "the map is zero everywhere"


class Cell(NamedTuple):
    """One picture of the row under lines of (text, colour); `message` stands in for a picture that cannot be drawn."""

    titles: Lines
    colours: Colours | None
    message: str = ""


def describe_verdict(prediction: Prediction) -> tuple[str, str]:
    """The true class in words, marked right or wrong, and its colour; empty where it is unknown."""
    if not prediction.label:
        return "", MUTED
    colour = {True: RIGHT, False: WRONG, None: MUTED}[prediction.correct]
    return f"{MARKS[prediction.correct]}true: {prediction.label}", colour


def format_probability(probability: float) -> str:
    """A probability with two digits, or with one significant digit where those would be 0.00."""
    return f"{probability:.2f}" if probability >= 0.005 else f"{probability:.1g}"


def draw_original(explanation: Explanation) -> Cell:
    """The image under what the classifier says of it."""
    prediction = explanation.prediction
    titles = [
        (f"predicted: {prediction.name} {format_probability(prediction.probability)}", INK),
        describe_verdict(prediction),
    ]
    return Cell([title for title in titles if title[0]], to_rgb(explanation.image))


REFERENCE = 112
"""The blur is 2 pixels on an image of 224: this many blurs fit into its side."""


def compute_point_cloud(attribution: Tensor, scale: float, threshold: float = 0.0) -> NDArray[np.float32]:
    """max(attribution, 0) / scale in [0, 1], [height, width], and 0 wherever that is not over `threshold`."""
    _check("threshold", threshold)
    share = normalise(attribution, scale, signed=False)
    return np.where(share > threshold, share, np.float32(0))


def compute_mask(
    attribution: Tensor, scale: float, threshold: float = 0.2, blur: float | None = None
) -> NDArray[np.bool_]:
    """[height, width]: where the blurred point cloud is over `threshold` of its peak; nowhere if nothing is positive.

    `blur` is the standard deviation in pixels; None: 2 pixels on an image of 224, in proportion for others, at least 1.
    The cloud is clipped at `scale` first, so that one outlying pixel does not decide the mask.
    """
    _check("threshold", threshold)
    cloud = compute_point_cloud(attribution, scale)
    sigma = max(1.0, min(cloud.shape) / REFERENCE) if blur is None else blur
    smooth = gaussian_filter(cloud, sigma) if sigma else cloud
    kept: NDArray[np.bool_] = smooth > threshold * smooth.max()
    return kept


def apply_mask(image: Tensor, mask: NDArray[np.bool_], background: float = 0.1) -> NDArray[np.float32]:
    """The image [height, width, 3], as bright as it is inside the mask and dimmed to `background` outside."""
    _check("background", background)
    shown: NDArray[np.float32] = to_rgb(image) * np.where(mask, 1, background).astype(np.float32)[..., None]
    return shown


def _check(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise UserError(f"{name}={share:g} must be from 0 to below 1: it is a share of the largest value")


DEFAULT_VIEWS = {True: ("heat_map", "overlay", "positive", "negative"), False: ("heat_map", "overlay")}
"""What is shown of a signed map, and of one that is never negative."""


def draw_views(
    explanation: Explanation, scale: float, colours: str, strength: float, views: Sequence[str] = ()
) -> list[Cell]:
    """The original and the named views (none: `USUAL`); the original and a message where scale is 0."""
    check_views(views)
    if not scale:
        heading: Lines = [("heat map", INK), ("attribution of each pixel", MUTED)]
        return [draw_original(explanation), Cell(heading, None, describe_flaw(explanation.attribution))]
    chosen = views or DEFAULT_VIEWS[explanation.signed]
    return [draw_original(explanation), *(VIEWS[name](explanation, scale, colours, strength) for name in chosen)]


def check_views(views: Sequence[str]) -> None:
    """UserError that lists the views where one of `views` is none of them."""
    unknown = [name for name in views if name not in VIEWS]
    if unknown:
        raise UserError(f"callbacks.figures.views has {', '.join(unknown)}; there are: {', '.join(VIEWS)}")


def _heat_map(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    ramp = build_colour_map(colours, "signed" if explanation.signed else "unsigned")
    painted = ramp.painted(normalise(explanation.attribution, scale, explanation.signed))
    return Cell([("heat map", INK), ("attribution of each pixel", MUTED)], painted)


def _overlay(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    ramp = build_colour_map(colours, "signed" if explanation.signed else "unsigned")
    normalised = normalise(explanation.attribution, scale, explanation.signed)
    painted = blend_overlay(explanation.image, normalised, ramp, strength)
    return Cell([("overlay", INK), ("stronger colour, larger value", MUTED)], painted)


def _positive(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _part("positive", "evidence for the target", clip_positive(explanation.attribution), scale, colours)


def _negative(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    return _part("negative", "evidence against the target", clip_negative(explanation.attribution), scale, colours)


def _part(kind: Literal["positive", "negative"], meaning: str, part: Tensor, scale: float, colours: str) -> Cell:
    titles = [(f"{kind} only", INK), (meaning, MUTED)]
    if not part.any():
        return Cell(titles, None, f"no {kind} values")
    return Cell(titles, build_colour_map(colours, kind).painted(normalise(part, scale, signed=False)))


def _point_cloud(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    titles = [("point cloud", INK), ("positive values alone", MUTED)]
    cloud = compute_point_cloud(explanation.attribution, scale)
    if not cloud.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, build_colour_map(colours, "positive" if explanation.signed else "unsigned").painted(cloud))


def _binary_mask(explanation: Explanation, scale: float, colours: str, strength: float) -> Cell:
    mask = compute_mask(explanation.attribution, scale)
    titles = [("masked image", INK), (f"the {100 * mask.mean():.0f} % with the largest values", MUTED)]
    if not mask.any():
        return Cell(titles, None, "no positive values")
    return Cell(titles, apply_mask(explanation.image, mask))


VIEWS: dict[str, Callable[[Explanation, float, str, float], Cell]] = {
    "heat_map": _heat_map,
    "overlay": _overlay,
    "positive": _positive,
    "negative": _negative,
    "point_cloud": _point_cloud,
    "binary_mask": _binary_mask,
}


LONGEST = 256
LOSSLESS = 64
"""Up to this side a picture is kept exactly: artefacts of compression would show, and it is small anyway."""


def encode_preview(image: Tensor) -> bytes:
    """float32 [3, height, width] in [0, 1] -> WebP of at most 256 pixels a side: about 12 kB at 224, 2 kB at 32."""
    picture = Image.fromarray(to_uint8(to_rgb(image)))
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="WEBP", lossless=max(picture.size) <= LOSSLESS, quality=82, method=0)
    return content.getvalue()
