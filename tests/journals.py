"""A journal by hand: three batches of unequal size whose totals are easy to add up, and their files."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from seewhy.core.types import Explanation, Prediction, Skipped, Target
from seewhy.runs.batch_results import BatchResults, Cost, Curve, ImageResult
from seewhy.runs.journal import Journal

PLAN = {
    "config": {"seed": 0, "explainer.n_steps": 8},
    "overrides": ["explainer=integrated_gradients"],
    "weights": "ab" * 32,
    "device": "cpu",
    "images": 7,
    "batches": 3,
    "data": {"names": "0123", "times of files": "4567"},
    "shard": "1/1",
}
"""Three batches of one, three and two images that can be read, and one file that cannot."""

LABELS = ["cat", "cat", "dog", "", "dog", "cat"]
CORRECT = [True, False, True, None, False, False]
LOSSES = [0.25, 1.5, 0.5, None, 2.0, 4.0]
WARNED = [False, True, False, False, True, True]
EXPLAINED = [True, True, True, True, True, False]
COSTS = [
    {"attribution": Cost(8, 8, 1.0), "metrics": Cost(20, 0, 0.5)},
    {"attribution": Cost(24, 24, 0.25), "metrics": Cost(60, 0, 4.0)},
    {"attribution": Cost(8, 9, 0.125)},
]
LEFT_OUT = [["pointing_game"], ["pointing_game", "relevance_mass"], []]
BATCHES = [[0], [1, 2, 3], [4, 5]]


def image_result(number: int) -> ImageResult:
    name, path = f"image_{number}", f"photos/image {number}.png"
    top = (("cat", 0.5), ("dog", 0.25 + number / 100))
    prediction = Prediction(number % 2, "cat", 0.5, top, LABELS[number], CORRECT[number])
    explanation = None
    if EXPLAINED[number]:
        empty = torch.empty(0)
        explanation = Explanation(
            name=name,
            path=path,
            image=empty,
            prediction=prediction,
            target=Target(1, "dog", 0.25, "predicted"),
            attribution=empty,
            explainer="integrated_gradients",
            parameters="n_steps=8",
            signed=True,
            classifier="a network",
            facts={"n_steps": 8, "completeness_gap": -0.125},
            metrics={"deletion": number / 8, "pointing_game": float("nan")},
            warnings=("the gap is wide",) if WARNED[number] else (),
        )
    return ImageResult(name, path, prediction, LOSSES[number], () if explanation is None else (explanation,))


def batch_results(number: int) -> BatchResults:
    images = [image_result(each) for each in BATCHES[number]]
    share = [Curve("image_0", "integrated_gradients", "deletion/black", [0.0, 0.5, 1.0], [2.0, 1.0, 0.0], [0.75] * 3)]
    return BatchResults(
        images,
        [Skipped("photos/broken.png", "no picture")] if number == 1 else [],
        share if number == 0 else [],
        COSTS[number],
        LEFT_OUT[number],
        {"forward 3x4x4": 8} if number < 2 else {"forward 3x4x4": 4, "gradient 3x4x4": 2},
    )


def file_contents(number: int) -> dict[str, bytes]:
    """The map and the picture of each explained image of a batch."""
    contents = {}
    for each in BATCHES[number]:
        if EXPLAINED[each]:
            content = io.BytesIO()
            np.save(content, np.full((2, 2), each, np.float32))
            contents[f"attributions/image_{each}.npy"] = content.getvalue()
            contents[f"figures/image_{each}.png"] = b"\x89PNG" + bytes([each]) * 20
    return contents


def write_batch(journal: Journal, number: int) -> None:
    """A batch with its files, as a run writes it."""
    results = batch_results(number)
    for name, content in file_contents(number).items():
        journal.folder.write_bytes(name, content)
        results.stored[name] = journal.folder.compute_digest(name)
    journal.write(number, results)


def write_journal(folder: Path, plan: dict[str, object] = PLAN) -> Journal:
    """All three batches, in the order in which two processes may finish them."""
    journal = Journal(folder)
    journal.begin(plan)
    for number in (1, 0, 2):
        write_batch(journal, number)
    return journal


if __name__ == "__main__":
    write_journal(Path(sys.argv[1]))
    for name in ("attributions", "figures"):
        shutil.rmtree(Path(sys.argv[1]) / name)
