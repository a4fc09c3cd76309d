"""The pages of docs/ that come from code are what the code says, and the frame of the project is one."""

import json
import re
from pathlib import Path

import pytest
import yaml
from document import list_pages
from documentation import measure
from documentation.choices import Choice, list_choices
from documentation.measure import PICTURES, read_measured
from documentation.pages import escape, find_family, write_method, write_methods_index
from documentation.settings import write_llms

import seewhy
from conftest import ROOT
from seewhy.statistics.verdict import LINES, PLANTED

PAGES = list_pages()
METHODS = {choice.name: choice for choice in list_choices("explainer")}
METRICS = {choice.name: choice for choice in list_choices("metric")}
WRITE = "python scripts/document.py writes it"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_what_the_code_says(name: str) -> None:
    path = ROOT / name
    assert path.is_file(), WRITE
    assert path.read_text() == PAGES[name], WRITE


def test_no_page_is_left_of_what_is_gone() -> None:
    committed = {
        str(path.relative_to(ROOT))
        for folder in ("methods", "metrics", "settings")
        for path in (ROOT / "docs" / folder).glob("*.md")
    }
    assert committed - set(PAGES) == set()


def test_every_choice_has_its_page() -> None:
    for group, folder in (("explainer", "methods"), ("metric", "metrics")):
        names = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml") if "_target_" in path.read_text()}
        assert {f"docs/{folder}/{name}.md" for name in names} <= set(PAGES)


def test_every_method_is_pictured_or_says_why_not() -> None:
    measured = read_measured()["methods"]
    for name, choice in METHODS.items():
        facts = measured.get(name, {})
        assert facts.get("digest") == choice.digest, f"{name} is new or changed: {WRITE}"
        assert (PICTURES / f"{name}.webp").is_file() != ("refused" in facts), name
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 3_000_000


@pytest.mark.slow
def test_a_verdict_is_that_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "JUDGED_EACH", (10, 20))
    measure._measure_control.cache_clear()
    verdict = measure._judge_method(METHODS["saliency"], 2)
    rows = {line["line"]: line for line in verdict["lines"]}
    assert (verdict["network"], verdict["images"], verdict["fewer"]) == ("cifar_cnn", 6, {})
    assert list(rows) == [line for line in LINES if line != PLANTED], "that one is read from the certificate"
    alone = measure._measure_lines("cifar_cnn", METHODS["saliency"], 10).table
    expected = alone.loc[alone["metric"] == "stability", "value"].mean()
    assert f", {expected:.2f}" in rows["stable"]["verdict"]
    assert rows["cost"]["verdict"] == "cheap, 2 passes", "the seconds of a machine stand on no page"
    assert measure._judge_method(METHODS["saliency"], 1000)["images"] == 3, "a dear method is judged on fewer"
    measure._measure_control.cache_clear()


def test_a_method_is_judged_on_the_first_network_that_it_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "JUDGED_ON", ("cifar_cnn",))
    refused = measure._judge_method(METHODS["attention_rollout"], 1)
    assert "attention" in refused["refused"]
    page = write_method(METHODS["attention_rollout"], {"verdict": refused})
    assert "## Verdict\n\nNot judged: " in page


def test_settings_of_the_pictures_reach_the_method() -> None:
    assert measure._shorten(METHODS["rise"]).n_masks == measure.FEWER["rise"]["n_masks"]
    assert measure._shorten(METHODS["guided_ig"]).check_rounding is False
    assert measure._shorten(METHODS["ig_var_grad"]).explainer.n_steps == 5
    for name, settings in measure.FEWER.items():
        assert measure._shorten(METHODS[name]) != METHODS[name].instance, f"{name}: {settings}"


def test_a_page_and_the_gallery_show_the_six_lines() -> None:
    lines = [
        {"line": line, "light": "green", "verdict": "yes, 0.3 [0.2, 0.4]", "meaning": f"{line} is shown"}
        for line in LINES
        if line != PLANTED
    ]
    verdict = {"network": "cifar_cnn", "images": 12, "lines": lines, "fewer": {"n_masks": 7}}
    page = write_method(METHODS["occlusion"], {"verdict": verdict})
    rows = re.findall(r"^\| ([a-z ]+) \| ([●▲■○]) ", page, re.MULTILINE)
    assert [line for line, _ in rows] == list(LINES)
    assert "12 sample pictures of CIFAR-10, `explainer.n_masks=7`, beside the controls" in page
    assert "| cost | ● yes, 0.3 \\[0.2, 0.4\\] | cost is shown |" in page
    planted = dict(rows)[PLANTED]
    assert f"<br>● ● ● ● {planted} ● on 12 images" in write_methods_index({"occlusion": {"verdict": verdict}})


def test_every_method_but_a_control_is_judged_or_says_why_not() -> None:
    measured = read_measured()["methods"]
    for name in set(METHODS) - set(measure.HELD_AGAINST):
        verdict = measured[name]["verdict"]
        stated = [line["line"] for line in verdict.get("lines", [])]
        assert stated == [line for line in LINES if line != PLANTED] or verdict["refused"], f"{name}: {WRITE}"
        assert "## Verdict" in PAGES[f"docs/methods/{name}.md"]


def test_every_metric_that_needs_no_masks_is_measured() -> None:
    measured = read_measured()["metrics"]
    for name, choice in METRICS.items():
        facts = measured.get(name, {})
        assert facts.get("digest") == choice.digest, f"{name} is new or changed: {WRITE}"
        assert ("means" in facts) != choice.target.needs_masks, name


def test_a_page_holds_formula_settings_and_paper(tmp_path: Path) -> None:
    path = tmp_path / "occlusion.yaml"
    path.write_text(
        "# What is lost\n_target_: seewhy.explainers.occlusion.Occlusion\n"
        "window: 5   # of *pixels*\nstride: null\nseed: ${seed}\n"
    )
    page = write_method(
        Choice(path), {"network": "net", "passes": [3.5, 0.0], "targets": ["cat"], "fewer": {}, "gap": 0.5}
    )
    assert "> f(x) - f(x with a window replaced by the baseline), averaged over the windows" in page
    assert "| `explainer.window` | `5` | a whole number from 1 to 1,000,000 or null | of \\*pixels\\* |" in page
    assert "| `explainer.stride` | `null` |" in page
    assert "Pixels between windows, at most `window`" in page
    assert "explainer.seed" not in page
    assert "**Paper.** Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014." in page
    assert "| passes for an image | 3.5 forward (`net`) |" in page
    assert "here the largest gap is 0.5" in page


def test_every_paper_of_a_docstring_is_taken() -> None:
    assert {name for name, choice in METHODS.items() if not choice.paper} <= {
        "centre", "edges", "random", "noise_tunnel", "ig_smooth_grad", "ig_smooth_grad_sq", "ig_var_grad"
    }  # fmt: skip
    assert {name for name, choice in METRICS.items() if not choice.paper} == set()


def test_signs_of_formulas_are_no_markup() -> None:
    assert escape("a*b_c |x| `d*e_f` <g>") == "a\\*b\\_c \\|x\\| `d*e_f` \\<g\\>"


def test_own_methods_have_a_family() -> None:
    assert find_family(METHODS["grad_cam"]) == "Class activation maps"
    assert find_family(METHODS["blur_ig"]) == "Paths and regions"


def test_the_schema_has_the_files_of_a_run() -> None:
    schema = json.loads((ROOT / "docs" / "run.schema.json").read_text())
    assert set(schema["properties"]) == {"run.json", "journal/plan.json", "journal/<number>.json"}
    names = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert names <= set(schema["$defs"])
    assert {"record", "plan", "entry"} <= names


def test_llms_txt_lists_every_page() -> None:
    text = (ROOT / "llms.txt").read_text()
    assert text == write_llms(), WRITE
    listed = re.findall(r"\]\(([^)]+)\)", text)
    assert [path for path in listed if not (ROOT / path).is_file()] == []
    assert "docs/methods/grad_cam.md" in listed


def test_the_version_is_one() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert seewhy.__version__ == citation["version"] == versions[0][0]
    assert str(citation["date-released"]) == versions[0][1]
    assert [name for name, _ in versions] == sorted((name for name, _ in versions), reverse=True)
    assert changelog.index("## Unreleased") < changelog.index(f"## {versions[0][0]}")


def test_workflows_run_what_the_project_has() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert steps == [".ci/run", "make wheel", "make docs"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {step.split()[1] for step in steps if step.startswith("make ")} <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for repository in hooks for hook in repository["hooks"]]
    assert {entry.split()[1] for entry in entries if entry.startswith("make ")} <= targets


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 130
