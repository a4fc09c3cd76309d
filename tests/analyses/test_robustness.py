"""Whole robustness runs, and the numbers in their tables."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import albumentations
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from commands import composed, width
from figure_checks import assert_legible
from seewhy.analyses.robustness.figures import draw_heat_table, shade
from seewhy.analyses.robustness.measure import Measurement
from seewhy.analyses.robustness.summary import read_reference, summarise_robustness
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.core.random import derive_seed
from seewhy.core.types import Batch, Corrupted
from seewhy.data.corruptions.attacks import FGSM
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.corrupter import Corrupter
from seewhy.explainers.gradient import Saliency
from seewhy.statistics.intervals import compute_mean_intervals, widen_by_draws
from seewhy.statistics.schema import MetricFact
from tiny import random_images, small_cnn

Runner = Callable[..., Path]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    def go(*overrides: str, name: str = "run") -> Path:
        folder = tmp_path / name
        given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={folder}"]
        given += ["explainer=saliency", "data.limit=3", "callbacks.robustness.workers=0", "hydra.mode=RUN"]
        tasks.execute(tasks.explain, composed("robustness", [*given, *overrides]))
        return folder

    return go


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_tables_figures_and_curves(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ["metric=[deletion]", "metric.deletion.n_steps=3"]
    folder = runner("corruption=[jpeg,rotation,fgsm]", "+explainer@also.edges=edges", *measured)
    table = rows(folder / "robustness.csv")
    assert len(table) == 3 * (1 + 3 * 5)
    assert [(row["corruption"], row["level"]) for row in table[:3]] == [("clean", "0"), ("jpeg", "1"), ("jpeg", "2")]
    clean = [row for row in table if row["level"] == "0"]
    assert all(row["flip"] == "no" and float(row["saliency_spearman"]) == 1 for row in clean)
    predictions = {row["image"]: row for row in rows(folder / "predictions.csv")}
    for row in clean:
        assert row["predicted"] == predictions[row["image"]]["predicted"]
        assert float(row["probability"]) == pytest.approx(float(predictions[row["image"]]["probability"]), abs=1e-5)
    for row in table:
        assert row["label"] in ("airplane", "automobile", "bird")
        assert row["attacked_class"] == (row["label"] if row["corruption"] == "fgsm" else "")
        assert -1 <= float(row["edges_ssim"]) <= 1
        assert 0 < float(row["saliency_deletion"]) < 1
    names = {path.name for path in (folder / "robustness").iterdir()}
    assert {"table.png", "curves_prediction.png", "curves_saliency.png", "level_5_edges.png", "level_1.png"} <= names
    assert "curves_metric_deletion.png" in names
    assert all(width(folder / "robustness" / name) > 400 for name in names)
    record = json.loads((folder / "run.json").read_text())["robustness"]
    assert record["forward_passes_over_floor"] == 1.0
    assert record["images_explained"] == 3
    assert "clean → severity " in capsys.readouterr().out


@pytest.mark.slow
def test_tensorboard_has_the_level_as_step(runner: Runner) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = runner("corruption=jpeg")
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    scalars = events.Scalars("robustness/accuracy/jpeg")
    summary = pd.read_csv(folder / "robustness_summary.csv")
    expected = summary[(summary.quantity == "accuracy") & (summary.corruption != "mean") & (summary.level != "mean")]
    assert [event.step for event in scalars] == [0, 1, 2, 3, 4, 5]
    assert [event.value for event in scalars] == pytest.approx(list(expected["mean"]))
    assert [event.step for event in events.Images("robustness/sheet")] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_workers(runner: Runner) -> None:
    given = ["corruption=[gaussian_noise,elastic,pgd]", "logger=[]"]
    first, again = runner(*given, name="first"), runner(*given, "callbacks.robustness.workers=2", name="again")
    other = runner(*given, "seed=1", name="other")
    for name in ("robustness.csv", "robustness_summary.csv", "robustness/level_3_saliency.png", "robustness/table.png"):
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert (first / "robustness.csv").read_bytes() != (other / "robustness.csv").read_bytes()


def test_predictions_alone_need_no_explainer_passes(runner: Runner) -> None:
    folder = runner("corruption=jpeg", "callbacks.robustness.explain=0", "callbacks=[tables,robustness]")
    assert not any("saliency" in column for column in rows(folder / "robustness.csv")[0])
    record = json.loads((folder / "run.json").read_text())["robustness"]
    assert record["forward_passes"] == 3 * 6


@pytest.mark.slow
def test_the_reference_of_the_run_itself_gives_a_corruption_error_of_1(runner: Runner) -> None:
    first = runner("corruption=[jpeg,fog]", "data.limit=4", name="first")
    second = runner(
        "corruption=[jpeg,fog]",
        "data.limit=4",
        f"callbacks.robustness.reference={first}/robustness_summary.csv",
        name="second",
    )
    summary = pd.read_csv(second / "robustness_summary.csv")
    assert list(summary[summary.quantity == "corruption_error"]["mean"]) == pytest.approx([1, 1, 1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("corruption=[]", "no corruption was picked"),
        ("callbacks.robustness.reference=nowhere.csv", "there is no such file"),
        ("callbacks.robustness.workers=-2", "workers=-2"),
    ],
)
def test_a_mistake_is_one_message(
    runner: Runner, override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        runner(override)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


# one batch


def batch_of(images: torch.Tensor, corrupter: Corrupter) -> Batch:
    pictures = (images * 255).round().to(torch.uint8)
    versions = [corrupter(picture) for picture in pictures]
    corrupted = Corrupted(*(torch.stack(parts) for parts in zip(*versions, strict=True)))
    names = [f"image {number}" for number in range(len(images))]
    labels = torch.arange(len(images)) - 1
    return Batch(pictures.float() / 255, labels, names, names, names, [], corrupted=corrupted)


def test_the_empty_corruption_changes_nothing() -> None:
    classifier = small_cnn()
    corrupter = Corrupter({"none": Corruption([albumentations.NoOp()] * 2, moves_pixels=True)}, classifier.facts, 0)
    still = Corrupter({"none": Corruption([albumentations.NoOp()] * 2)}, classifier.facts, 0)
    for made in (corrupter, still):
        batch = batch_of(random_images(3, 32), made)
        assert torch.equal(batch.corrupted.pictures[:, 0].float() / 255, batch.images)  # type: ignore[union-attr]
        given = {"saliency": Saliency(probe_batch_size=4)}
        measurement = Measurement(
            classifier, given, {}, made.steps, made.moving, {"fgsm": FGSM([0])}, probe_batch_size=4
        )
        with torch.no_grad():
            logits = classifier(batch.images)
        found = [
            row
            for part in measurement.run(measurement.clean(batch, logits, 3, {}))
            for line in part.rows
            for row in line
        ]
        assert len(found) == 3 * (1 + 2 + 1)
        for row in found:
            assert row["flip"] == 0
            assert row["saliency_spearman"] == pytest.approx(1, abs=1e-4)
            assert row["saliency_top10"] == pytest.approx(1, abs=0.03)
            assert row["saliency_ssim"] == pytest.approx(1, abs=1e-3)


def test_rows_say_what_the_classifier_says() -> None:
    classifier = small_cnn()
    corrupter = Corrupter({"dark": Corruption([albumentations.InvertImg()])}, classifier.facts, 0)
    batch = batch_of(random_images(3, 32), corrupter)
    measurement = Measurement(classifier, {}, {}, corrupter.steps, [], {}, probe_batch_size=2)
    with torch.no_grad():
        clean, dark = classifier(batch.images).softmax(1), classifier(1 - batch.images).softmax(1)
    parts = list(measurement.run(measurement.clean(batch, classifier(batch.images).detach(), 0, {})))
    for image, (row,) in enumerate(parts[1].rows):
        assert row["predicted"] == f"class {int(dark[image].argmax())}"
        assert row["probability"] == pytest.approx(float(dark[image].max()), abs=1e-5)
        assert row["clean_probability"] == pytest.approx(float(dark[image, clean[image].argmax()]), abs=1e-5)
        assert row["flip"] == float(dark[image].argmax() != clean[image].argmax())
        assert ("correct" in row) == (image > 0)
    assert parts[1].rows[2][0]["true_probability"] == pytest.approx(float(dark[2, 1]), abs=1e-5)


def test_attacks_alone_are_measured_as_beside_corruptions() -> None:
    """The attacked image of FGSM is written out: image + eps sign(gradient of the loss), clamped."""
    classifier, images = small_cnn(), (random_images(3, 32) * 255).round() / 255
    with torch.no_grad():
        logits = classifier(images)
    attacks = {"fgsm": FGSM([0.0, 0.05])}
    rows = {}
    for name, corruptions in (("alone", {}), ("beside", {"dark": Corruption([albumentations.InvertImg()])})):
        corrupter = Corrupter(corruptions, classifier.facts, 0)
        batch = batch_of(images, corrupter)
        measurement = Measurement(classifier, {}, {}, corrupter.steps, [], attacks, probe_batch_size=2)
        parts = list(measurement.run(measurement.clean(batch, logits, 0, {})))
        measured = [row for part in parts for line in part.rows for row in line]
        rows[name] = [row for row in measured if row["corruption"] != "dark"]
        assert len(measured) == 3 * (3 + len(corruptions))
    for row, other in zip(rows["alone"], rows["beside"], strict=True):
        assert row.keys() == other.keys()
        assert all(value == (pytest.approx(other[key], abs=1e-6)) for key, value in row.items())
    classes = torch.tensor([int(logits[0].argmax()), 0, 1])  # the label of the first image is not known
    given = images.clone().requires_grad_()
    functional.cross_entropy(classifier(given), classes, reduction="sum").backward()
    with torch.no_grad():
        attacked = classifier((images + 0.05 * given.grad.sign()).clamp(0, 1))  # type: ignore[union-attr]
    for image, row in enumerate(row for row in rows["alone"] if row["level"] == 2):
        assert row["attacked_class"] == f"class {int(classes[image])}"
        assert row["predicted"] == f"class {int(attacked[image].argmax())}"
        assert row["probability"] == pytest.approx(float(attacked[image].softmax(0).max()), abs=1e-5)
        to_begin_with = logits[image].argmax() == classes[image]
        success = float(attacked[image].argmax() != classes[image])
        assert row.get("attack_success") == (success if to_begin_with else None)


# the summary


def table(correct: dict[tuple[str, int], list[int]]) -> list[dict[str, object]]:
    return [
        {"image": str(image), "corruption": name, "level": level, "correct": float(value), "flip": 0.0}
        for (name, level), values in correct.items()
        for image, value in enumerate(values)
    ]


ROWS = table({("clean", 0): [1, 1, 1, 0], ("a", 1): [1, 1, 0, 0], ("a", 2): [1, 0, 0, 0], ("b", 1): [0, 0, 0, 0]})


def value(summary: pd.DataFrame, corruption: str, level: object, quantity: str) -> float:
    chosen = summary[(summary.corruption == corruption) & (summary.level == level) & (summary.quantity == quantity)]
    return float(chosen["mean"].iloc[0])


def test_errors_by_hand() -> None:
    summary = summarise_robustness(ROWS)
    assert value(summary, "clean", 0, "accuracy") == 0.75
    assert value(summary, "a", 2, "accuracy") == 0.25
    assert value(summary, "a", "mean", "error") == (0.5 + 0.75) / 2
    assert value(summary, "a", "mean", "relative_error") == pytest.approx((0.5 + 0.75) / 2 - 0.25)
    assert value(summary, "mean", "mean", "error") == pytest.approx((0.625 + 1) / 2)
    reference = pd.DataFrame({"corruption": ["clean", "a", "b"], "level": ["0", "1", "1"], "error": [0.05, 0.5, 0.8]})
    against = summarise_robustness(ROWS, reference)
    assert value(against, "a", "mean", "corruption_error") == pytest.approx(0.625 / 0.5)
    assert value(against, "mean", "mean", "corruption_error") == pytest.approx((0.625 / 0.5 + 1 / 0.8) / 2)
    assert value(against, "b", "mean", "relative_corruption_error") == pytest.approx((1 - 0.25) / (0.8 - 0.05))


def test_outcomes_and_draws_make_the_intervals() -> None:
    hits = [1.0] * 12
    summary = summarise_robustness(table({("clean", 0): hits, ("a", 1): hits}))
    row = summary[(summary.corruption == "a") & (summary.level == 1) & (summary.quantity == "accuracy")].iloc[0]
    (wilson,) = compute_mean_intervals([np.array(hits)], outcomes=[(0, 1)])
    assert (row["low"], row["high"]) == (wilson.low, wilson.high)
    assert row["low"] < 0.8
    values = {("a", 1): [[-0.2, 0.4], [-0.3, 0.5], [-0.1, 0.3]], ("a", 2): [[0.4, 0.6], [0.1, 0.3], [0.2, 0.2]]}
    rows = [
        {"image": str(image), "corruption": name, "level": level, "score": np.abs(pair).mean()}
        | {f"draw_{number}": value for number, value in enumerate(pair)}
        for (name, level), pairs in values.items()
        for image, pair in enumerate(pairs)
    ]
    facts = {"score": MetricFact("lower", draws=("draw_0", "draw_1"), absolute=True)}
    summary = summarise_robustness(rows, facts=facts)
    assert set(summary.quantity) == {"score"}
    for level, means in ((1, [0.2, 0.4]), ("mean", [(0.2 + 0.7 / 3) / 2, (0.4 + 1.1 / 3) / 2])):
        row = summary[summary.level == level].iloc[0]
        absolute = np.abs(values["a", 1] if level == 1 else [values["a", 1], values["a", 2]])
        images = absolute.mean(-1) if level == 1 else absolute.mean((0, 2))
        (plain,) = compute_mean_intervals([images])
        wide = widen_by_draws(plain, images.mean(), means)
        assert (row["low"], row["high"]) == pytest.approx((wide.low, wide.high))
        assert row["low"] < plain.low


def test_intervals_hold_the_mean_and_say_what_they_are() -> None:
    draw = np.random.default_rng(0).random(40)
    rough, equal, few, usual = compute_mean_intervals([draw[:6], np.ones(5), draw[:2], draw])
    assert "approximate" in rough.note and rough.low < draw[:6].mean() < rough.high
    assert (equal.low, equal.high) == (1, 1) and "equal" in equal.note
    assert np.isnan(few.low) and "too few" in few.note
    assert usual.note == "" and usual.low < draw.mean() < usual.high
    half = 1.96 * draw.std() / 40**0.5
    assert usual.high - usual.low == pytest.approx(2 * half, rel=0.15)
    assert compute_mean_intervals([draw[::-1]])[0] == usual


def test_a_reference_must_have_the_columns_and_the_corruptions(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_csv(tmp_path / "x.csv")
    with pytest.raises(UserError, match="it needs corruption, level, error"):
        read_reference(tmp_path / "x.csv")
    with pytest.raises(UserError, match="none of the corruptions a, b"):
        summarise_robustness(
            ROWS, pd.DataFrame({"corruption": ["clean", "c"], "level": ["0", "1"], "error": [0.1, 0.2]})
        )


def test_seeds_belong_to_the_picture_the_seed_and_the_purpose() -> None:
    picture, other = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.ones(3, 4, 4, dtype=torch.uint8)
    drawn = {derive_seed(seed, one, purpose) for seed in (0, 1) for one in (picture, other) for purpose in ("a", "b")}
    assert len(drawn) == 8
    assert derive_seed(0, picture.clone(), "a") == derive_seed(0, picture, "a")


# figures


@pytest.mark.parametrize("name", ["cat", "W" * 60, "größe 猫"])
@pytest.mark.parametrize("explainer", [None, "saliency"])
def test_the_sheet_is_legible(name: str, explainer: str | None) -> None:
    from seewhy.analyses.robustness.sheets import Tile, draw_robustness_sheet, list_levels
    from seewhy.data.corruptions.corrupter import CorruptionStep

    picture = np.zeros((32, 32, 3), np.uint8)
    tile = Tile(name, 0.5, True, picture, {"saliency": picture}, {"saliency": -0.5})
    steps = [
        CorruptionStep("clean", 0),
        *(CorruptionStep(f"corruption_{n}_with_a_long_name", level) for n in range(4) for level in (1, 2)),
    ]
    tiles = {f"image {n}": dict.fromkeys(steps, tile) for n in range(3)}
    assert list_levels(tiles) == [1, 2]
    figure = draw_robustness_sheet(tiles, 2, name, explainer)
    assert_legible(figure)


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        (0, "#042a64"),
        (0.25, "#3d5a89"),
        (0.5, "#778cad"),
        (0.75, "#b4bfd1"),
        (1, "#f5f5f5"),
        (-3, "#042a64"),
        (2, "#f5f5f5"),
    ],
)
def test_the_ramp_of_the_heat_table_is_even_in_lightness(value: float, colour: str) -> None:
    """From Oklab (0.30, -0.02, -0.11) to (0.97, 0, 0), converted with the matrices that Ottosson published in 2020."""
    assert shade(value) == colour


def test_the_heat_table_is_legible() -> None:
    quantities = {"accuracy": "accuracy", "flip": "a long name of a quantity that needs two lines"}
    assert_legible(draw_heat_table(summarise_robustness(ROWS), quantities, "a title"))
