"""What is reported and drawn of a fooling image, against hand-written values."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from figure_checks import NAMES, assert_legible
from seewhy.analyses.synthesis.fooling_image import COLUMNS, FooledImage, ProbabilityChange
from seewhy.analyses.synthesis.fooling_run import build_cells, draw_fooling_panel, draw_fooling_sheet
from seewhy.plots.heatmaps import build_colour_map


def fooled(**changes: object) -> FooledImage:
    """A 2x2 image of which one value rises by 0.3 and one falls by 0.4."""
    original = torch.full((3, 2, 2), 0.5)
    saved = original.clone()
    saved[0, 0, 0] += 0.3
    saved[2, 1, 1] -= 0.4
    made = FooledImage(
        *("one", "one.png", "cat", original, saved, original + 0.1, 4, "fooled"),
        predicted=ProbabilityChange("cat", 0.8, 0.1),
        target=ProbabilityChange("dog", 0.05, 0.7),
        answer="dog",
        success=True,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_norms_and_psnr_by_hand() -> None:
    made = fooled()
    assert made.l2 == pytest.approx(0.5)
    assert made.linf == pytest.approx(0.4)
    assert made.l2_unrounded == pytest.approx(0.1 * math.sqrt(12))
    assert made.psnr == pytest.approx(-10 * math.log10(0.25 / 12))
    assert fooled(saved=made.original).psnr == math.inf
    row = made.row()
    assert tuple(row) == COLUMNS
    assert (row["steps"], row["success"], row["l2"]) == ("4", "yes", "0.5")
    assert (row["target_probability_before"], row["target_probability_after"]) == ("0.05", "0.7")


def test_the_pictures_hold_true_values() -> None:
    made = fooled(saved=torch.full((3, 2, 2), 0.5).index_put((torch.tensor(0),) * 3, torch.tensor(0.52)))
    original, fooling, difference, magnified = (cell.colours for cell in build_cells(made))
    np.testing.assert_allclose(original, 0.5)
    np.testing.assert_allclose(fooling[0, 0], [0.52, 0.5, 0.5], atol=1e-6)
    ramp = build_colour_map("default", "unsigned")
    np.testing.assert_array_equal(difference[0, 0], ramp.paint(np.ones(1))[0])  # the largest change is the brightest
    np.testing.assert_array_equal(difference[1, 1], ramp.paint(np.zeros(1))[0])
    assert "brightest: 0.02 of the range" in str(build_cells(made)[2].titles)
    np.testing.assert_allclose(magnified[0, 0], [0.7, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(magnified[1:], 0.5)
    assert "clipped" not in str(build_cells(made)[3].titles)


def test_what_is_clipped_is_said() -> None:
    magnified = build_cells(fooled())[3]
    np.testing.assert_allclose(magnified.colours[0, 0], [1, 0.5, 0.5])
    assert "17 % clipped" in str(magnified.titles)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "cat taken for dog after 4 steps"),
        ({"steps": 1}, "after 1 step'"),
        ({"success": False, "answer": "cat", "outcome": "steps exhausted"}, "not taken for dog: steps exhausted"),
        (
            {"outcome": "already the target", "predicted": ProbabilityChange("dog", 0.9, 0.9)},
            "dog is already the target",
        ),
    ],
)
def test_the_headline_says_what_happened(changes: dict[str, object], words: str) -> None:
    figure = draw_fooling_panel(fooled(**changes), "rate=1", "net")
    assert words in str([line.text for line in figure.words])


@pytest.mark.parametrize("name", NAMES)
def test_no_word_leaves_the_page(name: str) -> None:
    made = fooled(
        name=name, predicted=ProbabilityChange(name, 0.8, 0.1), answer=name, target=ProbabilityChange(name, 0.1, 0.9)
    )
    for figure in (draw_fooling_panel(made, "rate=1", name), draw_fooling_sheet([made, made], 7, "rate=1", name)):
        assert_legible(figure)
