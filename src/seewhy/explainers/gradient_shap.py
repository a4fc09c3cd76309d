"""Gradient SHAP, also called expected gradients: integrated gradients over a distribution of baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.core.random import seed_generator
from seewhy.core.types import Attributions, Images, Targets
from seewhy.data.images import read_image
from seewhy.data.listing import find_images
from seewhy.data.preprocessing import resize_and_crop, to_unit_range
from seewhy.explainers.base import AttributionResult, CompleteExplainer
from seewhy.explainers.baselines import BASELINES, RANDOM_BASELINES, build_baselines, check_baseline, draw_baseline
from seewhy.explainers.noise_tunnel import ImageNoise, check_noise
from seewhy.models.batched import BatchedEvaluator

IMAGE_ITSELF = "image"


@dataclass(frozen=True, kw_only=True)
class GradientShap(CompleteExplainer):
    """Mean over samples of (x + noise - b) * d logit / d image at b + t (x + noise - b), summed over the channels.

    b comes from a distribution: `baseline`, one name or a list of names, or instead of them the image files (a folder,
    a file, a pattern or a list of those) in `baseline_files`, fitted to the classifier. Every member is drawn equally
    often, `noise` and `uniform` anew for every sample. t is uniform in [0, 1]: one value in each of `n_samples` equal
    parts, in random order. The baseline `image` is the image itself: its samples add nothing, so [black, image] gives
    half of the map of black. Maps add up to f(image) - mean f(b) in expectation: the gap shrinks with the samples.
    Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017; Erion et al.: Improving
    performance of deep learning models with axiomatic attribution priors and expected gradients, 2021.
    """

    n_samples: int = 50
    noise: float = 1e-4
    baseline: str | Sequence[str] = "black"
    baseline_files: str | Sequence[str] | None = None
    tolerance: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.n_samples, self.noise)
        for key in ("baseline", "baseline_files"):
            given = getattr(self, key)
            if given is not None and not isinstance(given, str):
                object.__setattr__(self, key, tuple(str(each) for each in given))
        if not self._names():
            raise UserError(f"explainer.baseline=[] needs a name: {', '.join(BASELINES)}, {IMAGE_ITSELF}")
        for name in self._names():
            if name != IMAGE_ITSELF:
                check_baseline(name)

    def _names(self) -> tuple[str, ...]:
        return (self.baseline,) if isinstance(self.baseline, str) else tuple(self.baseline)

    @property
    def parameters(self) -> str:
        """With the files in place of the names where there are files."""
        files = self.baseline_files
        shown = "+".join(self._names()) if files is None else f"files {files if isinstance(files, str) else len(files)}"
        return f"baseline={shown}, n_samples={self.n_samples}, noise={self.noise}"

    def build_baselines(self, images: Images) -> Images:
        """The first member of the distribution; `compute_change` compares with the mean over those that were drawn."""
        return _Distribution(self, images, None)(torch.arange(len(images)), *torch.zeros(2, len(images)).long())

    def compute_change(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Tensor:
        """f(image) - mean f(b) over the baselines that were drawn [batch]; each different one passes once."""
        distribution = _Distribution(self, images, evaluator.classifier.facts)
        member = self._draw(images, len(distribution))[0]
        rows = torch.arange(len(images), device=images.device)[:, None].expand_as(member)
        sample = torch.arange(self.n_samples, device=images.device) * distribution.is_random[member]
        drawn, times = torch.stack([rows, member, sample]).flatten(1).unique(dim=1, return_counts=True)
        change = evaluator.compute_scores(images, targets).double()
        for probes in evaluator.split(drawn.shape[1], gradient=False):
            image, which, turn = drawn[:, probes]
            scores = evaluator.compute_scores(distribution(image, which, turn), targets[image])
            change.index_add_(0, image, -scores.double() * times[probes] / self.n_samples)
        return change

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        maps = self.reduce(self.attribute_channels(evaluator, images, targets))
        return self.add_completeness(evaluator, maps, images, targets)

    def attribute_channels(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """The attributions [batch, 3, height, width] without their completeness gap."""
        distribution = _Distribution(self, images, evaluator.classifier.facts)
        member, position = self._draw(images, len(distribution))
        noise = ImageNoise(self.seed, images, "gradient_shap noise")
        attributions = torch.zeros_like(images)
        for probes in evaluator.split(len(images) * self.n_samples, gradient=True):
            image, sample = probes // self.n_samples, probes % self.n_samples
            baselines = distribution(image, member[image, sample], sample)
            difference = noise.draw(image).mul_(self.noise).add_(images[image]).sub_(baselines)
            points = baselines + position[image, sample][:, None, None, None] * difference
            attributions.index_add_(0, image, difference * evaluator.compute_gradient(points, targets[image]))
        return attributions / self.n_samples

    def reduce(self, per_channel: Images) -> Attributions:
        """Sum over the channels."""
        return per_channel.sum(1)

    def _draw(self, images: Images, members: int) -> tuple[Tensor, Tensor]:
        """(member of the distribution, position on the path), each [batch, samples]."""
        count = self.n_samples
        chosen, positions = [], []
        for image in images:
            generator = seed_generator(self.seed, image, "gradient_shap")
            order = torch.randperm(members, generator=generator).repeat(-(-count // members))[:count]
            chosen.append(order[torch.randperm(count, generator=generator)])
            part = torch.randperm(count, generator=generator)
            positions.append((part + torch.rand(count, generator=generator, dtype=torch.float32)) / count)
        return torch.stack(chosen).to(images.device), torch.stack(positions).to(images)

    def passes_per_image(self, **size: Any) -> tuple[int, int] | None:
        """One pass each way for each sample, and forwards for the image and for each different baseline."""
        names = self._names()
        random = sum(name in RANDOM_BASELINES for name in names)
        if self.baseline_files is not None or 0 < random < len(names):
            return None
        different = self.n_samples if random else min(len(names), self.n_samples)
        return self.n_samples + 1 + different, self.n_samples


class _Distribution:
    """The baselines of some images: members by number, random ones anew for every sample."""

    def __init__(self, explainer: GradientShap, images: Images, facts: Facts | None) -> None:
        self.images = images
        self.seed = explainer.seed
        self.members: list[Tensor | str]
        files = explainer.baseline_files
        if files is not None and facts is not None:
            paths = (files,) if isinstance(files, str) else tuple(files)
            self.members = list(read_baselines(paths, facts, tuple(images.shape[2:])).to(images))
        else:
            self.members = [self._named(name) for name in explainer._names()]
        self.is_random = torch.tensor([isinstance(each, str) for each in self.members], device=images.device)

    def _named(self, name: str) -> Tensor | str:
        if name == IMAGE_ITSELF:
            return self.images
        return name if name in RANDOM_BASELINES else build_baselines(name, self.images)

    def __len__(self) -> int:
        return len(self.members)

    def __call__(self, image: Tensor, member: Tensor, sample: Tensor) -> Images:
        """Baselines [n, 3, height, width] of the images, members and samples with these indices [n]."""
        baselines = torch.empty_like(self.images[image])
        for number in member.unique().tolist():
            rows = (member == number).nonzero()[:, 0]
            baselines[rows] = self._member(self.members[number], image[rows], sample[rows])
        return baselines

    def _member(self, member: Tensor | str, image: Tensor, sample: Tensor) -> Images:
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
    """The image files below `paths`, fitted to `size`: [files, 3, height, width] in [0, 1]; read once in a process.

    UserError where there is none, where one cannot be read, or where the size is not square.
    """
    if size[0] != size[1]:
        raise UserError(f"explainer.baseline_files cannot be fitted to {size[0]}x{size[1]} images: they must be square")
    try:
        found = find_images([Path(path).expanduser() for path in paths])
    except UserError as error:
        raise UserError(str(error).replace("data.root", "explainer.baseline_files")) from None
    if not found:
        raise UserError(f"explainer.baseline_files={', '.join(paths)} holds no images")
    fitted = []
    for each in found:
        try:
            fitted.append(resize_and_crop(read_image(each.path), facts.replace({"size": size[0]})))
        except UnreadableImage as error:
            raise UserError(f"explainer.baseline_files: {each.path} cannot be used: {error}") from None
    return to_unit_range(torch.stack(fitted))
