"""The console command: its tasks, what is printed without one, and the words that repeat a command."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import forked
from conftest import ROOT
from seewhy import __main__, __version__
from seewhy.cli import tasks
from seewhy.cli.main import order_flags, write_end_of_completion
from seewhy.cli.program import TASKS, find_command, find_command_line
from seewhy.cli.resume import build_resume_command
from seewhy.core.errors import UserError

PYTHON = Path(sys.executable).name


def seewhy(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of `python -m seewhy`, given in a folder."""
    return forked.run(folder, "-m", "seewhy", *arguments, **variables)


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_without_a_task_it_lists_the_tasks(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["seewhy", *words])
    __main__.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "explain",
        "train",
        "robustness",
        "synthesize",
        "doctor",
        "compare",
        "audit",
        "ground_truth",
        "report",
    ]
    assert max(map(len, lines)) <= 80


def test_the_list_needs_no_heavy_module() -> None:
    code = "import seewhy.__main__, sys; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not {"hydra", "torch", "lightning", "rich"} & set(done.stdout.split())


def test_every_task_has_its_function_and_its_script() -> None:
    assert set(TASKS) == set(tasks.TASKS)
    assert {path.stem for path in (ROOT / "src").glob("*.py")} == set(TASKS)


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["seewhy", "--version"])
    __main__.main()
    assert capsys.readouterr().out == f"seewhy {__version__}\n"


def test_a_mistyped_task_is_answered_with_the_nearest(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    given = [sys.executable, "-m", "seewhy", "explian", "model=cifar_cnn"]
    done = subprocess.run(given, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no task 'explian'; did you mean seewhy explain?" in done.stderr
    assert seewhy(tmp_path, "explain", "explainer=salency").returncode == 2


def test_a_run_names_the_command_that_repeats_it_and_can_be_resumed(tmp_path: Path) -> None:
    few = ["model=cifar_cnn", "explainer=saliency", "data.limit=1", "trainer=cpu", "logger=[]", "page=false"]
    done = seewhy(tmp_path, "explain", *few, "hydra.run.dir=one")
    assert done.returncode == 0, done.stderr
    command = json.loads((tmp_path / "one" / "run.json").read_text())["command"]
    assert command == shlex.join([PYTHON, "-m", "seewhy", "explain", *few, "hydra.run.dir=one"])
    assert seewhy(tmp_path, "explain", "resume=one").returncode == 0
    refused = seewhy(tmp_path, "train", "resume=one")
    assert refused.returncode == 2
    assert "only explain can be resumed, not train" in refused.stderr


@pytest.mark.slow
def test_own_configs_come_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "explainer").mkdir(parents=True)
    text = "_target_: seewhy.explainers.occlusion.Occlusion\nwindow: 5\n"
    (tmp_path / "mine" / "explainer" / "coarse.yaml").write_text(text)
    done = seewhy(tmp_path, "explain", "--config-dir", "mine", "explainer=coarse", "--cfg", "job")
    assert "window: 5" in done.stdout, done.stderr
    page = seewhy(tmp_path, "explain", "--config-dir", "mine", "explainer=coarse", "--help")
    assert "explainer=coarse" in page.stdout, page.stderr
    assert "Usage: seewhy explain" in page.stdout


@pytest.mark.parametrize(
    ("program", "line", "explain", "report"),
    [
        ("/env/bin/seewhy", "seewhy report runs=x", "seewhy explain", "seewhy report"),
        (
            "/env/seewhy/__main__.py",
            f"{PYTHON} -m seewhy report runs=x",
            f"{PYTHON} -m seewhy explain",
            f"{PYTHON} -m seewhy report",
        ),
        (
            "../src/report.py",
            f"{PYTHON} ../src/report.py runs=x",
            f"{PYTHON} ../src/explain.py",
            f"{PYTHON} ../src/report.py",
        ),
        (
            "/env/bin/pytest",
            f"{PYTHON} /env/bin/pytest runs=x",
            f"{PYTHON} {ROOT}/src/explain.py",
            f"{PYTHON} {ROOT}/src/report.py",
        ),
    ],
)
def test_a_command_is_named_as_it_is_typed(
    program: str, line: str, explain: str, report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["report", "runs=x"] if "seewhy" in program else ["runs=x"]
    monkeypatch.setattr(sys, "argv", [program, *words])
    monkeypatch.chdir(ROOT / "tests")  # commands are named as they work in the folder where they are given
    assert " ".join(find_command_line()) == line
    assert " ".join(find_command("explain")) == explain
    assert " ".join(find_command("report")) == report
    assert build_resume_command("explain", "a b") == f"{explain} 'resume=a b'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("seewhy ", "robustness"),
        ("seewhy expl", "explain"),
        ("seewhy explain explainer=grad", "explainer=grad_cam"),
        ("seewhy report fa", "faithfulness="),
    ],
)
def test_completion_offers_tasks_and_then_what_the_task_has(line: str, offered: str, tmp_path: Path) -> None:
    done = seewhy(tmp_path, "-sc", "query=bash", COMP_LINE=line)
    assert offered in done.stdout.split(), done.stderr


def test_overrides_with_references_are_repeated_as_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = {"overrides": {"task": ["data.root=${output}/pictures"], "hydra": []}}
    choices = {"runtime": {"choices": {"model": "timm", "data": "folder"}}}
    whole = OmegaConf.create({"hydra": {**hydra, **choices}})
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: whole.hydra))
    command = tasks._find_explain_command(tmp_path / "weights.safetensors", split=False)
    assert command.endswith("data=folder 'data.root=${output}/pictures'")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["-mx", "seed=1"], "ignored explicit argument 'x'"),
        (["--cfg", "jb"], "invalid choice: 'jb'"),
        (["seed=1", "--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_a_wrong_flag_is_one_sentence(typed: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        order_flags(typed)


def test_flags_stand_anywhere(tmp_path: Path) -> None:
    assert order_flags(["a=1", "-m", "b=x,y", "--config-dir", "mine"]) == ["-m", "--config-dir", "mine", "a=1", "b=x,y"]
    assert order_flags(["~metric", "--help"]) == ["--help", "~metric"]


def test_the_end_of_the_completion_leaves_none(tmp_path: Path) -> None:
    begun = "complete -F hydra_bash_completion seewhy"
    script = (
        f"hydra_bash_completion() {{ :; }}; {begun}; _HYDRA_OLD_COMP='{begun}'; "
        f"eval {shlex.quote(write_end_of_completion('seewhy'))}; "
        "complete -p seewhy; declare -F hydra_bash_completion; echo left"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "left\n", done.stderr


@pytest.mark.parametrize(
    ("folders", "words"),
    [(["mine"], ["--config-dir", "mine"]), (["a", "pkg://b.c"], ["hydra.searchpath=[a,pkg://b.c]"]), ([], [])],
)
def test_a_run_is_resumed_with_the_folders_of_its_configs(folders: list[str], words: list[str]) -> None:
    assert shlex.split(build_resume_command("explain", "out", (), folders))[-len(words) - 1 :] == ["resume=out", *words]
