"""Whether windows are computed incrementally: where the network allows it and where it pays."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.batch_size import out_of_memory
from seewhy.errors import Incompatible
from seewhy.incremental.drops import planned_drops
from seewhy.incremental.network import incremental_network
from seewhy.incremental.recording import Unrecordable
from seewhy.probe import Probe
from seewhy.types import Images, Targets

LEAST_GAIN = 1.65
"""How many times faster than full passes incremental ones must be expected to be: measured gains are 0.5 to 0.95 of it."""
FEWEST_WINDOWS = 200
"""For fewer windows in all, recording the network costs as much as it can save."""


def incremental_drops(
    probe: Probe,
    images: Images,
    cover: Images,
    targets: Targets,
    tops: list[int],
    lefts: list[int],
    window: int,
    must: bool,
) -> Tensor | None:
    """f(x) - f(x with a window of `cover`) [batch, windows] at `tops` x `lefts`, row by row.

    Where it `must` not be incremental, None says that full passes are to be made: the network cannot be replayed, it
    would not pay, memory ran out, or the device is no processor (its costs were never measured). Otherwise
    Incompatible where it cannot.
    """
    few = len(images) * len(tops) * len(lefts) < FEWEST_WINDOWS
    if not must and (few or images.device.type != "cpu"):
        return None
    try:
        network = incremental_network(probe, images, cover, tops, lefts, window)
        if not must and network.plan.gain(len(images)) < LEAST_GAIN:
            return None
        return planned_drops(network, probe, images, cover, targets)
    except Unrecordable as reason:
        if must:
            raise Incompatible(f"the network cannot be replayed: {reason}; set explainer.incremental=auto") from reason
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if must or not out_of_memory(error):
            raise
    return None
