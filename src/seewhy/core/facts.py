"""Facts of a classifier: what its weights assume about images, and what its outputs mean."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seewhy.core import outputs
from seewhy.core.errors import Incompatible, UserError, check_choice
from seewhy.core.words import count_noun

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of each channel of ImageNet's images in [0, 1]."""
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Of each channel of CIFAR-10's images in [0, 1]."""
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


LARGEST_SIZE = 8192
"""Pixels of one side of an image, at most."""


INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
FITS = ("crop", "squash")


@dataclass(frozen=True)
class Facts:
    """Class names, preprocessing and meaning of the outputs, which travel with the weights.

    Raises:
        UserError: A value is out of range.
    """

    classes: tuple[str, ...]
    """The name of each output."""
    size: int | tuple[int, int]
    """(height, width) of the images in pixels; one number for squares."""
    mean: tuple[float, ...]
    """Of each channel, for images in [0, 1]."""
    std: tuple[float, ...]
    """Of each channel, for images in [0, 1]."""
    crop: float = 1.0
    """Share of the resized shorter side that the centre crop keeps, in (0, 1] (timm's crop_pct)."""
    interpolation: str = "bilinear"
    """How images are resized: nearest, bilinear or bicubic."""
    score: str = "softmax"
    """What the outputs mean, one of `seewhy.core.outputs.SCORES`."""
    display: tuple[int, ...] = ()
    """Numbers, from 1, of the channels that figures show as red, green and blue, or of the one that they show as grey;
    none: the first three, or the first where there are fewer."""
    fit: str = "crop"
    """How a picture of other proportions becomes an image: `crop` keeps them and cuts what stands out on both sides,
    `squash` resizes height and width apart and cuts nothing."""
    threshold: float = 0.5
    """Probability above which a label of several counts as predicted."""
    gives_probabilities: bool = False
    """Whether the network gives probabilities itself."""
    output: str | int | None = None
    """Key or index of the class scores where the network returns several things; None: what can only be them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", read_size(self.size))
        object.__setattr__(self, "display", tuple(self.display))
        if any(unicodedata.category(letter) == "Cc" for name in self.classes for letter in name):
            raise UserError("a class name holds a control character, such as a new line; set model.classes")
        numbers = (*self.mean, *self.std)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise UserError(f"model.mean={list(self.mean)} and model.std={list(self.std)} must be finite numbers")
        if len(self.mean) != len(self.std) or not self.mean:
            raise UserError(
                f"model.mean={list(self.mean)} and model.std={list(self.std)} need one number for each channel"
            )
        if min(self.std) <= 0:
            raise UserError(f"model.std={list(self.std)} must be positive")
        if not 0 < self.crop <= 1:
            raise UserError(f"model.crop={self.crop} must be in (0, 1]: the share of the shorter side that is kept")
        check_choice("model.interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("model.fit", self.fit, FITS)
        numbers_of_channels = range(1, self.channels + 1)
        if len(self.display) not in (0, 1, 3) or any(channel not in numbers_of_channels for channel in self.display):
            raise UserError(
                f"model.display={list(self.display)} must name one or three channels by their numbers, which are 1 to "
                f"{self.channels} (red, green and blue, or grey)"
            )
        check_choice("model.score", self.score, outputs.SCORES)
        if self.score == "binary" and len(self.classes) != 2:
            raise UserError(f"model.score=binary needs two classes, not {len(self.classes)}: set model.classes")
        if isinstance(self.threshold, bool) or not 0 <= self.threshold < 1:
            raise UserError(
                f"model.threshold={self.threshold} must be from 0 to below 1: a label above it is predicted"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return len(self.mean)

    def describe_input(self) -> str:
        """Describe the images in words.

        Returns:
            A phrase such as `224 px`, `160 x 192 px` or `64 px, 4 channels`.
        """
        size = "{} x {}".format(*self.size) if isinstance(self.size, tuple) else str(self.size)
        channels = "" if self.channels == 3 else f", {count_noun(self.channels, 'channel')}"
        return f"{size} px{channels}"

    @property
    def output_count(self) -> int:
        """Number of outputs of the network: one for the two classes of a binary one, else one for each class."""
        return 1 if self.score == "binary" else len(self.classes)

    @property
    def has_probabilities(self) -> bool:
        """Whether an output says how likely something is."""
        return self.score != "none"

    def compute_probabilities(self, scores: Tensor) -> Tensor:
        """Compute the probability of each class; see `seewhy.core.outputs.compute_probabilities`.

        Args:
            scores: What the classifier gives [..., classes].

        Returns:
            [..., classes].
        """
        return outputs.compute_probabilities(scores, self.score, self.gives_probabilities)

    def report_probabilities(self, scores: Tensor) -> Tensor:
        """Compute probabilities for people to read: `compute_probabilities`, NaN where the outputs have none.

        Args:
            scores: What the classifier gives [..., classes].

        Returns:
            [..., classes].
        """
        return self.compute_probabilities(scores) if self.has_probabilities else scores.new_full(scores.shape, math.nan)

    def compute_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of each image; see `seewhy.core.outputs.compute_losses`.

        Args:
            scores: What the classifier gives [n, classes].
            labels: int64 [n], or 0 and 1 for every label [n, classes].

        Returns:
            [n], with its graph.
        """
        return outputs.compute_losses(scores, labels, self.score, self.gives_probabilities)

    def mark_labels(self, labels: Tensor) -> Tensor:
        """Mark for each label whether it is true, where an image may have several and only one is given.

        Args:
            labels: int64 [n], -1 where nothing is known; or [n, classes], which stay as they are.

        Returns:
            Under `sigmoid` int64 [n, classes] of 0 and 1, a row of -1 where nothing is known; else the labels.
        """
        if self.score != "sigmoid" or labels.ndim > 1:
            return labels
        from torch.nn import functional

        marks = functional.one_hot(labels.clamp_min(0), len(self.classes))
        return marks.masked_fill((labels < 0)[:, None], -1)

    def are_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Tell which images are classified correctly: the likeliest class is the true one, or all labels are right.

        Args:
            scores: What the classifier gives [n, classes].
            labels: int64 [n], or 0 and 1 for every label [n, classes].

        Returns:
            bool [n].
        """
        if labels.ndim == 1:
            return scores.argmax(1) == labels
        return ((self.compute_probabilities(scores) > self.threshold) == (labels > 0)).all(1)

    def require_score(self, what: str, *scores: str) -> None:
        """Refuse what needs outputs of another meaning.

        Args:
            what: The method or setting that needs them, as a user writes it.
            *scores: What the outputs may mean.

        Raises:
            Incompatible: They mean something else.
        """
        if self.score not in scores:
            raise Incompatible(
                f"{what} needs a network with model.score={' or '.join(scores)}, and this one has {self.score}"
            )

    def replace(self, changes: Mapping[str, Any]) -> Facts:
        """Replace fields.

        Args:
            changes: New values by field; a field whose value is None stays as it is.

        Returns:
            The changed facts.
        """
        fields = {key: value for key, value in _with_tuples(changes).items() if value is not None}
        return dataclasses.replace(self, **fields)

    def to_metadata(self) -> dict[str, str]:
        """Write the facts for a file.

        Returns:
            The header of a safetensors file, from strings to strings.
        """
        optional = {"display", "fit", "threshold", "gives_probabilities", "output"}
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name in optional}
        fields = {key: value for key, value in vars(self).items() if key not in defaults or value != defaults[key]}
        return {"facts": json.dumps(fields)}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str] | None) -> Facts | None:
        """Read back what `to_metadata` wrote.

        Args:
            metadata: The header of a safetensors file, or what a checkpoint holds in its place.

        Returns:
            The facts; None where the file carries none.

        Raises:
            UserError: They are damaged.
        """
        if not isinstance(metadata, Mapping) or "facts" not in metadata:
            return None
        try:
            return Facts(**_with_tuples(json.loads(metadata["facts"])))
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"its facts (classes, size, mean, ...) are damaged: {error}") from error


def select_display(images: Tensor, display: Sequence[int] = ()) -> Tensor:
    """Select the channels that are shown as colours.

    Args:
        images: [..., channels, height, width].
        display: Numbers, from 1, of three channels or of one; none: the first three, or the first of fewer.

    Returns:
        [..., 3, height, width], red, green and blue; three equal ones of a single channel.
    """
    channels = images.shape[-3]
    chosen = list(display) or ([1, 2, 3] if channels >= 3 else [1])
    if channels == 3 and chosen == [1, 2, 3]:
        return images
    colours = [number - 1 for number in chosen] * (3 // len(chosen))
    return images[..., colours, :, :]


def read_size(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Read the size of images.

    Args:
        size: A number of pixels for squares, or [height, width].

    Returns:
        A number where height and width are equal, else the pair.

    Raises:
        UserError: It is no size, or too large.
    """
    sides: list[Any] = list(size) if isinstance(size, list | tuple) else [size]
    words = sides[0] if len(sides) == 1 else sides
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) not in (1, 2) or not whole:
        raise UserError(f"model.size={words} must be a number of pixels, or [height, width]")
    if not all(1 <= side <= LARGEST_SIZE for side in sides):
        raise UserError(f"model.size={words} must be at least 1 pixel and at most {LARGEST_SIZE}")
    return sides[0] if sides[0] == sides[-1] else (sides[0], sides[1])


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with a tuple for each list."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
