"""What loggers hold of whole runs: TensorBoard read back from its event files, CSV from its folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from commands import composed, rows
from seewhy.cli import tasks
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.runs.logged_results import describe_explainer

SESSION = (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0, "histograms": 0})
    found.Reload()
    return found


def scalars(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(tag)]


def start_of(found: EventAccumulator) -> Any:
    content = found.SummaryMetadata(SESSION[0]).plugin_data.content
    return metadata.parse_session_start_info_plugin_data(content)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs with different explainers, as a sweep makes them."""
    made = {}
    for explainer in ("saliency", "integrated_gradients"):
        folder = tmp_path_factory.mktemp(explainer)
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").write_text(f"explainer: {explainer}\n")
        given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={folder}"]
        given += [f"explainer={explainer}", "metric=[deletion,pointing_game]", "data.limit=3", "hydra.mode=RUN"]
        given += ["logger=[tensorboard,csv]"]
        given += ["callbacks.logging.maximum=1", "data.batch_size=2", "metric.deletion.n_steps=10"]
        given += ["explainer.n_steps=4"] if explainer == "integrated_gradients" else []
        tasks.execute(tasks.explain, composed("explain", given))
        made[explainer] = folder
    HydraConfig.instance().cfg = None
    return made


def test_values_of_images_are_a_distribution_in_tensorboard_and_rows_in_csv(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        values = [float(row["value"]) for row in rows(folder / "metrics.csv") if row["metric"] == "deletion"]
        (histogram,) = events(folder / "tensorboard").Histograms("per_image/deletion")
        assert histogram.step == 0
        assert histogram.histogram_value.num == len(values) == 3
        assert histogram.histogram_value.sum == pytest.approx(sum(values), rel=1e-6)
        logged = [row for row in rows(folder / "csv" / "metrics.csv") if row["per_image/deletion"]]
        assert [float(row["per_image/deletion"]) for row in logged] == pytest.approx(values)
        assert [row["step"] for row in logged] == ["0", "1", "2"]


def test_csv_keeps_curves_pictures_tables_and_the_row(runs: dict[str, Path]) -> None:
    folder = runs["saliency"] / "csv"
    points = [(int(row["x"]), float(row["y"])) for row in rows(folder / "curves/deletion/black/probability.csv")]
    drawn = scalars(events(folder.parent / "tensorboard"), "curves/deletion/black/probability")
    assert [x for x, _ in points] == [x for x, _ in drawn]
    assert [y for _, y in points] == pytest.approx([y for _, y in drawn], rel=1e-6)
    for table in ("summary", "predictions", "metrics"):
        assert rows(folder / f"tables/{table}.csv") == rows(folder.parent / f"{table}.csv")
    assert len(list((folder / "images/explanation").glob("*.jpg"))) == 1
    for name, whole in (("contact_sheet", "sheet"), ("curves", "curves")):
        size = (folder / "images" / f"{name}.jpg").stat().st_size
        assert 5_000 < size < min(60_000, (folder.parent / f"{whole}.png").stat().st_size)
    (row,) = rows(folder / "run.csv")
    assert (row["explainer"], row["images"], row["data"]) == ("saliency", "3", "samples (cifar10)")
    (mean,) = (float(row["mean"]) for row in rows(folder.parent / "summary.csv") if row["metric"] == "deletion")
    assert float(row["average/deletion"]) == pytest.approx(mean, rel=1e-4)
    assert "explainer: saliency" in (folder / "config.txt").read_text()


def test_curves_have_the_percentage_of_pixels_as_step(runs: dict[str, Path]) -> None:
    folder = runs["saliency"]
    table = rows(folder / "curves.csv")
    for quantity in ("probability", "logit"):
        drawn = scalars(events(folder / "tensorboard"), f"curves/deletion/black/{quantity}")
        assert [step for step, _ in drawn] == list(range(0, 101, 2))
        for end, share in ((0, "0"), (-1, "1")):
            measured = [float(row[quantity]) for row in table if float(row["share"]) == float(share)]
            assert len(measured) == 3
            assert drawn[end][1] == pytest.approx(sum(measured) / 3, rel=1e-4)


def test_everything_else_has_the_step_of_the_network(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        found = events(folder / "tensorboard")
        others = [tag for tag in found.Tags()["scalars"] if not tag.startswith("curves/")]
        assert {"test/loss", "test/accuracy"} <= set(others)
        assert {step for tag in others for step, _ in scalars(found, tag)} == {0}
        assert "hp_metric" not in others
        pictures = found.Tags()["images"]
        assert pictures[0] == "contact_sheet"
        assert "curves" in pictures
        assert sum(tag.startswith("explanation/") for tag in pictures) == 1
        assert [image.step for tag in pictures for image in found.Images(tag)] == [0] * len(pictures)
        text = found.Tensors("config/text_summary")
        assert [one.step for one in text] == [0]
        assert b"explainer: " in text[0].tensor_proto.string_val[0]


def test_each_run_is_one_row_of_the_hparams_tab(runs: dict[str, Path]) -> None:
    for explainer, folder in runs.items():
        sessions = {path.parent for path in folder.rglob("events*") if SESSION[0] in tags(path.parent)}
        assert sessions == {path.parent for path in folder.rglob("events*")} == {folder / "tensorboard"}
        found = events(folder / "tensorboard")
        assert set(SESSION) <= tags(folder / "tensorboard")
        assert metadata.EXPERIMENT_TAG not in tags(folder / "tensorboard")
        chosen = start_of(found).hparams
        assert start_of(found).group_name == f"{explainer}, cifar_cnn, {folder.parent.name}/{folder.name}"
        assert chosen["explainer"].string_value == explainer
        assert chosen["model"].string_value == "cifar_cnn"
        assert chosen["target"].string_value == "predicted"
        assert (chosen["seed"].string_value, chosen["images"].string_value) == ("0", "3")
        assert chosen["data"].string_value == "samples (cifar10)"
        assert "explainer.n_steps" not in chosen or chosen["explainer.n_steps"].number_value == 4
        assert ("explainer.n_steps" in chosen) == (explainer == "integrated_gradients")


def test_the_row_has_the_means_the_passes_and_the_seconds(runs: dict[str, Path]) -> None:
    folder = runs["integrated_gradients"]
    found = events(folder / "tensorboard")
    record = json.loads((folder / "run.json").read_text())
    (mean,) = [float(row["mean"]) for row in rows(folder / "summary.csv") if row["metric"] == "deletion"]
    expected = {
        "average/deletion": mean,
        "average/accuracy": record["logged"]["test/accuracy"],
        "cost/forward_passes_per_image": record["passes_per_image"]["forward"],
        "cost/backward_passes_per_image": 4.0,
        "cost/attribution_seconds": record["attribution_seconds"],
        "cost/metric_seconds": record["metric_seconds"],
        "test/accuracy": record["logged"]["test/accuracy"],
    }
    for tag, value in expected.items():
        assert scalars(found, tag) == [(0, pytest.approx(value, rel=1e-4))]
    assert "average/completeness_gap_relative" in found.Tags()["scalars"]
    assert "average/completeness_gap" not in found.Tags()["scalars"]  # signs cancel


def test_tensorboard_joins_the_columns_of_both_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    """The table that the HPARAMS tab asks for, from TensorBoard's own code."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    for name, folder in runs.items():
        (tmp_path / name).symlink_to(folder)
    multiplexer = EventMultiplexer({f"{name}/s": str(tmp_path / name / "tensorboard") for name in runs})
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = Context(TBContext(data_provider=provider))
    request = RequestContext()
    known = context.hparams_metadata(request, "")
    table = context.experiment_from_metadata(request, "", True, known, [])
    columns = {info.name: info.differs for info in table.hparam_infos}
    assert columns["explainer"]
    assert not columns["model"]
    assert {"explainer.n_steps", "explainer.reduction"} <= set(columns)
    metrics = {info.name.tag for info in table.metric_infos}
    assert {"average/deletion", "average/completeness_gap_relative", "cost/attribution_seconds"} <= metrics
    assert not any(name.startswith("per_image/") for name in metrics)
    first = [info.name.tag for info in table.metric_infos][:5]  # those that the tab shows unless asked for others
    assert all(name.startswith(("average/", "cost/")) for name in first)


def tags(folder: Path) -> set[str]:
    found = events(folder)
    return {tag for tag in (*SESSION, metadata.EXPERIMENT_TAG) if tag in found.summary_metadata}


def test_parameters_are_words_or_numbers_and_unset_ones_are_left_out() -> None:
    expected = {"explainer": "saliency", "target": "true", "seed": "3", "explainer.reduction": "max"}
    assert describe_explainer(Saliency(seed=3), "true") == expected
    chosen = describe_explainer(IntegratedGradients(n_steps=8, strict=True), 2)
    assert (chosen["explainer.n_steps"], chosen["explainer.strict"]) == (8, "true")


def test_nested_explainers_are_words() -> None:
    from seewhy.explainers.noise_tunnel import NoiseTunnel

    chosen = describe_explainer(NoiseTunnel(explainer=Saliency()), "predicted")
    assert chosen["explainer.explainer"] == "saliency (reduction=max)"


@pytest.mark.slow
def test_a_robustness_run_logs_its_curves_sheets_summary_and_row(tmp_path: Path) -> None:
    given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={tmp_path}"]
    given += ["explainer=saliency", "corruption=[jpeg,fog]", "data.limit=2", "hydra.mode=RUN", "page=false"]
    given += ["callbacks.robustness.workers=0", "logger=[tensorboard,csv]"]
    tasks.execute(tasks.explain, composed("robustness", given))
    HydraConfig.instance().cfg = None
    found = events(tmp_path / "tensorboard")
    summary = {
        (row["corruption"], row["level"], row["quantity"]): row for row in rows(tmp_path / "robustness_summary.csv")
    }
    curve = [float(summary["clean", "0", "accuracy"]["mean"])]
    curve += [float(summary["fog", str(level), "accuracy"]["mean"]) for level in range(1, 6)]
    assert scalars(found, "robustness/accuracy/fog") == [(step, pytest.approx(y)) for step, y in enumerate(curve)]
    assert [image.step for image in found.Images("robustness/sheet")] == [1, 2, 3, 4, 5]
    assert SESSION[0] in tags(tmp_path / "tensorboard")
    (row,) = rows(tmp_path / "csv" / "run.csv")
    assert (row["corruptions"], row["explainer"], row["images"]) == ("jpeg, fog", "saliency", "2")
    corrupted = [float(summary[name, "mean", "saliency_spearman"]["mean"]) for name in ("jpeg", "fog")]
    assert float(row["average/corrupted_saliency_spearman"]) == pytest.approx(sum(corrupted) / 2, rel=1e-4)
    assert float(row["average/clean_accuracy"]) == pytest.approx(curve[0])
    assert rows(tmp_path / "csv" / "tables" / "robustness_summary.csv") == rows(tmp_path / "robustness_summary.csv")
