"""What a robustness run writes and says, by value: tables, tiles, the row that compares runs, the cost of the work."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from seewhy.analyses.robustness import figures, measure
from seewhy.analyses.robustness.figures import (
    draw_curves,
    select_curve_quantities,
    select_headline_quantities,
    select_metric_quantities,
)
from seewhy.analyses.robustness.measure import (
    Group,
    MeasuredGroup,
    Measurement,
    count_necessary_passes,
    describe_work,
    find_existing_maps,
    iterate_corrupted_groups,
)
from seewhy.analyses.robustness.report import build_results_table, log_summary, write_rows, write_summary
from seewhy.analyses.robustness.sheets import Gallery, list_levels
from seewhy.analyses.robustness.summary import average_over_corruptions, read_reference, summarise_robustness
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.types import Batch, Corrupted, Explanation, Prediction, Target
from seewhy.data.corruptions.attacks import FGSM, PGD
from seewhy.data.corruptions.corrupter import CorruptionStep
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.xrai import Xrai
from seewhy.plots.canvas import Page
from seewhy.plots.heatmaps import average_fine_map, blend_overlay, build_colour_map, compute_scale, normalise
from tiny import small_cnn

CLEAN, DARK, DARKER = CorruptionStep("clean", 0), CorruptionStep("dark", 1), CorruptionStep("dark", 2)


def rows_of(values: dict[tuple[str, int], list[float]]) -> list[dict[str, object]]:
    """Of each (corruption, level) whether each image is right; the target's probability is a tenth of that plus 0.2."""
    return [
        {"image": f"i{n}", "corruption": name, "level": level, "correct": right, "flip": 1 - right}
        | {"clean_probability": 0.2 + right / 10}
        for (name, level), each in values.items()
        for n, right in enumerate(each)
    ]


ROWS = rows_of({CLEAN: [1, 1, 1, 0], DARK: [1, 1, 0, 0], DARKER: [1, 0, 0, 0], ("fog", 1): [0, 0, 0, 0]})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_compares_runs_by_means_over_levels_and_corruptions() -> None:
    """Dark: (2 + 1) / 8 right over its levels, fog: none."""
    assert average_over_corruptions(summarise_robustness(ROWS), ["accuracy", "clean_probability", "none"]) == {
        "average/clean_accuracy": 0.75,
        "average/corrupted_accuracy": pytest.approx((3 / 8 + 0) / 2),
        "average/clean_clean_probability": pytest.approx(0.2 + 0.075),
        "average/corrupted_clean_probability": pytest.approx((0.2 + 3 / 80 + 0.2) / 2),
    }
    clean = summarise_robustness(rows_of({CLEAN: [1, 0]}))
    assert average_over_corruptions(clean, ["accuracy"]) == {"average/clean_accuracy": 0.5}


def test_rows_are_written_in_words(tmp_path: Path) -> None:
    first = {"image": "i0", "corruption": "fgsm", "level": 1, "label": "cat", "flip": 1.0, "extra": 1 / 3}
    second = {"image": "i1", "corruption": "fgsm", "level": 1, "correct": 0.0, "attack_success": 1.0, "flip": 0.0}
    write_rows(RunFolder(tmp_path), [first, second])
    head = ["image", "corruption", "level", "label", "predicted", "probability", "correct", "flip", "true_probability"]
    assert list(read(tmp_path / "robustness.csv")[0]) == [*head, "clean_probability", "extra", "attack_success"]
    cells = [{key: cell for key, cell in row.items() if cell} for row in read(tmp_path / "robustness.csv")]
    assert cells == [
        {"image": "i0", "corruption": "fgsm", "level": "1", "label": "cat", "flip": "yes", "extra": "0.333333"},
        {"image": "i1", "corruption": "fgsm", "level": "1", "correct": "no", "flip": "no", "attack_success": "yes"},
    ]


def test_the_summary_says_where_levels_differ_and_keeps_its_own_notes(tmp_path: Path) -> None:
    write_summary(RunFolder(tmp_path), summarise_robustness(ROWS), {"dark": "stronger", "fog": ""})
    table = {
        (row["corruption"], row["level"], row["quantity"]): row for row in read(tmp_path / "robustness_summary.csv")
    }
    assert table["dark", "1", "accuracy"]["mean"] == "0.5"
    assert table["dark", "mean", "clean_probability"]["mean"] == "0.2375"
    notes = {key: row["note"] for key, row in table.items()}
    assert all(note.split("; ")[-1] == "stronger" for (name, *_), note in notes.items() if name == "dark")
    assert not any("stronger" in note for (name, *_), note in notes.items() if name != "dark")
    plain = summarise_robustness(ROWS).set_index(["corruption", "level", "quantity"]).note
    assert notes["dark", "1", "flip"] == "; ".join(filter(None, [plain["dark", 1, "flip"], "stronger"]))
    assert notes["fog", "1", "flip"] == plain["fog", 1, "flip"]


def test_the_terminal_shows_the_way_from_clean_to_the_last_level() -> None:
    quantities = {"accuracy": "accuracy", "none": "not measured"}
    table = build_results_table(summarise_robustness(ROWS), quantities, {"dark": "stronger", "fog": ""})
    assert [column.header for column in table.columns] == ["clean → severity 2", "accuracy", "not measured"]
    assert [list(column.cells) for column in table.columns] == [
        ["dark", "fog"],
        ["0.75 → 0.25", "0.75 → 0.00"],
        ["- → -", "- → -"],
    ]
    assert table.caption == "levels that are not those of ImageNet-C:\ndark: stronger"
    assert build_results_table(summarise_robustness(ROWS), quantities).caption is None


class Recorded:
    """Stands in for the loggers of a run."""

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.files: list[tuple[tuple[str, ...], dict[str, str], int]] = []

    def log_curve(self, name: str, points: list[tuple[int, float]]) -> None:
        self.curves[name] = points

    def log_files(self, folder: Path, tables: tuple[str, ...] = (), images: object = None, step: int = 0) -> None:
        self.files.append((tables, dict(images or {}), step))  # type: ignore[call-overload]


def test_curves_begin_at_the_clean_image_and_sheets_have_their_level(tmp_path: Path) -> None:
    loggers = Recorded()
    names = ("table.png", "level_2.png", "level_2_grad_cam.png")
    pictures = {f"robustness/{name}": 2 * ("level" in name) for name in names}
    log_summary(loggers, summarise_robustness(ROWS), tmp_path, pictures)  # type: ignore[arg-type]
    assert loggers.curves["robustness/accuracy/dark"] == [(0, 0.75), (1, 0.5), (2, 0.25)]
    assert loggers.curves["robustness/accuracy/fog"] == [(0, 0.75), (1, 0)]
    assert {name.split("/")[2] for name in loggers.curves} == {"dark", "fog"}
    assert loggers.files == [
        ((), {"robustness/table": "robustness/table.png"}, 0),
        ((), {"robustness/sheet": "robustness/level_2.png"}, 2),
        ((), {"robustness/grad_cam": "robustness/level_2_grad_cam.png"}, 2),
        (("robustness_summary",), {}, 0),
    ]


def test_quantities_are_those_that_were_measured() -> None:
    columns = ["accuracy", "flip", "grad_cam_spearman", "grad_cam_ssim", "grad_cam_deletion", "edges_deletion"]
    assert select_headline_quantities(columns, ["grad_cam", "edges"]) == {
        "accuracy": "accuracy",
        "grad_cam_spearman": "grad_cam rank corr.",
    }
    assert select_curve_quantities(columns, ["grad_cam"]) == {
        "accuracy": "accuracy",
        "grad_cam_spearman": "grad cam: rank correlation",
        "grad_cam_ssim": "grad cam: SSIM",
    }
    assert select_metric_quantities(columns, ["grad_cam", "edges"], ["deletion", "insertion"]) == {
        "deletion": {"grad_cam_deletion": "grad cam: deletion", "edges_deletion": "edges: deletion"}
    }


def test_a_summary_of_another_run_is_a_reference(tmp_path: Path) -> None:
    write_summary(RunFolder(tmp_path), summarise_robustness(ROWS))
    table = read_reference(tmp_path / "robustness_summary.csv")
    errors = {(row.corruption, row.level): row.error for row in table.itertuples()}
    assert errors == {("clean", "0"): 0.25, ("dark", "1"): 0.5, ("dark", "2"): 0.75, ("fog", "1"): 1}
    rows = summarise_robustness(ROWS, table).to_dict("records")
    against = {(row["corruption"], row["quantity"]): row["mean"] for row in rows if row["level"] == "mean"}
    assert against["dark", "corruption_error"] == pytest.approx(1)
    assert against["mean", "relative_corruption_error"] == pytest.approx(1)
    with pytest.raises(UserError, match="there is no such file"):
        read_reference(tmp_path / "none.csv")


def test_a_reference_without_any_error_gives_no_ratio() -> None:
    perfect = pd.DataFrame({"corruption": ["clean", "dark", "fog"], "level": ["0", "1", "1"], "error": [0.1, 0.0, 0.5]})
    summary = summarise_robustness(ROWS, perfect)
    assert set(summary[summary.quantity == "corruption_error"].corruption) == {"fog", "mean"}


def make_measurement(**changes: object) -> Measurement:
    attacks = {"fgsm": FGSM([0.1, 0.2]), "pgd": PGD([0.1, 0.2, 0.3], n_steps=5)}
    explainers = {"saliency": Saliency(), "occlusion": Occlusion(window=16, stride=16)}
    measurement = Measurement(small_cnn(), explainers, {}, [DARK, DARKER], [], attacks)
    return dataclasses.replace(measurement, **changes)  # type: ignore[arg-type]


def test_necessary_passes_by_hand() -> None:
    """8 versions: the clean one, 2 corrupted, 2 of FGSM and 3 of PGD, whose gradients take 1 and 3 x 5 passes an image.

    A saliency map takes one pass, occlusion 2 x 2 windows and the image.
    """
    measurement = make_measurement()
    assert count_necessary_passes(measurement, images=4, explained=3) == 4 * (8 + 16) + 3 * 8 * (1 + 5)
    assert count_necessary_passes(make_measurement(explainers={"xrai": Xrai(n_steps="auto")}), 4, 3) is None


def test_the_work_by_hand() -> None:
    spent = {"prediction": 2.0, "explanation": 3.0, "attack": 1.0, "stability": 7.0}
    measurement = make_measurement(seconds=spent, metric_passes=40)
    work = describe_work(measurement, {"corruption": 0.5, "waiting": 2.5, "total": 20.0}, 40 + 480, 4, 3)
    assert work == {
        "seconds": {**spent, "corruption": 0.5, "waiting": 2.5, "total": 20.0},
        "waiting_share": 0.125,
        "network_share": 0.3,
        "forward_passes": 480,
        "forward_passes_over_floor": 2.0,
    }


def make_batch(images: int, steps: int) -> Batch:
    """Pictures of 2 x 2 pixels; version `step` of image `n` has the grey value 10 n + step."""
    grey = 10 * torch.arange(images)[:, None] + torch.arange(steps)
    pictures = grey[..., None, None, None].expand(-1, -1, 3, 2, 2).to(torch.uint8).contiguous()
    sources = torch.arange(images * 2.0).view(images, 2, 1, 1, 1).expand(-1, -1, 2, 2, 2).contiguous()
    names = [f"i{n}" for n in range(images)]
    labels = torch.zeros(images, dtype=torch.int64)
    corrupted = Corrupted(pictures, sources, torch.zeros(images))
    return Batch(torch.zeros(images, 3, 2, 2), labels, names, names, names, [], corrupted=corrupted)


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_groups_hold_every_version_with_its_sources(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 1 and 3 of five move pixels; whatever the size of a group, each version comes once."""
    monkeypatch.setattr(measure, "CHUNK", at_once * 2 * 4)
    steps = [CorruptionStep("c", level) for level in range(5)]
    groups = list(iterate_corrupted_groups(make_batch(2, 5), steps, [1, 3]))
    assert max(len(group.steps) for group in groups) == min(at_once, 3)
    grey = {
        step.level: (255 * group.images[:, place, 0, 0, 0]).round().tolist()
        for group in groups
        for place, step in enumerate(group.steps)
    }
    assert grey == {level: [level, 10 + level] for level in range(5)}
    sources = {
        step.level: None if group.sources is None else group.sources[:, place, 0, 0, 0].tolist()
        for group in groups
        for place, step in enumerate(group.steps)
    }
    assert sources == {0: None, 2: None, 4: None, 1: [0, 2], 3: [1, 3]}


def make_explanation(name: str, target: int = 1, **changes: object) -> Explanation:
    said = Prediction(target, "cat", 0.5, (("cat", 0.5),))
    explanation = Explanation(
        name=name,
        path=name,
        image=torch.zeros(3, 2, 2),
        prediction=said,
        target=Target(target, "cat", 0.5, "predicted"),
        attribution=torch.full((2, 2), float(name.removeprefix("i"))),
        explainer="saliency",
        parameters="reduction=max",
        signed=False,
        classifier="",
    )
    return dataclasses.replace(explanation, **changes)  # type: ignore[arg-type]


def test_maps_are_taken_over_where_image_target_and_method_are_the_same() -> None:
    batch, targets = make_batch(3, 1), torch.tensor([1, 1])
    explainers = {"mine": Saliency(), "other": Saliency(reduction="sum"), "third": Occlusion()}
    both = [make_explanation("i1"), make_explanation("i0")]
    maps = find_existing_maps({"explanations": both}, batch, targets, explainers)
    assert list(maps) == ["mine"]
    assert maps["mine"][:, 0, 0].tolist() == [0, 1], "in the order of the batch"
    assert find_existing_maps({}, batch, targets, explainers) == {}
    assert find_existing_maps({"explanations": both[:1]}, batch, targets, explainers) == {}
    other = [make_explanation("i1", target=2), make_explanation("i0")]
    assert find_existing_maps({"explanations": other}, batch, targets, explainers) == {}


def make_measured(steps: list[CorruptionStep], side: int = 4) -> MeasuredGroup:
    """Two images, the first white in its upper half; only the first has maps, which are 1 in the left column."""
    images = torch.zeros(2, len(steps), 3, side, side)
    images[0, :, :, : side // 2] = 1
    maps = torch.zeros(1, len(steps), side, side)
    maps[..., 0] = 1
    rows = [
        [
            {"image": f"i{n}", "predicted": f"class {n}", "probability": 0.25 + n, "flip": float(n == step.level)}
            | {"correct": float(n), "saliency_spearman": step.level / 4}
            for step in steps
        ]
        for n in range(2)
    ]
    return MeasuredGroup(Group(steps, images), rows, {"saliency": maps})


def test_tiles_show_what_was_measured() -> None:
    gallery = Gallery({"saliency": False}, maximum=2, longest=4)
    for steps in ([CLEAN], [DARK, DARKER]):
        gallery.add(make_measured(steps))
    first, second = gallery.tiles["i0"], gallery.tiles["i1"]
    assert list(first) == [CLEAN, DARK, DARKER]
    assert list_levels(gallery.tiles) == [1, 2]
    assert (first[DARK].words, first[DARK].probability, second[DARK].probability) == ("class 0", 0.25, 1.25)
    assert [first[step].flipped for step in first] == [True, False, False], "the original is wrong"
    assert [second[step].flipped for step in second] == [False, True, False], "changed at level 1"
    assert [first[step].similar for step in first] == [{"saliency": 0}, {"saliency": 0.25}, {"saliency": 0.5}]
    assert second[DARK].overlays == second[DARK].similar == {}, "the second image is not explained"
    assert first[DARK].picture[:, :, 0].tolist() == [[255] * 4] * 2 + [[0] * 4] * 2
    attribution, image = torch.zeros(4, 4), torch.zeros(3, 4, 4)
    attribution[:, 0], image[:, :2] = 1, 1
    normalised = normalise(attribution, compute_scale(attribution, 2.0), signed=False)
    overlay = blend_overlay(image, average_fine_map(normalised), build_colour_map("default", "unsigned"), 0.7)
    assert np.abs(first[DARK].overlays["saliency"] - 255 * overlay).max() <= 0.5


def test_large_tiles_are_means_and_no_more_images_are_kept_than_asked_for() -> None:
    gallery = Gallery({"saliency": True}, maximum=1, longest=2)
    gallery.add(make_measured([DARK], side=6))  # blocks of 3 x 3 pixels, of which the upper three rows are white
    gallery.add(make_measured([DARKER], side=5))  # again 3 x 3, and only one of them is whole
    assert list(gallery.tiles) == ["i0"]
    assert gallery.tiles["i0"][DARK].picture[..., 0].tolist() == [[255, 255], [0, 0]]
    assert gallery.tiles["i0"][DARKER].picture[..., 1].tolist() == [[170]], "two of three rows are white"


def test_curves_are_the_means_of_their_quantity_alone_and_spare_panels_are_empty() -> None:
    """Six corruptions take two rows of five panels."""
    names = ["dark", *"abcde"]
    summary = summarise_robustness(rows_of({CLEAN: [1, 0], **{(name, 1): [0, 0] for name in names}, DARKER: [1, 1]}))
    figure = draw_curves(summary, {"accuracy": "right", "clean_probability": "confidence"}, "title")
    assert [axes.get_visible() for axes in figure.axes] == [True] * 6 + [False] * 4
    assert [axes.get_title(loc="left") for axes in figure.axes[:6]] == names
    right, confidence = figure.axes[0].lines
    assert (list(right.get_xdata()), list(right.get_ydata())) == ([0, 1, 2], [0.5, 0, 1])
    assert list(confidence.get_ydata()) == pytest.approx([0.25, 0.2, 0.3])
    assert [list(line.get_xdata()) for line in figure.axes[1].lines] == [[0, 1], [0, 1]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["right", "confidence"]


def test_the_heat_table_is_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[tuple[float, float, float, float]] = []
    starts: list[float] = []

    class Recording(Page):
        def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
            boxes.append((x, y, width, height))
            super().box(x, y, width, height, fill)

        def lines(self, x: float, *rest: Any, **named: Any) -> float:
            starts.append(x)
            return super().lines(x, *rest, **named)

    monkeypatch.setattr(figures, "Page", Recording)
    figures.draw_heat_table(summarise_robustness(ROWS), {"accuracy": "accuracy"}, "title")
    cells, (rule,) = [box for box in boxes if box[3] > 1], [box for box in boxes if box[3] == 1]
    assert len(cells) == 2 * 3
    assert rule[0] == min(box[0] for box in cells)
    assert rule[0] + rule[2] == max(box[0] + box[2] for box in cells)
    assert starts[0] == starts[-1] == min(starts), "title and note begin at the margin"
