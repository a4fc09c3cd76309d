"""The verdict of a sweep: its lines are those of the tables, in verdict.csv, on the page and in the terminal."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from page_text import PageText
from seewhy.analyses.ground_truth.certificate import COLUMNS, read_certificate
from seewhy.core.errors import UserError
from seewhy.explainers.controls import Centre, Edges, Random
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.removers import REMOVERS
from seewhy.metrics.randomisation.model_randomization import ModelRandomization
from seewhy.report.agreement import measure_agreement
from seewhy.report.comparison import Comparison, compare_runs, join_runs
from seewhy.report.runs import find_runs
from seewhy.report.verdict import (
    build_verdict_table,
    find_outcome,
    judge_alone,
    judge_measured,
    judge_methods,
    measure_method,
)
from seewhy.report.write import write_report, write_run_page
from seewhy.statistics.schema import MetricFact
from seewhy.statistics.verdict import COST, LINES, NETWORK, PLANTED, STABLE
from seewhy.statistics.verdict import REMOVERS as BEATS
from sweep_folder import write_run
from tiny import random_images, small_cnn

PANEL = [f"srg_{remover}" for remover in REMOVERS]
FACTS = {name: MetricFact("higher", "SRG", "faithfulness", variant_of="deletion") for name in PANEL}
FACTS |= {f"{name}_{area}": MetricFact(None, "SRG", "faithfulness") for name in PANEL for area in ("morf", "lerf")}
FACTS |= {
    "model_randomization": MetricFact("lower", "all random", "randomisation"),
    "stability": MetricFact("higher", "noise", "robustness"),
    "sufficient_region": MetricFact("lower", "share", "faithfulness", variant_of="insertion"),
}
METHODS = {  # gain over random, similarity with random networks, stability
    "random": (0.0, 1.0, 0.0),
    "edges": (0.1, 1.0, 0.9),
    "centre": (0.05, 1.0, 1.0),
    "grad_cam": (0.5, 0.1, 0.9),
    "saliency": (0.1, 0.2, 0.2),
    "occlusion": (0.6, 0.9, 0.8),
}
CERTIFICATE = [
    ("patch", "efficientnet_lite0", "grad_cam", 0.9, "true", ""),
    ("xor", "efficientnet_lite0", "grad_cam", 0.3, "true", ""),
    ("grid", "another", "saliency", 0.9, "true", ""),
    ("patch", "efficientnet_lite0", "occlusion", "", "false", "accuracy does not fall to chance"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, images = tmp_path_factory.mktemp("verdict"), 40
    for position, (method, (gain, alike, stable)) in enumerate(METHODS.items()):
        generator = np.random.default_rng(position)
        values = {}
        for name in PANEL:
            lost = gain if name != "srg_white" else 0
            values[f"{name}_morf"] = 0.5 + 0.02 * generator.normal(size=images)
            values[f"{name}_lerf"] = values[f"{name}_morf"] + lost + 0.02 * generator.normal(size=images)
            values[name] = values[f"{name}_lerf"] - values[f"{name}_morf"]
        values["model_randomization"] = alike + 0.02 * generator.normal(size=images)
        values["stability"] = stable + 0.02 * generator.normal(size=images)
        values["sufficient_region"] = np.round(generator.uniform(0.1, 0.9, size=images), 2)
        write_run(folder / method, method, values, images=images, facts=FACTS)
    rows = [
        (
            kind,
            model,
            name,
            "average_precision",
            value,
            0.2,
            0.4,
            0.2,
            0.25,
            0.01,
            0.01 if kind == "patch" else 0.7,
            40,
            3,
            used,
            reason,
            "yes",
            "yes" if kind == "patch" else "no",
        )
        for kind, model, name, value, used, reason in CERTIFICATE
    ]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "certificate.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> Comparison:
    return compare_runs(join_runs(find_runs([str(sweep)])[0])[0])


def test_the_lines_say_what_the_tables_say(sweep: Path, comparison: Comparison) -> None:
    judgement = judge_methods(comparison, read_certificate(sweep / "certificate.csv"))
    assert judgement is not None
    assert set(judgement.lines) == {"grad_cam", "saliency", "occlusion"}, "controls are what methods are held against"
    lights = {name: {each.line: each.light for each in lines} for name, lines in judgement.lines.items()}
    assert all(list(each) == list(LINES) for each in lights.values())
    assert [lights["grad_cam"][line] for line in (NETWORK, BEATS, STABLE, PLANTED)] == [
        "green",
        "green",
        "green",
        "yellow",
    ]
    assert [lights["saliency"][line] for line in (NETWORK, BEATS, STABLE, PLANTED)] == [
        "green",
        "yellow",
        "red",
        "none",
    ]
    assert [lights["occlusion"][line] for line in (NETWORK, BEATS, STABLE, PLANTED)] == [
        "red",
        "green",
        "green",
        "none",
    ]
    said = {name: {each.line: each for each in lines} for name, lines in judgement.lines.items()}
    assert said["grad_cam"][BEATS].shown == "5 of 6"
    for name, lines in said.items():
        pairs = [[find_outcome(comparison, metric, name, control) for control in list(METHODS)[:3]] for metric in PANEL]
        assert lines[BEATS].shown == f"{sum(each == ['better'] * 3 for each in pairs)} of 6"
        gains = [comparison.get_mean(name, metric)[0] for metric in PANEL]
        assert lines[BEATS].estimate.mean == pytest.approx(sum(gains) / 6)
        mean, low, high = comparison.get_mean(name, "stability")
        assert lines[STABLE].estimate == (mean, low, high, 40, 40)
    assert "not on xor" in said["grad_cam"][PLANTED].sentence
    assert "accuracy does not fall to chance" in said["occlusion"][PLANTED].sentence
    assert "ground_truth=patch model=efficientnet_lite0" in said["saliency"][PLANTED].sentence
    assert judgement.recommendation.name == "grad_cam"


@pytest.fixture(scope="module")
def report(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """(the folder of the report, its record)."""
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report([str(sweep)], folder, page=True, certificate=str(sweep / "certificate.csv"))


@pytest.mark.slow
def test_a_report_and_a_sweep_write_and_show_it(sweep: Path, report: tuple[Path, dict[str, object]]) -> None:
    folder, record = report
    assert record["recommended"] == {"efficientnet_lite0": "grad_cam"}
    table = pd.read_csv(folder / "verdict.csv").set_index(["explainer", "line"])
    assert len(table) == 3 * 6
    assert set(table.loc["grad_cam", "recommended"]) == {"yes"}
    page = PageText(folder / "report.html")
    assert "Average precision on efficientnet_lite0" in page.text, (
        "the certificate that was given, not the one of the checkout"
    )
    cells = [cell for cell in page.cells if "data-light" in cell]
    assert [cell["data-light"] for cell in cells] == list(table["light"])
    assert "Use grad_cam, because its map is another one when all weights are random" in page.text
    assert "The rule: a method qualifies if" in page.text
    console = Console(width=200, file=io.StringIO())
    write_run_page(sweep, certificate=str(sweep / "certificate.csv"), console=console)  # type: ignore[arg-type]
    assert (sweep / "verdict.csv").read_text() == (folder / "verdict.csv").read_text()
    told = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Use grad_cam, because" in told
    assert "● yes, 5 of 6" in told


@pytest.mark.slow
def test_metrics_agree_or_not_and_regions_are_calibrated(
    comparison: Comparison, report: tuple[Path, dict[str, object]]
) -> None:
    agreement = measure_agreement(comparison)
    pairs = agreement.pairs.set_index(["metric", "other"])["tau"]
    assert pairs[("srg_black", "srg_blur")] == 1
    assert pairs[("model_randomization", "stability")] == pytest.approx(1 / 3)
    ranks = agreement.ranks.set_index("metric")
    assert ranks["first"]["srg_black"] == "occlusion"
    assert ranks["first_kept"]["srg_black"] == 1
    means = {
        name: [comparison.get_mean(method, name)[0] for method in ("grad_cam", "saliency", "occlusion")]
        for name in PANEL
    }
    for name in PANEL:
        taus = [stats.kendalltau(means[name], means[other]).statistic for other in PANEL if other != name]
        assert ranks["tau_of_removers"][name] == pytest.approx(np.mean(taus)), name
    assert (
        ranks["tau_of_removers"]["srg_white"]
        < ranks["tau_of_removers"]["srg_black"]
        == pytest.approx((4 + stats.kendalltau(means["srg_black"], means["srg_white"]).statistic) / 5)
    )
    table = comparison.joined.table.pivot_table(index="image", columns=["explainer", "metric"], values="value")[
        "random"
    ]
    expected = ((table["srg_black_morf"] + table["srg_black_lerf"]) / 2).mean()
    assert ranks["r_oms"]["srg_black"] == pytest.approx(expected)
    assert ranks["r_oms_low"]["srg_black"] < expected < ranks["r_oms_high"]["srg_black"]
    assert len(agreement.regions) == 2 * len(METHODS)
    assert set(agreement.regions["n_calibration"]) == {20}
    for name in ("agreement", "rank_stability", "sufficient_region"):
        assert set(pd.read_csv(report[0] / f"{name}.csv")["model"]) == {"efficientnet_lite0"}
    page = PageText(report[0] / "report.html")
    assert "grad_cam: the top" in page.text
    assert "Agreement of metrics" in page.text
    row = ranks.loc["srg_black"]
    shown = [f"{row[key]:.2f}" for key in ("tau_mean", "tau_least", "tau_of_removers")]
    assert f"srg blackocclusion100 %{''.join(shown)}{expected:.3f}[" in "".join(page.text.split("\n")).replace("  ", "")


@pytest.mark.slow
def test_without_its_metrics_there_is_no_verdict(tmp_path: Path) -> None:
    few = {"deletion": MetricFact("lower", "AUC", "faithfulness")}
    for method in ("random", "grad_cam"):
        write_run(tmp_path / method, method, {"deletion": np.linspace(0.1, 0.2, 12)}, images=12, facts=few)
    write_run_page(tmp_path)
    assert not (tmp_path / "verdict.csv").exists()
    assert "data-light" not in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_few_images_are_no_evidence(tmp_path: Path) -> None:
    facts = {"srg_black": FACTS["srg_black"], "stability": FACTS["stability"]}
    for position, (method, (gain, _, stable)) in enumerate(METHODS.items()):
        noise = 0.01 * np.random.default_rng(position).normal(size=5)
        write_run(
            tmp_path / method, method, {"srg_black": gain + noise, "stability": stable + noise}, images=5, facts=facts
        )
    judgement = judge_methods(compare_runs(join_runs(find_runs([str(tmp_path)])[0])[0]), read_certificate())
    assert judgement is not None
    lights = {each.line: each for each in judgement.lines["grad_cam"]}
    assert (lights[BEATS].light, "too few images" in lights[BEATS].sentence) == ("none", True)
    assert lights[NETWORK].light == "none"
    assert lights[COST].light != "none"
    assert judgement.recommendation.name is None


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"certificate=.*none.csv is no file"):
        read_certificate(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("model,value\na,1\n")
    with pytest.raises(UserError, match="lacks ground_truth, explainer, metric"):
        read_certificate(tmp_path / "other.csv")
    whole = pd.DataFrame([["a"] * len(COLUMNS)], columns=list(COLUMNS))
    whole.to_csv(tmp_path / "edited.csv", index=False)
    with pytest.raises(UserError, match=r"edited.csv: value 'a' is no number; it was edited or damaged"):
        read_certificate(tmp_path / "edited.csv")


def test_a_control_alone_or_a_table_in_the_terminal(comparison: Comparison) -> None:
    judgement = judge_methods(comparison, read_certificate())
    assert judgement is not None
    written = io.StringIO()
    Console(width=60, file=written).print(build_verdict_table(judgement))
    assert "grad_cam" in written.getvalue()


@pytest.mark.slow
def test_methods_are_judged_in_memory_as_their_metrics_say() -> None:
    explainers = {"random": Random(), "edges": Edges(), "centre": Centre(), "saliency": Saliency()}
    images, classifier = random_images(8, 32), small_cnn()
    targets = classifier(images).argmax(1).detach()
    measured = {
        name: measure_method(classifier, name, explainer, images, targets, n_samples=1)
        for name, explainer in explainers.items()
    }
    judgement = judge_measured(classifier, measured)
    assert judgement is not None
    (lines,) = judgement.lines.values()
    said = {each.line: each for each in lines}
    maps = Saliency()(classifier, images, targets)
    expected = ModelRandomization()
    expected.update(
        classifier,
        images,
        targets,
        maps,
        context=MetricContext(classifier, images, targets, maps, explainer=Saliency()),
    )
    assert said[NETWORK].estimate.mean == pytest.approx(
        float(expected.compute()["model_randomization"].mean()), abs=1e-6
    )
    assert said[COST].estimate.mean == 2
    assert said[PLANTED].light == "none"
    assert said[BEATS].held_against == "random, edges and centre"


def test_one_run_alone_leaves_the_controls_open(sweep: Path, comparison: Comparison) -> None:
    summary = comparison.summary
    lines = judge_alone(
        summary, "grad_cam", "efficientnet_lite0", None, (2.0, 0.1), read_certificate(sweep / "certificate.csv")
    )
    lights = {each.line: each.light for each in lines}
    assert list(lights) == list(LINES)
    assert [lights[line] for line in (NETWORK, BEATS, STABLE, PLANTED, COST)] == [
        "green",
        "none",
        "green",
        "yellow",
        "green",
    ]
    assert "run explainer=random,edges,centre on the same images" in lines[2].sentence
    assert not judge_alone(
        summary[summary["metric"] == "deletion"], "grad_cam", "m", None, (2.0, 0.1), read_certificate()
    )
