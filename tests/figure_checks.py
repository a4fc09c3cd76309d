"""An explanation made by hand, and what every figure must keep."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from seewhy.core.types import Explanation, Prediction, Target

NAMES = (
    "cat",
    "W" * 60,
    "a $x_1^2$ of 100 % and_so^on, in words, until sixty are reached"[:60],
    "größe 猫\nßłŵ \udc80",
)


def explanation(size=32, signed=True, name="cat", file="image", parameters="", warnings=(), seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    attribution = torch.randn(size, size, generator=generator)
    known = {
        "name": file,
        "path": f"{file}.jpg",
        "image": torch.rand(3, size, size, generator=generator),
        "prediction": Prediction(3, name, 0.87, ((name, 0.87),), label=name, correct=False),
        "target": Target(3, name, 0.87, "predicted"),
        "attribution": attribution if signed else attribution.abs(),
        "explainer": "integrated_gradients",
        "parameters": parameters,
        "signed": signed,
        "classifier": "mobilenetv3 (shipped: mobilenetv3.safetensors)",
        "warnings": warnings,
    }
    return Explanation(**{**known, **changes})


def words(figure):
    return [line.text for line in figure.words]


def assert_legible(figure):
    boxes = []
    for line in figure.words:
        top, left, mask = line.placed(figure.resolution)
        rows, columns = np.nonzero(mask)
        if len(rows):
            boxes.append(
                (line.text, top + rows.min(), top + rows.max() + 1, left + columns.min(), left + columns.max() + 1)
            )
    for text, top, bottom, left, right in boxes:
        assert top >= 0 <= left, text
        assert bottom <= figure.height, text
        assert right <= figure.width, text
    for (one, *first), (other, *second) in combinations(boxes, 2):
        apart = first[1] <= second[0] or second[1] <= first[0] or first[3] <= second[2] or second[3] <= first[2]
        assert apart, (one, other)
