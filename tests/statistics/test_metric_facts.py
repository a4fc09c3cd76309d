"""metrics.json: written and read back."""

import json
from pathlib import Path

import pytest

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.metrics.faithfulness.average_drop import IncreaseInConfidence
from seewhy.metrics.faithfulness.road import Road
from seewhy.metrics.localisation import PointingGame
from seewhy.statistics.schema import MetricFact, collect_metric_facts, list_draws, read_metric_facts, write_metric_facts


def test_facts_survive_the_file(tmp_path: Path) -> None:
    facts = {
        "deletion": MetricFact("lower", "AUC, black", "faithfulness"),
        "coverage": MetricFact(None, ""),
        "pointing_game": MetricFact("higher", "hit", "localisation", outcomes=(0, 1)),
        "model_randomization": MetricFact("lower", "", "randomisation", draws=("a", "b"), absolute=True),
    }
    path = write_metric_facts(RunFolder(tmp_path), facts)
    assert json.loads(path.read_text())["deletion"] == {
        "better": "lower",
        "variant": "AUC, black",
        "construct": "faithfulness",
        "outcomes": None,
        "draws": [],
        "absolute": False,
        "variant_of": "",
        "in_mean_rank": True,
        "bounds": None,
    }
    assert json.loads(path.read_text())["coverage"]["better"] is None
    assert read_metric_facts(tmp_path) == facts
    assert list_draws(facts) == {"a", "b"}
    assert read_metric_facts(tmp_path / "nowhere") == {}


def test_a_file_of_an_earlier_version_has_fewer_fields(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"deletion": {"better": "lower", "variant": "AUC, black"}}')
    assert read_metric_facts(tmp_path) == {"deletion": MetricFact("lower", "AUC, black")}
    (tmp_path / "metrics.json").write_text('{"road": {"better": "higher", "construct": "faithfulness"}}')
    assert read_metric_facts(tmp_path) == {"road": MetricFact("higher")}, "of which score it is a form is not recorded"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"a": {"better": "up"}}',
        '{"a": {"worse": 1}}',
        '{"a": 3}',
        '{"a": {"outcomes": [1]}}',
        '{"a": {"outcomes": [1, 0]}}',
        '{"a": {"draws": "b"}}',
        '{"a": {"draws": [1]}}',
        '{"a": {"construct": null, "variant_of": ""}}',
        '{"a": {"variant_of": ["deletion"]}}',
        '{"a": {"in_mean_rank": "no"}}',
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json|better='up'|outcomes=|draws=|construct=|variant_of=|in_mean"):
        read_metric_facts(tmp_path)


def test_the_direction_belongs_to_the_score_alone() -> None:
    facts = collect_metric_facts([Road(), PointingGame()])
    road, pointing = Road().variant, PointingGame().variant
    assert facts["road"] == MetricFact("higher", road, "faithfulness", variant_of="deletion", bounds=(-1, 1))
    assert facts["road_morf"] == facts["road_lerf"] == MetricFact(None, road, "faithfulness", bounds=(0, 1))
    assert facts["pointing_game"] == MetricFact("higher", pointing, "localisation", (0, 1), bounds=(0, 1))
    assert facts["pointing_game_chance"] == MetricFact(None, pointing, "localisation", bounds=(0, 1))
    assert len(facts) == 5
    assert collect_metric_facts([IncreaseInConfidence()])["increase_in_confidence"].outcomes == (0, 100)
