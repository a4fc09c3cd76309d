"""Several targets of one image: each map is that of its target alone, and every table knows which it is."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from seewhy.core.types import Batch, Targets
from seewhy.explainers.batch import explain_batch
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics.base import MetricContext
from seewhy.metrics.batch import build_context, gather_targets
from seewhy.plots.canvas import open_figure
from seewhy.plots.curves import draw_curves, resample_curves
from seewhy.plots.targets import draw_grid_of_targets, draw_targets
from seewhy.runs.batch_results import CurveRow, collect_batch_results
from seewhy.runs.journal import Journal
from seewhy.runs.logged_results import average_curves, average_values, collect_values
from seewhy.runs.scores import write_scores
from seewhy.runs.tables import Totals, write_tables
from seewhy.statistics.summary import check_table
from tiny import linear_classifier, random_images, small_cnn

TARGETS = ["predicted", "runner_up", "predicted - runner_up"]


def batch_of(count: int, size: int) -> Batch:
    names = [f"image{index}" for index in range(count)]
    return Batch(random_images(count, size), torch.full((count,), -1), names, names, [""] * count, [])


def test_the_map_of_a_contrast_is_the_difference_of_the_maps() -> None:
    classifier, batch, explainer = small_cnn(), batch_of(2, 32), InputXGradient(probe_batch_size=4)
    logits = classifier(batch.images).detach()
    explanations, skipped = explain_batch(classifier, batch, logits, explainer, TARGETS)
    assert not skipped
    assert [(each.image_name, each.target.policy) for each in explanations] == [
        (name, target) for name in batch.names for target in TARGETS
    ]
    assert len({each.name for each in explanations}) == 6
    for predicted, runner_up, contrast in (explanations[:3], explanations[3:]):
        torch.testing.assert_close(contrast.attribution, predicted.attribution - runner_up.attribution)
    for target in TARGETS:
        alone, _ = explain_batch(classifier, batch, logits, explainer, target)
        assert [each.name for each in alone] == batch.names
        together = [each for each in explanations if each.target.policy == target]
        assert all(torch.equal(a.attribution, b.attribution) for a, b in zip(alone, together, strict=True))


def test_metrics_measure_the_target_that_was_explained() -> None:
    classifier, _ = linear_classifier()
    batch, explainer = batch_of(2, 8), InputXGradient(probe_batch_size=4)
    logits = classifier(batch.images).detach()
    explanations, _ = explain_batch(classifier, batch, logits, explainer, TARGETS)
    top = logits.topk(2, 1).indices
    one_hot = functional.one_hot(top, 3).double()
    expected = torch.stack([one_hot[:, 0], one_hot[:, 1], one_hot[:, 0] - one_hot[:, 1]], 1).flatten(0, 1)
    torch.testing.assert_close(gather_targets(explanations, 3), expected)
    assert gather_targets(explanations[:2], 3).tolist() == top[0].tolist(), "classes stay classes"
    context = build_context(classifier, explanations, explainer, probe_batch_size=4)
    images = batch.images.repeat_interleave(3, 0).float().double()
    maps = torch.zeros(6, 8, 8)
    same = MetricContext(classifier, images, Targets(expected), maps, probe_batch_size=4)
    torch.testing.assert_close(context.compute_scores(), same.compute_scores())


def test_tables_have_a_row_for_each_target_and_are_read_back(tmp_path: Path) -> None:
    classifier, batch = small_cnn(), batch_of(2, 32)
    logits = classifier(batch.images).detach()
    explanations, skipped = explain_batch(classifier, batch, logits, InputXGradient(probe_batch_size=4), TARGETS)
    results = collect_batch_results(
        classifier, {"logits": logits, "explanations": explanations, "skipped": skipped}, batch
    )
    journal = Journal(tmp_path)
    journal.begin(None)
    journal.write(0, results)
    (read,) = journal.read_batches()
    assert [repr((each.name, each.target)) for each in read.explanations] == [
        repr((each.name, each.target)) for each in explanations
    ]
    totals = Totals.read(journal)
    assert (totals.images, totals.explained_images, totals.explained) == (2, 2, 6)
    write_tables(journal.folder, journal)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["target_policy"] for row in rows] == TARGETS * 2
    assert [row["image"] for row in rows] == [each.name for each in explanations]
    assert [bool(row["target_probability"]) for row in rows] == [True, True, False] * 2
    with (tmp_path / "metrics.csv").open(newline="") as file:
        values = list(csv.DictReader(file))
    for row, explanation in zip(values, [each for each in explanations for _ in each.facts], strict=True):
        stated = explanation.name, explanation.target.name, explanation.target.policy
        assert (row["image"], row["target"], row["target_policy"]) == stated


def test_scores_are_told_for_each_target_and_curves_are_those_of_images(tmp_path: Path) -> None:
    classifier, batch = small_cnn(), batch_of(3, 32)
    logits = classifier(batch.images).detach()
    explanations, skipped = explain_batch(classifier, batch, logits, InputXGradient(probe_batch_size=4), TARGETS[:2])
    measured = [replace(each, metrics={"m": float(number)}) for number, each in enumerate(explanations)]
    curves = [
        CurveRow(each.name, each.explainer, "deletion/black", share, 9.0, number + share)
        for number, each in enumerate(measured)
        for share in (0.0, 1.0)
    ]
    results = collect_batch_results(
        classifier, {"logits": logits, "explanations": measured, "skipped": skipped, "curves": curves}, batch
    )
    journal = Journal(tmp_path)
    journal.begin(None)
    journal.write(0, results)
    told = write_scores(journal.folder, {}, journal)
    assert told is not None
    assert told[["target", "metric", "n", "mean"]].values.tolist() == [
        ["predicted", "m", 3, 2],
        ["runner_up", "m", 3, 3],
    ]
    with (tmp_path / "targets.csv").open(newline="") as file:
        assert [row["target"] for row in csv.DictReader(file)] == TARGETS[:2]
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [(row["n"], row["mean"]) for row in csv.DictReader(file)] == [("3", "2.5")], "images, not targets"
    curve = resample_curves(pd.DataFrame(curves), "probability")
    assert curve[:, 0].tolist() == [0.5, 2.5, 4.5]
    (points,) = [each for name, each in average_curves(journal).items() if name.endswith("probability")]
    assert (points[0], points[-1]) == ((0, 2.5), (100, 3.5))
    values = collect_values(journal)
    assert average_values(values, [each.name for each in measured])["average/m"] == 2.5


def test_means_weigh_images_alike_however_many_labels_they_have() -> None:
    assert average_values({"m": [0.0, 2.0, 5.0], "none": [math.nan]}, ["a@x", "a@y", "b@x"]) == {"average/m": 3.0}


def test_a_curve_beyond_zero_and_one_stays_in_its_panel() -> None:
    rows = [(image, "deletion/black", share, share, 4.0 - 9 * share) for image in "ab" for share in (0.0, 1.0)]
    columns = ["image", "curve", "share", "logit", "probability"]
    (axes,) = draw_curves(pd.DataFrame(rows, columns=columns), "heading").axes
    heights = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    curve = max(heights, key=len)
    rules = np.concatenate([each for each in heights if each is not curve])
    assert rules.min() <= curve.min() < curve.max() <= rules.max()


def test_targets_of_one_image_count_once_in_a_mean() -> None:
    rows = [("a@x", 1.0), ("a@y", 3.0), ("b@x", 5.0), ("b@y", float("nan"))]
    table = pd.DataFrame(
        [(image, "e", "m", value) for image, value in rows], columns=["image", "explainer", "metric", "value"]
    )
    checked = check_table(table)
    assert list(zip(checked["image"], checked["value"], strict=True)) == [("a", 2.0), ("b", 5.0)]


def test_figures_show_targets_side_by_side() -> None:
    classifier, batch = small_cnn(), batch_of(2, 32)
    logits = classifier(batch.images).detach()
    explanations, _ = explain_batch(classifier, batch, logits, InputXGradient(probe_batch_size=4), TARGETS)
    one, two, three = (open_figure(draw_targets(explanations[:count])) for count in (1, 2, 3))
    assert two.width > three.width, "two targets: heat map and overlay of each; three: the overlays"
    assert one.height < 2 * three.height
    sheet = open_figure(draw_grid_of_targets(explanations))
    assert sheet.height > sheet.width / 4
