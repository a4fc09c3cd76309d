"""Gradient SHAP, also called expected gradients: integrated gradients over a distribution of baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor

from seewhy.core.errors import Incompatible, UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.core.random import seed_generator
from seewhy.core.settings import Count, OneOf, PathText, Positive, Text, UnitInterval, refuse_unread
from seewhy.core.types import Images, Targets
from seewhy.data.folder import find_samples
from seewhy.data.images import read_image
from seewhy.data.labels import find_images
from seewhy.data.loading import resize_and_crop, to_unit_range
from seewhy.explainers.baselines import BASELINES, RANDOM_BASELINES, build_baselines, draw_baseline
from seewhy.explainers.completeness import CompleteChannelExplainer, ScoreChange
from seewhy.explainers.noise_tunnel import ImageNoise
from seewhy.explainers.rounding import compute_scores_with_rounding
from seewhy.models.batched import BatchedEvaluator

IMAGE_ITSELF = "image"
BaselineOrImage = Annotated[str, OneOf((*BASELINES, IMAGE_ITSELF))]


@dataclass(frozen=True, kw_only=True)
class GradientShap(CompleteChannelExplainer):
    """Mean over samples of (x + noise - b) * d score / d image at b + t (x + noise - b), summed over the channels.

    b comes from a distribution, whose members are drawn equally often. t is uniform in [0, 1]: one value in each of
    `n_samples` equal intervals, in random order. Maps add up to f(image) - mean f(b) in expectation: the gap shrinks with
    the samples.
    Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017; Erion et al.: Improving
    performance of deep learning models with axiomatic attribution priors and expected gradients, 2021.

    Args:
        n_samples: Points of each image, from 1.
        noise: Standard deviation of the noise as a share of the value range 1, in [0, 1].
        baseline: The name of a baseline, or a list of names; `noise` and `uniform` are drawn anew for every sample. `image`
            is the image itself: its samples add nothing, so [black, image] gives half of the map of black.
        baseline_files: Image files as baselines instead (a folder, a file, a pattern or a list of those), fitted to the
            classifier.
        tolerance: Relative completeness gap, above 0, from which a map has a warning.
    """

    n_samples: Count = 50
    noise: UnitInterval = 1e-4
    baseline: BaselineOrImage | Annotated[Sequence[BaselineOrImage], MinLen(1)] = "black"
    baseline_files: Text | Annotated[Sequence[PathText], MinLen(1)] | None = None
    tolerance: Positive = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline_files is not None:
            refuse_unread(self, "explainer", ("baseline",), "where baseline_files names the baselines")
        for key in ("baseline", "baseline_files"):
            value = getattr(self, key)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, key, tuple(str(each) for each in value))

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)

    @property
    def parameters(self) -> str:
        """With the files in place of the names where there are files."""
        files = self.baseline_files
        baseline = (
            "+".join(self._names) if files is None else f"files {files if isinstance(files, str) else len(files)}"
        )
        return f"baseline={baseline}, n_samples={self.n_samples}, noise={self.noise}"

    def _list_paths(self, facts: Facts) -> tuple[str, ...]:
        """Where the images are that serve as baselines; none: the named baselines do."""
        files = self.baseline_files
        return () if files is None else (files,) if isinstance(files, str) else tuple(str(each) for each in files)

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> ScoreChange:
        """Compute f(image) - mean f(b) over the baselines that were drawn; each different one passes once."""
        distribution = _Distribution(self, images, evaluator.classifier.facts)
        member = self._draw(images, len(distribution))[0]
        rows = torch.arange(len(images), device=images.device)[:, None].expand_as(member)
        sample = torch.arange(self.n_samples, device=images.device) * distribution.is_random[member]
        drawn, times = torch.stack([rows, member, sample]).flatten(1).unique(dim=1, return_counts=True)
        scores, rounding = compute_scores_with_rounding(evaluator, images, targets)
        change = scores.double()
        for columns in evaluator.split(drawn.shape[1], gradient=False):
            image, which, turn = drawn[:, columns]
            scores, bounds = compute_scores_with_rounding(evaluator, distribution(image, which, turn), targets[image])
            for row in image.unique().tolist():
                rounding[row] = torch.maximum(rounding[row], bounds[image == row].amax())
            change.index_add_(0, image, -scores.double() * times[columns] / self.n_samples)
        return ScoreChange(change, rounding.double())

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """Average over the samples, without measuring the completeness gap."""
        distribution = _Distribution(self, images, evaluator.classifier.facts)
        member, position = self._draw(images, len(distribution))
        noise = ImageNoise(self.seed, images, "gradient_shap noise") if self.noise else None
        attributions = torch.zeros_like(images)
        for rows in evaluator.split(len(images) * self.n_samples, gradient=True):
            image, sample = rows // self.n_samples, rows % self.n_samples
            baselines = distribution(image, member[image, sample], sample)
            ends = images[image] if noise is None else noise.draw(image).mul_(self.noise).add_(images[image])
            difference = ends.sub_(baselines)
            points = baselines + position[image, sample][:, None, None, None] * difference
            attributions.index_add_(0, image, difference * evaluator.compute_gradient(points, targets[image]))
        return attributions / self.n_samples

    def _draw(self, images: Images, members: int) -> tuple[Tensor, Tensor]:
        """(member of the distribution, position on the path), each [batch, samples]."""
        count = self.n_samples
        drawn, positions = [], []
        for image in images:
            generator = seed_generator(self.seed, image, "gradient_shap")
            order = torch.randperm(members, generator=generator).repeat(-(-count // members))[:count]
            drawn.append(order[torch.randperm(count, generator=generator)])
            interval = torch.randperm(count, generator=generator)
            positions.append((interval + torch.rand(count, generator=generator, dtype=torch.float32)) / count)
        return torch.stack(drawn).to(images.device), torch.stack(positions).to(images)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each sample, and forwards for the image and for each different baseline."""
        random = sum(name in RANDOM_BASELINES for name in self._names)
        if self.baseline_files is not None or 0 < random < len(self._names):
            return None
        different = self.n_samples if random else min(len(self._names), self.n_samples)
        return self.n_samples + 1 + different, self.n_samples


@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(GradientShap):
    """Gradient SHAP over photographs: mean over samples of (x - b) * d score / d image at b + t (x - b), no noise.

    b are images of a data set, each drawn equally often. Maps add up to f(image) - mean f(b) in expectation.
    Erion, Janizek, Sturmfels, Lundberg, Lee: Improving performance of deep learning models with axiomatic attribution
    priors and expected gradients, Nature Machine Intelligence 2021.

    Args:
        n_samples: Points of each image, from 1.
        noise: As in `GradientShap`; published without.
        baseline: Not used.
        baseline_files: The images: a folder, a file, a pattern or a list of those, best of the training data; None: the
            project's sample images.
    """

    n_samples: Count = 200
    noise: UnitInterval = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline != "black":
            raise UserError(
                f"explainer.baseline={self.baseline} is not used by expected_gradients: set explainer.baseline_files, or "
                "take explainer=gradient_shap"
            )

    @property
    def parameters(self) -> str:
        """With the sample images where no files are named."""
        return super().parameters.replace("baseline=black", "baseline=sample images")

    def _list_paths(self, facts: Facts) -> tuple[str, ...]:
        if self.baseline_files is not None:
            return super()._list_paths(facts)
        if facts.channels not in (1, 3):
            raise Incompatible(
                f"expected_gradients needs images of {facts.channels} channels as baselines, and the sample images have 3; "
                "set explainer.baseline_files to images of your data"
            )
        return (str(find_samples(facts.classes)),)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """None: the number of different baselines depends on the files."""
        return None


class _Distribution:
    """The baselines of some images: members by number, random ones anew for every sample."""

    def __init__(self, explainer: GradientShap, images: Images, facts: Facts) -> None:
        self.images = images
        self.seed = explainer.seed
        self.members: list[Tensor | str]
        paths = explainer._list_paths(facts)
        if paths:
            self.members = list(read_baselines(paths, facts, tuple(images.shape[2:])).to(images))
        else:
            self.members = [self._build_member(name) for name in explainer._names]
        self.is_random = torch.tensor([isinstance(each, str) for each in self.members], device=images.device)

    def _build_member(self, name: str) -> Tensor | str:
        if name == IMAGE_ITSELF:
            return self.images
        return name if name in RANDOM_BASELINES else build_baselines(name, self.images)

    def __len__(self) -> int:
        return len(self.members)

    def __call__(self, image: Tensor, member: Tensor, sample: Tensor) -> Images:
        """Baselines [n, channels, height, width] of the images, members and samples with these indices [n]."""
        baselines = torch.empty_like(self.images[image])
        for number in member.unique().tolist():
            rows = (member == number).nonzero()[:, 0]
            baselines[rows] = self._draw(self.members[number], image[rows], sample[rows])
        return baselines

    def _draw(self, member: Tensor | str, image: Tensor, sample: Tensor) -> Images:
        if isinstance(member, Tensor):
            return member.expand_as(self.images)[image]
        shape = self.images.shape[1:]
        drawn = [
            draw_baseline(member, shape, seed_generator(self.seed, self.images[row], f"baseline {turn}"))
            for row, turn in zip(image.tolist(), sample.tolist(), strict=True)
        ]
        return torch.stack(drawn).to(self.images)


@lru_cache(maxsize=4)
def read_baselines(paths: tuple[str, ...], facts: Facts, size: tuple[int, int]) -> Images:
    """Read the image files below `paths` as baselines, once in a process.

    Args:
        paths: Folders, files and patterns.
        facts: What the classifier expects of an image.
        size: (height, width) in pixels.

    Returns:
        Float32 [files, channels, height, width] in [0, 1].

    Raises:
        UserError: If there is no image, or one cannot be read.
    """
    facts = facts.replace({"size": size})
    try:
        files = find_images([Path(path).expanduser() for path in paths])
    except UserError as error:
        raise UserError(str(error).replace("data.root", "explainer.baseline_files")) from None
    if not files:
        raise UserError(f"explainer.baseline_files={', '.join(paths)} holds no images")
    fitted = []
    for each in files:
        try:
            fitted.append(to_unit_range(resize_and_crop(read_image(each.path, channels=facts.channels), facts)))
        except UnreadableImage as error:
            raise UserError(f"explainer.baseline_files: {each.path} cannot be used: {error}") from None
    return torch.stack(fitted)
