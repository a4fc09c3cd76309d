"""Images of which only some superpixels are shown, on their way through the network.

Superpixels: compact regions of similar colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.core.tensors import iterate_runs, map_in_threads
from seewhy.core.types import Images, Targets
from seewhy.models.batched import BatchedEvaluator

BLOCK = 512
"""Masks drawn at a time: what the memory is bounded by, whatever the number of masks."""


@dataclass(frozen=True)
class Coalitions:
    """Images, what covers them (`cover`, same shape), their superpixels [batch, height, width] and their targets."""

    evaluator: BatchedEvaluator
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
        for probes in self.evaluator.split(len(image), gradient=False):
            rows = image[probes]
            seen = shown[probes].gather(1, self.labels.flatten(1)[rows]).view(-1, 1, *self.labels.shape[1:])
            scores[probes] = self.evaluator.compute_scores(
                blend(self.images, self.cover, rows, seen), self.targets[rows]
            )
        return scores.cpu().double()


def blend(images: Images, cover: Images, image: Tensor, seen: Tensor) -> Images:
    """images[image] where `seen` [n, 1, height, width] is 1, cover[image] where it is 0, a mixture between."""
    blended = images.new_empty(len(image), *images.shape[1:])
    for item, rows in iterate_runs(image):
        torch.lerp(cover[item], images[item], seen[rows], out=blended[rows])
    return blended


COMPACTNESS = 10.0
ITERATIONS = 10
BAND = 32
"""Rows of pixels whose distances are computed at once: what is needed for them stays in the cache of a core."""
SMALLEST = 0.25
"""A loose piece of a superpixel smaller than this share of the average joins its nearest neighbour."""
LAB_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
) / np.array([[0.95047], [1.0], [1.08883]])


def check_n_segments(n_segments: int, key: str = "n_segments") -> None:
    """UserError where the number cannot be one of superpixels."""
    if not isinstance(n_segments, int) or n_segments < 1:
        raise UserError(f"explainer.{key}={n_segments} must be a whole number from 1, such as 50")


def segment_images(images: Images, n_segments: int) -> tuple[Tensor, list[int]]:
    """(labels int64 [batch, height, width], number of superpixels of each image)."""
    labels = map_in_threads(lambda rgb: _slic(_colours(rgb), n_segments), _host(images))
    return torch.from_numpy(np.stack(labels)).to(images.device), [int(each.max()) + 1 for each in labels]


def slic(image: Tensor, n_segments: int) -> Tensor:
    """About `n_segments` superpixels of an image [3, height, width]: labels int64 [height, width] from 0, on the CPU.

    k-means in CIELAB colour and position from a regular grid of centres; a pixel only joins centres of its own and
    the eight surrounding grid cells. Each label is one connected region. The same image gives the same labels on
    every device, with any number of threads.
    Achanta et al.: SLIC superpixels compared to state-of-the-art superpixel methods, PAMI 2012.
    """
    return torch.from_numpy(scales_of(image, (n_segments,))[0])


def scales_of(image: Tensor, scales: Sequence[int]) -> list[NDArray[np.int64]]:
    """`slic` of one image for each number of superpixels, beside each other."""
    colours = _colours(_host(image))
    return map_in_threads(lambda n_segments: _slic(colours, n_segments), scales)


def _host(images: Tensor) -> NDArray[np.float64]:
    return images.detach().cpu().double().numpy()


def _slic(colours: NDArray[np.float32], n_segments: int) -> NDArray[np.int64]:
    """Labels [height, width] of an image in CIELAB."""
    _, height, width = colours.shape
    if n_segments > height * width:
        raise UserError(
            f"explainer.n_segments={n_segments} is more than the {height * width} pixels of the image; choose fewer"
        )
    side = (height * width / n_segments) ** 0.5
    positions = (np.indices((height, width)) * (COMPACTNESS / side)).astype(np.float32)
    features = np.concatenate([colours, positions])
    down = max(1, round(height / side))
    labels = _connected(_cluster(features, (down, max(1, round(n_segments / down)))), SMALLEST * side**2)
    return labels.astype(np.int64)


def _colours(rgb: NDArray[np.float64]) -> NDArray[np.float32]:
    """L, a and b of each pixel: float32 [3, height, width]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clip(0) ** 2.4)
    xyz = np.tensordot(LAB_FROM_RGB, linear, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]).astype(np.float32)


def _cluster(features: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.int64]:
    """The number of the centre [height, width] that each pixel belongs to."""
    height, width = features.shape[1:]
    rows, columns = np.arange(height) * grid[0] // height, np.arange(width) * grid[1] // width
    labels = rows[:, None] * grid[1] + columns
    planes = features.reshape(len(features), -1).astype(np.float64)
    centres = _means(planes, labels, np.zeros((5, grid[0] * grid[1]), np.float32))
    for _ in range(ITERATIONS):
        moved = _nearest(features, centres.reshape(5, *grid), rows, columns)
        if np.array_equal(moved, labels):
            break
        labels = moved
        centres = _means(planes, labels, centres)
    return labels


def _means(planes: NDArray[np.float64], labels: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means [5, centres] of the planes [5, pixels] over each centre; one without pixels stays where it was."""
    count = before.shape[1]
    sizes = np.bincount(labels.ravel(), minlength=count)
    sums = np.stack([np.bincount(labels.ravel(), plane, count) for plane in planes])
    return np.where(sizes, sums / np.maximum(sizes, 1), before).astype(np.float32)


def _nearest(
    features: NDArray[np.float32], centres: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The nearest centre of the nine around each pixel's cell: |centre|^2 - 2 centre . pixel is smallest."""
    _, down, across = centres.shape
    lengths, twice = (centres**2).sum(0), 2 * centres
    near_columns = (columns + np.array([[-1], [0], [1]])).clip(0, across - 1)
    labels = np.empty(features.shape[1:], np.int64)
    for row in range(down):
        near_rows = np.array([[[row - 1]], [[row]], [[row + 1]]]).clip(0, down - 1)
        near = (near_rows * across + near_columns).reshape(9, 1, -1)
        start, end = np.searchsorted(rows, (row, row + 1))
        for first in range(start, end, BAND):
            band = slice(first, min(end, first + BAND))
            distance, product = np.empty((2, len(near), band.stop - first, near.shape[2]), np.float32)
            distance[:] = lengths.ravel()[near]
            for centre, plane in zip(twice, features, strict=True):
                distance -= np.multiply(centre.ravel()[near], plane[band], out=product)
            best = distance.min(0)
            for one, names in zip(distance[::-1], near[::-1], strict=True):  # of equal distances the first counts
                np.copyto(labels[band], names, where=one == best)
    return labels


def _connected(labels: NDArray[np.int64], smallest: float) -> NDArray[np.int64]:
    """Labels from 0 in reading order, each one connected region; small loose pieces join the nearest other region."""
    pixels = np.arange(labels.size).reshape(labels.shape)
    right, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    ends = (
        np.concatenate([pixels[:, :-1][right], pixels[:-1][down]]),
        np.concatenate([pixels[:, 1:][right], pixels[1:][down]]),
    )
    graph = sparse.coo_matrix((np.ones(len(ends[0]), np.int8), ends), (labels.size, labels.size))
    pieces = sparse.csgraph.connected_components(graph, directed=False)[1].reshape(labels.shape)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(len(sizes), np.int64)
    owner[pieces.ravel()] = labels.ravel()
    order = np.lexsort((-sizes, owner))
    largest = np.zeros(len(sizes), bool)
    largest[order[np.unique(owner[order], return_index=True)[1]]] = True
    kept = (largest | (sizes >= smallest))[pieces]
    if not kept.all():
        nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
        pieces = pieces[tuple(nearest)]
    _, first, numbers = np.unique(pieces, return_index=True, return_inverse=True)
    return first.argsort().argsort()[numbers].reshape(labels.shape)
