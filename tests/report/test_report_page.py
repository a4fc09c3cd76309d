"""report.html without a browser: its numbers are those of the tables, and nothing in it asks anybody for anything."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from commands import composed
from page_text import PageText
from seewhy.cli import tasks
from seewhy.core.errors import UserError
from seewhy.plots.heatmaps import build_colour_map, encode_preview
from seewhy.report.write import attempt_page, write_report, write_run_page
from sweep_folder import FACTS, edit_record, names, write_run, write_sweep

FEW = {"deletion": FACTS["deletion"], "insertion": FACTS["insertion"], "coverage": FACTS["coverage"]}
HOSTILE = "</script><script>alert(1)</script>"
EXPLAINERS = ("random", "grad_cam", "rise")


def pictured(sweep: Path, images: int) -> Path:
    """The sweep with a map of every image and explainer, and previews."""
    for number, folder in enumerate(sorted(path.parent for path in sweep.rglob("run.json"))):
        (folder / "attributions").mkdir(exist_ok=True)
        (folder / "images").mkdir(exist_ok=True)
        for place, name in enumerate(names(images)):
            generator = np.random.default_rng([number, place])
            np.save(folder / "attributions" / f"{name}.npy", generator.normal(size=(16, 16)).astype(np.float32))
            (folder / "images" / f"{name}.webp").write_bytes(encode_preview(torch.rand(3, 16, 16)))
    return sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on three explainers, of which one was skipped and one refused."""
    place = tmp_path_factory.mktemp("report")
    sweep = pictured(write_sweep(place / "sweep", EXPLAINERS, facts=FEW, images=9), 9)
    skipped = pd.DataFrame({"path": [f"{HOSTILE}.png"], "reason": ["<img src=x onerror=alert(1)>"]})
    skipped.to_csv(sweep / "0_efficientnet_lite0_random" / "skipped.csv", index=False)
    write_run(sweep / "9_lrp", "lrp", facts=FEW, images=9, status="refused", reason="no rule for SiLU")
    write_report([str(sweep)], place / "report", page=True, command="python src/report.py runs=sweep")
    return place / "report"


@pytest.fixture(scope="module")
def page(made: Path) -> PageText:
    return PageText(made / "report.html")


def test_the_cells_of_the_leaderboard_are_those_of_the_csv(made: Path, page: PageText) -> None:
    board = pd.read_csv(made / "leaderboard.csv").set_index("explainer")
    cells = {(one["data-explainer"], one["data-metric"]): one for one in page.cells if "data-low" in one}
    assert set(cells) == {(name, metric) for name in EXPLAINERS for metric in ("deletion", "insertion")}
    for (name, metric), cell in cells.items():
        for attribute, column in (
            ("data-value", metric),
            ("data-low", f"{metric}_low"),
            ("data-high", f"{metric}_high"),
        ):
            assert float(cell[attribute]) == board.loc[name, column]
    scores = {(one["data-explainer"], one["data-metric"]): one for one in page.cells if "data-metric" in one} | {}
    summary = pd.read_csv(made / "summary.csv").set_index(["explainer", "metric"])
    assert len(scores) == len(summary) == 9
    for place, cell in scores.items():
        assert float(cell["data-value"]) == summary.loc[place, "mean"]


@pytest.mark.slow
def test_every_construct_has_a_leaderboard_of_its_own_order(tmp_path: Path) -> None:
    facts = {key: FACTS[key] for key in ("deletion", "insertion", "sparseness")}
    for name, means in {"edges": (0.1, 0.9, 0.2), "rise": (0.2, 0.8, 0.9), "random": (0.4, 0.1, 0.5)}.items():
        chosen = {key: [mean] * 6 for key, mean in zip(facts, means, strict=True)}
        write_run(tmp_path / "sweep" / name, name, chosen, facts=facts, images=6)
    write_report([str(tmp_path / "sweep")], tmp_path / "report", page=True)
    page = (tmp_path / "report" / "report.html").read_text()
    boards = re.findall(r'<table class="board".*?data-construct="(\w+)">(.*?)</table>', page, re.S)
    rows = r'<tr[^>]* data-explainer="(\w+)">.*?<td class="number rank" data-value="([\d.]+)">'
    assert {title: re.findall(rows, board, re.S) for title, board in boards} == {
        "faithfulness": [("edges", "1"), ("rise", "2"), ("random", "3")],
        "complexity": [("rise", "1"), ("random", "2"), ("edges", "3")],
    }
    assert "Mean rank over deletion, insertion." in page
    ranks = re.findall(r'aria-label="average ranks, (\w+)">.*?</table>', page, re.S)
    assert ranks == ["faithfulness", "complexity"]
    assert len(re.findall(r'<h3 class="construct">Complexity</h3>', page)) == 2


def test_the_scores_of_the_gallery_are_those_of_metrics_csv(made: Path, page: PageText) -> None:
    (model,) = page.facts["models"]
    labels, images = [one["name"] for one in model["explainers"]], [one["name"] for one in model["images"]]
    assert labels == list(pd.read_csv(made / "leaderboard.csv")["explainer"])
    for folder in json.loads(json.dumps([str(path.parent) for path in (made.parent / "sweep").glob("*/metrics.csv")])):
        for row in pd.read_csv(Path(folder) / "metrics.csv").itertuples():
            if row.explainer in labels:
                found = model["scores"][row.metric][images.index(row.image)][labels.index(row.explainer)]
                assert found == row.value
    assert [one["better"] for one in model["metrics"]] == ["lower", "higher", ""]
    assert all(-1 <= one["agreement"] <= 1 for one in model["images"])


def test_the_page_is_one_file_that_asks_nobody(made: Path, page: PageText) -> None:
    assert all(one.startswith(("data:", "#")) for one in page.addresses)
    assert page.handlers == []
    assert not re.search(r"@import|url\(", "".join(page.styles))
    (code,) = page.code
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|https?:", code)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert page.policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'")
    assert "http" not in re.sub(r'"[A-Za-z0-9+/=]{40,}"', "", (made / "report.html").read_text()).replace(
        "http-equiv", ""
    )


def test_the_page_says_what_was_run_and_what_was_not(page: PageText) -> None:
    for words in ("python src/report.py runs=sweep", "no rule for SiLU", "efficientnet_lite0", "1 image skipped"):
        assert words in page.text
    for fact in FEW.values():
        assert fact.variant in page.text


@pytest.mark.slow
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    sweep = pictured(write_sweep(tmp_path, ("random", "grad_cam"), facts=FEW, images=6), 6)
    for folder in sweep.iterdir():
        table = pd.read_csv(folder / "predictions.csv", dtype=str)
        table = table.assign(label=HOSTILE, predicted="<img src=x onerror=alert(2)>", path=f"{HOSTILE}/photo.png")
        table.to_csv(folder / "predictions.csv", index=False)
        edit_record(folder, command=f"python '{HOSTILE}'", device="<b>cpu</b>")
    page = PageText(write_run_page(sweep))
    assert not [code for code in page.code if "alert" in code]
    assert len(page.code) == 1
    assert page.handlers == []
    assert page.facts["models"][0]["images"][0]["label"] == HOSTILE
    assert f"python '{HOSTILE}'" in page.text
    assert "<b>cpu</b>" in page.text


def test_the_pictures_are_in_the_blocks(made: Path, page: PageText) -> None:
    (model,) = page.facts["models"]
    for place in range(len(model["images"])):
        photo, maps, curves = page.json_of(f"block-0-{place}")
        assert curves == []
        assert Image.open(io.BytesIO(base64.b64decode(photo))).size == (16, 16)
        assert len(maps) == 3
        for one in maps:
            drawn = Image.open(io.BytesIO(base64.b64decode(one)))
            assert (drawn.mode, drawn.size) == ("L", (16, 16))


def test_the_colours_are_those_of_the_figures(page: PageText) -> None:
    for kind in ("signed", "unsigned", "positive", "negative"):
        table = np.frombuffer(bytes.fromhex(page.facts["colours"][kind]), np.uint8).reshape(-1, 3)
        np.testing.assert_allclose(table / 255, build_colour_map("default", kind).table, atol=0.5 / 255 + 1e-6)


@pytest.mark.slow
def test_two_models_stand_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = pictured(write_sweep(tmp_path, ("random", "grad_cam"), facts=FEW, images=6), 6)
    other = {"name": "resnet50", "weights": "hub", "weights_sha256": "b" * 64}
    write_run(sweep / "other", "grad_cam", facts=FEW, images=6, model=other)
    page = PageText(write_run_page(sweep))
    assert [one["model"] for one in page.facts["models"]] == ["efficientnet_lite0", "resnet50"]
    assert page.facts["models"][1]["images"][0]["flaws"] == ["no map was stored"]
    assert page.json_of("block-1-5") == ["", [""], []]


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    write_report([str(made.parent / "sweep")], tmp_path, page=True, command="python src/report.py runs=sweep")
    assert (tmp_path / "report.html").read_bytes() == (made / "report.html").read_bytes()


def test_a_page_that_fails_is_said_and_loses_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refused() -> Path:
        raise UserError("different images")

    def broken() -> Path:
        raise ZeroDivisionError("oh")

    assert attempt_page(refused) is None
    assert capsys.readouterr().err == "no report.html: different images\n"
    assert attempt_page(broken) is None
    assert "ZeroDivisionError('oh'); everything else was written" in capsys.readouterr().err
    assert attempt_page(lambda: tmp_path / "report.html") == tmp_path / "report.html"


def explained(folder: Path, task: str, *overrides: str) -> Path:
    """A real run of the tutorial network on sample photographs."""
    given = [
        "model=cifar_cnn",
        "model.weights=random",
        "trainer=cpu",
        "probe_batch_size=16",
        "data.limit=2",
        "logger=[]",
    ]
    cfg = composed(task, [*given, f"output={folder}", "hydra.mode=RUN", "explainer=saliency", *overrides])
    tasks.execute(tasks.explain, cfg)
    return folder


@pytest.mark.slow
def test_a_run_without_metrics_ends_with_a_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = explained(tmp_path, "explain", "callbacks=[attribution,previews,tables]")
    assert f"page: {folder / 'report.html'}" in capsys.readouterr().out
    page = PageText(folder / "report.html")
    (model,) = page.facts["models"]
    assert [one["name"] for one in model["explainers"]] == ["saliency"]
    assert model["explainers"][0]["signed"] is False
    assert page.json_of("block-0-1")[0]
    assert "Leaderboard" not in page.text
    for path in (folder / "images").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
        assert path.stat().st_size < 3000


@pytest.mark.slow
def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    assert not (explained(tmp_path, "explain", "callbacks=[attribution,tables]", "page=false") / "report.html").exists()
    modules = "[name for name in sys.modules if 'report' in name or name == 'jinja2']"
    code = f"import seewhy.cli.tasks, seewhy.cli.tasks, sys; print({modules})"
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_robustness_run_shows_its_summary(tmp_path: Path) -> None:
    folder = explained(tmp_path, "robustness", "corruption=[brightness]", "callbacks.robustness.workers=0")
    page, table = PageText(folder / "report.html"), pd.read_csv(folder / "robustness_summary.csv", dtype={"level": str})
    clean = table[(table.corruption == "clean") & (table.quantity == "saliency_ssim")]["mean"].item()
    part = table[(table.corruption == "brightness") & (table.quantity == "saliency_ssim") & (table.level != "mean")]
    values = [float(cell["data-value"]) for cell in page.cells if "shade" in cell["class"]]
    assert [f"{one:.6g}" for one in [clean, *part["mean"]]] == [f"{one:.6g}" for one in values[-6:]]
    sheets = [path.name for path in folder.glob("robustness/level_*.png")]
    last = sum(name.startswith("level_5") for name in sheets)
    assert sum(one.startswith("data:image/") for one in page.addresses) == last == len(sheets) / 5


@pytest.mark.slow
def test_a_sweep_of_unlike_runs_has_a_page_for_each_group(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "random", facts=FEW, images=6)
    write_run(tmp_path / "b", "rise", facts=FEW, images=5)
    files = [address for address in PageText(write_run_page(tmp_path)).addresses if address.endswith(".html")]
    assert files == ["report_efficientnet_lite0_6_images.html", "report_efficientnet_lite0_5_images.html"]
    assert all((tmp_path / file).is_file() for file in files)
    shutil.rmtree(tmp_path / "b")
    assert PageText(write_run_page(tmp_path)).facts["models"]
