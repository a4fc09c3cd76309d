"""An explanation made by hand, and what every figure must keep."""

from __future__ import annotations

from itertools import combinations
from math import floor

import numpy as np
import torch

from seewhy.core.types import Explanation, Prediction, Target
from seewhy.plots.canvas import Drawing

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


def find_ink(figure, line):
    """(top, bottom, left, right) of what a line paints, beyond the page too; None where that is nothing."""
    x, y = figure.width, figure.height if line.upwards else 100
    left, top = floor(line.x), floor(line.y)
    moved = line._replace(x=x + line.x - left, y=y + line.y - top, colour="#000000")
    page = Drawing(2 * x, 2 * y, figure.resolution, (moved,)).paint()[..., 0] < 255
    rows, columns = np.flatnonzero(page.any(1)) - y + top, np.flatnonzero(page.any(0)) - x + left
    return (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if len(rows) else None


def assert_legible(figure):
    boxes = [(line.text, *ink) for line in figure.words if (ink := find_ink(figure, line))]
    for text, top, bottom, left, right in boxes:
        assert top >= 0 <= left, text
        assert bottom <= figure.height, text
        assert right <= figure.width, text
    for (one, *first), (other, *second) in combinations(boxes, 2):
        apart = first[1] <= second[0] or second[1] <= first[0] or first[3] <= second[2] or second[3] <= first[2]
        assert apart, (one, other)
