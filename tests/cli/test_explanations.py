"""Several networks and methods in one call, and what can be done with the results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from commands import rows
from seewhy import Explanations, UserError, explain
from seewhy.data.folder import SAMPLES
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import ImageMetric, MetricContext
from seewhy.plots.targets import draw_grid_of_targets
from seewhy.report.write import write_report
from tiny import linear_classifier

CIFAR = SAMPLES / "cifar10"
FILES = [CIFAR / name for name in ("airplane_0003.png", "cat_0000.png", "bird_0025.png")]
QUICK: dict[str, Any] = {"probe_batch_size": 16, "overrides": ["trainer=cpu"]}


@dataclass(frozen=True, kw_only=True)
class Brightness(Explainer):
    """A method of somebody else's."""

    power: float = 1.0

    def _attribute(self, evaluator: Any, images: torch.Tensor, targets: Any) -> AttributionResult:
        return AttributionResult(images.mean(1) ** self.power)


class Peak(ImageMetric):
    """A metric of somebody else's."""

    higher_is_better = True
    construct = "complexity"

    @property
    def variant(self) -> str:
        return "largest value"

    def measure(self, context: MetricContext) -> dict[str, torch.Tensor]:
        return {"score": context.attributions.amax((1, 2))}


class Unnamed(Peak):
    """Returns something else than it must."""

    def measure(self, context: MetricContext) -> Any:
        return context.attributions.amax((1, 2))


class Unfinished(ImageMetric):
    """Does not say what it measures."""

    variant = "none"

    def measure(self, context: MetricContext) -> dict[str, torch.Tensor]:
        return {}


@pytest.fixture(scope="module")
def several() -> Explanations:
    return explain(
        ["cifar_cnn", "vgg16_cifar"],
        FILES,
        ["saliency", Brightness(power=2.0)],
        metrics=["complexity", Peak()],
        **QUICK,
    )


def test_the_order_is_networks_methods_images(several: Explanations) -> None:
    assert [(each.classifier.split()[0], each.explainer, each.name) for each in several] == [
        (network, method, file.stem)
        for network in ("cifar_cnn", "vgg16_cifar")
        for method in ("saliency", "brightness")
        for file in FILES
    ]


@pytest.mark.slow
def test_each_is_what_a_call_of_its_own_gives(several: Explanations) -> None:
    for start, (network, method) in enumerate(
        (network, method) for network in ("cifar_cnn", "vgg16_cifar") for method in ("saliency", Brightness(power=2.0))
    ):
        alone = explain(network, FILES, method, metrics=["complexity"], **QUICK)
        for one, other in zip(alone, several[3 * start : 3 * start + 3], strict=True):
            assert torch.equal(one.attribution, other.attribution)
            assert one.prediction == other.prediction
            assert one.metrics["complexity"] == other.metrics["complexity"]


def test_metric_objects_measure_beside_named_ones(several: Explanations) -> None:
    for each in several:
        assert each.metrics["peak"] == float(each.attribution.max())
    alone = explain("cifar_cnn", FILES[0], Brightness(), metrics=Peak(), **QUICK)
    assert alone[0].metrics == {"peak": float(alone[0].attribution.max())}


def test_the_table_names_network_method_and_parameters(several: Explanations) -> None:
    table = several.table()
    named = ["image", "model", "explainer", "parameters", "label", "predicted", "probability"]
    assert list(table.columns[:10]) == [*named, "target", "target_policy", "target_probability"]
    first, prediction, target = table.iloc[0], several[0].prediction, several[0].target
    assert list(first[named[4:]]) == [prediction.label, prediction.name, prediction.probability]
    assert list(first[["target", "target_policy", "target_probability"]]) == [
        prediction.name,
        "predicted",
        target.probability,
    ]
    assert table.groupby(["model", "explainer"]).size().to_dict() == {
        (network, method): 3 for network in ("cifar_cnn", "vgg16_cifar") for method in ("saliency", "brightness")
    }
    assert set(table["parameters"]) == {"reduction=max", "power=2.0"}
    assert table["peak"].notna().all()


def test_slices_sums_and_selections_stay_explanations(several: Explanations) -> None:
    first, second = several[:3], several[9:]
    chosen = several.filter(lambda each: each.name == "cat_0000")
    copied = several.copy()
    copied += first
    for made, count in ((first, 3), (first + second, 6), (sum([first, second]), 6), (chosen, 4), (copied, 15)):
        assert isinstance(made, Explanations)
        assert len(made) == count == len(made.table())
        assert made.figure().mode == "RGB"
    assert len(several) == 12
    assert several[-1].name == "bird_0025"
    assert isinstance(several[::6], Explanations)


@pytest.mark.slow
def test_what_was_skipped_stays_with_the_results(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    Image.open(FILES[0]).save(tmp_path / "good.png")
    explained = explain("cifar_cnn", tmp_path, ["edges", "saliency"], **QUICK)
    for made in (explained, explained[:1], explained + explained, explained.filter(bool)):
        assert [Path(each.path).name for each in made.skipped] == ["bad.png"]


def test_one_picture_shows_images_by_network_and_method(several: Explanations) -> None:
    wide = several.figure().width
    assert wide == 2 * 20 + 5 * (160 + 18) - 18
    assert several[:3].figure().size != several[:6].figure().size
    from seewhy.report.explanations import _name_columns

    names = _name_columns([several[0], several[3], several[6], several[9]])
    assert names == [
        f"{network}, {method}" for network in ("cifar_cnn", "vgg16_cifar") for method in ("saliency", "brightness")
    ]
    other = explain("cifar_cnn", FILES, Brightness(power=3.0), **QUICK)
    assert _name_columns([several[3], other[0]]) == ["power=2.0", "power=3.0"]


@pytest.mark.slow
def test_saved_runs_are_those_of_the_command(several: Explanations, tmp_path: Path) -> None:
    folder = several.save(tmp_path / "saved")
    folders = sorted(path.name for path in folder.iterdir())
    assert folders == [
        "0_cifar_cnn_saliency",
        "1_cifar_cnn_brightness",
        "2_vgg16_cifar_saliency",
        "3_vgg16_cifar_brightness",
    ]
    run = folder / folders[0]
    stored = np.load(run / "attributions" / "cat_0000.npy")
    assert np.array_equal(stored, several[1].attribution.numpy())
    assert (run / "figures" / "cat_0000.png").read_bytes() == several[1]._repr_png_()
    values = {(row["image"], row["metric"]): float(row["value"]) for row in rows(run / "metrics.csv")}
    assert values["cat_0000", "complexity"] == several[1].metrics["complexity"]
    record = json.loads((run / "run.json").read_text())
    assert (record["images_explained"], record["passes_per_image"]) == (3, {"forward": 1.0, "backward": 1.0})
    report = tmp_path / "report"
    described = write_report([str(folder)], report, page=True)
    assert described["models"] == ["cifar_cnn", "vgg16_cifar"]
    assert {"report.html", "results.csv", "leaderboard.csv"} <= {path.name for path in report.iterdir()}
    with pytest.raises(UserError, match="saved holds something already"):
        several.save(folder)
    with pytest.raises(UserError, match="no explanations to save"):
        Explanations().save(tmp_path / "none")


def test_a_selection_of_one_method_is_one_run(several: Explanations, tmp_path: Path) -> None:
    folder = several[:2].save(tmp_path / "one")
    assert (folder / "run.json").is_file()
    assert [row["image"] for row in rows(folder / "predictions.csv")] == ["airplane_0003", "cat_0000"]
    record = json.loads((folder / "run.json").read_text())
    assert record["passes_per_image"] == {"forward": 1.0, "backward": 1.0}
    plan = json.loads((folder / "journal" / "plan.json").read_text())
    assert (plan["images"], plan["batches"], plan["shard"]) == (2, 1, "1/1")


def test_targets_of_an_image_are_one_group_unless_they_are_told_apart() -> None:
    explained = explain("cifar_cnn", FILES[:2], "saliency", ["predicted", "runner_up"], **QUICK)
    assert [len(group) for group in explained._group()] == [2, 2]
    assert [len(group) for group in explained._group(by_target=False)] == [4]
    assert explained._draw().words == draw_grid_of_targets(explained).words


@pytest.mark.slow
def test_the_page_is_one_file(several: Explanations, tmp_path: Path) -> None:
    path = several.report(tmp_path / "pages" / "mine.html")
    page = path.read_text()
    assert "vgg16_cifar" in page and "brightness" in page
    with pytest.raises(UserError, match="overwrite=True"):
        several.report(path)
    assert several[:3].report(path, overwrite=True) == path
    assert "vgg16_cifar" not in path.read_text()


@pytest.mark.slow
def test_calls_on_other_images_are_joined_into_one_run(tmp_path: Path) -> None:
    one, other = (explain("cifar_cnn", file, "saliency", **QUICK) for file in FILES[:2])
    joined = (one + other + one).save(tmp_path / "joined")
    assert [row["image"] for row in rows(joined / "predictions.csv")] == ["airplane_0003", "cat_0000"]
    arrays = [explain("cifar_cnn", np.asarray(Image.open(file)), "saliency", **QUICK) for file in FILES[:2]]
    apart = (arrays[0] + arrays[1]).save(tmp_path / "apart")
    assert len(list(apart.iterdir())) == 2, "both images are called image_000"


@pytest.mark.slow
def test_a_loader_with_labels_through_networks_of_ones_own() -> None:
    first, weights = linear_classifier(size=8, classes=3)
    second, _ = linear_classifier(size=8, classes=3)
    images, labels = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    loader = DataLoader(TensorDataset(images, labels), batch_size=2)
    explained = explain([first, second], loader, Saliency(), target="true", probe_batch_size=4)
    assert [each.target.index for each in explained] == 2 * labels.tolist()
    for each, label in zip(explained, labels.tolist(), strict=False):
        assert torch.equal(each.image, images[int(each.name[-3:])])
        torch.testing.assert_close(each.attribution, weights[label].abs().amax(0))


def test_labels_of_files_are_a_list_or_a_table(tmp_path: Path) -> None:
    stated = explain("cifar_cnn", FILES, "edges", labels=["ship", None, 2], **QUICK)
    assert [each.prediction.label for each in stated] == ["ship", "", "bird"]
    (tmp_path / "truth.csv").write_text("path,label\ncat_0000.png,cat\n")
    read = explain("cifar_cnn", CIFAR / "cat_0000.png", "edges", labels=tmp_path / "truth.csv", **QUICK)
    assert read[0].prediction.label == "cat"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (
            ("cifar_cnn", FILES, Saliency),
            {},
            r"explainer=Saliency \(a class\): give a name of configs/explainer, or Saliency\(\)",
        ),
        (("cifar_cnn", FILES, [Saliency(), 3]), {}, "explainer=int: give a name"),
        (("cifar_cnn", FILES, []), {}, r"explainer=\[\] names none"),
        (([], FILES), {}, r"model=\[\] names none"),
        ((3, FILES), {}, "model=int: give a name, a torch.nn.Module"),
        (("cifar_cnn", FILES, "saliency", "predicted", [Peak]), {}, r"metrics=Peak \(a class\): .*Peak\(\)"),
        (("cifar_cnn", FILES, "saliency", "predicted", [Peak(), Peak()]), {}, "metrics holds peak twice"),
        (
            ("cifar_cnn", FILES, "saliency", "predicted", Unfinished()),
            {},
            "unfinished does not say what it measures",
        ),
        (("cifar_cnn", FILES, "saliency", "predicted", Unnamed()), {}, r"Unnamed\.measure must return .*, not Tensor"),
        (("cifar_cnn", FILES, ["saliency", "rise"]), {"n_mask": 5}, r"explainer\.n_mask"),
        (("cifar_cnn", FILES, ["rise", "saliency"]), {"n_mask": 5}, r"explainer\.n_mask.*n_masks"),
        (("cifar_cnn", FILES), {"labels": [0, 1]}, "labels has 2 values for 3 images"),
        (("cifar_cnn", FILES), {"labels": "nowhere.csv"}, "data.labels=nowhere.csv: there is no such file"),
        (("cifar_cnn", "https://example.org/a.jpg"), {}, "nothing is fetched from the network"),
        (
            (["cifar_cnn", "vgg16_cifar"], DataLoader(TensorDataset(torch.rand(2, 3, 32, 32)), shuffle=True)),
            {},
            "shuffle=False",
        ),
    ],
)
def test_a_mistake_names_the_value_and_the_fix(arguments: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        explain(*arguments, **{**QUICK, **options})


def test_each_method_takes_the_parameters_that_it_has() -> None:
    explained = explain(
        "cifar_cnn", FILES[0], ["saliency", "integrated_gradients", "rise"], n_masks=8, n_steps=4, **QUICK
    )
    assert [("n_masks=8" in each.parameters, "n_steps=4" in each.parameters) for each in explained] == [
        (False, False),
        (False, True),
        (True, False),
    ]
