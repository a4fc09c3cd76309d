"""metrics.json: written and read back."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.statistics.schema import MetricFact, collect_metric_facts, read_metric_facts, write_metric_facts


def test_facts_survive_the_file(tmp_path: Path) -> None:
    facts = {"deletion": MetricFact("lower", "AUC, black"), "coverage": MetricFact(None, "")}
    path = write_metric_facts(RunFolder(tmp_path), facts)
    assert json.loads(path.read_text())["deletion"] == {"better": "lower", "variant": "AUC, black"}
    assert json.loads(path.read_text())["coverage"]["better"] is None
    assert read_metric_facts(tmp_path) == facts
    assert read_metric_facts(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("content", ["[]", "{", '{"a": {"better": "up"}}', '{"a": {"worse": 1}}', '{"a": 3}'])
def test_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json|better='up'"):
        read_metric_facts(tmp_path)


def test_the_direction_belongs_to_the_score_alone() -> None:
    metric = SimpleNamespace(name="road", higher_is_better=True, variant="probability", columns=("coverage",))
    assert collect_metric_facts([metric]) == {  # type: ignore[list-item]
        "road": MetricFact("higher", "probability"),
        "road_coverage": MetricFact(None, "probability"),
    }
