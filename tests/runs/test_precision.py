"""What bfloat16 changes: the comparison by hand, and runs in it beside the same runs in float32."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from commands import CONFIGS, Runner, composed, rows
from seewhy.cli.instantiate import build_object
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.precision import compute_in_full, doubt_speed, find_narrow_type
from seewhy.core.types import Explanation, Prediction, Target
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel
from seewhy.metrics.base import MetricContext
from seewhy.metrics.faithfulness.average_drop import Completeness
from seewhy.metrics.similarity import compare_maps
from seewhy.models.batched import name_measurement
from seewhy.runs.precision import (
    compare_precisions,
    describe_precision,
    measure_top_overlap,
    read_compared,
    summarise_precision,
    warn_of_precision,
)
from tiny import random_images, small_cnn

BFLOAT16 = torch.bfloat16


def explained(attribution: Tensor, name: str = "cat", **metrics: float) -> Explanation:
    image = torch.zeros(3, *attribution.shape)
    target = Target(0, "cat", 0.5, "predicted")
    prediction = Prediction(0, "cat", 0.5, (("cat", 0.5),))
    return Explanation(
        name, "p.png", image, prediction, target, attribution, "saliency", "", True, "net", metrics=metrics
    )


def ramp(*places: int) -> Tensor:
    """The values 0 to 19, with some moved above all others."""
    values = torch.arange(20.0)
    for rank, place in enumerate(places):
        values[place] = 100 + rank
    return values.view(4, 5)


def test_maps_are_compared_by_the_order_of_their_values_and_by_their_top() -> None:
    """Of 20 pixels the top tenth is 2: 18 and 19 of the ramp, of which the other map has one, none or both."""
    narrow = [ramp(), ramp(19, 0), ramp(0, 1), -ramp()]
    values = compare_precisions([explained(each) for each in narrow], [explained(ramp(), deletion=0.25)] * 4)
    assert [each["top_overlap"] for each in values] == [1, 0.5, 0, 0]
    assert values[0]["rank_correlation"] == pytest.approx(1) and values[3]["rank_correlation"] == pytest.approx(-1)
    # place 0 goes from rank 1 to 20 and the other 19 fall by one: 1 - 6 (19^2 + 19) / (20 (20^2 - 1))
    assert values[1]["rank_correlation"] == pytest.approx(1 - 6 * (19**2 + 19) / (20 * 399))
    assert all(each["deletion"] == 0.25 for each in values)


def test_a_map_that_is_broken_in_the_shorter_type_alone_agrees_in_nothing() -> None:
    broken = ramp()
    broken[0, 0] = torch.nan
    (alone,) = compare_precisions([explained(broken)], [explained(ramp())])
    assert alone == {"rank_correlation": 0, "top_overlap": 0}
    (both,) = compare_precisions([explained(broken)], [explained(broken)])
    assert math.isnan(both["rank_correlation"]) and math.isnan(both["top_overlap"])


def test_of_a_map_without_an_order_there_is_no_top() -> None:
    assert measure_top_overlap(torch.ones(1, 4, 5), ramp()[None]).isnan().all()


def test_the_summary_is_means_least_values_and_changes() -> None:
    narrow = [explained(ramp(), "a", deletion=0.3, gap=-2.0), explained(ramp(), "b", deletion=0.1, gap=math.nan)]
    full = [{"rank_correlation": 1.0, "top_overlap": 0.5, "deletion": 0.2, "gap": -1.0}]
    full += [{"rank_correlation": 0.9, "top_overlap": 1.0, "deletion": 0.2, "gap": 0.5}]
    pairs = zip(narrow, full, strict=True)
    summary = summarise_precision([replace(each, float32=values) for each, values in pairs], "bfloat16")
    assert summary["type"] == "bfloat16" and summary["explanations"] == 2
    assert summary["rank_correlation"] == pytest.approx(0.95) and summary["rank_correlation_least"] == 0.9
    assert summary["top_overlap"] == 0.75 and summary["top_overlap_least"] == 0.5
    deletion = {"bfloat16": 0.2, "float32": 0.2, "change": 0.1, "agreement": 0.5}
    assert summary["metrics"]["deletion"] == pytest.approx(deletion)
    assert summary["metrics"]["gap"] == pytest.approx({"bfloat16": -2, "float32": -1, "change": 1, "agreement": 0})
    assert "rank correlation 0.950 (least 0.900)" in describe_precision(summary)
    warning = warn_of_precision(summary)
    assert "rank correlation 0.95, top 10 % shared 0.75, deletion 0.50, gap 0.00" in warning
    assert json.loads(json.dumps(summary)) == summary


def test_a_change_of_nothing_is_full_agreement_also_of_zeros() -> None:
    same = [
        replace(explained(ramp(), deletion=0.0), float32={"rank_correlation": 1, "top_overlap": 1, "deletion": 0.0})
    ]
    summary = summarise_precision(same, "bfloat16")
    assert summary["metrics"]["deletion"]["agreement"] == 1 and warn_of_precision(summary) == ""


def test_only_the_first_explanations_are_read() -> None:
    def endless() -> object:
        yield replace(explained(ramp()), float32={})
        yield explained(ramp())
        raise AssertionError("more was read")

    assert len(read_compared(endless())) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capabilities", "slow"),
    [({"avx2": True}, True), ({"avx512_bf16": True}, False), ({"amx_bf16": True}, False), ({}, False)],
)
def test_processors_without_instructions_for_it_are_doubted(capabilities: dict[str, bool], slow: bool) -> None:
    assert bool(doubt_speed("cpu", capabilities)) == slow
    assert not slow or "precision=bfloat16" in doubt_speed("cpu", capabilities)


@pytest.mark.parametrize("explainer", [Lrp(), DeepLift(), NoiseTunnel(explainer=DeepLift(), n_samples=2)])
def test_methods_that_divide_small_differences_are_refused(explainer: Lrp | DeepLift | NoiseTunnel) -> None:
    classifier, images = small_cnn().float(), random_images(1, 32).float()
    with (
        torch.autocast("cpu", BFLOAT16),
        pytest.raises(Incompatible, match=r"not computed in bfloat16: .*precision=float32"),
    ):
        explainer.attribute(classifier, images, torch.tensor([1]))


def test_completeness_is_measured_in_float32_whatever_the_others_computed() -> None:
    classifier, images = small_cnn().float(), random_images(2, 32).float()
    maps, targets = images.mean(1), torch.tensor([1, 2])
    found = []
    for narrow in (False, True):
        with torch.autocast("cpu", BFLOAT16, enabled=narrow):
            context = MetricContext(classifier, images, targets, maps)
            with classifier.frozen():
                assert context.logits.dtype == torch.float32
            metric = Completeness()
            found.append(metric(classifier, images, targets, maps, context=context)["completeness"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_the_type_is_that_of_the_innermost_block_and_names_a_measurement() -> None:
    classifier, image = small_cnn().float(), random_images(1, 32)[0].float()
    assert find_narrow_type("cpu") is None and " float32 " in name_measurement(classifier, image, True)
    with torch.autocast("cpu", BFLOAT16):
        assert find_narrow_type("cpu") == BFLOAT16
        with classifier.frozen():
            assert find_narrow_type("cpu") is None, "autocast is for the network alone"
            assert " torch.bfloat16 " in name_measurement(classifier, image, True)
            with classifier.frozen():
                assert classifier.narrow == BFLOAT16
            with classifier.computing_in_full():
                assert classifier.narrow is None
        assert classifier.narrow is None
        with compute_in_full("cpu"), classifier.frozen():
            assert find_narrow_type("cpu") is None and classifier.narrow is None


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "explainer").glob("*.yaml")))
def test_every_method_runs_in_bfloat16_or_says_why_not(name: str) -> None:
    """Nothing but the network computes in it. Scores of random weights differ by less than its rounding: gradients agree."""
    settings = {"rise": ["n_masks=40"], "hsic": ["n_masks=40"], "captum": ["method=Saliency"]}.get(name, [])
    cfg = composed("explain", [f"explainer={name}", *(f"explainer.{each}" for each in settings)])
    explainer = build_object(cfg.explainer, "explainer")
    classifier, images, targets = small_cnn().float(), random_images(1, 32).float(), torch.tensor([1])
    try:
        full = explainer.attribute(classifier, images, targets).maps
    except Incompatible:
        return
    with torch.autocast("cpu", BFLOAT16):
        try:
            found = explainer.attribute(classifier, images, targets).maps
        except Incompatible as reason:
            assert "precision=float32" in str(reason) and explainer.needs_float32
            return
    assert found.dtype == torch.float32 and bool(found.isfinite().all())
    if name in ("edges", "random", "centre"):
        assert torch.equal(found, full), "no pass, no change"
    elif name in ("saliency", "input_x_gradient", "integrated_gradients", "blur_ig", "guided_backprop", "smooth_grad"):
        assert float(compare_maps(full, found)) > 0.8


FEW = ("data.limit=5", "data.batch_size=2", "metric=[deletion,completeness]", "callbacks=numbers")


@pytest.mark.slow
def test_a_run_reports_what_it_changes_of_its_first_images(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("explainer=input_x_gradient", *FEW)
    full = runner(*common, name="full")
    capsys.readouterr()
    half = runner(*common, "precision=bfloat16", "callbacks.precision.images=3", name="half")
    printed = " ".join(capsys.readouterr().out.split())
    assert (full / "predictions.csv").read_bytes() == (half / "predictions.csv").read_bytes(), "targets are the same"
    record = json.loads((half / "run.json").read_text())["precision"]
    assert (record["type"], record["explanations"]) == ("bfloat16", 3)
    assert 0.9 < record["rank_correlation_least"] <= record["rank_correlation"] < 1
    assert "precision" not in json.loads((full / "run.json").read_text()) and not (full / "precision.csv").exists()
    table = rows(half / "precision.csv")
    names = [row["image"] for row in rows(half / "predictions.csv")][:3]
    assert list(dict.fromkeys(row["image"] for row in table)) == names
    values = {
        folder: {(row["image"], row["metric"]): row["value"] for row in rows(folder / "metrics.csv")}
        for folder in (full, half)
    }
    for row in table:
        if row["quantity"] in ("rank_correlation", "top_overlap"):
            assert row["float32"] == "1.0"
            continue
        key = row["image"], row["quantity"]
        assert row["value"] == values[half][key]
        assert float(row["float32"]) == pytest.approx(float(values[full][key]), abs=1e-5)
    assert "bfloat16 beside float32 on the first 3 explanations: rank correlation" in printed


@pytest.mark.slow
def test_a_metric_with_a_bound_on_its_passes_is_compared_where_it_was_measured(runner: Runner) -> None:
    bound = ("metric=[stability,sparseness]", "+metric.stability.passes=1", "metric.stability.n_samples=1")
    given = ("explainer=saliency", "data.limit=12", "data.batch_size=4", "callbacks=numbers", "precision=bfloat16")
    folder = runner(*given, *bound, "callbacks.precision.images=4")
    names = [row["image"] for row in rows(folder / "predictions.csv")][:4]
    measured = {row["image"] for row in rows(folder / "metrics.csv") if row["metric"] == "stability"}
    compared = [row["image"] for row in rows(folder / "precision.csv") if row["quantity"] == "stability"]
    assert compared == [name for name in names if name in measured]
    assert 0 < len(compared) < 4, "on ten of twelve images"
    assert sum(row["quantity"] == "sparseness" for row in rows(folder / "precision.csv")) == 4
    agreement = json.loads((folder / "run.json").read_text())["precision"]["metrics"]["stability"]
    assert agreement["float32"] == pytest.approx(agreement["bfloat16"], abs=0.2)


@pytest.mark.slow
def test_resumed_and_cut_short_it_is_the_same_comparison(runner: Runner) -> None:
    common = ("explainer=saliency", *FEW, "precision=bfloat16", "callbacks.precision.images=3")
    whole = runner(*common, name="whole")
    folder = runner(*common, name="again")
    (folder / "journal" / "00000001.json").unlink()  # its second batch is computed again
    runner(*common, name="again")
    records = [json.loads((each / "run.json").read_text())["precision"] for each in (whole, folder)]
    assert records[0] == records[1] and records[0]["explanations"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("precision=bfloat16", "explainer=lrp"), "lrp is not computed in bfloat16"),
        (("precision=bfloat16", "trainer.precision=64-true"), "contradict each other"),
        (("trainer.precision=bf16-mixed", "explainer=deep_lift"), "deep_lift is not computed in bfloat16"),
    ],
)
def test_what_needs_float32_is_refused_before_any_image(
    runner: Runner, given: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, UserError)) as stop:
        runner(*given, "data.limit=1", "callbacks=numbers")
    assert isinstance(stop.value, UserError) or stop.value.code == 2
    printed = capsys.readouterr()
    assert words in " ".join(f"{printed.err} {printed.out} {stop.value}".split())
