"""A measured run: what lies in its folder, and what it costs."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import Progress
from torch.utils.data import DataLoader

from seewhy.callbacks.attribution import Attribution
from seewhy.callbacks.faithfulness import Faithfulness
from seewhy.callbacks.results import Tables, Terminal
from seewhy.core.errors import UserError
from seewhy.core.types import Batch
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.noise_tunnel import SmoothGrad
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import LEAST, count_measured, is_measured, limit_images, select_measurable
from seewhy.metrics.complexity import Sparseness
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering
from seewhy.metrics.faithfulness.pixel_flipping import Deletion
from seewhy.metrics.localisation import PointingGame
from seewhy.metrics.randomisation.model_randomization import ModelRandomization
from seewhy.metrics.robustness.stability import Stability
from seewhy.plots.curves import GRID, compute_mean_curve, draw_curves
from seewhy.runs.journal import Journal
from tiny import random_images, small_cnn


def run(
    folder: Path, metrics: dict[str, ImageMetric], batch_size: int = 2, masks: bool = False, score: str = "softmax"
) -> Faithfulness:
    images = random_images(4, 32)

    def gather(rows: list[int]) -> Batch:
        names = [f"image{row}" for row in rows]
        drawn = torch.zeros(len(rows), 32, 32, dtype=torch.bool)
        drawn[:, :16] = True
        labels = torch.full((len(rows),), -1)
        return Batch(images[rows], labels, names, names, [""] * len(rows), [], drawn if masks else None)

    explainer = Saliency(probe_batch_size=4)
    measuring = Faithfulness(metrics, explainer, str(folder), probe_batch_size=4)
    callbacks = [Attribution(explainer, str(folder)), measuring, Tables(str(folder))]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=callbacks, **quiet)
    classifier = small_cnn()
    classifier.facts = replace(classifier.facts, score=score)
    trainer.test(classifier, DataLoader(range(4), batch_size, collate_fn=gather), verbose=False)
    return measuring


def test_a_run_leaves_values_summary_directions_and_curves(tmp_path: Path) -> None:
    run(tmp_path, {"deletion": Deletion(n_steps=8), "sparseness": Sparseness()})
    values = pd.read_csv(tmp_path / "metrics.csv")
    assert sorted(values[values.metric == "deletion"].image) == [f"image{row}" for row in range(4)]
    summary = pd.read_csv(tmp_path / "summary.csv").set_index("metric")
    assert summary.loc["deletion", "mean"] == pytest.approx(values[values.metric == "deletion"].value.mean(), rel=1e-4)
    assert summary.loc["deletion", "n"] == 4
    directions = json.loads((tmp_path / "metrics.json").read_text())
    assert directions["deletion"]["better"] == "lower"
    assert "baseline" in directions["deletion"]["variant"]
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves.groupby("image").size().tolist() == [9] * 4
    for image, points in curves.groupby("image"):
        area = np.trapezoid(points.probability, points.share)
        expected = values[(values.metric == "deletion") & (values.image == image)].value.item()
        assert area == pytest.approx(expected, rel=1e-4)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_batch_size_of_the_run_decides_nothing(tmp_path: Path) -> None:
    tables = []
    for batch_size in (1, 4):
        metrics = {"deletion": Deletion(n_steps=8), "necessity_ordering": NecessityOrdering(n_steps=8)}
        run(tmp_path / str(batch_size), metrics, batch_size)
        tables.append(pd.read_csv(tmp_path / str(batch_size) / "metrics.csv"))
    assert tables[0][["image", "metric"]].equals(tables[1][["image", "metric"]])
    # rounding may turn two pixels of nearly the same attribution round, one of which a step of a curve then takes earlier
    np.testing.assert_allclose(tables[0].value, tables[1].value, rtol=1e-3, atol=1e-4)


def test_metrics_that_need_masks_are_left_out_without_any(tmp_path: Path) -> None:
    metrics = {"pointing_game": PointingGame(), "sparseness": Sparseness()}
    assert run(tmp_path / "without", metrics).record()["metrics_left_out"] == ["pointing_game"]
    assert set(pd.read_csv(tmp_path / "without" / "summary.csv").metric) == {"sparseness"}
    assert run(tmp_path / "with", metrics, masks=True).record()["metrics_left_out"] == []
    assert set(pd.read_csv(tmp_path / "with" / "summary.csv").metric) >= {"pointing_game", "sparseness"}
    with pytest.raises(UserError, match=r"pointing_game cannot be measured without masks: give data\.masks"):
        select_measurable({"pointing_game": PointingGame()}, masked=False)


@pytest.mark.slow
@pytest.mark.parametrize(("score", "read"), [("softmax", "probability"), ("none", "output value")])
def test_record_and_directions_say_what_of_the_outputs_is_read(score: str, read: str, tmp_path: Path) -> None:
    record = run(tmp_path, {"deletion": Deletion(n_steps=2)}, score=score).record()
    directions = json.loads((tmp_path / "metrics.json").read_text())
    for words in (record["metrics"]["deletion"], directions["deletion"]["variant"]):
        assert [word in words for word in ("probability", "output value")] == [
            read == "probability",
            read != "probability",
        ]


def test_passes_of_metrics_are_counted_apart(tmp_path: Path) -> None:
    record = run(tmp_path, {"deletion": Deletion(n_steps=8)}).record()
    assert record["metric_passes"] == {"forward": 4 * 9, "backward": 0}


def test_a_mean_curve_is_that_of_straight_lines_and_stops_with_the_last_image() -> None:
    rows = [("a", 0.0, 1.0), ("a", 1.0, 0.0), ("b", 0.0, 0.5), ("b", 0.5, 0.5)]
    table = pd.DataFrame(rows, columns=["image", "share", "probability"]).assign(curve="deletion/black")
    shares, mean, *_ = compute_mean_curve(table)
    np.testing.assert_allclose(shares, GRID)
    np.testing.assert_allclose(mean, np.where(GRID <= 0.5, (1 - GRID + 0.5) / 2, 1 - GRID))
    assert draw_curves(table, "a heading").get_size_inches()[0] > 3


@pytest.mark.slow
def test_only_the_first_images_are_drawn_and_all_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seewhy.runs import scores

    monkeypatch.setattr(scores, "DRAWN", 3)
    run(tmp_path, {"deletion": Deletion(n_steps=8), "necessity_ordering": NecessityOrdering(n_steps=8)})
    journal = Journal(tmp_path)
    journal.join(None)  # it was written in one loop that had no plan
    drawn = scores.DrawnCurves()
    for results in journal.read_batches():
        drawn.add(results.curves)
    table = drawn.tabulate()
    written = pd.read_csv(tmp_path / "curves.csv")
    assert set(table["image"]) == {"image0", "image1", "image2"}
    assert len(table) == (written.image != "image3").sum()
    assert set(written.image) == {f"image{row}" for row in range(4)}


@pytest.mark.parametrize(("limit", "words"), [(None, "Explaining"), (0, "Testing")])
def test_the_progress_bar_says_what_is_done(limit: int | None, words: str, tmp_path: Path) -> None:
    bar = RichProgressBar()
    bar.progress = Progress()  # type: ignore[assignment]
    bar.test_progress_bar_id = bar.progress.add_task("Testing")  # type: ignore[union-attr]
    callbacks = [Attribution(Saliency(), str(tmp_path), limit=limit), bar]
    trainer: Any = SimpleNamespace(progress_bar_callback=bar, callbacks=callbacks)
    Terminal(str(tmp_path)).on_test_batch_start(trainer, None, None, 0)
    assert [task.description for task in bar.progress.tasks] == [words]  # type: ignore[union-attr]
    trainer.progress_bar_callback = None
    Terminal(str(tmp_path)).on_test_batch_start(trainer, None, None, 0)


@pytest.mark.parametrize(
    ("passes", "cost", "count", "measured"),
    [
        (100, 0, 40, 40),
        (100, 2, 40, 40),
        (100, 2.5, 40, 40),
        (100, 4, 40, 25),
        (100, 7, 40, 14),
        (100, 11, 40, 10),
        (1, 9, 4, 4),
    ],
)
def test_passes_pay_for_images_by_hand(passes: int, cost: float, count: int, measured: int) -> None:
    assert limit_images(passes, cost, LEAST, count) == measured
    metric = Stability(n_samples=2, passes=2 * passes)
    assert count_measured(metric, cost, count) == measured
    assert count_measured(Stability(n_samples=2), 1e9, count) == count, "no bound, every image"


@pytest.mark.parametrize(("measured", "count"), [(10, 40), (13, 40), (40, 40), (3, 7), (1, 5)])
def test_measured_images_are_spread_evenly_over_the_data(measured: int, count: int) -> None:
    chosen = [position for position in range(count) if is_measured(position, measured, count)]
    assert len(chosen) == measured
    gaps = np.diff([-1, *chosen])
    assert gaps.max() <= -(-count // measured)
    if (measured, count) == (10, 40):
        assert chosen == list(range(3, 40, 4))


class Pictures(LightningDataModule):
    """Random images in batches."""

    def __init__(self, count: int, batch_size: int) -> None:
        super().__init__()
        self.images, self.size = random_images(count, 32), batch_size

    def gather(self, rows: list[int]) -> Batch:
        names = [f"image{row:02d}" for row in rows]
        return Batch(self.images[rows], torch.full((len(rows),), -1), names, names, [""] * len(rows), [], None)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(range(len(self.images)), self.size, collate_fn=self.gather)  # type: ignore[arg-type]


def measure(folder: Path, batch_size: int, limit: int | None = None, **metrics: ImageMetric) -> Faithfulness:
    explainer = SmoothGrad(n_samples=2, probe_batch_size=4)
    measuring = Faithfulness(metrics, explainer, str(folder), probe_batch_size=4)
    callbacks = [Attribution(explainer, str(folder), limit=limit), measuring, Tables(str(folder))]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(callbacks=callbacks, **quiet).test(small_cnn(), datamodule=Pictures(24, batch_size), verbose=False)
    return measuring


@pytest.mark.slow
def test_a_dear_method_is_explained_again_on_fewer_images_and_the_tables_say_so(tmp_path: Path) -> None:
    """SmoothGrad of two samples takes four passes: two noisy images each 8, so 96 passes pay for 12 of 24 images."""
    few = Stability(n_samples=2, radius=1e-6, passes=96)
    measuring = measure(tmp_path / "few", 5, stability=few, sparseness=Sparseness())
    assert measuring.list_bounds() == [
        "stability: on 12 of 24 images × 2 explanations × 4 passes = 96 passes (metric.stability.passes=96; "
        "null measures all)"
    ]
    whole = measure(tmp_path / "all", 5, stability=Stability(n_samples=2, radius=1e-6), sparseness=Sparseness())
    assert whole.list_bounds() == []
    tables = [pd.read_csv(tmp_path / name / "metrics.csv").set_index(["metric", "image"]) for name in ("few", "all")]
    values = [table["value"] for table in tables]
    assert list(values[0]["stability"].index) == [f"image{row:02d}" for row in range(1, 24, 2)]
    assert len(values[0]["sparseness"]) == len(values[1]["stability"]) == 24
    pd.testing.assert_series_equal(values[0], values[1][values[0].index], rtol=1e-5)
    summary = pd.read_csv(tmp_path / "few" / "summary.csv").set_index("metric")
    assert (summary.loc["stability", "n"], summary.loc["stability", "failures"]) == (12, 0)
    assert summary.loc["stability", "note"].startswith("on 12 of 24 images")
    passes = [each.record()["metric_passes"] for each in (measuring, whole)]
    assert passes[1]["backward"] == 24 * 2 * 2
    assert passes[0]["backward"] == 12 * 2 * 2


@pytest.mark.slow
def test_which_images_are_measured_again_does_not_depend_on_batches_and_counts_those_explained(tmp_path: Path) -> None:
    chosen = []
    for batch_size in (1, 7, 24):
        folder = tmp_path / str(batch_size)
        measure(
            folder,
            batch_size,
            22,
            stability=Stability(1, passes=1),
            model_randomization=ModelRandomization(1, passes=60),
        )
        table = pd.read_csv(folder / "metrics.csv")
        chosen.append(
            {metric: list(table[table.metric == metric].image) for metric in ("stability", "model_randomization")}
        )
    assert chosen[0] == chosen[1] == chosen[2]
    assert [len(images) for images in chosen[0].values()] == [LEAST, 15]
    assert max(chosen[0]["stability"]) == "image21", "spread over the images that are explained, up to the last"
