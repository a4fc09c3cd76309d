"""The commands of the README and the docs: all of them compose, and those that need nothing but the checkout run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from seewhy.cli.config import compose
from seewhy.data.folder import SAMPLES

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
COMMAND = re.compile(r"^(?:python src/|seewhy )(\w+)(?:\.py)?(?: (.*))?$")
OWN = ("--config-dir",)

UNRUN = {
    "data.root=FOLDER": "needs CIFAR-10",
    "model.name=FOLDER": "needs a network of transformers",
    "resume=": "is tested in tests/runs",
    "shard=": "is tested in tests/runs",
    "hydra/launcher=": "needs a cluster or further processes",
    "trainer=ddp": "needs further processes",
    "runs=": "needs runs; is tested in tests/report",
    "glob(*)": "takes minutes for every method; make sweep",
    "scenes": "needs pictures of four channels; is tested in tests/data",
    "data.root='holiday": "needs pictures of that name",
    "hydra.run.dir=FOLDER": "is tested in tests/runs",
    "hydra.sweep.dir=FOLDER": "is tested in tests/runs",
    "experiment=": "needs CIFAR-10",
    "'callbacks=[train,robustness]'": "needs CIFAR-10",
    "RUN_FOLDER": "needs two trainings; is tested in tests/analyses",
    "pruned.safetensors": "needs weights; is tested in tests/analyses",
    "src/audit.py": "needs classes of many images; is tested in tests/analyses",
    "src/ground_truth.py": "trains for minutes; is tested in tests/analyses",
}
"""Why a command is composed but not run."""
LIMITS = {
    "explain": ["data.limit=1"],
    "robustness": ["data.limit=1"],
    "train": ["trainer.max_epochs=1"],
    "synthesize": [],
}
SMALL = {
    "explainer=occlusion": ["explainer.window=64", "explainer.stride=64"],
    ",occlusion": ["explainer=random,grad_cam"],
    "metric=": ["probe_batch_size=16"],
    "model=timm": ["model.weights=random", "model.size=64"],
    "model=torchvision": ["model.weights=random", "model.size=64"],
    "model=squeezenet": ["model.weights=random"],
    "class_visualization": ["synthesis.steps=2"],
}
"""Words of a command, and what keeps it short or replaces weights that are not at hand."""


def list_commands(text: str) -> list[str]:
    """The lines of code blocks that begin a task, without comments and with their continuations."""
    text = re.sub(r" *\\\n *", " ", text)
    lines = re.findall(r"^ {4}((?:python src/|seewhy )\w.*)$", text, re.MULTILINE)
    return [re.sub(r" +#.*$", "", line) for line in lines]


COMMANDS = sorted(set(chain.from_iterable(list_commands(path.read_text()) for path in DOCUMENTS)))


def split(command: str) -> tuple[str, list[str]]:
    """(task, its words) with names in place of the gaps that a reader fills."""
    match = COMMAND.match(re.sub(r"<[^>]+>", "somewhere", command))
    assert match, command
    return match[1], [word for word in shlex.split(match[2] or "") if word != "..."]


def choose_first(word: str) -> str:
    """The first job of a sweep's word."""
    key, _, value = word.partition("=")
    return word if "[" in value or key == "runs" else f"{key}={value.split(',')[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in COMMANDS if not any(word in each for word in OWN)])
def test_a_command_composes(command: str) -> None:
    task, words = split(command)
    if "--help" in words or any(word.startswith("-sc") for word in words):
        return
    sweeps = "-m" in words
    given = [word for word in words if word != "-m" and not word.startswith("hydra")]
    given = [choose_first(word) if sweeps else word for word in given]
    cfg = compose(task, [word.replace("glob(*)", "saliency") for word in given])
    assert cfg.task == task
    for word in given:
        key, _, value = word.partition("=")
        if "." in key and "@" not in key and not value.startswith("["):
            node: Any = cfg
            for name in key.lstrip("+").split("."):
                node = node[name]
            assert str(node).lower() == value.strip("'\"").lower()


def test_commands_are_taken_whole() -> None:
    text = "    python src/explain.py a=1 \\\n        b=2   # why\n    make x\n\n    seewhy explain 'c=[d,e]' ...\n"
    assert list_commands(text) == ["python src/explain.py a=1 b=2", "seewhy explain 'c=[d,e]' ..."]
    assert split("seewhy explain 'c=[d,e]' resume=<run folder> ...") == ("explain", ["c=[d,e]", "resume=somewhere"])
    assert choose_first("explainer=a,b") == "explainer=a"
    assert len(COMMANDS) > 40


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents speak of: pictures, masks, names, a network with weights, code of a how-to."""
    import torch
    from PIL import Image

    folder = tmp_path_factory.mktemp("desk")
    photograph = SAMPLES / "photographs" / "espresso.jpg"
    for name in ("photographs/cup", "photographs/pan", "pictures"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            shutil.copy(photograph, folder / name / f"{number}.jpg")
    masks = folder / "masks" / "cup"
    masks.mkdir(parents=True)
    with Image.open(photograph) as picture:
        mask = Image.new("L", picture.size, 255)
    for path in (folder / "photographs").rglob("*.jpg"):
        place = folder / "masks" / path.relative_to(folder / "photographs").with_suffix(".png")
        place.parent.mkdir(exist_ok=True)
        mask.save(place)
    truth = [
        "file,class",
        *(f"cup/{number}.jpg,cup" for number in range(8)),
        *(f"pan/{number}.jpg,pan" for number in range(8)),
    ]
    (folder / "truth.csv").write_text("\n".join(truth) + "\n")
    (folder / "names.txt").write_text("cup\npan\n")
    (folder / "mynet.py").write_text(MYNET)
    names: dict[str, Any] = {}
    exec(MYNET, names)
    torch.save(names["MyNet"]().state_dict(), folder / "mine.pth")
    write_own_code(folder)
    return folder


MYNET = """
from torch import nn

class MyNet(nn.Sequential):
    def __init__(self):
        layers = [nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


def write_own_code(folder: Path) -> None:
    """Write the files of docs/howto/own_method.md: each begins with its name as a comment, and ends before a command."""
    path = None
    for line in (ROOT / "docs" / "howto" / "own_method.md").read_text().splitlines():
        named = re.match(r" {4}# ([\w/]+\.(?:py|yaml))", line)
        if named:
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
        elif re.match(r" {4}(python|seewhy|\[)|\S", line):
            path = None
        if path:
            with path.open("a") as file:
                file.write(line[4:] + "\n")


def test_the_code_of_the_how_to_is_taken_whole(tmp_path: Path) -> None:
    write_own_code(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert files == {"mymethods.py", "mine/explainer/coarse.yaml", "mine/metric/centredness.yaml"}
    names: dict[str, Any] = {"__name__": "mymethods"}
    exec((tmp_path / "mymethods.py").read_text(), names)
    assert {"Coarse", "Centredness"} <= set(names)
    assert "python" not in (tmp_path / "mine" / "metric" / "centredness.yaml").read_text()


def find_reason(command: str) -> str:
    return next((reason for words, reason in UNRUN.items() if words in command), "")


def shorten(command: str) -> list[str]:
    """The words of a command as it is run: with small limits, and without weights that are not at hand."""
    task, words = split(command)
    further = [*LIMITS.get(task, []), "trainer=cpu", "threads=1"]
    further += [word for words_of, small in SMALL.items() if words_of in command for word in small]
    replaced = {word.split("=")[0] for word in further}
    return [task, *(word for word in words if word.split("=")[0] not in replaced), *further]


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in COMMANDS if not find_reason(each)])
def test_a_command_runs(command: str, desk: Path) -> None:
    words = shorten(command) if "--help" not in command else [split(command)[0], "--help"]
    done = subprocess.run(
        [sys.executable, "-m", "seewhy", *words], cwd=desk, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_own_network_of_the_readme_is_loaded(desk: Path) -> None:
    """Its weights are those of the file, and the folder's pictures are explained at its size."""
    (command,) = (each for each in list_commands((ROOT / "README.md").read_text()) if "model=own" in each)
    words = [*shorten(command), "hydra.run.dir=own"]
    subprocess.run([sys.executable, "-m", "seewhy", *words], cwd=desk, capture_output=True, check=True)
    record = json.loads((desk / "own" / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["model"]["size"] == [160, 192]
    assert "mine.pth" in record["model"]["weights"]


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def read_code(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_and_small(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert notebook.stat().st_size < 700_000


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_again(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for code in read_code(notebook):
        exec(compile(code, notebook.name, "exec"), names)
    if "own_network" in notebook.name:
        shares = find_shares(names)
        assert names["accuracy"] > 0.9
        assert shares["random"] < 0.2 < min(shares["occlusion"], shares["grad_cam"])


def find_shares(names: dict[str, Any]) -> dict[str, float]:
    """How much of the positive part of each method's maps lies on the object."""
    import torch

    shares = {}
    for method in names["methods"]:
        maps = torch.stack([each.attribution for each in names["maps"] if each.explainer == method]).clamp(min=0)
        shares[method] = float(((maps * names["masks"]).sum((1, 2)) / maps.sum((1, 2))).nanmean())
    return shares
