"""Runs that are interrupted and resumed, and what is compared of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import composed
from seewhy.callbacks import attribution
from seewhy.cli import tasks
from seewhy.data.folder import SAMPLES

FEW = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", "explainer=random", "logger=[]"]


SMALL = ["callbacks=[attribution,faithfulness,tables]", "data.batch_size=2"]


MEASURED = ["metric=[deletion,sparseness]", "++metric.deletion.n_steps=4", "hydra.mode=RUN"]


PRODUCTS = (".csv", ".npy", ".png", ".npz")


def images(folder: Path, count: int = 7) -> Path:
    """A folder of images of two classes, one of which cannot be read."""
    for number, path in enumerate(sorted((SAMPLES / "cifar10").glob("*.png"))[:count]):
        place = folder / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    (folder / "dog" / "broken.png").write_bytes(b"no picture")
    return folder


def explain(folder: Path, data: Path, *overrides: str) -> None:
    given = [*FEW, *SMALL, *MEASURED, "data=folder", f"data.root={data}", f"output={folder}", *overrides]
    tasks.execute(tasks.explain, composed("explain", given))


def products(folder: Path) -> dict[str, bytes]:
    """Everything that must be alike, by name."""
    files = [path for path in folder.rglob("*") if path.suffix in PRODUCTS or path.name == "metrics.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "journal" not in path.parts[-3:]}


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run.json").read_text())


class Count:
    """Stands in for `explain_batch`: keeps the images that were explained, and calls `at` before the n-th batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.original, self.names, self.calls = attribution.explain_batch, [], 0
        self.stop: tuple[int, Callable[[], object]] = (0, lambda: None)
        monkeypatch.setattr(attribution, "explain_batch", self)

    def __call__(self, classifier, batch, *others):  # type: ignore[no-untyped-def]
        self.calls += 1
        if self.calls == self.stop[0]:
            self.stop[1]()
        self.names += batch.names
        return self.original(classifier, batch, *others)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    return Count(monkeypatch)
