"""What the score of each image loses under each window."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.incremental.network import IncrementalNetwork
from seewhy.incremental.patch_pass import Windows
from seewhy.precision import widen
from seewhy.probe import Probe
from seewhy.types import Images, Targets


def planned_drops(network: IncrementalNetwork, probe: Probe, images: Images, cover: Images, targets: Targets) -> Tensor:
    """f(x) - f(x with a window of `cover`) [batch, windows], the windows row by row.

    Windows that hold what covers them cost nothing. Counts one pass for each clean image, and for each window the share
    of a pass's multiplications that it costs, rounded up in the sum. Holds no more numbers than a pass of the probe
    does, and the clean maps of at least one image.
    """
    plan, columns, limit = network.plan, len(network.lefts), probe.limit(False)
    drops = images.new_zeros(len(images), len(network.tops) * columns)
    changed = _changed(network, images, cover)
    spent = 0
    for part in torch.arange(len(images)).split(network.images_at_once(limit)):
        here = part.to(images.device)
        clean = network.clean(images[here])
        scores = widen(clean.output).gather(1, targets[here][:, None])
        for group in plan.groups:
            every = torch.cartesian_prod(part - part[0], group.rows, group.columns)
            every = every[changed[part[every[:, 0]], every[:, 1], every[:, 2]]]
            spent += len(every) * group.multiplications
            for chunk in every.split(network.windows_at_once(group, limit)) if len(every) else ():
                windows = Windows(*chunk.unbind(1))
                image = windows.images.to(images.device)
                logits = widen(network.covered(group, clean, cover[here], windows))
                found = scores[image] - logits.gather(1, targets[here][image][:, None])
                drops[here[image], (windows.rows * columns + windows.columns).to(images.device)] = found[:, 0]
    probe.classifier.passes.forward += len(images) + math.ceil(spent / max(1, plan.multiplications))
    return drops


def _changed(network: IncrementalNetwork, images: Images, cover: Images) -> Tensor:
    """Whether each window changes any pixel, bool [batch, rows, columns], on the host."""
    differs = (images != cover).any(1, keepdim=True).float()
    anywhere = functional.max_pool2d(differs, network.window, 1)[:, 0].bool().cpu()
    return anywhere[:, network.tops[:, None], network.lefts[None, :]]
