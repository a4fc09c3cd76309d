"""Find groups of images that a network treats alike: clusters of maps, of features, of colours, borders and patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.neighbors import kneighbors_graph
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.audit.maps import Facts
from seewhy.analyses.audit.pictures import Rows, Values

CELLS = 8
"""Cells along a side of a map as a position."""
COMPONENTS = 10
"""Principal components that an embedding keeps."""
ALL = -1
"""Target of a subject of many classes: each image's own."""
FEWEST = 8
"""Images of a group."""
MOST_CLUSTERS = 8
NEIGHBOURS = 10
AXES = 3
"""Principal directions whose ends are candidates too."""
ALIKE = 0.7
"""Jaccard index from which on two groups are one."""
LARGEST_SHARE = 0.95
"""Of a class: nothing sets a larger group apart from the class."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """Images that are looked at together: those of one predicted class, or one confusion.

    Attributes:
        name: In words.
        target: Index of the class that is predicted; `ALL` where each image has its own.
        rows: Of the images.
        context: Of all images of the class, from which those outside of a group are taken.
    """

    name: str
    target: int
    rows: Rows
    context: Rows


@dataclass(frozen=True)
class Group:
    """A candidate: images of a subject that lie together.

    Attributes:
        members: Positions in the rows of the subject.
        source: How it was found, such as `position, spectral`.
        stability: Mean Jaccard index with the nearest cluster of bootstrap samples, in [0, 1].
        tightness: Mean distance to its centre, as a share of that of all images of the subject.
        border: Share of its mean map on the outermost cells, divided by their share of the image.
        shared: Distance of its mean from that of the others at the cell where it is largest, in standard deviations.

    Stability and distance are NaN for all images of a subject.
    """

    members: Rows
    source: str
    stability: float
    tightness: float
    border: float
    shared: float


def list_subjects(facts: Facts, classes: Sequence[str], least: int) -> list[Subject]:
    """List the classes and confusions with enough images.

    Args:
        facts: Of all images.
        classes: Their names.
        least: Images of a subject.

    Returns:
        First the predicted classes, then the confusions, each in the order of the classes; where no class has so many
        images, all images together, if they are as many.
    """
    predicted, labels = facts.predicted, facts.labels
    subjects = []
    for target, name in enumerate(classes):
        rows = np.flatnonzero(predicted == target)
        if len(rows) >= least:
            subjects.append(Subject(name, target, rows, np.flatnonzero((predicted == target) | (labels == target))))
    for label, true in enumerate(classes):
        for target, name in enumerate(classes):
            rows = np.flatnonzero((labels == label) & (predicted == target))
            if label != target and len(rows) >= least:
                subjects.append(Subject(f"{true} taken for {name}", target, rows, np.flatnonzero(labels == label)))
    if not subjects and len(labels) >= least:
        subjects.append(Subject("all images", ALL, np.arange(len(labels)), np.arange(len(labels))))
    return subjects


def describe_all(facts: Facts, rows: Rows) -> Group:
    """Take all images of a subject as one group, to be held against the rest of its context.

    What nearly every image of a class has that a network takes for it sets none of them apart from each other, but from the
    images of the class that it misses; and a confusion may be due to what all of its images share.

    Args:
        facts: Of all images.
        rows: Of the subject.

    Returns:
        The group; it has no stability, and nothing inside of the subject tells it from others.
    """
    mean = facts.maps[rows].mean(0)
    border = _measure_border(mean)
    return Group(np.arange(len(rows)), "all that are taken for it", math.nan, 1.0, border, math.nan)


def find_groups(facts: Facts, rows: Rows, small: Tensor, most: int, resamples: int, seed: int) -> list[Group]:
    """Cluster the images of a subject in every embedding, and order what is found: small, tight and border-hugging first.

    Groups that share most of their images are one; of them the first in the order stays.

    Lapuschkin, Waldchen, Binder, Montavon, Samek, Muller: Unmasking Clever Hans predictors and assessing what machines
    really learn, Nature Communications 2019 (spectral clusters of maps, their number by the eigengap). Campello, Moulavi,
    Sander: Density-based clustering based on hierarchical density estimates, PAKDD 2013.

    Args:
        facts: Of all images.
        rows: Of the subject, n images.
        small: Their pixels in small [n, channels, rows, columns].
        most: Groups at most.
        resamples: Bootstrap samples of the stability.
        seed: Of all that is drawn.

    Returns:
        The groups, the oddest first.
    """
    maps = facts.maps[rows]
    deviations = _measure_deviations(small)
    groups = []
    for name, points in embed(facts, rows, small).items():
        spread = _measure_spread(points)
        if not spread > 0:
            continue
        for kind, cluster in METHODS.items():
            labels = cluster(points, seed)
            clusters = [np.flatnonzero(labels == number) for number in range(labels.max(initial=-1) + 1)]
            clusters = [each for each in clusters if FEWEST <= len(each) <= LARGEST_SHARE * len(rows)]
            stability = _measure_stability(points, clusters, cluster, resamples, seed) if clusters else []
            for members, stable in zip(clusters, stability, strict=True):
                border = _measure_border(maps[members].mean(0))
                tightness = _measure_spread(points[members]) / spread
                shared = deviations(members)
                groups.append(Group(members, f"{name}, {kind}", stable, tightness, border, shared))
    return _merge(_order(groups, len(rows)), most)


def embed(facts: Facts, rows: Rows, small: Tensor) -> dict[str, Values]:
    """Embed images by where their maps lie, what lies there, and what their pixels are.

    Args:
        facts: Of all images.
        rows: Of n images.
        small: Their pixels in small [n, channels, rows, columns].

    Returns:
        For each embedding at most ten principal components [n, components].
    """
    maps = torch.from_numpy(facts.maps[rows])
    position = functional.adaptive_avg_pool2d(maps[:, None], (CELLS, CELLS)).flatten(1).clamp_min(0).sqrt()
    appearance = functional.normalize(torch.from_numpy(facts.appearance[rows]), dim=1)
    pixels = small.double()
    colour = describe_colours(pixels)
    cells = functional.adaptive_avg_pool2d(pixels, (CELLS, CELLS))
    border = cells[:, :, torch.from_numpy(_frame((CELLS, CELLS)))].flatten(1)
    embeddings = {
        "position": position,
        "appearance": appearance,
        "colour": (colour - colour.mean(0)) / colour.std(0).clamp_min(1e-6),
        "border": border,
        "pattern": sharpen(pixels).flatten(1),
    }
    return {name: reduce_points(points.numpy()) for name, points in embeddings.items()}


def describe_colours(pixels: Tensor) -> Tensor:
    """Describe the colours of images: a cast moves the darkest and the brightest value of a channel in every image alike.

    Args:
        pixels: Float [n, channels, height, width].

    Returns:
        Mean, standard deviation, least and largest value of each channel [n, 4 channels].
    """
    flat = pixels.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2), flat.amin(2), flat.amax(2)], 1)


def sharpen(pixels: Tensor) -> Tensor:
    """Take away what neighbouring pixels share.

    Args:
        pixels: Float [n, channels, height, width].

    Returns:
        Each pixel less the mean of the five by five around it.
    """
    return pixels - functional.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)


def reduce_points(points: Values) -> Values:
    """Compute the first principal components, from the products of the points or of their coordinates: the fewer decide.

    Args:
        points: float64 [n, coordinates].

    Returns:
        [n, components], at most ten, up to their signs; one of zeros where all points are the same.
    """
    if not np.ptp(points, axis=0).any():  # as the maps of a linear network are: no direction is principal
        return np.zeros((len(points), 1))
    count = min(COMPONENTS, *points.shape)
    centred = points - points.mean(0)
    wide = points.shape[1] > len(points)
    products = centred @ centred.T if wide else centred.T @ centred
    values, vectors = eigh(products, subset_by_index=(len(products) - count, len(products) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    return vectors * np.sqrt(np.maximum(values, 0)) if wide else centred @ vectors


def _measure_border(mean: Values) -> float:
    """How much more of a mean map lies on the outermost cells than of an even one."""
    frame = _frame(mean.shape)
    return float(mean[frame].sum() / max(mean.sum(), 1e-12) / frame.mean())


def _frame(shape: Sequence[int]) -> NDArray[np.bool_]:
    """The outermost eighth of cells on each side."""
    frame = np.ones(tuple(shape), dtype=bool)
    high, wide = (max(1, side // CELLS) for side in shape)
    frame[high:-high, wide:-wide] = False
    return frame


def _measure_spread(points: Values) -> float:
    return float(np.linalg.norm(points - points.mean(0), axis=1).mean())


def cluster_spectrally(points: Values, seed: int) -> Labels:
    """Cluster by the graph of nearest neighbours; the number of clusters is where the gap of its eigenvalues is largest.

    Args:
        points: [n, components].
        seed: Of the starting points.

    Returns:
        Number of the cluster of each point [n].
    """
    graph = kneighbors_graph(points, min(NEIGHBOURS, len(points) - 1), include_self=True).toarray()
    graph = (graph + graph.T) / 2
    degree = graph.sum(1)
    span = max(0, len(points) - MOST_CLUSTERS - 1), len(points) - 1
    eigenvalues, vectors = eigh(graph / np.sqrt(degree[:, None] * degree[None]), subset_by_index=span)
    gaps = np.diff(1 - eigenvalues[::-1])
    count = int(gaps[1:].argmax()) + 2 if len(gaps) > 1 else 2
    leading = vectors[:, -count:]
    leading = leading / np.maximum(np.linalg.norm(leading, axis=1), 1e-12)[:, None]
    return np.asarray(KMeans(count, n_init=3, random_state=seed).fit_predict(leading), dtype=np.int64)


def cluster_by_density(points: Values, seed: int) -> Labels:
    """Cluster with HDBSCAN.

    Args:
        points: [n, components].
        seed: Not used.

    Returns:
        Number of the cluster of each point [n]; -1 of those in none.
    """
    size = max(FEWEST, round(0.03 * len(points)))
    return np.asarray(HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points), dtype=np.int64)


def cluster_ends(points: Values, seed: int) -> Labels:
    """Split the images in two along each of the first principal directions, as 2-means does.

    Args:
        points: [n, components], principal components.
        seed: Not used.

    Returns:
        Number of the smaller side of a direction that a point lies on [n]; -1 of those on none. The first direction comes
        first.
    """
    labels = np.full(len(points), -1, dtype=np.int64)
    for number in range(min(AXES, points.shape[1])):
        sides = split_line(points[:, number])
        smaller = int(np.bincount(sides, minlength=2).argmin())
        labels[(sides == smaller) & (labels < 0)] = number
    return labels


def split_line(values: Values) -> Labels:
    """Split numbers in two such that they differ least within both: 2-means on a line, exactly.

    Args:
        values: [n], at least two.

    Returns:
        0 for the lower and 1 for the upper ones [n].
    """
    order = np.argsort(values, kind="stable")
    sums, counts = (values[order] - values.mean()).cumsum()[:-1], np.arange(1, len(values))
    lower = int((sums**2 / counts + sums**2 / counts[::-1]).argmax()) + 1
    sides = np.zeros(len(values), dtype=np.int64)
    sides[order[lower:]] = 1
    return sides


METHODS: dict[str, Callable[[Values, int], Labels]] = {
    "spectral": cluster_spectrally,
    "density": cluster_by_density,
    "ends": cluster_ends,
}


def _measure_stability(
    points: Values, clusters: Sequence[Rows], cluster: Callable[[Values, int], Labels], resamples: int, seed: int
) -> list[float]:
    """Mean over bootstrap samples of the Jaccard index with the nearest cluster, on the images of the sample."""
    generator = np.random.default_rng(seed)
    total = np.zeros(len(clusters))
    for _ in range(resamples):
        drawn = np.unique(generator.integers(0, len(points), len(points)))
        labels = np.full(len(points), -1, dtype=np.int64)
        labels[drawn] = cluster(points[drawn], seed)
        inside = np.isin(np.arange(len(points)), drawn)
        others = [np.flatnonzero(labels == number) for number in range(labels.max(initial=-1) + 1)]
        for number, members in enumerate(clusters):
            kept = members[inside[members]]
            total[number] += max((compute_jaccard(kept, other) for other in others), default=0.0)
    return list(total / max(1, resamples))


def compute_jaccard(first: Rows, second: Rows) -> float:
    """Compute the share of the images of either set that are in both.

    Args:
        first: Of a set.
        second: Of another.

    Returns:
        In [0, 1]; 0 of two empty sets.
    """
    both = len(np.intersect1d(first, second))
    either = len(first) + len(second) - both
    return both / either if either else 0.0


def _measure_deviations(small: Tensor) -> Callable[[Rows], float]:
    """How far the mean of some images stands out from that of the others, at the best cell, in standard deviations."""
    pixels = small.double().flatten(1).numpy()
    total, squares = pixels.sum(0), (pixels**2).sum(0)

    def measure(members: Rows) -> float:
        count = len(members)
        inside, within = pixels[members].sum(0), (pixels[members] ** 2).sum(0)
        means = inside / count, (total - inside) / (len(pixels) - count)
        spread = within / count - means[0] ** 2, (squares - within) / (len(pixels) - count) - means[1] ** 2
        return float(np.max(np.abs(means[0] - means[1]) / np.sqrt(np.maximum((spread[0] + spread[1]) / 2, 1e-4))))

    return measure


def _order(groups: Sequence[Group], count: int) -> list[Group]:
    """By the mean rank of being small, tight, stable, at the border and of one content."""
    if not groups:
        return []
    odd = np.array(
        [(-len(each.members) / count, -each.tightness, each.stability, each.border, each.shared) for each in groups]
    )
    ranks = np.mean([np.argsort(np.argsort(-column, kind="stable"), kind="stable") for column in odd.T], axis=0)
    return [groups[number] for number in np.argsort(ranks, kind="stable")]


def _merge(groups: Sequence[Group], most: int) -> list[Group]:
    kept: list[Group] = []
    for group in groups:
        if len(kept) < most and all(compute_jaccard(group.members, other.members) < ALIKE for other in kept):
            kept.append(group)
    return kept


def split_rows(rows: Rows, size: int) -> Iterator[Rows]:
    """Split rows into parts.

    Args:
        rows: Any.
        size: Of a part.

    Yields:
        The parts in order.
    """
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
