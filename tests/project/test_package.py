"""The package as it is installed: everything is in the wheel, and it works in an empty folder without a checkout."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]

OFFLINE = """
import socket

def refuse(*arguments, **options):
    raise OSError("a command of the installed package reached for the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""

IN_PYTHON = """
import torch
import seewhy
from seewhy import explain

assert not seewhy.__file__.startswith({root!r}), seewhy.__file__
few = ["data.limit=2", "trainer=cpu"]
named = explain("cifar_cnn", explainer="integrated_gradients", n_steps=4, metrics=["deletion"], overrides=few)
assert [each.prediction.name for each in named] == ["airplane", "truck"], named
assert named[0].figure().width > 400 and "deletion" in named.table()

class Bright(torch.nn.Module):
    def forward(self, images):
        brightness = images.mean((1, 2, 3))
        return torch.stack([brightness, 1 - brightness], 1)

images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
given = {{"classes": ["bright", "dark"], "size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}}
maps = explain(Bright(), images, "saliency", target="bright", overrides=["trainer=cpu"], **given)
torch.testing.assert_close(torch.stack([each.attribution for each in maps]), torch.full((2, 8, 8), 1 / 192))
print("version", seewhy.__version__)
"""


def test_every_package_of_the_sources_is_listed() -> None:
    folders = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src" / "seewhy").rglob("__init__.py")}
    modules = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src" / "seewhy").rglob("*.py")}
    assert modules == folders
    mapped = {name for name in SETUPTOOLS["package-dir"] if name}
    assert {".".join(folder.parts) for folder in folders} | mapped == set(SETUPTOOLS["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout; building it leaves nothing behind."""
    folder = tmp_path_factory.mktemp("wheel")
    before = listing()
    subprocess.run(["sh", ROOT / "scripts" / "wheel", sys.executable, folder], check=True, cwd=folder)
    assert listing() == before
    (path,) = folder.glob("*.whl")
    return path


def listing() -> set[Path]:
    """The entries at the top of the checkout and in src/."""
    return {*ROOT.iterdir(), *(ROOT / "src").iterdir()}


def below(folder: str, *endings: str) -> set[str]:
    """The files in a folder of the checkout, relative to it."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.name.endswith(endings) and path.is_file())
    return {str(path.relative_to(ROOT / folder)) for path in paths}


@pytest.mark.slow
def test_the_wheel_holds_configs_weights_page_samples_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"seewhy/{name}" for name in below("src/seewhy", ".py", ".typed", ".safetensors", ".md")}
    expected |= {f"seewhy/report/page/{name}" for name in below("src/seewhy/report/page", "")}
    expected |= {f"seewhy/configs/{name}" for name in below("configs", ".yaml")}
    expected |= {f"seewhy/samples/{name}" for name in below("logbook/images", "") if name != "overview.jpg"}
    assert expected - names == set()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"seewhy"}
    metadata = next(zipfile.ZipFile(wheel).read(name).decode() for name in names if name.endswith("METADATA"))
    assert "Why did the network say that, and can I trust the answer?" in metadata


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the installed wheel that sees the libraries of this one, but not this checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-index", "--no-deps", wheel], check=True)
    (site,) = folder.glob("lib/*/site-packages")
    # as a plain path: the editable install of the checkout, a .pth file in that folder, is not read
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (site / "sitecustomize.py").write_text(OFFLINE)
    return folder


def run(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment in a folder, without what this checkout sets."""
    unset = ("PYTHONPATH", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in unset}
    variables |= {"TORCH_HOME": str(folder), "XDG_CACHE_HOME": str(folder), "COLUMNS": "200"}
    words = [str(environment / "bin" / command[0]), *command[1:]]
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_works_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    few = ["model=cifar_cnn", "explainer=saliency,occlusion", "metric=[deletion]", "data.limit=2", "trainer=cpu"]
    done = run(environment, tmp_path, "seewhy", "explain", "-m", *few, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 100_000
    assert run(environment, tmp_path, "seewhy", "report", "runs=sweep", "hydra.run.dir=report").returncode == 0
    record = (tmp_path / "report" / "run.json").read_text()
    assert '"command": "seewhy report runs=sweep hydra.run.dir=report"' in record
    assert '"git_commit": null' in record
    assert (tmp_path / "report" / "leaderboard.csv").is_file()
    again = run(environment, tmp_path, "python", "-m", "seewhy", "explain", "resume=sweep/0_cifar_cnn_saliency")
    assert again.returncode == 0, again.stderr
    helped = run(environment, tmp_path, "seewhy", "robustness", "--help")
    assert "Usage: seewhy robustness" in helped.stdout
    mistyped = run(environment, tmp_path, "seewhy", "explain", "explainer=salency")
    assert mistyped.returncode == 2
    assert "did you mean explainer=saliency" in mistyped.stderr


@pytest.mark.slow
def test_explain_works_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    done = run(environment, tmp_path, "python", "-c", IN_PYTHON.format(root=str(ROOT)))
    assert done.returncode == 0, done.stderr
    listed = run(environment, tmp_path, "seewhy", "--version")
    assert listed.stdout.split()[1] == done.stdout.split()[1]
