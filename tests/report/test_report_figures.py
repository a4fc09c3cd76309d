"""Where the figures of a report put things."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from seewhy.core.errors import UserError
from seewhy.plots.charts import Scale, build_cost_scale, build_value_scale
from seewhy.plots.text import Rectangle, place_labels
from seewhy.report.comparison import Comparison, compare_runs, join_runs
from seewhy.report.leaderboard import draw_leaderboard, write_rank
from seewhy.report.ranks import build_standings, draw_pareto, draw_ranks, find_pareto_front
from seewhy.report.runs import find_runs
from seewhy.statistics.schema import MetricFact
from sweep_folder import FACTS, write_run, write_sweep


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    sweep = write_sweep(tmp_path_factory.mktemp("sweep"), images=12)
    return compare_runs(join_runs(find_runs([str(sweep)])[0])[0])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other, and texts that leave the page."""
    figure.canvas.draw()
    drawn = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    page = figure.bbox
    found = [(word, "page") for word, box in drawn if box.x0 < 0 or box.y0 < 0 or box.x1 > page.x1 or box.y1 > page.y1]
    for place, (word, box) in enumerate(drawn):
        for other, second in drawn[:place]:
            width = min(box.x1, second.x1) - max(box.x0, second.x0)
            height = min(box.y1, second.y1) - max(box.y0, second.y0)
            if width > 1 and height > 3:
                found.append((word, other))
    return found


@pytest.mark.parametrize("draw", [draw_leaderboard, draw_pareto, draw_ranks])
def test_no_text_covers_another_or_leaves_the_page(comparison: Comparison, draw: object) -> None:
    figure = draw(comparison)  # type: ignore[operator]
    assert overlaps(figure) == []
    for name in comparison.leaderboard.index:
        assert any(name in text for text in texts(figure)), name


@pytest.mark.slow
def test_figures_are_drawn_construct_by_construct(comparison: Comparison) -> None:
    for figure in (draw_leaderboard(comparison), draw_ranks(comparison)):
        drawn = texts(figure)
        order = [drawn.index(title) for title in ("Faithfulness", "Robustness", "Complexity")]
        assert order == sorted(order)
        assert not {"Randomisation", "Localisation"} & set(drawn)
    drawn = texts(draw_leaderboard(comparison))
    for construct in comparison.constructs:
        for rank in construct.mean_ranks.values():
            assert any(text.startswith(f"{rank:.2f} [") for text in drawn)


@pytest.mark.parametrize(
    ("interval", "words"), [({"a": (1.9, 3.1)}, "2.50 [1.90, 3.10]"), ({"a": (np.nan, np.nan)}, "2.50"), ({}, "2.50")]
)
def test_a_rank_has_its_interval_where_there_is_one(interval: dict[str, tuple[float, float]], words: str) -> None:
    construct: Any = SimpleNamespace(mean_ranks={"a": 2.5}, intervals=interval)
    assert write_rank(construct, "a") == words


@pytest.mark.slow
def test_every_metric_is_drawn_with_its_direction(comparison: Comparison) -> None:
    drawn = texts(draw_leaderboard(comparison))
    assert drawn.count("↓ lower is better") == 3
    assert drawn.count("↑ higher is better") == 3
    for metric in FACTS:
        assert (metric.replace("_", " ") in drawn) == (metric != "coverage")
    assert "n.s.: not significantly better than random" in drawn


def test_the_ranks_name_friedmans_test(comparison: Comparison) -> None:
    drawn = texts(draw_ranks(comparison))
    assert any(f"n = {comparison.ranks['deletion'].n} images, Friedman p" in text for text in drawn)
    assert any("no significant difference of ranks" in text for text in drawn)


def test_the_pareto_plot_takes_a_metric_of_faithfulness_or_the_mean_rank_of_each_construct(
    comparison: Comparison,
) -> None:
    by_rank, (by_metric,) = build_standings(comparison), build_standings(comparison, "insertion")
    assert [standing.words for standing in by_rank] == [
        "faithfulness: mean rank over 4 scores (1 is best)",
        "robustness: mean rank over 1 score (1 is best)",
        "complexity: mean rank over 1 score (1 is best)",
    ]
    assert (by_rank[0].lower_is_better, by_metric.lower_is_better) == (True, False)
    np.testing.assert_allclose(by_metric.values, comparison.leaderboard["insertion"])
    assert overlaps(draw_pareto(comparison, "insertion")) == []
    with pytest.raises(UserError, match=r"faithfulness=coverage is none of .*: average_drop, deletion, faith"):
        build_standings(comparison, "coverage")
    with pytest.raises(UserError, match="faithfulness=sparseness measures complexity; metrics of faithfulness: aver"):
        build_standings(comparison, "sparseness")


def test_the_front_by_hand() -> None:
    costs, losses = [1, 2, 2, 3, 4, 1, float("nan")], [5, 3, 4, 3, 1, 5, 0]
    assert find_pareto_front(costs, losses) == [0, 5, 1, 4]
    assert find_pareto_front([], []) == []


@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_apart_inside_and_off_the_marks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in generator.uniform(60, 840, size=(30, 2))]
    points[7] = points[8]
    sizes = [(float(width), 24.0) for width in generator.uniform(60, 230, size=30)]
    bounds = Rectangle(0, 0, 1100, 900)
    boxes = place_labels(points, sizes, bounds)
    for place, box in enumerate(boxes):
        assert box.overlap(bounds) == pytest.approx(box.area)
        assert (box.right - box.left, box.bottom - box.top) == pytest.approx(sizes[place])
        assert all(box.overlap(other) < 1e-6 for other in boxes[:place])
        assert all(box.overlap(Rectangle(x - 12, y - 12, x + 12, y + 12)) < 1e-6 for x, y in points)


def test_scales_hold_their_values() -> None:
    scale = Scale(0, 10, 100, 300)
    assert (scale(0), scale(5), scale(10)) == (100, 200, 300)
    assert scale.ticks(3) == [(100, "0"), (200, "5"), (300, "10")]
    same = build_value_scale([2.0, 2.0, float("nan")], 0, 100)
    assert same(2.0) == pytest.approx(50)
    assert build_value_scale([], 0, 1).ticks(3)
    assert ("−" in "".join(label for _, label in build_value_scale([-1, 1], 0, 1).ticks(4))) is True


def test_a_cost_of_nothing_has_its_own_place() -> None:
    scale = build_cost_scale([0.0, 2.0, 1000.0], 0, 100)
    assert 0 < scale(0) < scale(2) < scale(1000) < 100
    labels = [label for _, label in scale.ticks(8)]
    assert labels == ["0", "10", "100", "1,000"]
    assert scale(200) - scale(20) == pytest.approx(scale(20) - scale(2))
    assert "0" not in [label for _, label in build_cost_scale([2.0, 30.0], 0, 100).ticks(8)]
    assert build_cost_scale([0.0], 0, 100).ticks(8)[0][1] == "0"


@pytest.mark.parametrize("costs", [[0.0, 2.0], [1.2, 1.9], [3.0, 40.0], [2.0, 12345.0]])
def test_no_two_ticks_of_costs_read_the_same(costs: list[float]) -> None:
    labels = [label for _, label in build_cost_scale(costs, 0, 100).ticks(6)]
    assert len(labels) >= 1
    assert len(set(labels)) == len(labels)


def test_a_label_with_room_lies_right_of_its_mark_at_its_height() -> None:
    (box,) = place_labels([(100.0, 50.0)], [(40.0, 20.0)], Rectangle(0, 0, 400, 100), marker=12)
    reach = box.left - 112
    assert 0 < reach <= 10, "near, and off the mark"
    assert box == Rectangle(112 + reach, 40, 152 + reach, 60)


def test_coverage_stands_beside_the_score_that_it_explains(tmp_path: Path) -> None:
    facts = {"average_drop": FACTS["average_drop"], "average_drop_coverage": MetricFact(None, "kept", "faithfulness")}
    for name, covered in (("random", 0.111), ("grad_cam", 0.622), ("rise", 0.333)):
        values = {"average_drop": [0.1 * place for place in range(8)], "average_drop_coverage": [covered] * 8}
        write_run(tmp_path / name, name, values, images=8, facts=facts)
    figure = draw_leaderboard(compare_runs(join_runs(find_runs([str(tmp_path)])[0])[0]))
    drawn = texts(figure)
    assert next(text for text in drawn if text in ("coverage", "0.111", "0.622", "0.333")) == "coverage"
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    for name, words in (("random", "0.111"), ("grad_cam", "0.622"), ("rise", "0.333")):
        assert abs(heights[words] - heights[name]) < 6
    assert overlaps(figure) == []
