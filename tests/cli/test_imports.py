"""What a run imports: nothing heavy that its config does not use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import forked
from conftest import ROOT

HEAVY = "captum albumentations cv2 pandas skimage sklearn timm huggingface_hub jinja2 tensorboard".split()
"""Modules that a run loads only where its config uses them."""
BARE = "import sys; print('loaded:', *sys.modules)"
"""What is loaded in a forked command before it begins: hydra, torch, lightning, and what these load by themselves."""
RUN = """
import runpy, sys
sys.argv = ["explain.py", *sys.argv[1:]]
try:
    runpy.run_path("src/explain.py", run_name="__main__")
finally:
    print("loaded:", *sys.modules)
"""


def loaded(*overrides: str, ends: int = 0) -> set[str]:
    """The modules of a command in a process of its own, whose exit code is `ends`."""
    command = [sys.executable, "-c", RUN, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == ends, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def loaded_forked(code: str, folder: Path, *overrides: str) -> set[str]:
    """The modules of a process that begins with the libraries and then runs the code, which prints them last."""
    (folder / "code.py").write_text(code)
    done = forked.run(ROOT, str(folder / "code.py"), *overrides)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("callbacks", "needed"),
    [("numbers", set()), ("explain", {"cv2"})],  # OpenCV encodes the figures
)
def test_a_saliency_run_without_metrics_loads_no_heavy_module(callbacks: str, needed: set[str], tmp_path: Path) -> None:
    few = ["model=cifar_cnn", "explainer=saliency", "data.limit=1", "probe_batch_size=1", "trainer=cpu"]
    few += [f"callbacks={callbacks}", "logger=[]", "page=false", f"hydra.run.dir={tmp_path / 'run'}"]
    modules, bare = loaded_forked(RUN, tmp_path, *few), loaded_forked(BARE, tmp_path)
    assert {"torch", "lightning", "hydra"} < bare and not any(name.startswith("seewhy") for name in bare)
    assert "seewhy.explainers.gradient" in modules
    assert (modules - bare) & set(HEAVY) == needed
    assert "seewhy.metrics.faithfulness.road" not in modules


@pytest.mark.slow
@pytest.mark.parametrize("typo", ["explainer=salency", "explainer.windw=3", "explainer"])
def test_a_typo_is_answered_before_torch_is_loaded(typo: str) -> None:
    modules = loaded(typo, ends=2)
    assert "seewhy.cli.main" in modules
    assert not {"torch", "lightning", "numpy", *HEAVY} & modules


@pytest.mark.slow
def test_a_page_of_help_needs_no_torch() -> None:
    assert not {"torch", "lightning", *HEAVY} & loaded("--help")
