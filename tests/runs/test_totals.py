"""Totals over batches, by value: on a journal of unequal entries, and recomputed from the tables of a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from commands import rows
from journals import PLAN, write_journal
from resuming import explain
from seewhy.core.types import Prediction
from seewhy.data.folder import SAMPLES
from seewhy.models.classifier import Passes
from seewhy.runs.batch_results import BatchResults, ImageResult
from seewhy.runs.console import describe_accuracy, doubt_accuracy
from seewhy.runs.journal import Journal
from seewhy.runs.tables import Totals


@pytest.fixture
def totals(tmp_path: Path) -> Totals:
    return Totals.read(write_journal(tmp_path))


def test_counts_are_those_of_all_batches(totals: Totals) -> None:
    assert (totals.images, totals.skipped, totals.explained, totals.warned) == (6, 1, 5, 2)
    assert (totals.labelled, totals.correct) == (5, 2)
    assert totals.describe_images() == {
        "images": 6,
        "images_skipped": 1,
        "probe_batch_sizes": {"forward 3x4x4": [4, 8], "gradient 3x4x4": [2]},
    }


def test_losses_and_accuracy_weigh_images_and_not_batches(totals: Totals) -> None:
    """Batches of one, two and two labelled images: the mean of their means would be 1.4167 and 0.5."""
    assert totals.losses == [0.25, 1.5, 0.5, 2.0, 4.0]
    assert totals.average_losses() == {"test/loss": 8.25 / 5, "test/accuracy": 2 / 5}
    assert Totals().average_losses() == {}


def test_label_accuracy_is_a_mean_over_images_and_leaves_out_the_unlabelled(tmp_path: Path) -> None:
    """Two batches of several labels an image: shares 1 and 1/4, then one image without labels and one of 1/2."""
    journal = Journal(tmp_path)
    journal.begin({**PLAN, "batches": 2})
    for number, shares in enumerate(([1.0, 0.25], [None, 0.5])):
        images = []
        for place, share in enumerate(shares):
            correct, known = None if share is None else share == 1, share is not None
            prediction = Prediction(
                0, "cat", 0.5, (("cat", 0.5),), "cat", correct, ("cat",), ("cat",) if known else None, share
            )
            images.append(ImageResult(f"{number}_{place}", "photo.png", prediction, share, ()))
        journal.write(number, BatchResults(images, []))
    assert Totals.read(journal).average_losses() == {
        "test/loss": 1.75 / 3,
        "test/accuracy": 1 / 3,
        "test/label_accuracy": 1.75 / 3,
    }


@pytest.mark.parametrize(
    ("labels", "probability", "words"),
    [
        (["cat", "dog", "emu", ""], 0.5, "1 of 1 labelled images classified correctly (100.0 %)\n2 images have labels "
         "that are no classes of this network, such as dog"),
        (["dog"], 0.5, "1 image has a label that is no class of this network, dog"),
        (["", ""], 0.5, ""),
        (["dog"], float("nan"), ""),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_counted(
    labels: list[str], probability: float, words: str, tmp_path: Path
) -> None:
    journal, images = Journal(tmp_path), []
    journal.begin({**PLAN, "batches": 1})
    for number, label in enumerate(labels):
        correct = True if label == "cat" else None
        prediction = Prediction(0, "cat", probability, (("cat", 0.5),), label, correct)
        images.append(ImageResult(str(number), "photo.png", prediction, None, ()))
    journal.write(0, BatchResults(images, []))
    assert describe_accuracy(Totals.read(journal)) == words


@pytest.mark.parametrize(
    ("labelled", "correct", "words"),
    [
        (
            75,
            15,
            r"^15 of 75 correct is no better than guessing among 5 classes \(p = 0\.55\).*model\.mean, model\.fit; the "
            "command doctor",
        ),
        (10, 4, r"p = 0\.12"),
        (10, 5, ""),  # P(at least 5 of 10 at 1/5) = 0.0328
        (9, 0, ""),
        (10, 0, r"p = 1\.00"),
    ],
)
def test_an_accuracy_like_chance_is_doubted(labelled: int, correct: int, words: str) -> None:
    doubts = ("model.mean", "model.fit")
    doubt = doubt_accuracy(Totals(labelled=labelled, correct=correct), 5, doubts)
    assert re.search(words, doubt) if words else doubt == ""
    assert doubt_accuracy(Totals(labelled=75, correct=0, label_accuracies=[0.5]), 5, doubts) == ""
    assert doubt_accuracy(Totals(labelled=75, correct=0), 5, ()) == ""


def test_passes_and_seconds_are_summed_by_stage(totals: Totals) -> None:
    assert totals.passes == {"attribution": Passes(40, 41), "metrics": Passes(80, 0)}
    assert totals.describe_attributions() == {
        "images_explained": 5,
        "passes_per_image": {"forward": 8.0, "backward": 8.2},
        "attribution_seconds": 1.375,
    }
    assert totals.describe_metrics() == {
        "metrics_left_out": ["pointing_game", "relevance_mass"],
        "metric_passes": {"forward": 80, "backward": 0},
        "metric_seconds": 4.5,
    }


def test_a_batch_that_is_not_finished_counts_nowhere(tmp_path: Path) -> None:
    write_journal(tmp_path).locate(1).write_text("")
    totals = Totals.read(Journal(tmp_path))
    assert (totals.images, totals.skipped, totals.explained, totals.warned, totals.correct) == (3, 0, 2, 1, 1)
    assert totals.losses == [0.25, 2.0, 4.0]
    assert totals.seconds == {"attribution": 1.125, "metrics": 0.5}


@pytest.mark.slow
def test_the_record_of_a_run_adds_up_its_tables(tmp_path: Path) -> None:
    """Batches of two, two and one image: `test/accuracy` is the share of `yes` in predictions.csv, not of the last batch."""
    run = tmp_path / "run"
    for path in sorted((SAMPLES / "cifar10").glob("*.png"))[:5]:
        (tmp_path / "data" / path.stem.split("_")[0]).mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, tmp_path / "data" / path.stem.split("_")[0])
    explain(run, tmp_path / "data", "model.weights=shipped")
    record, predictions = json.loads((run / "run.json").read_text()), rows(run / "predictions.csv")
    verdicts = [row["correct"] for row in predictions]
    batches = list(Journal(run).read_batches())
    assert (len(predictions), len(batches)) == (5, 3)
    assert verdicts.count("yes") / 5 != (verdicts[-1] == "yes"), "the last batch has another accuracy than the run"
    assert record["logged"]["test/accuracy"] == pytest.approx(verdicts.count("yes") / len(verdicts), abs=1e-6)
    losses = [image.loss for results in batches for image in results.images]
    assert record["logged"]["test/loss"] == pytest.approx(sum(losses) / 5, rel=1e-6)  # type: ignore[arg-type]
    assert record["attribution_seconds"] == round(sum(each.costs["attribution"].seconds for each in batches), 3)
    assert record["metric_seconds"] == round(sum(each.costs["metrics"].seconds for each in batches), 3)
    assert (record["images"], record["images_explained"], record["images_skipped"]) == (5, 5, 0)
