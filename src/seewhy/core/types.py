"""The types that every room shares: images and batches, predictions, targets and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import select_display


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
    """The class of one image that is explained, or a contrast of classes."""

    index: int
    """Index of the class."""
    name: str
    """Its name; of a contrast such as `dog - 0.5*cat`."""
    probability: float
    """Its probability."""
    policy: str
    """How it was chosen, such as `predicted`."""
    weights: tuple[tuple[int, float], ...] = ()
    """(index, weight) of each class of a contrast, which has no index of its own (-1) and no probability (NaN)."""


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
    """Network and weights in words, as in the captions."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about this map, such as `completeness_gap_relative` or the `n_steps` used."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured of this map, such as `deletion`."""
    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting this map, such as `completeness gap 12 % exceeds the 5 % tolerance`."""
    display: tuple[int, ...] = ()
    """The channels that are shown, as in `Facts`."""
    suffix: str = ""
    """Which target of the image this is, at the end of `name`, where several are explained."""
    float32: Mapping[str, float] | None = None
    """What the map and its metrics are in float32, of the first explanations of a run in bfloat16."""

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.attribution.shape))
        return f"<{self.image_name}: {self.target.name} ({self.target.policy}), {self.explainer}, {size}>"

    @property
    def image_name(self) -> str:
        """The name of the image: `name` without the target."""
        return self.name.removesuffix(f"@{self.suffix}") if self.suffix else self.name

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
