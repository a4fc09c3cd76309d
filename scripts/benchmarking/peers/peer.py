"""What a peer is: another implementation of a method or metric that we have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarking.subject import Subject

Call = Callable[[Subject], Tensor]


@dataclass(frozen=True)
class Peer:
    """One method of a library beside ours on the same tensors, weights, dtype and threads."""

    method: str
    """Our name of the method or metric."""
    library: str
    """The name under which it is imported."""
    setting: str
    ours: Call
    theirs: Call
    tolerance: float | None = None
    """None: values differ by definition or by random numbers, as `note` says."""
    affine: bool = False
    """Whether theirs is ours up to a factor and an offset."""
    at_once: int = 0
    """How many images for each image theirs has in the network at once, with gradients; 0: no more than it is given."""
    note: str = ""
    check: tuple[Call, Call] | None = None
    """(ours, theirs) for the comparison of the values, where these need more than the calls that are timed."""
    images: int = 8
    """At most so many images."""


def difference(ours: Tensor, theirs: Tensor, affine: bool) -> float:
    """The largest difference as a share of the largest absolute value of theirs, over all images."""
    ours, theirs = (values.detach().double().cpu() for values in (ours, theirs))
    ours, theirs = (values.flatten(1) if values.ndim > 1 else values[None] for values in (ours, theirs))
    if affine:
        columns = torch.stack([ours, torch.ones_like(ours)], 2)
        fitted = torch.linalg.lstsq(columns, theirs[..., None]).solution
        ours = (columns @ fitted)[..., 0]
    scale = theirs.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((ours - theirs).abs().amax(1) / scale).max())
