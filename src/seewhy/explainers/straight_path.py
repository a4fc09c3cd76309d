"""Points on the straight lines from baselines to images."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from seewhy.explainers.quadrature import quadrature
from seewhy.probe import Probe
from seewhy.types import Images


def straight_path(
    probe: Probe, images: Images, baselines: Images, rule: str, n_steps: int
) -> Iterator[tuple[Tensor, Tensor, Images]]:
    """(image [n], weight [n], point [n, 3, height, width]) for the nodes of all images, one pass at a time."""
    nodes, weights = (values.to(images) for values in quadrature(rule, n_steps))
    for probes in probe.chunks(len(images) * n_steps, gradient=True):
        image, step = probes // n_steps, probes % n_steps
        points = baselines[image] + nodes[step, None, None, None] * (images - baselines)[image]
        yield image, weights[step], points
