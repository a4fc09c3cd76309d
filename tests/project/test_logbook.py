"""From finished runs to pages: no number typed, none missing, nothing overwritten, everything in step."""

import colorsys
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from jinja2 import Environment
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image
from studies import study4
from studies.contact_sheet import AGAINST, COLOURS, FOR, NOTE
from studies.found_runs import share
from studies.front import read_front
from studies.index import BEGIN, END, fronts, in_readme, index
from studies.ordering_toy import linear_toy, ordering_toy
from studies.part import NotRun, Part, Study
from studies.pictures import LARGEST, save_picture
from studies.render import TEMPLATES, rate, render, table
from studies.run_part import Inputs, Ran, limit_words, run_study
from studies.studies import asked
from studies.write import page_text, write_page
from test_project import MACHINE_PATH, ROOT

from commands import CONFIGS, composed
from seewhy.core.errors import UserError
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering
from seewhy.plots.heatmaps import build_colour_map
from seewhy.report.runs import Run
from tiny import linear_classifier

LOGBOOK = ROOT / "logbook"
STUDIES = (
    "study0_cifar10_captum",
    "study1_mobilenet_ig",
    "study2_vgg16_comparison",
    "study3_saliency_lab",
    "study4_timm_survey",
)
ALL = asked(CONFIGS / "logbook.yaml", [])
PARTS = [(study.name, part) for study in ALL.studies for part in study.parts]
INPUTS = Inputs({"folder": None, "net": None}, {"folder": "a data set", "net": "weights of a network"})


def test_the_studies_are_the_five() -> None:
    assert tuple(study.name for study in ALL.studies) == STUDIES


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_says_what_it_is(study: str) -> None:
    head = (CONFIGS / "experiment" / f"{study}.yaml").read_text()
    assert all(word in head for word in ("# command:", "# cost:", "# expected:", "# differs:"))
    assert f"experiment={study}" in head


@pytest.mark.slow
@pytest.mark.parametrize(("study", "part"), PARTS, ids=[f"{study}-{part.name}" for study, part in PARTS])
def test_every_command_of_the_logbook_composes(study: str, part: Part) -> None:
    python, script, *words = shlex.split(part.command)
    assert python == "python"
    assert (ROOT / script).is_file()
    one = [re.sub(r"^([^=]+)=(?!\[)([^,]*),.*$", r"\1=\2", word) for word in words if word != "-m"]
    values = {place: "model.size=64" if place.endswith("_facts") else place for place in part.places}
    composed(Path(script).stem, [*Part("", shlex.join(one)).filled(values), "hydra.mode=RUN"])
    before = [earlier.name for name, earlier in PARTS if name == study][
        : [p for n, p in PARTS if n == study].index(part)
    ]
    assert set(part.places) <= set(ALL.inputs.words) | set(before)


def test_the_toy_reproduces_the_numbers_of_the_study() -> None:
    toy = ordering_toy(*linear_toy())
    assert (toy.pixels, toy.positive) == (1600, 783)
    assert (round(toy.stepped, 3), round(toy.first_term, 3), round(toy.study, 1)) == (0.0, 0.024, 57.9)


def test_the_toy_by_hand() -> None:
    """w x = 3, 2, -1: removal leaves 4, 1, -1 (clamped to 0); the study's code leaves 2 and 0."""
    toy = ordering_toy(np.array([3.0, 2.0, -1.0]), np.ones(3), step=1)
    assert toy.exact == pytest.approx((4 + 1 + 0) / 3)
    assert toy.stepped == pytest.approx((1 + 0) / 3)
    assert toy.first_term == pytest.approx(4 / 3)
    assert toy.study == pytest.approx((2 + 0) / 3)


def test_the_metric_is_the_definition_of_the_toy() -> None:
    classifier, weights = linear_classifier(size=8)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    image = image.where(weights[:1] > -0.02, 0.0)
    context = MetricContext(classifier, image, torch.tensor([0]), (weights[:1] * image).sum(1), probe_batch_size=16)
    per_pixel = (weights[0] * image[0]).sum(0).flatten().double().numpy()
    found = NecessityOrdering(n_steps=64).measure(context)["undivided"]
    toy = ordering_toy(per_pixel, np.ones_like(per_pixel))
    assert toy.exact > 0
    assert float(found) == pytest.approx(toy.exact, rel=1e-4)


@pytest.mark.parametrize("value", [None, "", float("nan"), float("inf")])
def test_a_missing_value_is_an_error(tmp_path: Path, value: object) -> None:
    (tmp_path / "page.j2").write_text("{{ found }}{{ rows | table }}")
    with pytest.raises(UserError, match="missing"):
        render("page.j2", {"found": value, "rows": [{"a": "1"}]}, tmp_path)
    with pytest.raises(UserError, match="missing"):
        render("page.j2", {"found": 1, "rows": [{"a": value}]}, tmp_path)
    with pytest.raises(UserError, match="'found' is undefined"):
        render("page.j2", {"rows": [{"a": "1"}]}, tmp_path)
    with pytest.raises(UserError, match="no rows"):
        render("page.j2", {"found": 1, "rows": []}, tmp_path)


def test_a_share_has_wilsons_interval_and_its_counts() -> None:
    assert rate(share([True] * 9), 0) == "100 % [63, 100] (9 of 9)"
    assert rate(share([True] * 3 + [False] * 9)) == "25.0 % [6.7, 57.2] (3 of 12)"
    assert rate(share([True, False])) == "50.0 % (1 of 2)", "two values have no interval"
    with pytest.raises(UserError, match="nothing to take the share of"):
        share([])


def test_every_finding_says_its_n_and_an_interval() -> None:
    """Estimates stand as `interval` or `rate`, which carry their interval; n is among the values."""
    for template in sorted(TEMPLATES.glob("*.finding.j2")):
        text = template.read_text()
        assert re.search(r"\| (interval|rate)", text) or "detectable" in text, template.name
        assert re.search(r"\bn\b|\| rate", text), template.name


def test_no_number_of_a_page_is_typed_in_the_configs() -> None:
    """What a study costs and finds stands on its page alone."""
    for path in sorted((CONFIGS / "experiment").glob("study*.yaml")):
        head = path.read_text().split("defaults:")[0]
        said = re.findall(r"# (?:cost|expected):.*?(?=\n# \w+:|\Z)", head, re.S)
        assert len(said) == 2, path.name
        assert not re.search(r"\d+(\.\d+)? ?(%|of|minute|second)|\d\.\d", " ".join(said)), path.name


def test_a_table_is_markdown() -> None:
    rows = [{"word": "a|b", "number": "1.5"}, {"word": "c", "number": "-"}]
    assert table(rows).splitlines() == ["| word | number |", "| --- | ---: |", "| a\\|b | 1.5 |", "| c | - |"]


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.j2")), ids=lambda path: path.name)
def test_no_number_with_decimals_is_typed_in_a_template(template: Path) -> None:
    text = template.read_text()
    Environment().parse(text)
    assert re.findall(r"\d\.\d", text) == []


def fake_run(
    folder: Path, overrides: list[str], metrics: Mapping[str, list[float]], parameters: str = "n_steps=50"
) -> None:
    """A run folder of integrated gradients on two images."""
    (folder / "attributions").mkdir(parents=True)
    record = {
        **{"status": "completed", "task": "explain", "overrides": overrides, "seed": 0, "git_commit": "a" * 40},
        **{"git_dirty": False, "python": "3", "versions": {"torch": "2"}, "started": "2026-01-02T03:04:05"},
        **{"seconds": 1.5, "device": "cpu", "threads": 1, "images_explained": 2, "attribution_seconds": 0.5},
        "model": {"name": "net", "weights_sha256": "0", "size": 8, "mean": [0.5, 0.25], "std": [0.125]},
        "explainer": {"name": "integrated_gradients", "parameters": parameters, "target": "predicted"},
        "passes_per_image": {"forward": 52, "backward": 50},
    }
    (folder / "run.json").write_text(json.dumps(record))
    lines = ["image,explainer,metric,value"]
    for place, image in enumerate("ab"):
        lines += [f"{image},integrated_gradients,{name},{values[place]}" for name, values in metrics.items()]
        np.save(folder / "attributions" / f"{image}.npy", np.arange(4.0).reshape(2, 2) + place)
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "predictions.csv").write_text(
        "image,path,predicted,probability,target,target_probability\n"
        "a,a.png,hen,0.75,hen,0.75\nb,b.png,hog,0.5,hog,0.5\n"
    )
    (folder / "metrics.json").write_text("{}")


@pytest.fixture
def study1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Fake runs of study 1: 50 steps leave 10 %, 200 steps 7.25 and 2 %, auto 1 %."""
    monkeypatch.setattr("studies.study1.contact_sheet", lambda *given: Figure(figsize=(2, 2)))
    steps, names = tmp_path / "steps", ("completeness_gap_relative", "completeness_gap", "n_steps")

    def metrics(*rows: tuple[float, float, float]) -> dict[str, list[float]]:
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    fake_run(steps / "0", ["explainer.n_steps=50"], metrics((0.1, 0.5, 50), (0.1, 0.5, 50)))
    fake_run(steps / "1", ["explainer.n_steps=200"], metrics((0.0725, -0.125, 200), (0.02, 0.0625, 200)))
    auto = "baseline=black, n_steps=auto, tolerance=0.01, max_steps=1000, map_tolerance=0.05"
    found = metrics((0.01, 0, 16), (0.005, 0, 300)) | {"map_error": [0.04, 0.06]}
    fake_run(steps / "2", ["explainer.n_steps=auto"], found, auto)
    fake_run(tmp_path / "riemann", [], metrics((0.3, 1, 50), (0.1, 1, 50)))
    return Ran({"steps": steps, "riemann": tmp_path / "riemann"})


def read_front_text(page: str) -> str:
    return str(json.loads(page.split("\n", 1)[0].removeprefix("<!-- logbook ").removesuffix(" -->"))["finding"])


def test_a_page_is_filled_from_the_runs(study1: Ran, tmp_path: Path) -> None:
    page = page_text(ALL.studies[1], study1, tmp_path)
    text = " ".join(page.split())
    assert "0.0625 to 0.1250 logits, which is 2.00 % to 7.25 %" in text
    half = "50 % (1 of 2)"
    assert f"{half} maps are over the 5 %" in text
    assert (
        f"{half} within 1 % of that sum and 5 % of the map (estimated), with 16 to 300 steps (158 in the median)"
        in text
    )
    assert "and 100 % of the gradients" in text
    assert "| a | hen | 0.75 | 10.00 % | 7.25 % | 0.1250 | 1.00 % | 4.0 % | 16 |" in page
    assert "`net` 8 pixels, mean 0.5, 0.25, std 0.125" in text
    front = read_front_text(page)
    assert front.startswith(
        "On 2 photographs the study's 200 steps of `net` leave a completeness gap of 2.00 % to 7.2 %"
    )
    assert front.endswith(f"within 1 % and 5 % on {half}, with 16 to 300 steps.")
    assert "`aaaaaaaaaa` on 2026-01-02, seed 0: 6 s" in text
    assert (tmp_path / "figures" / "study1_mobilenet_ig" / "sheet.webp").is_file()
    assert str(tmp_path) not in page


def test_a_page_without_one_of_its_numbers_is_an_error(study1: Ran, tmp_path: Path) -> None:
    metrics = study1.folders["riemann"] / "metrics.csv"
    metrics.write_text("\n".join(line for line in metrics.read_text().splitlines() if "relative" not in line) + "\n")
    with pytest.raises(UserError, match="no value of completeness_gap_relative"):
        page_text(ALL.studies[1], study1, tmp_path)


def test_opinions_are_told_apart_by_all_of_their_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixtures begin with a baseline that also stands alone: each has its own row, and none replaces another."""
    lines = ["black", "uniform", "black+white+uniform", "black"]
    single, other, mixture, again = (
        cast(Run, SimpleNamespace(folder=Path(), record={"explainer": {"parameters": f"baseline={line}, n_samples=5"}}))
        for line in lines
    )
    similarity = {id(single): 1.0, id(other): 0.5, id(mixture): 0.25}
    monkeypatch.setattr(study4, "_alike", lambda _integrated, run: similarity[id(run)])
    monkeypatch.setattr(study4, "runs", lambda _folder: sweep)
    sweep, folders = [other, mixture], {"shap_baselines": Path()}
    assert study4._second_opinions(single, single, folders) == {
        "black": 1.0,
        "uniform": 0.5,
        "black + white + uniform": 0.25,
    }
    sweep = [other, again]
    with pytest.raises(UserError, match="repeats the baselines black"):
        study4._second_opinions(single, single, folders)


def test_a_page_is_not_replaced_by_one_with_fewer_parts(study1: Ran, tmp_path: Path) -> None:
    study = ALL.studies[1]
    assert write_page(study, study1, tmp_path) == "study1_mobilenet_ig.md: 2 of 2 parts"
    before = (tmp_path / "study1_mobilenet_ig.md").read_text()
    nothing = Ran({}, [NotRun(part, "weights") for part in study.parts])
    assert "left as it is: riemann, steps could not be run" in write_page(study, nothing, tmp_path)
    assert (tmp_path / "study1_mobilenet_ig.md").read_text() == before
    front = read_front(tmp_path / "study1_mobilenet_ig.md")
    assert front is not None
    assert (front.ran, front.not_run, front.seconds) == (["steps", "riemann"], [], 6)


def script(root: Path, text: str) -> Study:
    """A study of one command, and one that needs a data set."""
    (root / "one.py").write_text(text)
    return Study("study", "A study", (Part("first", "python one.py {net}"), Part("second", "python one.py {folder}")))


DONE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[-1].split("=")[1])
folder.mkdir(parents=True)
(folder / "run.json").write_text(json.dumps({"status": "completed", "task": "x", "words": sys.argv[1:]}))
"""


def test_commands_are_run_and_what_is_missing_is_named(tmp_path: Path) -> None:
    study = script(tmp_path, DONE)
    ran = run_study(study, INPUTS, tmp_path, tmp_path / "outputs")
    assert list(ran.folders) == ["first"]
    assert [(one.part.name, one.needs) for one in ran.missing] == [
        ("second", "a data set (give it by `folder=FOLDER`)")
    ]
    record = json.loads((ran.folders["first"] / "run.json").read_text())
    assert record["words"] == ["auto", "hydra.run.dir=outputs/study/first"]
    script(tmp_path, "raise SystemExit(1)")
    assert list(run_study(study, INPUTS, tmp_path, tmp_path / "outputs", reuse=True).folders) == ["first"]


def test_missing_weights_are_no_error_and_other_failures_are(tmp_path: Path) -> None:
    study = script(tmp_path, "raise SystemExit('error: no weights for model=net')")
    ran = run_study(study, INPUTS, tmp_path, tmp_path / "outputs")
    assert [one.needs for one in ran.missing] == [
        "weights of a network (give it by `net=FILE`)",
        "a data set (give it by `folder=FOLDER`)",
    ]
    study = script(tmp_path, "raise SystemExit('something else')")
    with pytest.raises(UserError, match="something else"):
        run_study(study, INPUTS, tmp_path, tmp_path / "outputs")


def test_a_part_shows_no_path_and_runs_with_it() -> None:
    part = Part("one", "python x.py -m data.root={cifar10} 'runs=[{a},{b}]'")
    assert part.shown == "python x.py -m data.root=CIFAR10 'runs=[A,B]'"
    assert part.filled({"cifar10": "/my data", "a": "p", "b": "q"})[3:] == ["data.root=/my data", "runs=[p,q]"]
    assert part.sweep


def test_settings_of_a_file_become_as_many_words_as_there_are() -> None:
    part = Part("one", "python x.py model.weights={net} {net_facts}")
    assert part.shown == "python x.py model.weights=NET NET_FACTS"
    given = {"net": "a.pth", "net_facts": "model.size=64 'model.mean=[0.5, 0.5]'"}
    assert part.filled(given)[2:] == ["model.weights=a.pth", "model.size=64", "model.mean=[0.5, 0.5]"]
    assert part.filled(given | {"net_facts": ""})[2:] == ["model.weights=a.pth"]
    read = asked(CONFIGS / "logbook.yaml", ["squeezenet_facts=model.size=227 model.mean=[0.5,0.5,0.5]", "limit=3"])
    assert read.inputs.value("squeezenet_facts") == "model.size=227 model.mean=[0.5,0.5,0.5]"
    assert (read.inputs.value("mobilenetv3_facts"), read.limit) == ("", 3)
    with pytest.raises(UserError, match="limit=0 must be a whole number from 1"):
        asked(CONFIGS / "logbook.yaml", ["limit=0"])


@pytest.mark.parametrize(("study", "part"), PARTS, ids=[f"{study}-{part.name}" for study, part in PARTS])
def test_a_quick_look_composes(study: str, part: Part) -> None:
    assert limit_words(part, None) == []
    words = limit_words(part, 2)
    assert bool(words) == ("report.py" not in part.command)
    _, script, *given = shlex.split(part.command)
    one = [re.sub(r"^([^=]+)=(?!\[)([^,]*),.*$", r"\1=\2", word) for word in given if word != "-m"]
    values = {place: "" if place.endswith("_facts") else place for place in part.places}
    composed(Path(script).stem, [*Part("", shlex.join(one)).filled(values), *words, "hydra.mode=RUN"])


@pytest.mark.parametrize("word", ["cifar=x", "cifar10", "only=study9", "squeezenet=nowhere.pth", "studies=1"])
def test_a_typo_is_named(word: str) -> None:
    with pytest.raises(UserError, match=re.escape(word.split("=")[0])):
        asked(CONFIGS / "logbook.yaml", [word])


def test_a_picture_is_made_small_enough(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 700, 3), dtype=np.uint8)
    save_picture(Image.fromarray(noise), tmp_path / "x.webp", widest=300)
    assert (tmp_path / "x.webp").stat().st_size < LARGEST
    with Image.open(tmp_path / "x.webp") as made:
        assert made.width == 300


def test_the_readme_must_have_its_marks() -> None:
    with pytest.raises(UserError, match="logbook:begin"):
        in_readme(f"{END} {BEGIN}", fronts(LOGBOOK))


def test_the_index_and_the_readme_are_in_step_with_the_pages() -> None:
    assert (LOGBOOK / "README.md").read_text() == index(LOGBOOK)
    readme = (ROOT / "README.md").read_text()
    assert in_readme(readme, fronts(LOGBOOK)) == readme


PAGES = sorted(LOGBOOK.glob("study*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_committed_page_is_whole(page: Path) -> None:
    text = page.read_text()
    front = read_front(page)
    assert front is not None
    assert front.study == page.stem
    assert not MACHINE_PATH.search(text)
    assert not re.search(r"(?<![\w./])/[a-z]+/[\w.-]+", text)
    shown = set(re.findall(r"\]\((figures/[^)]+)\)", text)) | {front.thumbnail}
    there = {path.relative_to(LOGBOOK).as_posix() for path in (LOGBOOK / "figures" / page.stem).iterdir()}
    assert shown == there
    assert re.search(r"with commit `[0-9a-f]{10}`", text)
    study = next(study for study in ALL.studies if study.name == page.stem)
    parts = set(front.ran) | set(front.not_run) == {part.name for part in study.parts}
    assert parts, "`make logbook` makes the page of other parts anew"
    assert all(part.shown in text for part in study.parts if part.name in front.ran), "and that of other commands"


def test_the_pictures_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (LOGBOOK / "figures").rglob("*.*")}
    assert max(sizes.values()) < LARGEST
    assert sum(sizes.values()) < 2_500_000


def test_the_yaml_is_what_was_asked() -> None:
    loaded = OmegaConf.load(CONFIGS / "logbook.yaml")
    weights = ["squeezenet", "mobilenetv3", "mobilenetv3_small"]
    assert list(loaded.inputs) == ["cifar10", *(name + end for name in weights for end in ("", "_facts"))]
    for _, part in PARTS:
        for name in set(part.places) & set(weights):
            assert f"model.weights={{{name}}} {{{name}_facts}}" in part.command, (
                "a file of weights is given with its facts"
            )
    assert all(loaded[name] is None for name in loaded.inputs)
    assert sys.executable


HUES = {"red": (345, 370), "orange": (12, 45), "green": (80, 160), "blue": (200, 260)}
"""Degrees that are called so; 360 and more are those from 0 on."""


def test_the_caption_of_a_sheet_names_the_colours_of_its_maps() -> None:
    ends = build_colour_map(COLOURS, "signed").table[[-1, 0]]
    for name, colour in zip((FOR, AGAINST), ends.tolist(), strict=True):
        hue, (low, high) = 360 * colorsys.rgb_to_hsv(*colour)[0], HUES[name]
        assert low <= hue <= high or low <= hue + 360 <= high
        assert name in NOTE
