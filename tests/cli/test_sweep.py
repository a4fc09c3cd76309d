"""The table at the end of a sweep."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf
from rich.console import Console

from commands import composed
from seewhy.cli import early_checks, tasks
from seewhy.cli.early_checks import _find_lack_of_processors
from seewhy.cli.sweep import SweepSummary, build_summary_table, find_varied_overrides
from seewhy.core.errors import UserError
from seewhy.runs.resume_check import ChangedRun

RECORDS = [
    {"task": "explain", "status": "completed", "overrides": ["explainer=saliency", "data.root=[a,b]", "seed=1"]},
    {
        "task": "explain",
        "status": "refused",
        "overrides": ["explainer=lrp", "data.root=[a,b]", "seed=2"],
        "reason": "no",
    },
]
for record in RECORDS:
    record |= {"seconds": 1.25, "passes_per_image": {"forward": 1.0, "backward": 1.0}, "images_explained": 3}


def test_only_what_differs_names_a_job() -> None:
    assert find_varied_overrides(RECORDS) == ["explainer=saliency seed=1", "explainer=lrp seed=2"]
    assert find_varied_overrides(RECORDS[:1]) == ["explainer=saliency data.root=[a,b] seed=1"]


def test_brackets_in_overrides_are_shown() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(build_summary_table(RECORDS[:1]))
    console.file.close()
    assert "data.root=[a,b]" in console.export_text()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), UserError("no"), ChangedRun("other settings")])
def test_whatever_ends_a_job_does_not_end_the_sweep(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=7", "hydra.mode=MULTIRUN", f"output={tmp_path / '7'}"]
    cfg = composed("explain", ["model=cifar_cnn", "model.weights=random", "trainer=cpu", *sweep])

    def fail(cfg: object, record: object) -> None:
        raise error

    tasks.execute(fail, cfg)  # does not raise
    said = capsys.readouterr().err
    assert str(error) in said
    assert ("Traceback" in said) == isinstance(error, RuntimeError)
    noted = tmp_path / "refused_jobs.txt"
    if isinstance(error, ChangedRun):  # the record in the folder is that of another run, so it cannot say so
        assert noted.read_text() == "7: other settings\n"
    else:
        assert not noted.exists()
        assert json.loads((tmp_path / "7" / "run.json").read_text())["status"] == "failed"


def test_jobs_that_were_not_run_are_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "refused_jobs.txt").write_text("7: other settings\n")
    config = SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=str(tmp_path))))
    with pytest.raises(SystemExit) as stop:
        SweepSummary().on_multirun_end(config)  # type: ignore[arg-type]
    assert stop.value.code == 2
    assert "not run: 7: other settings" in capsys.readouterr().out


def test_the_time_that_is_left_comes_from_the_jobs_that_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = SweepSummary()
    summary.started, summary.jobs = 0.0, 3
    record = {"version": 2, "task": "explain", "overrides": [], "seconds": 1.0}
    for number, status in enumerate(["completed", "running"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "run.json").write_text(json.dumps(record | {"status": status}))
    sweep = SimpleNamespace(dir=str(tmp_path))
    config = SimpleNamespace(hydra=SimpleNamespace(mode=RunMode.MULTIRUN, sweep=sweep))
    summary.on_job_end(config, None)  # type: ignore[arg-type]
    assert "1 of 3 jobs have ended after" in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "words"), [(2, ""), (4, "cpus_per_task=4: no node of the cluster has more than 2")])
def test_jobs_that_no_node_can_run_are_refused(
    wanted: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\nprintf '%s\\n' 1 2+\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    launcher = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
    assert words in (found := _find_lack_of_processors(launcher | {"cpus_per_task": wanted}))  # type: ignore[arg-type]
    assert bool(found) == bool(words)


def test_jobs_that_are_the_same_are_told_by_their_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(early_checks, "list_jobs", lambda config: [["explainer=saliency"]] * 2)
    monkeypatch.setattr(early_checks, "_find_mistake", lambda config, job: "wrong")
    config = OmegaConf.create({"task": "explain", "hydra": {"launcher": {}}})
    with pytest.raises(SystemExit):
        early_checks.EarlyChecks().on_multirun_start(config)
    assert capsys.readouterr().err.splitlines()[1:] == ["  explain: wrong"] * 2
