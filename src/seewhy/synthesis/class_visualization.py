"""Class visualization: images that the network itself finds most typical of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from seewhy.classifier import Classifier
from seewhy.errors import UserError
from seewhy.preprocess import to_unit_range
from seewhy.probe import Probe
from seewhy.synthesis.base import Synthesis, sheltered
from seewhy.synthesis.canvas import Canvas, Fourier, Pixels, mean_and_std, normalised
from seewhy.synthesis.class_seed import class_generator
from seewhy.synthesis.eight_bit import as_bytes
from seewhy.synthesis.movement import moved
from seewhy.synthesis.recipe import Recipe, recipe_of
from seewhy.synthesis.visualization import Frame, Visualization, frame_steps
from seewhy.types import Images, Targets

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    from seewhy.synthesis.output import Output


@dataclass(frozen=True, kw_only=True)
class ClassVisualization(Synthesis):
    """Images that maximise the unnormalised score of a class: argmax_x E[logit_c(moved(x))] - l2 ||normalised x||_2^2.

    All classes climb together; a class's image depends on (seed, class), not on the others, up to the rounding of sums in
    batches of another size. `variant` is `fourier` (Olah et al. 2017) or `cs231n` (after Simonyan et al. 2014); a field
    that is None takes its value. `classes` are names or indices; None takes the network's first ten. The images show
    what raises the score, in saturated form, not what the network needs to see.
    """

    classes: Sequence[str | int] | None = None
    variant: str = "fourier"
    parametrization: str | None = None
    steps: int | None = None
    rate: float | None = None
    l2: float | None = None
    jitter: int | None = None
    rotation: float | None = None
    scale: float | None = None
    blur: float | None = None
    blur_every: int | None = None
    decay: float | None = None
    contrast: float | None = None
    saturation: float | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and (isinstance(self.classes, str) or not len(self.classes)):
            raise UserError(f"synthesis.classes={self.classes!r} must be a list of classes: 'synthesis.classes=[...]'")
        _ = self.recipe

    @property
    def recipe(self) -> Recipe:
        """The variant's recipe with the given fields in their place."""
        own = {"seed", "probe_batch_size", "classes", "variant"}
        return recipe_of(self.variant, {key: value for key, value in vars(self).items() if key not in own})

    def run(self, classifier: Classifier, data: LightningDataModule, output: Output) -> dict[str, Any]:
        """Visualize the classes; the data are not used."""
        from seewhy.synthesis.visualization_run import visualize_all

        return visualize_all(self, classifier, output)

    def visualize(
        self, classifier: Classifier, indices: Sequence[int], on_step: Callable[[], object] = lambda: None
    ) -> list[Visualization]:
        """One result for each class index, all in the same batches; `on_step` is called after every step."""
        with sheltered(classifier):
            targets = torch.tensor(list(indices), device=classifier.device)
            shape = (3, classifier.facts.size, classifier.facts.size)
            probe = Probe(classifier, torch.zeros(shape, device=classifier.device), self.probe_batch_size)
            frames = self._climb(probe, targets, on_step)
        names = [classifier.facts.classes[index] for index in indices]
        return [Visualization(*one) for one in zip(indices, names, frames, strict=True)]

    def _climb(self, probe: Probe, targets: Targets, on_step: Callable[[], object]) -> list[list[Frame]]:
        recipe, classifier = self.recipe, probe.classifier
        canvas = _canvas(recipe, classifier)
        generators = [class_generator(self.seed, index) for index in targets.tolist()]
        parameters = torch.stack([canvas.start(generator) for generator in generators]).to(targets.device)
        adam = torch.optim.Adam([parameters], recipe.rate, maximize=True)
        frames: list[list[Frame]] = [[] for _ in generators]
        kept = set(frame_steps(recipe.steps))
        for step in range(1, recipe.steps + 1):
            gradient = _gradient(probe, canvas, parameters, targets, recipe, generators)
            if isinstance(canvas, Pixels):
                parameters = _stepped(canvas, parameters, gradient, recipe, step)
            else:
                parameters.grad = gradient
                adam.step()
            if step in kept:
                for frame, made in zip(frames, _frames(probe, canvas.images(parameters), targets, step), strict=True):
                    frame.append(made)
            on_step()
        return frames


def _canvas(recipe: Recipe, classifier: Classifier) -> Canvas:
    if recipe.parametrization == "fourier":
        return Fourier(classifier.facts.size, recipe.decay, recipe.contrast, recipe.saturation)
    return Pixels(classifier.facts.size)


def _gradient(
    probe: Probe,
    canvas: Canvas,
    parameters: Tensor,
    targets: Targets,
    recipe: Recipe,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """d (logit_target(moved image) - l2 ||normalised image||^2) / d parameters."""
    leaves = parameters.detach().requires_grad_()
    with torch.enable_grad():
        images = canvas.images(leaves)
        jitter = round(recipe.jitter * images.shape[-1] / 224)
        seen = moved(images, generators, jitter, recipe.rotation, recipe.scale)
    score = probe.gradient(seen.detach(), targets)
    penalty = -2 * recipe.l2 * normalised(images.detach()) / mean_and_std(images)[1]
    (gradient,) = torch.autograd.grad([seen, images], leaves, [score, penalty])
    return gradient


def _stepped(canvas: Pixels, parameters: Tensor, gradient: Tensor, recipe: Recipe, step: int) -> Tensor:
    """One normalised step, then the pixels back into [0, 1], then the blur, from the first step on."""
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
    parameters = canvas.clamped(parameters + recipe.rate * gradient / norm)
    if recipe.blur and (step - 1) % recipe.blur_every == 0:
        width = 2 * int(4 * recipe.blur + 0.5) + 1
        parameters = functional.gaussian_blur(parameters, [width, width], [recipe.blur, recipe.blur])
    return parameters


def _frames(probe: Probe, images: Images, targets: Targets, step: int) -> list[Frame]:
    """The images as 8-bit pixels, with what the classifier says of those."""
    pixels = as_bytes(images)
    logits = probe.logits(to_unit_range(pixels))
    score = logits.gather(1, targets[:, None])[:, 0].tolist()
    probability = logits.softmax(1).gather(1, targets[:, None])[:, 0].tolist()
    return [Frame(step, *one) for one in zip(pixels.cpu(), score, probability, strict=True)]
