"""Whole runs of the command ground_truth: what they leave behind, how they are repeated and how they fail."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_ground_truth import judge_study

from commands import composed
from seewhy.analyses.ground_truth.certificate import COLUMNS, read_certificate, write_table
from seewhy.cli import tasks
from seewhy.cli.config import CONFIGS, compose
from seewhy.core.errors import UserError
from seewhy.report.html.ground_truth import build_certificate_view, select_certificate
from seewhy.report.html.render import render_certificate

FEW = (
    "model=linear",
    "model.size=8",
    "model.arguments.side=8",
    "ground_truth=[suppressor]",
    "images=6",
    "proof_images=50",
)
EASY = (
    "ground_truth.suppressor.steps=60",
    "ground_truth.suppressor.accuracy=0.5",
    "ground_truth.suppressor.follow=0.5",
)


def run(folder: Path, *overrides: str) -> None:
    given = ["trainer=cpu", "networks=2", f"output={folder}", "hydra.mode=RUN", *overrides]
    tasks.execute(tasks.TASKS["ground_truth"], composed("ground_truth", given))


@pytest.mark.slow
def test_a_run_leaves_a_certificate_and_is_repeated_from_its_cells(tmp_path: Path) -> None:
    run(tmp_path / "run", *FEW, *EASY, "optimization.lr=0.03")
    with (tmp_path / "run" / "certificate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 11 * 4, "eight methods and three controls by four scores"
    by_name = {(row["explainer"], row["metric"]): row for row in rows}
    saliency = by_name["saliency", "relevance_mass"]
    assert (saliency["model"], saliency["ground_truth"], saliency["n_networks"], saliency["used"]) == (
        "linear",
        "suppressor",
        "2",
        "true",
    )
    assert float(saliency["low"]) <= float(saliency["value"]) <= float(saliency["high"])
    assert float(saliency["chance"]) == 0.125
    cam = by_name["grad_cam", "pointing"]
    assert cam["value"] == ""
    assert cam["reason"].startswith("refused: ")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["architecture"], record["cells_done_before"]) == ("completed", "linear", 0)
    assert [network["used"] for network in record["networks"]["suppressor"]] == [True, True]
    assert set(record["networks"]["suppressor"][0]["shares"]) >= {"with", "without", "inserted", "elsewhere"}
    page = (tmp_path / "run" / "certificate.md").read_text()
    assert "## Finding" in page
    assert "| `grad_cam` | - |" in page
    assert "Where the truth is known" in (tmp_path / "run" / "report.html").read_text()
    before = (tmp_path / "run" / "certificate.csv").read_bytes()
    run(tmp_path / "run", *FEW, *EASY, "optimization.lr=0.03")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["cells_done_before"] == record["cells"] == 22
    assert (tmp_path / "run" / "certificate.csv").read_bytes() == before
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "run", *FEW, *EASY, "optimization.lr=0.01")
    assert stopped.value.code == 2


@pytest.mark.slow
def test_explainers_are_a_list_that_replaces_the_default_ones() -> None:
    assert list(compose("ground_truth").explainers) == [
        *(
            "saliency",
            "input_x_gradient",
            "smooth_grad",
            "integrated_gradients",
            "deep_lift",
            "lrp",
            "grad_cam",
            "occlusion",
        )
    ]
    few = compose("ground_truth", ["explainer=[rise,lrp]", "explainers.rise.n_masks=7"])
    assert sorted(few.explainers) == ["lrp", "rise"]
    assert few.explainers.rise.n_masks == 7
    assert list(compose("ground_truth", ["explainer=rise"]).explainers) == ["rise"]
    every = {path.stem for path in (CONFIGS / "explainer").glob("*.yaml")} - {"captum", "noise_tunnel"}
    assert set(compose("ground_truth", ["explainer=all"]).explainers) == every
    assert list(compose("ground_truth", ["ground_truth=tag"]).ground_truth) == ["tag"]
    with pytest.raises(UserError, match=r"explainer=rise,lrp: give a list of explainers"):
        compose("ground_truth", ["explainer=rise,lrp"])
    with pytest.raises(UserError, match=r"did you mean explainer=saliency\?|saliency"):
        compose("ground_truth", ["explainer=[salency]"])


def test_the_page_shows_what_a_value_beats() -> None:
    table = judge_study()
    view = build_certificate_view(table)
    name, _, model, settings, lines = view.tables[0]
    cells = dict(lines)
    assert (name, model, settings) == ("relevance mass", "net", ["patch"])
    assert cells["right"] == [("0.60", "0.59 to 0.61", "both")]
    assert cells["edges"] == [("0.40", "0.39 to 0.41", "chance")]
    assert cells["weak"] == [("0.30", "0.29 to 0.31", "chance")]
    assert cells["refused"] == [("–", "refused: no <layers>", "none")]
    assert cells["chance"] == [("0.20", "", "")]
    html = render_certificate(table, "Ground truth", "make ground_truth", ["3 networks"])
    assert "<strong>0.60</strong>" in html
    assert "<em>0.30</em>" in html
    assert "refused: no &lt;layers&gt;" in html
    assert "<script" not in html
    assert "findings, one for each kind" not in html
    kinds = pd.concat([table.assign(ground_truth=kind) for kind in ("patch", "xor", "grid", "tag_50")])
    many = render_certificate(kinds, "Ground truth", "make ground_truth", [])
    assert "<p>Of 4 cells (a kind of truth and an architecture)" in many
    assert "<summary>4 findings, one for each kind of truth and architecture</summary>" in many
    assert many.count("is highest, area under the precision-recall curve") == 4


@pytest.mark.slow
def test_the_page_of_runs_has_what_is_known_of_its_architectures(tmp_path: Path) -> None:
    path = tmp_path / "certificate.csv"
    path.write_bytes(write_table(judge_study()))
    certificate = read_certificate(path)
    assert select_certificate(["other"], certificate) is None
    selected = select_certificate(["other", "net"], certificate)
    assert selected is not None
    assert selected.tables == build_certificate_view(judge_study()).tables


def test_a_proof_that_could_not_fail_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "run", *FEW, "proof_images=10")
    assert stopped.value.code == 2
    assert "proof_images=10 must be" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_pictures_that_changed_are_not_those_that_networks_were_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        for number in range(4):
            values = rng.integers(0, 100, (16, 16, 3), np.uint8) + np.uint8(100 * (label == "light"))
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "photos" / label / f"{number}.png")
    kind = ("ground_truth=[patch]", "ground_truth.patch.steps=2", "ground_truth.patch.accuracy=0", "images=2")
    own = (
        "data=folder",
        f"data.root={tmp_path / 'photos'}",
        "model=linear",
        "model.size=16",
        "model.arguments.side=16",
    )
    weights = tmp_path / "run" / "cells" / "patch_0.safetensors"

    def train() -> bytes:
        run(tmp_path / "run", *kind, *own, "proof_images=20", "networks=2")
        return weights.read_bytes()

    first, before = train(), weights.stat().st_mtime_ns
    assert train() == first
    assert weights.stat().st_mtime_ns == before, "nothing is computed again"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "photos" / "light" / "0.png")
    assert train() != first
