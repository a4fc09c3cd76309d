"""The six lines by their evidence, the rule that recommends, and how often it is right."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seewhy.core.errors import UserError
from seewhy.statistics.recommendation import measure_rule, recommend
from seewhy.statistics.verdict import (
    COMPLETE,
    COST,
    LINE_COLUMNS,
    LINES,
    NETWORK,
    PLANTED,
    REMOVERS,
    STABLE,
    Estimate,
    Line,
    judge_completeness,
    judge_cost,
    judge_network,
    judge_planted,
    judge_removers,
    judge_stability,
)

CONTROLS = ("random", "edges", "centre")
SIX = ("black", "white", "mean", "blur", "noise", "imputed")


@pytest.mark.parametrize(
    ("gap", "tolerance", "light", "words"),
    [
        (Estimate(0.004, 0.002, 0.007), 0.01, "green", "adds up"),
        (Estimate(0.05, 0.02, 0.09), 0.01, "yellow", "by 5 %"),
        (Estimate(0.5, 0.05, 0.9), 0.01, "yellow", "by 50 %"),
        (Estimate(0.5, 0.2, 0.9), 0.01, "red", "by 50 %"),
        (Estimate(0.97, 0.9, 1.0), None, "none", "promises no sum"),
        (Estimate(103.2, 90, 110), None, "none", "by 10,320 %"),
        (Estimate(), None, "none", "promises no sum"),
        (Estimate(), 0.01, "none", "not measured"),
    ],
)
def test_completeness(gap: Estimate, tolerance: float | None, light: str, words: str) -> None:
    line = judge_completeness(gap, tolerance)
    assert (line.light, line.line) == (light, COMPLETE)
    assert words in line.sentence


@pytest.mark.parametrize(
    ("similarity", "beaten", "light", "words"),
    [
        (Estimate(0.1, 0.05, 0.2), True, "green", "another one"),
        (Estimate(0.1, 0.05, 0.2), False, "yellow", "not told apart from edges"),
        (Estimate(0.45, 0.3, 0.6), True, "yellow", "not told apart from 0.5"),
        (Estimate(0.9, 0.8, 0.99), False, "red", "stays much the same"),
        (Estimate(0.1), True, "none", "too few images"),
        (Estimate(), True, "none", "metric=[model_randomization]"),
    ],
)
def test_following_the_network(similarity: Estimate, beaten: bool, light: str, words: str) -> None:
    line = judge_network(similarity, "edges", 1.0, beaten)
    assert (line.light, line.line, line.held_against) == (light, NETWORK, "edges 1.00, which sees no network")
    assert words in line.sentence
    mirrored = Estimate(*(1 - value for value in (similarity.mean, similarity.high, similarity.low)))
    stable = judge_stability(mirrored, "random", 0.0, beaten)
    assert stable.light == light, "the same evidence on the other side of the same limit"
    assert (stable.line, stable.held_against) == (STABLE, "random 0.00")


def spread(removers: Sequence[str], outcome: dict[str, str]) -> dict[str, dict[str, str]]:
    return {remover: dict(outcome) for remover in removers}


def outcomes(**changes: dict[str, str]) -> dict[str, dict[str, str]]:
    better = dict.fromkeys(CONTROLS, "better")
    return {remover: better | changes.get(remover, {}) for remover in SIX}


@pytest.mark.parametrize(
    ("changes", "light", "words"),
    [
        ({}, "green", "better than random, edges and centre under 6 of 6 removers"),
        (spread(SIX[:2], {"edges": "n.s."}), "green", "under 4 of 6 removers; not told apart from edges (2)"),
        (spread(SIX[:3], {"edges": "n.s."}), "yellow", "under 3 of 6 removers; not told apart from edges (3)"),
        (spread(SIX, {"edges": "n.s."}), "yellow", "under 0 of 6 removers; not told apart from edges (6)"),
        (spread(SIX[2:], {"centre": "worse"}), "red", "under 2 of 6 removers; worse than centre (4)"),
        (spread(SIX, {"edges": "untested"}), "none", "too few images"),
    ],
)
def test_removers(changes: dict[str, dict[str, str]], light: str, words: str) -> None:
    line = judge_removers(outcomes(**changes), CONTROLS, 0.25)
    assert (line.light, line.line, line.estimate.mean) == (light, REMOVERS, 0.25)
    assert words in line.sentence


def test_removers_that_were_not_measured_or_not_held_against_anything() -> None:
    assert "metric=[removers]" in judge_removers({}, CONTROLS).sentence
    few = {"black": {"random": "better"}}
    line = judge_removers(few, CONTROLS)
    assert (line.light, "explainer=edges,centre" in line.sentence) == ("none", True)
    one = judge_removers({"black": dict.fromkeys(CONTROLS, "better")}, CONTROLS)
    assert (one.light, one.shown) == ("yellow", "1 of 1"), "one remover is not four"


def cells(*rows: tuple[str, float, str, str], used: bool = True) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["ground_truth", "value", "beats_chance", "beats_edges"])
    return table.assign(used=used, reason="" if used else "falls to chance without it")


@pytest.mark.parametrize(
    ("table", "light", "words"),
    [
        (cells(("patch", 0.9, "yes", "yes"), ("xor", 0.6, "yes", "yes")), "green", "2 of 2 kinds"),
        (
            cells(("patch", 0.9, "yes", "yes"), ("xor", 0.6, "yes", "no")),
            "yellow",
            "1 of 2 kinds of planted truth; not on xor",
        ),
        (cells(("patch", 0.9, "yes", "yes"), ("xor", math.nan, "", "")), "green", "1 of 1 kinds"),
        (cells(("patch", 0.3, "yes", "worse")), "red", "0 of 1 kinds"),
        (cells(("patch", 0.3, "yes", "worse"), ("xor", 0.6, "yes", "no")), "yellow", "0 of 2 kinds"),
        (cells(("patch", 0.39, "yes", "no")), "yellow", "0 of 1 kinds"),
        (cells(("patch", math.nan, "", ""), used=False), "none", "falls to chance without it"),
        (
            cells(("patch", math.nan, "", "")).assign(reason="refused"),
            "none",
            "no kind of planted truth has a score (refused)",
        ),
        (cells(), "none", "not tried: the command"),
    ],
)
def test_planted_data(table: pd.DataFrame, light: str, words: str) -> None:
    line = judge_planted(table, "the command")
    assert (line.light, line.line) == (light, PLANTED)
    assert words in line.sentence


@pytest.mark.parametrize(
    ("passes", "light", "word"),
    [(2, "green", "cheap"), (10, "green", "cheap"), (11, "yellow", "moderate"), (4001, "red", "dear")],
)
def test_cost(passes: float, light: str, word: str) -> None:
    line = judge_cost(passes, 0.25, "saliency", 2)
    assert (line.light, line.word, line.held_against) == (light, word, "2 passes of saliency, the cheapest")
    assert f"{passes:,} passes and 0.25 s" in line.sentence
    assert judge_cost(math.nan, 1).light == "none"


def lines_of(name: str, passes: float = 2, gain: float = 0.3, **lights: Any) -> list[dict[str, object]]:
    shades = dict.fromkeys(LINES, "green") | {line: lights.get(key, "green") for key, line in KEYS.items()}
    values = {COST: passes, REMOVERS: gain}
    said = {line: f"{line} of {name}" for line in LINES}
    return [
        Line(line, shades[line], said[line], Estimate(float(values.get(line, 0.1)))).to_row(name)  # type: ignore[arg-type]
        for line in LINES
    ]


KEYS = {"complete": COMPLETE, "network": NETWORK, "beats": REMOVERS, "stable": STABLE, "planted": PLANTED, "cost": COST}


def table_of(*methods: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([row for method in methods for row in method], columns=list(LINE_COLUMNS))


@pytest.mark.parametrize(
    ("methods", "chosen", "words"),
    [
        ([lines_of("a", 50), lines_of("b", 2)], "b", "b is cheaper"),
        ([lines_of("a", 50, planted="green"), lines_of("b", planted="none")], "a", "right on more planted data"),
        ([lines_of("a", 50, 0.32), lines_of("b", 2, 0.29)], "a", "of a larger relevance gain over the removers"),
        ([lines_of("a", 50, 0.304), lines_of("b", 2, 0.296)], "b", "b is cheaper"),
        ([lines_of("a", 50, 0.1), lines_of("b", 2, math.nan)], "a", "of a larger relevance gain"),
        ([lines_of("a", 50), lines_of("b", 2, stable="yellow")], "a", "more stable"),
        ([lines_of("b"), lines_of("a")], "a", "first by name alone"),
        ([lines_of("a", 9000, cost="red"), lines_of("b", network="yellow")], "a", "use a, because"),
        ([lines_of("a", complete="red"), lines_of("b", 60)], "b", "use b"),
        ([lines_of("a", complete="none"), lines_of("b", 60)], "a", "use a"),
        ([lines_of("a", planted="red")], None, "a is red on 'right on planted data'"),
        (
            [lines_of("a", network="red"), lines_of("b", beats="yellow")],
            None,
            "1 of 2 follow the network and 1 of 2 beat",
        ),
        ([lines_of("a", network="none"), lines_of("b", beats="none")], None, "was not measured or not tested"),
    ],
)
def test_the_rule(methods: list[list[dict[str, object]]], chosen: str | None, words: str) -> None:
    for order in (methods, methods[::-1]):
        name, reason = recommend(table_of(*order))
        assert name == chosen
        assert words in reason
        assert reason.startswith("use ") == (chosen is not None)


def test_how_often_the_rule_is_right_by_hand() -> None:
    truth = {"patch": (0.9, 0.5), "xor": (0.3, 0.7), "grid": (0.8, 0.8), "tag": (0.2, 0.6), "suppressor": (0.9, 0.1)}
    rows = [
        {
            "ground_truth": kind,
            "model": "m",
            "explainer": name,
            "metric": "average_precision",
            "value": value,
            "used": True,
        }
        for kind, pair in truth.items()
        for name, value in zip("ab", pair, strict=True)
    ]
    certificate = pd.DataFrame(rows)
    certificate.loc[certificate["ground_truth"] == "suppressor", "used"] = False
    picks = {
        "patch": [lines_of("a"), lines_of("b", 5)],  # a, right
        "xor": [lines_of("a"), lines_of("b", 5)],  # a, wrong: b is
        "grid": [lines_of("a", 9), lines_of("b", 5)],  # b, one of two right ones
        "tag": [lines_of("a", network="red"), lines_of("b", network="red")],  # none
        "suppressor": [lines_of("a"), lines_of("b")],  # the network does not use it
    }
    lines = pd.concat([table_of(*methods).assign(ground_truth=kind, model="m") for kind, methods in picks.items()])
    record = measure_rule(certificate, lines)
    assert (record.cells, record.right, record.silent) == (4, 2, 1)
    assert record.fixed == {"a": 2, "b": 3}
    assert (record.best_fixed, record.beats_fixed) == ("b", False)
    assert record.gain == pytest.approx(np.mean([0.9 - 0.5, 0.3 - 0.7, 0]))
    assert "2 of 4 cells" in record.describe()
    assert "less often than always taking b (3 of 4" in record.describe()
    without = lines[lines["ground_truth"] != "xor"]
    assert measure_rule(certificate, without).right == 2
    with pytest.raises(UserError, match="no planted network has both"):
        measure_rule(certificate, lines.assign(model="another"))


def test_the_truth_has_no_say_in_the_rule_that_is_measured_by_it() -> None:
    rows = [
        {
            "ground_truth": "xor",
            "model": "m",
            "explainer": name,
            "metric": "average_precision",
            "value": value,
            "used": True,
        }
        for name, value in (("a", 0.1), ("b", 0.9))
    ]
    lines = table_of(lines_of("a", planted="red"), lines_of("b", 9)).assign(ground_truth="xor", model="m")
    assert recommend(lines).name == "b"
    assert measure_rule(pd.DataFrame(rows), lines).right == 0, "without the line of planted data a is cheaper"
