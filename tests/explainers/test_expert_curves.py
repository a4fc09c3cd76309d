"""The essence of a class by hand, and a whole run with the callback `experts`."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from commands import composed, rows, width
from seewhy.cli import tasks
from seewhy.core.errors import Incompatible
from seewhy.explainers.influence.data_influence import Slice
from seewhy.explainers.influence.experts import (
    CurvePoint,
    UpperNetwork,
    average_curve,
    list_unit_counts,
    measure_curves,
)
from seewhy.models.batched import BatchedEvaluator
from tiny import classifier_of, random_images, small_cnn


def upper_of_three_units() -> tuple[UpperNetwork, Tensor]:
    """logit_c = unit_c for three classes; four images whose units are written out."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False))
    network[2].weight.data = torch.eye(3)
    classifier = classifier_of(network, 4, 3, normalised=False, influence_layer="1")
    units = torch.tensor([[0.5, 0.4, 0.1], [0.3, 0.6, 0.0], [0.2, 0.1, 0.9], [0.7, 0.8, 0.1]])
    images = units[:, :, None, None].expand(-1, -1, 4, 4).clone()
    part = Slice(classifier, None, "mean")
    output, logits = part.compute_activations(BatchedEvaluator(classifier, images[0], 8), images)
    return UpperNetwork(classifier, part, images, output, logits), output


def test_recall_and_false_alarms_by_hand() -> None:
    upper, output = upper_of_three_units()
    labels = torch.tensor([0, 1, 2, 0])
    curve = list(measure_curves(upper, output, labels, {0: torch.tensor([0, 1, 2])}, block=3))
    experts = {one.units: (one.recall, one.false_alarms) for one in curve if one.order == "experts"}
    assert experts == {1: (1.0, 1.0), 2: (0.5, 0.5), 3: (0.5, 0.0)}
    assert [one.units for one in curve if one.order == "random"] == list_unit_counts(3) == [1, 2, 3]


def test_the_mean_over_the_classes_leaves_out_what_is_not_defined() -> None:
    curve = [
        CurvePoint(0, 1, "experts", 0.5, 0.2),
        CurvePoint(1, 1, "experts", 1.0, torch.nan),
        CurvePoint(0, 1, "random", 0.0, 0.0),
    ]
    assert average_curve(curve, "experts") == [(1, 0.75, pytest.approx(0.2))]


def test_channels_are_kept_as_a_whole() -> None:
    part = Slice(small_cnn(), "relu2", "mean")
    values = torch.rand(2, 16, 5, 5)
    kept = part.keep_units(values, torch.tensor([3, 9]), (32, 32))
    assert torch.equal(kept[:, [3, 9]], values[:, [3, 9]])
    assert int(kept.flatten(2).any(2).sum()) == 4


class Bypass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.inner(flat) + 5 * flat[:, :3]


def test_a_layer_that_something_passes_by_is_refused() -> None:
    torch.manual_seed(0)
    classifier, images = classifier_of(Bypass(), 2, 3, influence_layer="inner"), random_images(4, 2)
    part = Slice(classifier, None, "mean")
    output, logits = part.compute_activations(BatchedEvaluator(classifier, images[0], 8), images)
    with pytest.raises(Incompatible, match="does not cut the network in two"):
        UpperNetwork(classifier, part, images, output, logits)
    assert not any(module._forward_hooks for module in classifier.modules())


@pytest.mark.slow
def test_a_run_uses_its_own_influences(tmp_path: Path) -> None:
    given = ["model=cifar_cnn", "model.weights=random", "trainer=cpu", "probe_batch_size=16", f"output={tmp_path}"]
    given += ["explainer=expert", "explainer.distribution=class", "callbacks=experts", "hydra.mode=RUN", "target=true"]
    given += ["explainer.influences=${output}/influences.safetensors", "callbacks.figures.views=[point_cloud]"]
    tasks.execute(tasks.explain, composed("explain", [*given, "data.limit=10", "callbacks.attribution.limit=2"]))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "completed"
    facts = record["experts"]
    assert (facts["layer"], facts["units"], facts["influences_from"]) == ("relu4", 84, "test")
    classes = {row["label"] for row in rows(tmp_path / "predictions.csv")}
    ranking = rows(tmp_path / "experts.csv")
    assert len(ranking) == len(classes) * 2 * 10
    expert = next(row for row in rows(tmp_path / "metrics.csv") if row["metric"] == "influence")
    own = [row["influence"] for row in ranking if row["class"] == "airplane" and row["distribution"] == "class"]
    assert float(expert["value"]) in [pytest.approx(float(value), rel=1e-4) for value in own]
    curve = rows(tmp_path / "experts_curve.csv")
    assert {row["class"] for row in curve} == classes
    assert {row["units_kept"] for row in curve} == {"1", "2", "4", "8", "16", "32", "64", "84"}
    assert width(tmp_path / "figures" / "experts" / "curve.png") > 800
