"""Class visualization: images that the network itself finds most typical of a class.

A recipe says how: what is optimised (pixels or spectrum), the step, the small random movements that keep what is more
than noise, and the penalty. Every class draws from a generator of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Le, MinLen
from torch import Tensor
from torch.nn import functional as torch_functional
from torchvision.transforms.v2 import functional

from seewhy.analyses.synthesis.base import (
    Canvas,
    Fourier,
    Pixels,
    Synthesis,
    isolate,
    mean_and_std,
    normalised,
    to_bytes,
)
from seewhy.core.errors import UserError
from seewhy.core.settings import Count, NonNegative, OneOf, Positive, Target
from seewhy.core.types import Classes, Images, Targets
from seewhy.data.loading import to_unit_range
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier

if TYPE_CHECKING:
    pass


def make_class_generator(seed: int, index: int) -> torch.Generator:
    """A CPU generator that depends on the seed and the index of the class alone, whatever else the run makes."""
    digest = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def move_images(
    images: Images, generators: Sequence[torch.Generator], jitter: int, rotation: float = 0.0, scale: float = 1.0
) -> Images:
    """Each image rolled by 0 .. jitter pixels along both axes, then turned and scaled; differentiable.

    The angle is uniform in [-rotation, rotation] degrees, the factor log-uniform in [1 / scale, scale]; beyond its edge
    the image is mirrored. Every image draws its numbers from its own generator.
    """
    offsets = [torch.randint(0, jitter + 1, (2,), generator=generator).tolist() for generator in generators]
    rolled = torch.stack([image.roll(offset, (1, 2)) for image, offset in zip(images, offsets, strict=True)])
    if not rotation and scale == 1:
        return rolled
    drawn = torch.stack([2 * torch.rand(2, generator=generator) - 1 for generator in generators]).to(images)
    grid = torch_functional.affine_grid(_turns(drawn, rotation, scale), list(images.shape), align_corners=False)
    return torch_functional.grid_sample(rolled, grid, padding_mode="reflection", align_corners=False)


def _turns(drawn: Tensor, rotation: float, scale: float) -> Tensor:
    """[batch, 2, 3]: a rotation by drawn[:, 0] * rotation degrees and a magnification by scale^drawn[:, 1]."""
    angle, factor = drawn[:, 0] * math.radians(rotation), scale ** drawn[:, 1]
    cosine, sine, zero = angle.cos() / factor, angle.sin() / factor, torch.zeros_like(angle)
    return torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides an image beside the network, the class and the seed."""

    parametrization: str
    """`fourier` (Adam on the spectrum) or `pixels` (normalised gradient steps on the pixels)."""
    steps: int
    rate: float
    """Adam's learning rate, or the L2 length of a step in pixels normalised as usual for ImageNet."""
    l2: float
    """Weight of the squared L2 norm of the normalised image, which is taken from the score."""
    jitter: int
    """Most pixels by which an image of 224 pixels is rolled in each step; in proportion to other shorter sides."""
    rotation: float = 0.0
    """Most degrees by which it is turned."""
    scale: float = 1.0
    """Most by which it is magnified, and the inverse by which it is reduced."""
    blur: float = 0.0
    """Standard deviation in pixels of the blur of `pixels`; 0: none."""
    blur_every: int = 10
    decay: float = 1.0
    """Exponent of the frequency by which `fourier` divides its spectrum."""
    contrast: float = 1.2
    """Bound on the standard deviation of `fourier` before the sigmoid; 1.6 in ImageNet photographs."""
    saturation: float = 1.0
    """Bound on the colours of `fourier` relative to its brightness; 1 in photographs."""

    def __post_init__(self) -> None:
        if self.parametrization not in ("fourier", "pixels"):
            raise UserError(f"synthesis.parametrization={self.parametrization!r} is neither fourier nor pixels")
        for key, least in (("steps", 1), ("jitter", 0), ("blur_every", 1), ("scale", 1), ("l2", 0), ("rotation", 0)):
            if not getattr(self, key) >= least:
                raise UserError(f"synthesis.{key}={getattr(self, key)} must be at least {least}")
        for key in ("rate", "contrast", "saturation"):
            if not getattr(self, key) > 0:
                raise UserError(f"synthesis.{key}={getattr(self, key):g} must be positive")
        if not self.blur >= 0:
            raise UserError(f"synthesis.blur={self.blur:g} must be 0 or more pixels")


VARIANTS = {
    "fourier": Recipe(
        parametrization="fourier", steps=128, rate=0.05, l2=0.0, jitter=24, rotation=15, scale=1.3, decay=1.2
    ),
    "cs231n": Recipe(parametrization="pixels", steps=100, rate=25.0, l2=1e-3, jitter=16, blur=0.5, blur_every=10),
}
"""`fourier`: Olah et al. 2017. `cs231n`: the exercise of the Stanford course, after Simonyan et al. 2014."""


def build_recipe(variant: str, changes: dict[str, Any]) -> Recipe:
    """The recipe of a variant with every given value replaced that is not None."""
    if variant not in VARIANTS:
        raise UserError(f"synthesis.variant={variant!r} is none of {', '.join(VARIANTS)}")
    return dataclasses.replace(VARIANTS[variant], **{key: value for key, value in changes.items() if value is not None})


STRIP = (0.01, 0.25, 0.5, 0.75, 1.0)
"""Shares of the steps that the strip shows."""
ANIMATED = 40
"""Frames of the animation."""


class Frame(NamedTuple):
    """The image after a step, and what the classifier says of it."""

    step: int
    pixels: Tensor
    """uint8 [channels, height, width]."""
    score: float
    """The class's logit for these pixels, unmoved."""
    probability: float


@dataclass(frozen=True)
class Visualization:
    """The frames of one class, the last one the result."""

    index: int
    name: str
    frames: list[Frame]
    display: tuple[int, ...] = ()
    """The channels that figures show, as in `Facts`."""

    @property
    def strip(self) -> list[Frame]:
        """The frames at the shares of the steps that `STRIP` names."""
        strip = list_strip_steps(self.frames[-1].step)
        return [frame for frame in self.frames if frame.step in strip]


def list_strip_steps(steps: int) -> list[int]:
    """The steps of the strip, without repetition: 1, 25, 50, 75 and 100 of 100."""
    return sorted({max(1, round(share * steps)) for share in STRIP})


def list_frame_steps(steps: int) -> list[int]:
    """The steps after which a frame is kept: those of the strip and about `ANIMATED` more, evenly spaced."""
    every = max(1, -(-steps // ANIMATED))
    return sorted({*list_strip_steps(steps), *range(every, steps + 1, every)})


@dataclass(frozen=True, kw_only=True)
class ClassVisualization(Synthesis):
    """Images that maximise the unnormalised score of a class: argmax_x E[logit_c(moved(x))] - l2 ||normalised x||_2^2.

    Each class climbs in passes of its own, of one image: small differences grow in hundreds of steps, and in a batch the
    neighbours of an image decide how its sums are rounded. So its image depends on (seed, class) alone, to the byte on one
    machine with one number of threads. The images show what raises the score, in saturated form, not what the network
    needs to see. Olah et al.: Feature visualization, 2017 (`fourier`); Simonyan et al. 2014 (`cs231n`).

    Args:
        classes: Names or indices; None takes the network's first ten.
        variant: `fourier` or `cs231n`; a field below that is None takes the variant's value.
        parametrization: What is optimised: `fourier` (a spectrum) or `pixels`.
        steps: Number of steps.
        rate: Adam's learning rate, or the L2 length of a step of pixels.
        l2: Weight of the squared norm of the normalised image.
        jitter: Most pixels by which an image of 224 pixels is rolled in a step.
        rotation: Most degrees by which it is turned.
        scale: Most by which it is magnified or reduced.
        blur: Standard deviation of the blur of `pixels`, in pixels; 0: none.
        blur_every: Steps between two blurs.
        decay: Exponent of the frequency by which the spectrum is divided.
        contrast: Bound on the standard deviation before the sigmoid.
        saturation: Bound on the colours relative to the brightness.
    """

    classes: Annotated[Sequence[Target], MinLen(1)] | None = None
    variant: Annotated[str, OneOf(VARIANTS)] = "fourier"
    parametrization: Annotated[str, OneOf(("fourier", "pixels"))] | None = None
    steps: Count | None = None
    rate: Positive | None = None
    l2: NonNegative | None = None
    jitter: Annotated[int, Ge(0), Le(224)] | None = None
    rotation: Annotated[float, Ge(0), Le(180)] | None = None
    scale: Annotated[float, Ge(1), Le(100)] | None = None
    blur: NonNegative | None = None
    blur_every: Count | None = None
    decay: NonNegative | None = None
    contrast: Positive | None = None
    saturation: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.recipe

    @property
    def recipe(self) -> Recipe:
        """The variant's recipe with the given fields in their place."""
        own = {"seed", "probe_batch_size", "classes", "variant"}
        return build_recipe(self.variant, {key: value for key, value in vars(self).items() if key not in own})

    def visualize(
        self, classifier: Classifier, indices: Sequence[int], on_step: Callable[[], object] = lambda: None
    ) -> list[Visualization]:
        """Make the images of some classes, one after the other.

        Args:
            classifier: The network; it is left as it was.
            indices: Indices of the classes.
            on_step: Called after every step of each class.

        Returns:
            The frames of each class, the last one the result.
        """
        names, display = classifier.facts.classes, classifier.facts.display
        shape = (classifier.facts.channels, *classifier.facts.shape)
        with isolate(classifier):
            evaluator = BatchedEvaluator(classifier, torch.zeros(shape, device=classifier.device), 1)
            return [
                Visualization(index, names[index], self._climb(evaluator, index, on_step), display) for index in indices
            ]

    def _climb(self, evaluator: BatchedEvaluator, index: int, on_step: Callable[[], object]) -> list[Frame]:
        recipe, classifier = self.recipe, evaluator.classifier
        canvas, generators = _canvas(recipe, classifier), [make_class_generator(self.seed, index)]
        target = torch.tensor([index], device=classifier.device)
        parameters = canvas.start(generators[0])[None].to(target.device)
        adam = torch.optim.Adam([parameters], recipe.rate, maximize=True)
        frames: list[Frame] = []
        steps_of_frames = set(list_frame_steps(recipe.steps))
        for step in range(1, recipe.steps + 1):
            gradient = _gradient(evaluator, canvas, parameters, target, recipe, generators)
            if isinstance(canvas, Pixels):
                parameters = _stepped(canvas, parameters, gradient, recipe, step)
            else:
                parameters.grad = gradient
                adam.step()
            if step in steps_of_frames:
                frames += _frames(evaluator, canvas.images(parameters), target, step)
            on_step()
        return frames


def _canvas(recipe: Recipe, classifier: Classifier) -> Canvas:
    shape = (classifier.facts.channels, *classifier.facts.shape)
    if recipe.parametrization == "fourier":
        return Fourier(shape, recipe.decay, recipe.contrast, recipe.saturation)
    return Pixels(shape)


def _gradient(
    evaluator: BatchedEvaluator,
    canvas: Canvas,
    parameters: Tensor,
    targets: Classes,
    recipe: Recipe,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """d (logit_target(moved image) - l2 ||normalised image||^2) / d parameters."""
    leaves = parameters.detach().requires_grad_()
    with torch.enable_grad():
        images = canvas.images(leaves)
        jitter = round(recipe.jitter * min(images.shape[-2:]) / 224)
        moved_images = move_images(images, generators, jitter, recipe.rotation, recipe.scale)
    score = evaluator.compute_gradient(moved_images.detach(), targets)
    penalty = -2 * recipe.l2 * normalised(images.detach()) / mean_and_std(images)[1]
    (gradient,) = torch.autograd.grad([moved_images, images], leaves, [score, penalty])
    return gradient


def _stepped(canvas: Pixels, parameters: Tensor, gradient: Tensor, recipe: Recipe, step: int) -> Tensor:
    """One normalised step, then the pixels back into [0, 1], then the blur, from the first step on."""
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
    parameters = canvas.clamped(parameters + recipe.rate * gradient / norm)
    if recipe.blur and (step - 1) % recipe.blur_every == 0:
        width = 2 * int(4 * recipe.blur + 0.5) + 1
        parameters = functional.gaussian_blur(parameters, [width, width], [recipe.blur, recipe.blur])
    return parameters


def _frames(evaluator: BatchedEvaluator, images: Images, targets: Classes, step: int) -> list[Frame]:
    """The images as 8-bit pixels, with what the classifier says of those."""
    pixels = to_bytes(images)
    logits = evaluator.compute_logits(to_unit_range(pixels))
    score = Targets(targets).score(logits).tolist()
    probability = Targets(targets).score(evaluator.classifier.facts.report_probabilities(logits)).tolist()
    return [Frame(step, *frame) for frame in zip(pixels.cpu(), score, probability, strict=True)]
