"""One pass over the training set, in memory that holds its features but not its pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.data.training_set import TrainingSet
from seewhy.probe import Probe
from seewhy.representers.consistency import Nearest
from seewhy.representers.last_layer import LastLayer
from seewhy.types import Images

PASS = 1000
"""Training images that are read at once."""


@dataclass(frozen=True)
class Training:
    """What one pass over the training set leaves behind; the pictures are not kept."""

    features: Tensor
    probabilities: Tensor
    labels: Tensor
    names: list[str]
    nearest: Nearest


def read_training(probe: Probe, layer: LastLayer, data: TrainingSet, images: Images, neighbours: int) -> Training:
    """One pass: features, probabilities and labels of the training set, and its nearest pictures to `images`."""
    total, device = data.training_count(), images.device
    nearest = Nearest(images, neighbours)
    features, probabilities, labels, names = [], [], [], []
    for start in range(0, total, PASS):
        batch = data.training_batch(list(range(start, min(total, start + PASS)))).to(device)
        found, logits = layer.features(probe, batch.images)
        features.append(found.cpu())
        probabilities.append(logits.softmax(1).cpu())
        labels.append(batch.labels.cpu())
        names += batch.names
        nearest.add(batch.images, start)
    return Training(torch.cat(features), torch.cat(probabilities), torch.cat(labels), names, nearest)
