"""Occlusion: what the score loses when a window of the image is covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.settings import Pixels
from seewhy.core.types import Images, Targets
from seewhy.explainers._incremental.drops import compute_incremental_drops
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.baselines import Baseline, build_baselines
from seewhy.explainers.rounding import compute_scores_with_rounding
from seewhy.models.batched import BatchedEvaluator


@dataclass(frozen=True, kw_only=True)
class Occlusion(Explainer):
    """f(x) - f(x with a window replaced by the baseline), averaged over the windows that cover a pixel.

    The last window of each row and column ends at the border: every pixel is covered. Fact `floor`: the rounding of one
    difference, below which a map counts as zero.
    Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.

    Args:
        window: Side of the square window in pixels; None: a fifteenth of the shorter side (15 at 224 pixels), at least 4.
        stride: Pixels between windows, at most `window`; None: a twenty-eighth of the shorter side (8 at 224), at least 2.
        baseline: What the window shows: black, white, grey, mean, blurred, noise or uniform.
        incremental: Whether only what a window can change is computed again, layer by layer, and pasted into the
            activations of the clean image: the same map up to rounding. `auto`: on processors where it is expected to be
            at least 1.2 times as fast as full passes; True: always (Incompatible where the network cannot be replayed).
    """

    window: Pixels | None = None
    stride: Pixels | None = None
    baseline: Baseline = "black"
    incremental: bool | Literal["auto"] = "auto"

    unprinted: ClassVar[frozenset[str]] = Explainer.unprinted | {"incremental"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window and self.stride:
            _check_stride(self.window, self.stride)

    def choose_geometry(self, height: int, width: int) -> tuple[int, int]:
        """Choose the window and the stride for images of a size.

        Args:
            height: In pixels.
            width: In pixels.

        Returns:
            (window, stride) in pixels.

        Raises:
            UserError: If the window is larger than the image, or the stride than the window.
        """
        shorter = min(height, width)
        window = self.window or min(shorter, max(4, round(shorter * 15 / 224)))
        if window > shorter:
            raise UserError(f"window {window} is larger than the {shorter}-pixel image; set explainer.window")
        stride = self.stride or min(window, max(2, round(shorter * 8 / 224)))
        _check_stride(window, stride)
        return window, stride

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        height, width = images.shape[2:]
        window, stride = self.choose_geometry(height, width)
        tops, lefts = compute_positions(height, window, stride), compute_positions(width, window, stride)
        corners = torch.cartesian_prod(torch.tensor(tops), torch.tensor(lefts)).to(images.device)
        cover = build_baselines(self.baseline, images, self.seed)
        measured = None
        if self.incremental:
            must = self.incremental is True
            measured = compute_incremental_drops(evaluator, images, cover, targets, tops, lefts, window, must)
        if measured is None:
            measured = _compute_full_drops(evaluator, images, targets, cover, corners, window)
        drops, rounding = measured
        return AttributionResult(average_over_windows(drops, corners, window, height, width), floor=rounding)

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One forward for the image and one for each window; fewer where they are `incremental`."""
        shape = size["size"]
        height, width = shape if isinstance(shape, tuple) else (int(shape), int(shape))
        window, stride = self.choose_geometry(height, width)
        rows, columns = (len(compute_positions(side, window, stride)) for side in (height, width))
        return rows * columns + 1, 0


def compute_positions(side: int, window: int, stride: int) -> list[int]:
    """Compute where windows start along a side: every `stride` pixels, and where the last ends at the border."""
    last = side - window
    return sorted({*range(0, last + 1, stride), last})


def cover_windows(images: Images, cover: Images, image: Tensor, corners: Tensor, window: int) -> Images:
    """Cover a window in each of images[image] [n, channels, height, width], whose top left is in corners [n, 2]."""
    covered = images[image]
    inside = torch.arange(window, device=images.device)
    rows = (corners[:, 0, None] + inside)[:, :, None]
    columns = (corners[:, 1, None] + inside)[:, None, :]
    numbers = torch.arange(len(image), device=images.device)[:, None, None]
    covered[numbers, :, rows, columns] = cover[image[:, None, None], :, rows, columns]
    return covered


def average_over_windows(drops: Tensor, corners: Tensor, window: int, height: int, width: int) -> Tensor:
    """Average the drops [batch, windows] over the windows that cover each pixel: [batch, height, width].

    Each window adds its drop at four corners of a table whose cumulative sum over both axes is the map: the cost does
    not depend on the window's size.
    """
    batch = len(drops)
    table = drops.new_zeros(batch + 1, height + 1, width + 1, dtype=torch.float64)
    values = torch.cat([drops.double(), torch.ones_like(drops[:1]).double()])
    top, left = corners[:, 0], corners[:, 1]
    for row, column, sign in ((0, 0, 1), (0, window, -1), (window, 0, -1), (window, window, 1)):
        flat = (top + row) * (width + 1) + left + column
        table.view(batch + 1, -1).index_add_(1, flat, sign * values)
    sums = table.cumsum(1).cumsum(2)[:, :height, :width]
    return (sums[:-1] / sums[-1]).to(drops)


def _check_stride(window: int, stride: int) -> None:
    if stride > window:
        raise UserError(
            f"explainer.stride={stride} is larger than the window of {window} pixels: the pixels between the windows "
            "would never be covered; set explainer.window or a smaller explainer.stride"
        )


def _compute_full_drops(
    evaluator: BatchedEvaluator, images: Images, targets: Targets, cover: Images, corners: Tensor, window: int
) -> tuple[Tensor, Tensor]:
    """(f(x) - f(x with a window covered) [batch, windows], each from a full pass; their rounding [batch])."""
    clean, rounding = compute_scores_with_rounding(evaluator, images, targets)
    drops = images.new_empty(len(images), len(corners))
    for rows in evaluator.split(drops.numel(), gradient=False):
        image, corner = rows // len(corners), rows % len(corners)
        covered = cover_windows(images, cover, image, corners[corner], window)
        drops[image, corner] = clean[image] - evaluator.compute_scores(covered, targets[image])
    return drops, rounding
