"""Commands leave what is not theirs, two commands never share a folder, and a plan from elsewhere runs nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from forked import SOURCE, Command, run
from journals import PLAN
from seewhy.cli.resume import prepend_earlier_overrides
from seewhy.cli.run_folders import name_network
from seewhy.core.errors import UserError
from seewhy.runs.stored_json import VERSION

EXPLAIN = str(SOURCE / "explain.py")
SMALL = ["model=cifar_cnn", "explainer=saliency", "data.limit=1", "trainer=cpu", "probe_batch_size=2", "logger=[]"]
SMALL += ["callbacks=[attribution,tables]", "page=false"]


@pytest.mark.slow
def test_the_folder_of_a_user_is_left_as_it_is(tmp_path: Path) -> None:
    diary = tmp_path / "mine" / "journal" / "2026" / "diary.txt"
    diary.parent.mkdir(parents=True)
    diary.write_text("dear diary")
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "multirun.yaml").symlink_to(diary)  # where Hydra writes the settings of a sweep
    before = sorted(tmp_path.rglob("*"))
    commands = [
        (Command(tmp_path, EXPLAIN, *SMALL, "hydra.run.dir=mine"), "mine holds files that no"),
        (
            Command(tmp_path, EXPLAIN, "-m", *SMALL, "explainer=saliency,random", "hydra.sweep.dir=mine"),
            "mine holds files",
        ),
        (
            Command(tmp_path, EXPLAIN, "-m", *SMALL, "explainer=saliency,random", "hydra.sweep.dir=sent"),
            "sent holds a link",
        ),
    ]
    for command, words in commands:
        ended = command.finish()
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"error: the folder {words}") and "Traceback" not in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert diary.read_text() == "dear diary"


@pytest.mark.slow
def test_two_commands_of_one_second_get_two_folders(tmp_path: Path) -> None:
    name = "hydra.run.dir=runs/same"
    pair = [Command(tmp_path, EXPLAIN, *SMALL, name) for _ in range(2)]
    refused = [ended.stderr for ended in (command.finish() for command in pair) if ended.returncode]
    assert len(refused) <= 1 and all("being written by another run" in error for error in refused)
    assert json.loads((tmp_path / "runs" / "same" / "run.json").read_text())["status"] == "completed"
    pair = [Command(tmp_path, EXPLAIN, *SMALL) for _ in range(2)]
    assert [command.finish().returncode for command in pair] == [0, 0]
    assert len(list((tmp_path / "logbook" / "outputs" / "explain").glob("*/run.json"))) == 2


FOREIGN = [
    "++hydra.callbacks.x={_target_: pandas.read_pickle, filepath_or_buffer: x}",
    "+hydra.callbacks.x._target_=os.system",
    "hydra/launcher=joblib",
    "++trust_config=true",
    "~hydra.callbacks",
    "++output=/elsewhere",
    "hydra.run.dir=/elsewhere",
]


def plan(folder: Path, overrides: object) -> Path:
    (folder / "journal").mkdir(parents=True)
    (folder / "journal" / "plan.json").write_text(json.dumps({**PLAN, "version": VERSION, "overrides": overrides}))
    return folder


@pytest.mark.parametrize("override", FOREIGN)
def test_a_resumed_run_takes_over_neither_place_nor_hydra_nor_trust(tmp_path: Path, override: str) -> None:
    folder = plan(tmp_path / "sent", ["seed=3", override])
    assert prepend_earlier_overrides([f"resume={folder}"], "explain") == ["seed=3", f"hydra.run.dir='{folder}'"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["--config-path=/elsewhere"],
        ["--config-dir=/elsewhere"],
        ["-m"],
        ["seed"],
        ["other.key=1"],
        ["target=${oc.env:SECRET}"],
        [3],
        "seed=1",
        None,
        {"seed": 1},
    ],
)
def test_a_plan_that_no_run_wrote_is_refused(tmp_path: Path, overrides: object) -> None:
    folder = plan(tmp_path / "sent", overrides)
    refusal = r"no run of seewhy stores there|is not the plan of a run|takes a value from your environment"
    with pytest.raises(UserError, match=refusal):
        prepend_earlier_overrides([f"resume={folder}"], "explain")


@pytest.mark.slow
def test_the_classes_of_a_plan_from_elsewhere_are_checked(tmp_path: Path) -> None:
    folder = plan(tmp_path / "sent", ["++callbacks.x={_target_: pandas.read_pickle, filepath_or_buffer: x.pkl}"])
    (folder / "run.json").write_text(json.dumps({"status": "completed", "task": "explain", "overrides": []}))
    ended = run(tmp_path, EXPLAIN, *SMALL, f"resume={folder}")
    assert ended.returncode == 2
    assert "pandas.read_pickle is outside what a config may call" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "hydra.run.dir=${nothing}",
        "hydra.run.dir='a\\${nothing}'",
        f"hydra.run.dir={'a' * 256}",
        f"hydra.run.dir={'abcdefghi/' * 500}",
        "hydra.run.dir=/dev/null/x",
        "hydra.run.dir='a\tb'",
        "output=${nothing}",
        f"output={'a' * 256}",
        "output=/dev/null/x",
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    from hydra.core.global_hydra import GlobalHydra

    from seewhy.cli.main import run_task

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explain.py", *SMALL, name])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as ended:
        run_task("explain", [*SMALL, name])
    told = capfd.readouterr().err
    assert (ended.value.code, told.count("error: "), "Traceback" in told) == (2, 1, False), told
    assert len(told) < 600 and not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    ("choice", "setting", "words", "expected"),
    [
        ("own", "build", "mynet:MyNet", "mynet_MyNet"),
        ("timm", "name", "resnet18", "resnet18"),
        ("transformers", "name", "google/vit-base", "vit-base"),
        ("own", "build", None, "own"),
        ("timm", "name", "${oc.env:SECRET}", "timm"),
        ("cifar_cnn", "name", "other", "cifar_cnn"),
    ],
)
def test_a_run_folder_names_the_network(choice: str, setting: str, words: str | None, expected: str) -> None:
    config = OmegaConf.create({"model": {setting: words}, "hydra": {"runtime": {"choices": {"model": choice}}}})
    assert name_network(_root_=config) == expected


def test_the_folders_of_a_sweep_name_the_network_unless_it_was_begun_without(tmp_path: Path) -> None:
    sweep = {"mode": RunMode.MULTIRUN, "job": {"num": 3}, "sweep": {"dir": str(tmp_path)}}
    node = {"runtime": {"choices": {"model": "timm"}}, **sweep}
    config = OmegaConf.create({"model": {"name": "resnet18"}, "hydra": node})
    assert name_network(_root_=config) == "resnet18"
    (tmp_path / "3_timm_grad_cam").mkdir()
    assert name_network(_root_=config) == "timm"
