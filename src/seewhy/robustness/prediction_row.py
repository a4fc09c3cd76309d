"""What the classifier says of one image at one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seewhy.corruptions.corrupter import Step
from seewhy.robustness.groups import Group
from seewhy.types import Attributions, Batch, Targets

CLEAN = Step("clean", 0)


@dataclass
class Clean:
    """What is computed once for each image: prediction, target and maps."""

    batch: Batch
    logits: Tensor
    targets: Targets
    maps: dict[str, Attributions]
    """Of each explainer, for the first images of the batch only where not all are explained."""


def prediction_row(
    classes: Sequence[str], clean: Clean, group: Group, logits: Tensor, image: int, step: int
) -> dict[str, Any]:
    """What is said of one image at one step.

    `probability` is that of the class predicted there, `clean_probability` that of the class predicted on the clean
    image, `true_probability` that of the true class. `attack_success` is empty where the clean prediction was not the
    attacked class to begin with.
    """
    said = logits[image, step].float().softmax(0)
    predicted, target = int(said.argmax()), int(clean.targets[image])
    label = int(clean.batch.labels[image])
    row: dict[str, Any] = {
        "image": clean.batch.names[image],
        "corruption": group.steps[step].corruption,
        "level": group.steps[step].level,
        "label": clean.batch.label_names[image],
        "predicted": classes[predicted],
        "probability": float(said[predicted]),
        "clean_probability": float(said[target]),
        "flip": float(predicted != target),
    }
    if label >= 0:
        row |= {"true_probability": float(said[label]), "correct": float(predicted == label)}
    if group.attacked is not None:
        attacked = int(group.attacked[image])
        row["attacked_class"] = classes[attacked]
        if attacked == target:
            row["attack_success"] = float(predicted != attacked)
    return row
