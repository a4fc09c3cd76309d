"""Integrals of the gradient along straight paths from baselines to images: on fixed nodes, or on as many as are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from seewhy.core.errors import UserError, check_choice
from seewhy.core.settings import OneOf
from seewhy.core.types import Images, Targets
from seewhy.models.batched import BatchedEvaluator

RULES = ("gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid")
Rule = Annotated[str, OneOf(RULES)]
START = 4
"""Segments of the first look at an adaptive path."""
FEWEST = 2 * START + 1
"""Nodes that an adaptive path needs at least: those of the first look, halved once to see how much the map changes."""
SEGMENTS = 16
"""Most segments of an adaptive path: what bounds the memory."""
CANCELLING = 10
"""How many times the tolerance the errors of a path may add up to before their signs cancel: no stop by luck."""
NEARLY_LARGEST = 2 / 3
"""Segments are refined together where the gain for each node is at least this share of the largest."""


def check_rule(rule: str) -> None:
    """Raise UserError, which lists the rules, where `rule` is none of them."""
    check_choice("explainer.rule", rule, RULES)


def find_first_point(values: Tensor) -> float:
    """Find the point of a path at which the gradient of its start is taken, as a share of the path.

    At a baseline of one colour all values of a pooling window are equal, a rectifier may stand at its kink, and rounding
    decides where the gradient goes. What an integral over the path needs there is the limit from inside it: at the root of
    the precision the image tells those values apart, and the point is closer to the start than any rule can tell.

    Args:
        values: Of the images; their precision counts.

    Returns:
        The share, 3e-4 in single and 1e-8 in double precision.
    """
    return math.sqrt(torch.finfo(values.dtype).eps)


def compute_quadrature(rule: str, n_steps: int) -> tuple[Tensor, Tensor]:
    """Compute the nodes and weights of a rule for integrals from 0 to 1.

    Args:
        rule: One of `RULES`.
        n_steps: Number of nodes, from 1 (2 for the trapezoid rule).

    Returns:
        (nodes, weights), float64 [n_steps] each; the weights sum to 1.

    Raises:
        UserError: If the rule is unknown or needs more nodes.
    """
    check_rule(rule)
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    if rule == "trapezoid":
        if n_steps < 2:
            raise UserError(f"explainer.n_steps={n_steps}: the trapezoid rule needs both ends, so at least 2 steps")
        halved = torch.full((n_steps,), 1.0 / (n_steps - 1), dtype=torch.float64)
        halved[[0, -1]] /= 2
        return torch.linspace(0, 1, n_steps, dtype=torch.float64), halved
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    equal = torch.full((n_steps,), 1.0 / n_steps, dtype=torch.float64)
    return (torch.arange(n_steps, dtype=torch.float64) + shift) / n_steps, equal


def walk_straight_path(
    evaluator: BatchedEvaluator, images: Images, baselines: Images, rule: str, n_steps: int
) -> Iterator[tuple[Tensor, Tensor, Images]]:
    """Walk through the nodes of all images' paths, as many at a time as fill a pass with gradients.

    Args:
        evaluator: Bounds the size of a pass.
        images: Ends of the paths, [batch, channels, height, width].
        baselines: Their starts, of the same shape.
        rule: One of `RULES`.
        n_steps: Number of nodes of each path.

    Yields:
        (index of the image [n], weight in the integral [n], point [n, channels, height, width]).
        A node at the start is taken at `find_first_point`.
    """
    nodes, weights = (values.to(images) for values in compute_quadrature(rule, n_steps))
    nodes = nodes.clamp_min(find_first_point(images))
    difference = images - baselines
    for rows in evaluator.split(len(images) * n_steps, gradient=True):
        image, step = rows // n_steps, rows % n_steps
        yield image, weights[step], baselines[image] + nodes[step, None, None, None] * difference[image]


@dataclass(frozen=True)
class PathIntegral:
    """What an adaptive path comes to, for each image."""

    values: Images
    """(image - baseline) * integral of the gradient, [batch, channels, height, width]."""
    nodes: Tensor
    """Nodes used, int64 [batch]."""
    map_error: Tensor
    """Estimated L2 error of the map, the sum of the values over the channels, as a share of it; float64 [batch]."""


class AdaptivePath:
    """Trapezoid sums on segments of each image's path, refined where their error is largest.

    Every node also yields the score, so the error of a segment is known without further passes: its sum, multiplied by
    (image - baseline), should be the change of the score over the segment. The segments with the largest errors for
    each new node have their intervals halved, until the errors of an image add up to less than its tolerance, and their
    absolute values to less than ten times that. A segment of two intervals becomes two segments while there are fewer
    than 16: they gather where the path bends. Errors of single pixels may still cancel in these sums, so all intervals are
    then halved, again and again, until the map changes by less than its own tolerance; this change is the estimated
    error: where the gradient jumps about, as behind rectifiers, the sums over old and over new nodes are off
    independently, and half their difference is as large as the error of their mean. Where the new nodes leave a larger sum
    of errors, segments are refined once more. All nodes stay in use; 33 gradients of an image are held, whatever the
    number of nodes.

    Args:
        evaluator: Runs the network in batches of bounded size.
        images: Ends of the paths, [batch, channels, height, width].
        baselines: Their starts, of the same shape.
        targets: A target for each image.
    """

    def __init__(self, evaluator: BatchedEvaluator, images: Images, baselines: Images, targets: Targets) -> None:
        self.evaluator = evaluator
        self.baselines = baselines
        self.difference = images - baselines
        self.targets = targets
        count, device = len(images), images.device
        self.ends = images.new_zeros(count, SEGMENTS + 1, *images.shape[1:])
        self.end_dots, self.end_scores = torch.zeros(2, count, SEGMENTS + 1, dtype=torch.float64, device=device)
        self.inner = images.new_zeros(count, SEGMENTS, *images.shape[1:])
        self.inner_dots, self.inner_scores = torch.zeros(2, count, SEGMENTS, dtype=torch.float64, device=device)
        self.starts, self.widths = torch.zeros(2, count, SEGMENTS, dtype=torch.float64, device=device)
        self.left, self.right = torch.zeros(2, count, SEGMENTS, dtype=torch.int64, device=device)
        self.intervals = torch.zeros(count, SEGMENTS, dtype=torch.int64, device=device)
        """Intervals of each segment; 0 where there is no segment yet."""
        self.used = torch.full((count,), START, device=device)

    def integrate(self, tolerance: float, map_tolerance: float, max_steps: int) -> PathIntegral:
        """Refine all paths until their sums and their maps are within the tolerances.

        Args:
            tolerance: Error of an image's sum as a share of the change of its score.
            map_tolerance: Error of an image's map, in the L2 norm, as a share of the map.
            max_steps: Most nodes of an image, from `FEWEST`.

        Returns:
            The integrals; an image that has come to the limit is above a tolerance.
        """
        self._begin()
        while (refined := self._choose_segments(tolerance, (max_steps + 1) // 2)).any():
            self._halve(refined)
            self._split()
        values = self._integrate_gradients().mul_(self.difference)
        errors = torch.full_like(self.end_dots[:, 0], torch.inf)
        while (rows := (errors > map_tolerance) & (2 * self.count_nodes() - 1 <= max_steps)).any():
            self._halve(rows[:, None] & (self.intervals > 0))
            finer = self._integrate_gradients().mul_(self.difference)
            errors = torch.where(rows, compare_maps(values, finer), errors)
            values = finer
        while (refined := self._choose_segments(tolerance, max_steps)).any():  # new nodes may cancel less in the sum
            self._halve(refined)
        return PathIntegral(self._integrate_gradients().mul_(self.difference), self.count_nodes(), errors)

    def count_nodes(self) -> Tensor:
        """Count the nodes [batch] evaluated so far: the ends of the segments and those inside."""
        return self.intervals.sum(1) + 1

    def _begin(self) -> None:
        """Both ends of `START` equal segments."""
        numbers = torch.arange(START, device=self.targets.device)
        self.starts[:, :START], self.widths[:, :START] = numbers / START, 1 / START
        self.left[:, :START], self.right[:, :START] = numbers, numbers + 1
        self.intervals[:, :START] = 1
        for rows in self.evaluator.split(len(self.targets) * (START + 1), gradient=True):
            image, end = rows // (START + 1), rows % (START + 1)
            scores, gradient, dots = self._evaluate(image, end.double() / START)
            self.end_scores[image, end], self.ends[image, end], self.end_dots[image, end] = scores, gradient, dots

    def _evaluate(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(scores [n], gradients, their products with the difference [n]) at positions [n] from 0 to 1."""
        share = position.to(self.difference).clamp_min(find_first_point(self.difference))[:, None, None, None]
        points = self.baselines[image] + share * self.difference[image]
        scores, gradient = self.evaluator.compute_score_and_gradient(points, self.targets[image])
        return scores.double(), gradient, (gradient * self.difference[image]).sum((1, 2, 3), dtype=torch.float64)

    def _compute_errors(self) -> Tensor:
        """Signed error [batch, segments] of each segment's sum."""
        ends = (self.end_dots.gather(1, self.left) + self.end_dots.gather(1, self.right)) / 2
        change = self.end_scores.gather(1, self.right) - self.end_scores.gather(1, self.left)
        return (ends + self.inner_dots) * self._compute_steps() - change

    def _compute_steps(self) -> Tensor:
        """Length [batch, segments] of the intervals of each segment; 0 where there is none."""
        return self.widths / self.intervals.clamp_min(1)

    def _choose_segments(self, tolerance: float, max_steps: int) -> Tensor:
        """bool [batch, segments]: of unfinished images those with nearly the largest error for each new node."""
        errors = self._compute_errors()
        change = (self.end_scores[:, START] - self.end_scores[:, 0]).abs().clamp_min(1e-6)
        allowed = tolerance * change
        unfinished = (errors.sum(1).abs() > allowed) | (errors.abs().sum(1) > CANCELLING * allowed)
        gain = errors.abs() / self.intervals.clamp_min(1)
        worst = unfinished[:, None] & (gain >= NEARLY_LARGEST * gain.amax(1, keepdim=True)) & (gain > 0)
        added = torch.where(worst, self.intervals, 0).cumsum(1)
        return worst & (self.count_nodes()[:, None] + added <= max_steps)

    def _halve(self, refined: Tensor) -> None:
        """Add the middles of all intervals of these segments."""
        image, segment = refined.nonzero(as_tuple=True)
        count = self.intervals[image, segment]
        last = count.cumsum(0)
        for nodes in self.evaluator.split(int(last[-1]), gradient=True):
            row = torch.searchsorted(last, nodes, right=True)
            within = (nodes - (last[row] - count[row]) + 0.5) / count[row]
            owner = image[row], segment[row]
            scores, gradient, dots = self._evaluate(image[row], self.starts[owner] + within * self.widths[owner])
            self.inner.view(-1, *gradient.shape[1:]).index_add_(0, image[row] * SEGMENTS + segment[row], gradient)
            self.inner_dots.index_put_(owner, dots, accumulate=True)
            self.inner_scores[owner] = scores
        self.intervals[image, segment] *= 2

    def _split(self) -> None:
        """Make two segments of each segment of two intervals, while an image has room for more."""
        fits = self.intervals == 2
        fits &= self.used[:, None] + fits.cumsum(1) <= SEGMENTS
        image, old = fits.nonzero(as_tuple=True)
        new = self.used[image] + fits.cumsum(1)[image, old] - 1
        end = new + 1
        self.ends[image, end], self.inner[image, old] = self.inner[image, old], torch.zeros_like(self.inner[image, old])
        self.end_dots[image, end], self.inner_dots[image, old] = self.inner_dots[image, old], 0.0
        self.end_scores[image, end] = self.inner_scores[image, old]
        self.widths[image, old] /= 2
        self.starts[image, new] = self.starts[image, old] + self.widths[image, old]
        self.widths[image, new] = self.widths[image, old]
        self.left[image, new], self.right[image, new] = end, self.right[image, old]
        self.right[image, old] = end
        self.intervals[image, old], self.intervals[image, new] = 1, 1
        self.used += fits.sum(1)

    def _integrate_gradients(self) -> Images:
        """The weighted sum of all gradients [batch, channels, height, width]."""
        steps = self._compute_steps()
        weights = torch.zeros_like(self.end_dots)
        weights.scatter_add_(1, self.left, steps / 2).scatter_add_(1, self.right, steps / 2)
        return _sum_weighted(weights, self.ends) + _sum_weighted(steps, self.inner)


def compare_maps(coarse: Images, fine: Images) -> Tensor:
    """Compute |coarse - fine| / |fine| of maps in the L2 norm, float64 [batch]; 0 where they are equal.

    Args:
        coarse: Attributions [batch, channels, height, width], whose sums over the channels are the maps.
        fine: The same from more nodes.
    """
    off = (coarse - fine).sum(1).double().flatten(1).norm(dim=1)
    return torch.where(off > 0, off / fine.sum(1).double().flatten(1).norm(dim=1), 0.0)


def _sum_weighted(weights: Tensor, gradients: Tensor) -> Images:
    """Sum over n of weights [batch, n] * gradients [batch, n, ...], without a copy of the gradients."""
    flat = gradients.flatten(2)
    return torch.bmm(weights.to(flat)[:, None], flat).view(len(flat), *gradients.shape[2:])
