"""What every attribution method is: a value that maps (classifier, images, targets) to one map per image."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from seewhy.core.disclosure import mask_secrets
from seewhy.core.errors import Incompatible, UserError, name_key, name_own_code
from seewhy.core.precision import find_narrow_type, name_type
from seewhy.core.settings import ProbeBatchSize, Seed, check_fields
from seewhy.core.tensors import is_all_finite
from seewhy.core.types import Attributions, Classes, Images, Targets
from seewhy.core.words import write_snake_case
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.unwrapping import INSTEAD, describe_hidden, has_visible_layers

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


@dataclass(frozen=True)
class AttributionResult:
    """The maps of a batch of images, with further numbers about each."""

    maps: Attributions
    """Float [batch, height, width]: larger supports the target more."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """Numbers [batch] by name, such as the steps that were used."""
    floor: Tensor | None = None
    """What rounding alone can make of a value, [batch] or [batch, height, width]; None: the method has no such number."""

    def settle(self) -> AttributionResult:
        """Set maps to zero of which no value is above its floor.

        Returns:
            The maps with the facts `floor`, the largest of each map, and `largest`, the largest absolute value before.
        """
        if self.floor is None:
            return self
        floor = self.floor.to(self.maps).view(len(self.maps), -1)
        values = self.maps.abs().flatten(1)
        is_rounding = (values <= floor).all(1)
        facts = {**self.facts, "largest": values.amax(1), "floor": floor.amax(1)}
        return AttributionResult(self.maps.masked_fill(is_rounding[:, None, None], 0.0), facts)


@dataclass(frozen=True, kw_only=True)
class Explainer(ABC):
    """An attribution method with its parameters.

    A call leaves the classifier, its modes and all random states as they were. A map depends on its image, its target and
    the seed alone, not on the other images of the run.

    Args:
        seed: Decides, together with an image, every random number.
        probe_batch_size: Bound on the number of images that are in the network at once; `auto`: the fastest.
    """

    seed: Seed = 0
    probe_batch_size: ProbeBatchSize = "auto"

    signed: ClassVar[bool] = True
    """Whether negative values mean evidence against the target."""
    rectified: ClassVar[bool] = False
    """Whether a map that is not signed holds the evidence for the target alone; otherwise it holds magnitudes, which say
    how much a pixel matters, not in which direction."""
    passes: ClassVar[tuple[int, int] | None] = None
    """(forward, backward) passes of an image, where they do not depend on the parameters."""
    looks_inside: ClassVar[str] = ""
    """What a method reads beside outputs and gradients: `layers` (of modules), `operations` (every one), or nothing."""
    needs_float32: ClassVar[str] = ""
    """Why the method is refused under autocast; empty where it may compute in bfloat16."""
    is_local: ClassVar[bool] = False
    """Whether a map is made of gradients at the image itself, which rounding decides where the image is flat."""
    unprinted: ClassVar[frozenset[str]] = frozenset(("seed", "probe_batch_size"))
    """Parameters that `parameters` leaves out, because they do not decide what the map means."""

    def __post_init__(self) -> None:
        check_fields(self, "explainer")

    @property
    def name(self) -> str:
        """The method's name in snake case, as in its yaml."""
        return write_snake_case(type(self).__name__)

    @property
    def parameters(self) -> str:
        """The parameters that decide the maps, as `key=value, key=value`."""
        settings = {key: value for key, value in vars(self).items() if key not in self.unprinted and value is not None}
        return mask_secrets(", ".join(f"{key}={value}" for key, value in settings.items()))

    def __call__(self, classifier: Classifier, images: Images, targets: Targets | Classes) -> Attributions:
        """Compute the maps alone: `attribute` without its facts."""
        return self.attribute(classifier, images, targets).maps

    def attribute(self, classifier: Classifier, images: Images, targets: Targets | Classes) -> AttributionResult:
        """Compute the attribution maps of a batch of images, with further numbers about each.

        Works under inference mode and under no_grad.

        Args:
            classifier: The network to explain. Of one in double precision everything is computed in double precision.
            images: Float32 [batch, channels, height, width] in [0, 1].
            targets: Int64 [batch], a class for each image, or weights [batch, outputs]: the score that is explained is
                weights . outputs.

        Returns:
            Maps [batch, height, width] in float32 (float64 of a classifier in double precision), and facts.

        Raises:
            UserError: If a shape or a parameter does not suit the images.
            Incompatible: If the method would be wrong on this network.
        """
        weights = Targets.of(targets)
        _check(classifier, images, weights)
        _check_visible(classifier, self)
        self.check_precision(images.device.type)
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.inference_mode(False), torch.no_grad(), classifier.frozen(), torch.random.fork_rng(devices=devices):
            copies = images.detach().to(torch.promote_types(images.dtype, classifier.mean.dtype), copy=True)
            evaluator = BatchedEvaluator(classifier, copies[0], self.probe_batch_size)
            parts = [each for each in vars(self).values() if isinstance(each, Explainer)]
            with name_own_code(f"explainer {self.name}", self, *parts):
                returned = self._attribute(evaluator, copies, weights.clone())
            self._check_result(returned, copies)
            result = returned.settle()
        maps = result.maps.detach().to(torch.float64 if copies.dtype == torch.float64 else torch.float32)
        return dataclasses.replace(result, maps=maps)

    def _check_result(self, result: object, images: Images) -> None:
        """UserError where a method returned something else than a map and a number of each fact for each image."""
        expected = [len(images), *images.shape[2:]]
        maps = getattr(result, "maps", None)
        if not isinstance(result, AttributionResult) or not isinstance(maps, Tensor):
            form = type(result).__name__ if maps is None else f"AttributionResult({type(maps).__name__})"
            raise UserError(f"explainer {self.name} must return AttributionResult(maps {expected}), not {form}")
        if list(maps.shape) != expected:
            raise UserError(
                f"explainer {self.name} must return a map for each image, {expected} of [batch, height, width], not "
                f"{list(maps.shape)}"
            )
        for key, values in result.facts.items():
            if not isinstance(values, Tensor) or values.shape != (len(images),):
                form = str(list(values.shape)) if isinstance(values, Tensor) else type(values).__name__
                raise UserError(f"explainer {self.name}: its fact {key!r} must be a tensor [{len(images)}], not {form}")

    @abstractmethod
    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        """The method itself; runs without gradients, on copies, with a frozen classifier."""

    def check_precision(self, device: str) -> None:
        """Refuse a method, or another inside of it, that rounding would decide in the type of autocast.

        Args:
            device: Kind of device, such as `cpu`.

        Raises:
            Incompatible: It is on, and the method needs float32.
        """
        narrow = find_narrow_type(device)
        inner = [each for each in vars(self).values() if isinstance(each, Explainer)]
        for each in (self, *inner):
            if narrow is not None and each.needs_float32:
                raise Incompatible(
                    f"{each.name} is not computed in {name_type(narrow)}: {each.needs_float32}; set precision=float32"
                )

    def check_names(self, classifier: Classifier) -> None:
        """Check what the settings name of a network, before any image is read: the layer, where the method has one.

        Args:
            classifier: The network that will be explained.

        Raises:
            UserError: It has no such layer; the message names the nearest.
        """
        for value in vars(self).values():
            if isinstance(value, Explainer):
                value.check_names(classifier)
        layer = getattr(self, "layer", None)
        if layer is not None:
            with name_key(f"explainer.layer={layer}"):
                classifier.find_layer(layer)

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List what the facts of a map tell its reader to beware of.

        Args:
            facts: Those of one map.

        Returns:
            A sentence for each; a method with facts of its own adds to them.
        """
        return []

    def resolve(self, classifier: Classifier, size: tuple[int, int]) -> Explainer:
        """Name in the parameters what is left to the network, such as the layer that a map is drawn from.

        Args:
            classifier: The network to explain.
            size: (height, width) of the images in pixels.

        Returns:
            The explainer with the choice among its parameters; it computes the same maps.

        Raises:
            Incompatible: If the network offers no choice.
        """
        _check_visible(classifier, self)
        return self._resolve(classifier, size)

    def _resolve(self, classifier: Classifier, size: tuple[int, int]) -> Explainer:
        return self

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """Count the passes that one image costs.

        Args:
            **size: `size`, the side of the images in pixels or their (height, width), and `classes`, the number of
                outputs.

        Returns:
            (forward, backward) passes, or None where their number is not known beforehand.
        """
        return self.passes

    def passes_per_call(self) -> int:
        """Count the passes that a batch of any size costs besides: those of a baseline that all images share.

        Returns:
            Forward passes.
        """
        return 0


@dataclass(frozen=True, kw_only=True)
class ChannelExplainer(Explainer):
    """A method with a value for every channel of a pixel, which it reduces to one value for the pixel."""

    @abstractmethod
    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Compute an attribution for every channel, with as many forward as backward passes.

        Args:
            evaluator: Runs the network in batches of bounded size.
            images: Float [batch, channels, height, width] in [0, 1].
            targets: A target for each image.

        Returns:
            Attributions [batch, channels, height, width].
        """

    def reduce(self, attributions: Images) -> Attributions:
        """Reduce attributions over the channels: their sum, unless the method says otherwise.

        Args:
            attributions: [batch, channels, height, width].

        Returns:
            Maps [batch, height, width].
        """
        return attributions.sum(1)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        return AttributionResult(self.reduce(self.attribute_channels(evaluator, images, targets)))


def _check_visible(classifier: Classifier, explainer: Explainer) -> None:
    hidden = describe_hidden(classifier.network) if explainer.looks_inside else ""
    if hidden and (explainer.looks_inside == "operations" or not has_visible_layers(classifier.network)):
        raise Incompatible(
            f"{explainer.name} reads the {explainer.looks_inside} of a network, and this one hides them: {hidden}; {INSTEAD}"
        )


def _check(classifier: Classifier, images: Images, targets: Targets) -> None:
    channels = classifier.facts.channels
    if images.ndim != 4 or images.shape[1] != channels or not len(images):
        raise UserError(
            f"images must be [batch, {channels}, height, width] with at least one image, not {list(images.shape)}"
        )
    targets.check(len(images), len(classifier.facts.classes))
    if not is_all_finite(images):
        raise UserError("images hold NaN or infinite values")
