"""Images of which only some superpixels are shown, on their way through the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.probe import Probe
from seewhy.types import Images, Targets

BLOCK = 512
"""Masks drawn at a time: what the memory is bounded by, whatever the number of masks."""


@dataclass(frozen=True)
class Coalitions:
    """Images, what covers them (`cover`, same shape), their superpixels [batch, height, width] and their targets."""

    probe: Probe
    images: Images
    cover: Images
    labels: Tensor
    targets: Targets

    def scores(self, image: Tensor, shown: Tensor) -> Tensor:
        """The target's logit float64 [n], on the CPU, of image `image[i]` where superpixel s is seen if `shown[i, s]`.

        `image` is int64 [n] in ascending order, `shown` bool [n, superpixels].
        """
        image, shown = image.to(self.labels.device), shown.to(self.images)
        scores = self.images.new_empty(len(image))
        for probes in self.probe.chunks(len(image), gradient=False):
            rows = image[probes]
            seen = shown[probes].gather(1, self.labels.flatten(1)[rows]).view(-1, 1, *self.labels.shape[1:])
            scores[probes] = self.probe.scores(blend(self.images, self.cover, rows, seen), self.targets[rows])
        return scores.cpu().double()


def runs(image: Tensor) -> Iterator[tuple[int, slice]]:
    """(value, its rows) for each stretch of equal values: a chunk of many masks holds few images."""
    values, counts = torch.unique_consecutive(image, return_counts=True)
    start = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count


def blend(images: Images, cover: Images, image: Tensor, seen: Tensor) -> Images:
    """images[image] where `seen` [n, 1, height, width] is 1, cover[image] where it is 0, a mixture between."""
    blended = images.new_empty(len(image), *images.shape[1:])
    for item, rows in runs(image):
        torch.lerp(cover[item], images[item], seen[rows], out=blended[rows])
    return blended
