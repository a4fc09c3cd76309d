"""A refused command leaves nothing behind; what a folder held before stays."""

from __future__ import annotations

from pathlib import Path

import pytest

import forked
from seewhy.runs.ownership import discard_beginnings, is_new

SMALL = ["model=cifar_cnn", "explainer=saliency", "data.limit=1", "trainer=cpu", "probe_batch_size=2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "override", "words"),
    [
        ("explain", "explainer.reduction=mx", "error: explainer.reduction=mx must be max or sum; did you mean"),
        ("explain", "data.root=nowhere", "nowhere"),  # told by the data module, after the loggers began
        ("explain", "task=report", "error: task=report must be explain"),
        ("report", "page=word", "error: page=word must be true or false"),
    ],
)
def test_a_refused_command_leaves_no_file(tmp_path: Path, task: str, override: str, words: str) -> None:
    given = SMALL if task == "explain" else []
    ended = forked.run(tmp_path, str(forked.SOURCE / f"{task}.py"), *given, override)
    assert ended.returncode == 2, ended.stderr
    assert words in " ".join(ended.stderr.split()) and "Traceback" not in ended.stderr
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert list(tmp_path.glob(f"logbook/outputs/{task}/*")) == []


@pytest.mark.parametrize("other", ["notes.txt", "journal/batch_0000.json", "tensorboard/mine.txt", ".hydra/notes.yaml"])
def test_a_folder_with_anything_else_keeps_all(tmp_path: Path, other: str) -> None:
    for name in ("run.json", ".hydra/config.yaml", "tensorboard/events.out.tfevents.1.host.1.0", other):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert not is_new(tmp_path)
    discard_beginnings(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / other).unlink()
    discard_beginnings(tmp_path)
    assert list(tmp_path.iterdir()) == []
