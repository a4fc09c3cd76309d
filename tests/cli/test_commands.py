"""The commands as a person types them, from another directory."""

import json
import subprocess
from pathlib import Path

import pytest

import forked


def command(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The result of one command, given in `folder`, with an empty cache of weights."""
    cache = {"TORCH_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    return forked.run(folder, str(forked.SOURCE / script), *arguments, **cache)


@pytest.mark.slow
def test_missing_weights_are_one_message(tmp_path: Path) -> None:
    done = command(tmp_path, "explain.py", "model=vgg16", "explainer=saliency")
    assert done.returncode == 2
    assert "vgg16-397923af.pth is not in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("explainer=salency", "did you mean explainer=saliency"),
        ("explainer.windw=3", "explainer.windw=: there is no such key"),
    ],
)
def test_a_typo_is_named(tmp_path: Path, argument: str, words: str) -> None:
    done = command(tmp_path, "explain.py", argument)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failed_job_and_says_so(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        "explain.py",
        "-m",
        "model=cifar_cnn",
        "model.weights=random",
        "data.limit=1",
        "explainer=occlusion",
        "explainer.window=64,4",
        "callbacks=[attribution,tables]",
        "trainer=cpu",
    )
    assert done.returncode == 2, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("logbook/outputs/explain/*_sweep/*/run.json")]
    assert sorted(record["status"] for record in records) == ["completed", "failed"]
    assert done.stdout.count("explainer.window=64: window 64 is larger than the 32-pixel image") == 1, done.stdout
    assert "1 of 2 jobs have ended after" in done.stdout
    assert "sweep folder: logbook/outputs/explain/" in done.stdout


@pytest.mark.slow
def test_a_sweep_with_a_job_that_cannot_run_is_refused_before_the_first(tmp_path: Path) -> None:
    small = ["model=cifar_cnn", "model.weights=random", "trainer=cpu"]
    done = command(tmp_path, "explain.py", *small, "-m", "explainer=saliency,salincy", "seed=0,-1", "explainer.seed=3")
    assert done.returncode == 2
    assert "3 of 4 jobs cannot run; none was begun" in done.stderr
    assert "explainer=saliency seed=-1: seed=-1 must be a whole number from 0" in done.stderr
    assert "explainer=salincy seed=0: explainer=salincy: there is no explainer 'salincy'; did you mean" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "logbook").exists()


@pytest.mark.slow
def test_a_synthesis_names_its_folder_after_itself(tmp_path: Path) -> None:
    given = ["model=cifar_cnn", "data.limit=1", "probe_batch_size=16", "trainer=cpu", "logger=[]"]
    done = command(tmp_path, "synthesize.py", *given)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("logbook/outputs/synthesize/*_cifar_cnn_fooling_image/run.json")
    assert json.loads(record.read_text())["status"] == "completed"
