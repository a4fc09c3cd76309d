"""A whole run beside its network time: decoding, corrupting, drawing and writing should cost next to nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback
from PIL import Image

from benchmarking.clock import read_clock, seconds
from benchmarking.floor import best_sizes, measured_floor, remember
from benchmarking.place import ROOT
from benchmarking.row import Row
from seewhy.callbacks.journaling import find_callback
from seewhy.callbacks.pictures import Figures
from seewhy.cli.build import build_job
from seewhy.cli.program import quieten

CORRUPTION = "gaussian_noise"
FIGURES = "drawing and writing figures"
RUNS = {"quick": {"saliency": 16}, "full": {"saliency": 500, "integrated_gradients": 64}}
"""How many images are explained with what: the cheapest method, and one of many passes."""


class Kept(Callback):
    """The first explanations of a run."""

    def __init__(self) -> None:
        self.explanations: list[Any] = []

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *place: int) -> None:  # type: ignore[override]
        """Keep as many as are drawn again."""
        self.explanations += outputs["explanations"][: max(0, 4 - len(self.explanations))]


def pictures(folder: Path, count: int) -> None:
    """The sample photographs again and again, turned around every second time, as JPEG files."""
    samples = sorted((ROOT / "logbook" / "images" / "photographs").glob("*.jpg"))
    for number in range(count):
        source = samples[number % len(samples)]
        target = folder / f"{number:04d}.jpg"
        if number // len(samples) % 2:
            Image.open(source).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target, quality=90)
        else:
            shutil.copy(source, target)


def data_rows(model: str, count: int, explainer: str) -> Iterator[Row]:
    """The run as a whole, and the parts of it that are not the network, each measured alone."""
    quieten()
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place) / "pictures", Path(place) / "run"
        folder.mkdir()
        pictures(folder, count)
        job, kept = build_job(_config(model, explainer, folder, output)), Kept()
        job.trainer.callbacks.append(kept)  # type: ignore[attr-defined]
        device = job.trainer.strategy.root_device
        decoding = _decoding(job.data, device)
        job.classifier.to(device)
        image = next(iter(job.data.test_dataloader())).images[:1].to(job.classifier.mean.device)
        sizes = best_sizes(job.classifier, image, budget=0.5)
        remember(job.classifier, image[0], sizes)
        before = measured_floor(job.classifier, image, sizes)
        earlier = replace(job.classifier.passes)
        whole = seconds(lambda: job.trainer.test(job.classifier, job.data, verbose=False), device)
        passes = job.classifier.passes.since(earlier)
        network = (before.seconds(passes) + measured_floor(job.classifier, image, sizes).seconds(passes)) / 2
        figures = find_callback(job.trainer, Figures)
        limit = count if figures is None or figures.limit is None else figures.limit
        parts = {"decoding": decoding, FIGURES: _drawing(kept, device), "corrupting": _corrupting(folder, device)}
    common: dict[str, Any] = {"part": "data", "model": model, "setting": explainer, "images": count}
    note = f"network {network:.2f} s of {whole:.2f} s"
    yield Row(**common, name="whole run", seconds=whole / count, ratio=whole / network, note=note)
    for name, spent in parts.items():
        times, note = count, "for one level of " + CORRUPTION if name == "corrupting" else "measured alone"
        if name == FIGURES:
            times = min(count, limit)
            note = f"{note}, of the first {times:,}"
        yield Row(**common, name=name, seconds=spent, ratio=spent * times / whole, note=f"share of the run; {note}")


def _config(model: str, explainer: str, folder: Path, output: Path) -> Any:
    overrides = [f"model={model}", f"explainer={explainer}", "data=folder", f"data.root={folder}", f"output={output}"]
    overrides += ["logger=[]", "~callbacks.progress", "~callbacks.terminal"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("explain", overrides)


def _decoding(data: Any, device: torch.device) -> float:
    """Seconds for each image of reading, resizing and cropping in one process."""
    data.setup("test")
    start = read_clock(device)
    count = sum(len(batch.images) for batch in data.test_dataloader())
    return (read_clock(device) - start) / count


def _drawing(kept: Kept, device: torch.device) -> float:
    """Seconds for each figure, drawn and written."""
    from seewhy.plots.canvas import encode_figure
    from seewhy.plots.explanation import draw_panel

    draw_panel(kept.explanations[0])
    start = read_clock(device)
    for one in kept.explanations:
        encode_figure(draw_panel(one))
    return (read_clock(device) - start) / len(kept.explanations)


def _corrupting(folder: Path, device: torch.device) -> float:
    """Seconds for each picture and level."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("robustness", [f"corruption=[{CORRUPTION}]"])
    corruption = instantiate(cfg.corruption[CORRUPTION], _convert_="all")
    picture = np.asarray(Image.open(next(iter(sorted(folder.glob("*.jpg"))))).convert("RGB"))
    start = read_clock(device)
    for seed in range(5):
        corruption.corrupt(picture, 3, seed)
    return (read_clock(device) - start) / 5
