"""The path integral of the gradient, with nodes only where they are needed."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.probe import Probe
from seewhy.types import Images, Targets

SEGMENTS = 8


class AdaptivePath:
    """Trapezoid sums on eight segments of each image's path, each refined by halving its intervals.

    Every node also yields the score, so the error of a segment is known without further passes: its sum, multiplied
    by (image - baseline), should be the change of the score over the segment. The segments with the largest errors
    are halved until the errors of an image add up to less than its tolerance. All earlier nodes stay in use; what is
    kept for an image are 17 gradients, whatever the number of nodes.
    """

    def __init__(self, probe: Probe, images: Images, baselines: Images, targets: Targets) -> None:
        self.probe = probe
        self.baselines = baselines
        self.difference = images - baselines
        self.targets = targets
        count, device = len(images), images.device
        shape = images.shape[1:]
        self.ends = images.new_zeros(count, SEGMENTS + 1, *shape)
        self.inner = images.new_zeros(count, SEGMENTS, *shape)
        self.end_dots = torch.zeros(count, SEGMENTS + 1, dtype=torch.float64, device=device)
        self.inner_dots = torch.zeros(count, SEGMENTS, dtype=torch.float64, device=device)
        self.scores = torch.zeros(count, SEGMENTS + 1, dtype=torch.float64, device=device)
        self.intervals = torch.ones(count, SEGMENTS, dtype=torch.int64, device=device)

    def integrate(self, tolerance: float, max_steps: int) -> tuple[Images, Tensor]:
        """(difference * integral of the gradient [batch, 3, height, width], nodes used [batch])."""
        self._measure_ends()
        while True:
            chosen = self._segments_to_halve(tolerance, max_steps)
            if not chosen.any():
                break
            self._halve(chosen)
        width = 1 / (SEGMENTS * self.intervals.to(self.inner))[..., None, None, None]
        middle = (self.ends[:, :-1] + self.ends[:, 1:]) / 2
        return ((middle + self.inner) * width).sum(1) * self.difference, self.nodes()

    def nodes(self) -> Tensor:
        """Nodes [batch] evaluated so far: the ends of the segments and those inside."""
        return self.intervals.sum(1) + 1

    def _measure_ends(self) -> None:
        per_image = SEGMENTS + 1
        for probes in self.probe.chunks(len(self.targets) * per_image, gradient=True):
            image, end = probes // per_image, probes % per_image
            scores, gradient, dots = self._evaluate(image, end / SEGMENTS)
            self.scores[image, end] = scores
            self.ends[image, end] = gradient
            self.end_dots[image, end] = dots

    def _evaluate(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = position.to(self.difference)[:, None, None, None]
        points = self.baselines[image] + place * self.difference[image]
        scores, gradient = self.probe.score_and_gradient(points, self.targets[image])
        return scores.double(), gradient, (gradient * self.difference[image]).double().sum((1, 2, 3))

    def _errors(self) -> Tensor:
        """Signed error [batch, segments] of each segment's sum."""
        middle = (self.end_dots[:, :-1] + self.end_dots[:, 1:]) / 2
        return (middle + self.inner_dots) / (SEGMENTS * self.intervals) - self.scores.diff(dim=1)

    def _segments_to_halve(self, tolerance: float, max_steps: int) -> Tensor:
        """bool [batch, segments]: of unfinished images those with more than half of the largest error per new node."""
        errors = self._errors()
        change = (self.scores[:, -1] - self.scores[:, 0]).abs().clamp_min(1e-6)
        unfinished = errors.sum(1).abs() > tolerance * change
        gain = errors.abs() / self.intervals
        chosen = unfinished[:, None] & (gain >= gain.amax(1, keepdim=True) / 2) & (gain > 0)
        added = torch.where(chosen, self.intervals, 0).cumsum(1)
        return chosen & (self.nodes()[:, None] + added <= max_steps)

    def _halve(self, chosen: Tensor) -> None:
        image, segment = chosen.nonzero(as_tuple=True)
        count = self.intervals[image, segment]
        last = count.cumsum(0)
        for probes in self.probe.chunks(int(last[-1]), gradient=True):
            row = torch.searchsorted(last, probes, right=True)
            within = probes - (last[row] - count[row])
            position = (segment[row] + (within + 0.5) / count[row]) / SEGMENTS
            _, gradient, dots = self._evaluate(image[row], position)
            self.inner.view(-1, *gradient.shape[1:]).index_add_(0, image[row] * SEGMENTS + segment[row], gradient)
            self.inner_dots.view(-1).index_add_(0, image[row] * SEGMENTS + segment[row], dots)
        self.intervals[image, segment] *= 2
