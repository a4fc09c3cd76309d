"""The layer that a map was drawn from is named wherever the map is: record, journal, caption, table and page."""

import json

import pytest

from commands import Runner, composed, rows, runner
from seewhy.cli import tasks
from seewhy.plots import explanation as figure
from seewhy.report.comparison import join_runs
from seewhy.report.runs import find_runs

__all__ = ["runner"]


@pytest.mark.slow
def test_the_layer_that_was_used_is_recorded(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    wrap = figure.wrap
    monkeypatch.setattr(figure, "wrap", lambda text, *rest: captions.append(text) or wrap(text, *rest))
    given = [
        "model=timm",
        "model.name=test_resnet",
        "model.classes=10",
        "model.size=64",
        "data=samples",
        "data.limit=1",
    ]
    for explainer in ("grad_cam", "guided_grad_cam"):
        folder = runner(*given, f"explainer={explainer}", "metric=sparseness", name=explainer)
        parameters = json.loads((folder / "run.json").read_text())["explainer"]["parameters"]
        assert parameters.startswith("layer=layer4")
        assert parameters in (folder / "journal" / "00000000.json").read_text()
        assert {row["parameters"] for row in rows(folder / "metrics.csv")} == {parameters}
        assert any(parameters in caption for caption in captions)
    (joined,) = join_runs(find_runs([str(folder.parent / "*")])[0])
    assert joined.explainers["parameters"].to_dict() == {
        "grad_cam": "layer=layer4",
        "guided_grad_cam": "layer=layer4, reduction=sum",
    }
    page = folder.parent / "page"
    tasks.execute(tasks.report, composed("report", [f"runs={folder.parent}/*", f"output={page}", "hydra.mode=RUN"]))
    assert "layer=layer4, reduction=sum" in (page / "report.html").read_text()
