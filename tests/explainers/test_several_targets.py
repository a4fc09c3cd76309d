"""Several targets of one image: each map is that of its target alone, and every table knows which it is."""

import csv
from pathlib import Path

import torch
from torch.nn import functional

from seewhy.core.types import Batch, Targets
from seewhy.explainers.batch import explain_batch
from seewhy.explainers.gradient import InputXGradient
from seewhy.metrics.base import MetricContext
from seewhy.metrics.batch import build_context, gather_targets
from seewhy.plots.canvas import open_figure
from seewhy.plots.targets import draw_grid_of_targets, draw_targets
from seewhy.runs.batch_results import collect_batch_results
from seewhy.runs.journal import Journal
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


def test_targets_of_one_image_count_once_in_a_mean() -> None:
    import pandas as pd

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
