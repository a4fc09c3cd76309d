"""The table of images in a narrow terminal: what tells the rows apart stays."""

from __future__ import annotations

import io
import math

import pytest
from rich.cells import cell_len
from rich.console import Console
from torch import nn

from figure_checks import explanation
from seewhy.core.types import Explanation, Prediction, Target
from seewhy.runs.console import build_results_table, cut_middle, describe_work
from tiny import classifier_of

FACES = [f"Faces_easy__image_{number:04d}" for number in (4, 5)]
CONTRAST = "Greater Swiss Mountain dog - water spaniel"


def print_lines(explanations: list[Explanation], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(build_results_table(explanations, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def explain(name: str, target: Target) -> Explanation:
    prediction = Prediction(0, "Greater Swiss Mountain dog", 0.5, (), "Faces_easy and more", True)
    return explanation(8, file=name, prediction=prediction, target=target, facts={"n_steps": 50})


def test_several_targets_of_several_images_can_be_told_apart() -> None:
    contrast = Target(-1, CONTRAST, math.nan, "predicted - runner_up")
    other = Target(4, "Greater Swiss Mountain dog", 0.5, "predicted")
    lines = print_lines([explain(name, target) for name in FACES for target in (contrast, other)])
    assert len(lines) == 5
    assert all(cell_len(line) <= 80 for line in lines)
    assert len({line.split()[0] for line in lines[1:]}) == 2
    assert all(name[-4:] in line for name, line in zip([FACES[0]] * 2 + [FACES[1]] * 2, lines[1:], strict=True))
    assert len(set(lines[1:])) == 4
    assert all("ner_up" in line for line in lines[1::2])
    assert CONTRAST in print_lines([explain(FACES[0], contrast)], 200)[1], "where there is room the classes are named"


def test_a_target_that_does_not_fit_is_shown_as_it_was_set() -> None:
    contrast = Target(-1, CONTRAST, math.nan, "predicted - runner_up")
    prediction = Prediction(0, "cat", 0.5, (), "cat", True)
    shown = explanation(8, file="a", prediction=prediction, target=contrast)
    assert "predicted - runner_up" in print_lines([shown], 60)[1]
    label = Target(1, CONTRAST, 0.5, "labels")
    shown = explanation(8, file="a", prediction=prediction, target=label)
    assert "spaniel" in print_lines([shown], 60)[1], "which of the labels it is cannot be left out"


@pytest.mark.parametrize("text", ["abcdefghijklmnop", "猫" * 9, "é" * 20])
@pytest.mark.parametrize("width", [1, 2, 5, 8, 12])
def test_a_cut_fits_and_keeps_the_end(text: str, width: int) -> None:
    cut = cut_middle(text, width)
    assert cell_len(cut) <= width
    assert text.endswith(cut.partition("…")[2])
    assert cut_middle(text, 40) == text


@pytest.mark.parametrize(("width", "words"), [(100, "300 parameters"), (20_000, "0.1 M parameters")])
def test_a_small_network_has_its_parameters_counted(width: int, words: str) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, width, bias=False))
    assert f", {words}, on cpu" in describe_work(classifier_of(network, 8, width))
