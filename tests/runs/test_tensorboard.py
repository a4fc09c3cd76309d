"""What TensorBoard shows of runs, read back from the event files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from commands import composed
from seewhy.cli import tasks
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.runs.tensorboard import explainer_parameters

SESSION = (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
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
        given += ["callbacks.tensorboard.maximum=1", "data.batch_size=2", "metric.deletion.n_steps=10"]
        given += ["explainer.n_steps=4"] if explainer == "integrated_gradients" else []
        tasks.execute(tasks.explain, composed("explain", given))
        made[explainer] = folder
    HydraConfig.instance().cfg = None
    return made


def test_numbers_of_images_have_their_place_as_step(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        found = events(folder / "tensorboard")
        with (folder / "metrics.csv").open() as file:
            values = [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "deletion"]
        assert scalars(found, "per_image/deletion") == [(step, pytest.approx(v)) for step, v in enumerate(values)]


def test_curves_have_the_percentage_of_pixels_as_step(runs: dict[str, Path]) -> None:
    folder = runs["saliency"]
    with (folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    for quantity in ("probability", "logit"):
        drawn = scalars(events(folder / "tensorboard"), f"curves/deletion/black/{quantity}")
        assert [step for step, _ in drawn] == list(range(0, 101, 2))
        for end, share in ((0, "0"), (-1, "1")):
            measured = [float(row[quantity]) for row in rows if float(row["share"]) == float(share)]
            assert len(measured) == 3
            assert drawn[end][1] == pytest.approx(sum(measured) / 3, rel=1e-4)


def test_everything_else_has_the_step_of_the_network(runs: dict[str, Path]) -> None:
    for folder in runs.values():
        found = events(folder / "tensorboard")
        others = [tag for tag in found.Tags()["scalars"] if not tag.startswith(("per_image/", "curves/"))]
        assert {"test/loss", "test/accuracy"} <= set(others)
        assert {step for tag in others for step, _ in scalars(found, tag)} == {0}
        assert "hp_metric" not in others
        pictures = found.Tags()["images"]
        assert {"sheet", "curves"} <= set(pictures)
        assert sum(tag.startswith("explanation/") for tag in pictures) == 1
        assert [image.step for tag in pictures for image in found.Images(tag)] == [0] * len(pictures)
        text = found.Tensors("config/text_summary")
        assert [one.step for one in text] == [0]
        assert b"explainer: " in text[0].tensor_proto.string_val[0]


def test_each_run_is_one_row_of_the_hparams_tab(runs: dict[str, Path]) -> None:
    for explainer, folder in runs.items():
        sessions = {path.parent for path in folder.rglob("events*") if SESSION[0] in tags(path.parent)}
        assert sessions == {folder / "tensorboard" / "summary"}
        found = events(folder / "tensorboard" / "summary")
        assert set(SESSION) <= tags(folder / "tensorboard" / "summary")
        assert metadata.EXPERIMENT_TAG not in tags(folder / "tensorboard" / "summary")
        chosen = start_of(found).hparams
        assert chosen["explainer"].string_value == explainer
        assert chosen["model"].string_value == "cifar_cnn"
        assert chosen["target"].string_value == "predicted"
        assert chosen["seed"].number_value == 0
        assert "explainer.n_steps" not in chosen or chosen["explainer.n_steps"].number_value == 4
        assert ("explainer.n_steps" in chosen) == (explainer == "integrated_gradients")


def test_the_row_has_the_means_the_passes_and_the_seconds(runs: dict[str, Path]) -> None:
    folder = runs["integrated_gradients"]
    found = events(folder / "tensorboard" / "summary")
    record = json.loads((folder / "run.json").read_text())
    with (folder / "summary.csv").open() as file:
        (mean,) = [float(row["mean"]) for row in csv.DictReader(file) if row["metric"] == "deletion"]
    expected = {
        "mean/deletion": mean,
        "passes_per_image/forward": record["passes_per_image"]["forward"],
        "passes_per_image/backward": 4.0,
        "seconds/attribution": record["attribution_seconds"],
        "seconds/metrics": record["metric_seconds"],
        "images": 3,
        "test/accuracy": record["logged"]["test/accuracy"],
    }
    for tag, value in expected.items():
        assert scalars(found, tag) == [(0, pytest.approx(value, rel=1e-4))]
    assert not any(tag.startswith(("per_image/", "curves/")) for tag in found.Tags()["scalars"])


def test_tensorboard_joins_the_columns_of_both_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    """The table that the HPARAMS tab asks for, from TensorBoard's own code."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    for name, folder in runs.items():
        (tmp_path / name).symlink_to(folder)
    multiplexer = EventMultiplexer({f"{name}/s": str(tmp_path / name / "tensorboard" / "summary") for name in runs})
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
    assert {"mean/deletion", "mean/completeness_gap", "passes_per_image/forward", "seconds/attribution"} <= metrics
    assert not any(name.startswith(("per_image/", "curves/")) for name in metrics)


def tags(folder: Path) -> set[str]:
    found = events(folder)
    return {tag for tag in (*SESSION, metadata.EXPERIMENT_TAG) if tag in found.summary_metadata}


def test_parameters_are_words_or_numbers_and_unset_ones_are_left_out() -> None:
    assert explainer_parameters(Saliency(seed=3)) == {"explainer": "saliency", "seed": 3, "explainer.reduction": "max"}
    chosen = explainer_parameters(IntegratedGradients(n_steps=8, strict=True))
    assert (chosen["explainer.n_steps"], chosen["explainer.strict"]) == (8, "true")


def test_nested_explainers_are_words() -> None:
    from seewhy.explainers.noise_tunnel import NoiseTunnel

    chosen = explainer_parameters(NoiseTunnel(explainer=Saliency()))
    assert chosen["explainer.explainer"] == "saliency (reduction=max)"
