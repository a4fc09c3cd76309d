"""The types that every room shares: images, batches, targets, explanations, and the facts of a classifier."""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core import outputs
from seewhy.core.errors import Incompatible, UserError, check_choice

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image."""

    index: int
    """Index of the likeliest class, or of the largest output of a network without probabilities."""
    name: str
    """Its name; where an image may have several labels, those that are predicted."""
    probability: float
    """Its probability; NaN of a network without probabilities."""
    top: tuple[tuple[str, float], ...]
    """(class, probability) of the five likeliest, best first; output values where there are no probabilities."""
    label: str = ""
    """The true class in words; empty where it is unknown."""
    correct: bool | None = None
    """None where the true class is unknown or unknown to the classifier; of several labels, whether all are right."""
    labels: tuple[str, ...] | None = None
    """The labels that are predicted, the likeliest first; None where classes exclude each other."""
    true_labels: tuple[str, ...] | None = None
    """The true labels; None where classes exclude each other, or where nothing is known."""
    label_accuracy: float | None = None
    """Share of all labels that are told right; None like `true_labels`."""


@dataclass(frozen=True)
class Target:
    """The class of one image that is explained."""

    index: int
    """Index of the class."""
    name: str
    """Its name."""
    probability: float
    """Its probability."""
    policy: str
    """How it was chosen, such as `predicted`."""


@dataclass(frozen=True)
class Explanation:
    """One image with its prediction and one attribution map for one target."""

    name: str
    """Unique in the run and safe as a file name."""
    path: str
    """Where the image was read from."""
    image: Tensor
    """float32 [channels, height, width] in [0, 1], as the classifier saw it."""
    prediction: Prediction
    """What the classifier says of the image."""
    target: Target
    """The class that is explained."""
    attribution: Tensor
    """float32 [height, width]: larger supports the target more."""
    explainer: str
    """The name of the method, such as `integrated_gradients`."""
    parameters: str
    """The parameters of the method in words, such as `baseline=black, n_steps=50`."""
    signed: bool
    """Whether negative values of the map mean evidence against the target."""
    classifier: str
    """Network and weights in words, such as `mobilenetv3 (shipped: mobilenetv3.safetensors)`."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about this map, such as `completeness_gap_relative` or the `n_steps` used."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured of this map, such as `deletion`."""
    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting this map, such as `completeness gap 12 % is over 5 %`."""
    display: tuple[int, ...] = ()
    """The channels that are shown, as in `Facts`."""

    @property
    def picture(self) -> Tensor:
        """The image as it is shown: float32 [3, height, width]."""
        return select_display(self.image, self.display)


Images: TypeAlias = Tensor
"""float32 [batch, channels, height, width] in [0, 1], not normalised; three channels are RGB."""

Classes: TypeAlias = Tensor
"""int64 [batch]: the index of one class for each image."""

Attributions: TypeAlias = Tensor
"""float32 [batch, height, width]: larger supports the target more."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is explained: for each image a weight on each output of the network, so that its score is weights . outputs.

    The common case of one class an image (weight 1 on its output) is held as class indices: `score` then picks the
    outputs and changes no bit of them.
    """

    values: Tensor
    """int64 [batch], one class for each image; or floating point [batch, outputs], the weights."""

    @staticmethod
    def of(targets: Targets | Classes) -> Targets:
        """Wrap a tensor; targets stay as they are.

        Args:
            targets: Targets, class indices int64 [batch], or weights [batch, outputs].

        Returns:
            The targets.
        """
        return targets if isinstance(targets, Targets) else Targets(targets)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Targets:
        return Targets(self.values[rows])

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.values.device

    @property
    def classes(self) -> Classes:
        """The class of each image; Incompatible where several outputs are weighed."""
        if self.values.is_floating_point():
            raise Incompatible("this needs one class an image as its target, not weights on several outputs")
        return self.values

    def clone(self) -> Targets:
        """Copy the targets, outside of any graph.

        Returns:
            The copy.
        """
        return Targets(self.values.detach().clone())

    def repeat(self, count: int) -> Targets:
        """Repeat all targets in order.

        Args:
            count: How often.

        Returns:
            count x batch targets.
        """
        return Targets(torch.cat([self.values] * count))

    def score(self, outputs: Tensor) -> Tensor:
        """Compute the score of each image: weights . outputs.

        Args:
            outputs: What the network, or a function of it, gives for each image [batch, outputs].

        Returns:
            The scores [batch], with their graph.
        """
        if self.values.is_floating_point():
            return (outputs * self.values.to(outputs)).sum(-1)
        return outputs.gather(-1, self.values[..., None])[..., 0]

    def expand(self, outputs: int) -> Tensor:
        """Write the weights out.

        Args:
            outputs: Number of outputs of the network.

        Returns:
            Floating point [batch, outputs].
        """
        return self.values if self.values.is_floating_point() else functional.one_hot(self.values, outputs).float()

    def check(self, images: int, outputs: int) -> None:
        """Check that these are targets of given images and a given network.

        Args:
            images: Number of images.
            outputs: Number of outputs of the network.

        Raises:
            UserError: The shape or type is another, an index lies outside of the outputs, or a weight is not finite.
        """
        values = self.values
        shape, dtype = list(values.shape), values.dtype
        if shape == [images, outputs] and values.is_floating_point():
            if not bool(values.isfinite().all()):
                raise UserError("targets hold weights that are NaN or infinite")
        elif shape != [images] or dtype != torch.int64:
            raise UserError(
                f"targets must be {images} whole numbers (int64) or weights [{images}, {outputs}], not {shape} {dtype}"
            )
        elif int(values.min()) < 0 or int(values.max()) >= outputs:
            raise UserError(
                f"targets {values.tolist()} must be from 0 to {outputs - 1}: the network has {outputs} classes"
            )


class Skipped(NamedTuple):
    """An image that was left out."""

    path: str
    """Its file."""
    reason: str
    """Why it could not be used."""


class Corrupted(NamedTuple):
    """The corrupted versions of one picture, or of a batch of them (then with a leading batch dimension)."""

    pictures: Tensor
    """uint8 [steps, channels, height, width]."""
    sources: Tensor
    """float32 [moving steps, 2, height, width]: where (x, y) each pixel came from, NaN where from outside."""
    seconds: Tensor
    """What the corruption took."""


class Batch(NamedTuple):
    """Images on their way to the classifier, with names, labels and masks."""

    images: Images
    """[batch, channels, height, width] in [0, 1]."""
    labels: Tensor
    """int64 [batch]: index of the true class, -1 where it is unknown. Where an image may have several labels,
    int64 [batch, labels]: 1 where a label is true and 0 where not, a row of -1 where nothing is known."""
    names: list[str]
    """Unique in the data set and safe as a file name."""
    paths: list[str]
    """Where each image was read from."""
    label_names: list[str]
    """The true class in words, empty where it is unknown; it may be a class that the classifier does not know."""
    skipped: list[Skipped]
    """Images that this batch should have held."""
    masks: Tensor | None = None
    """bool [batch, height, width], true on the object; all false where an image has no mask; None without masks."""
    corrupted: Corrupted | None = None
    """The corrupted versions of the same images, on the host; None where none were asked for."""

    def first(self, count: int) -> Batch:
        """Take the first images.

        Args:
            count: How many.

        Returns:
            A batch of at most so many.
        """
        names, paths, words = self.names[:count], self.paths[:count], self.label_names[:count]
        masks = None if self.masks is None else self.masks[:count]
        corrupted = None if self.corrupted is None else Corrupted(*(values[:count] for values in self.corrupted))
        return Batch(self.images[:count], self.labels[:count], names, paths, words, self.skipped, masks, corrupted)

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """Move the tensors to a device; Lightning calls this instead of walking through every name.

        Args:
            device: The device.
            **options: As `torch.Tensor.to` takes them.

        Returns:
            The batch with its tensors there, except the corrupted versions.
        """
        masks = None if self.masks is None else self.masks.to(device, **options)
        images, labels = self.images.to(device, **options), self.labels.to(device, **options)
        return self._replace(images=images, labels=labels, masks=masks)


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
        channels = "" if self.channels == 3 else f", {self.channels} channel{'s' if self.channels > 1 else ''}"
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
        return self.compute_probabilities(scores) if self.has_probabilities else torch.full_like(scores, math.nan)

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
