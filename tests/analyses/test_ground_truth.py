"""Judging where the truth is known: closed forms, perfect and broken explainers, the proof of use, the certificate."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from scipy import stats
from torch import nn

from seewhy.analyses.ground_truth import run
from seewhy.analyses.ground_truth.base import GroundTruth, Planted
from seewhy.analyses.ground_truth.certificate import (
    SCORES,
    Cell,
    build_certificate,
    describe_finding,
    read_certificate,
    write_page,
    write_table,
)
from seewhy.analyses.ground_truth.judge import build_controls, fit_explainer, judge_maps, name_columns
from seewhy.analyses.ground_truth.networks import (
    Proof,
    find_fault,
    prepare_explained,
    prove_use,
    select_explained,
    train_network,
)
from seewhy.analyses.ground_truth.pictures import DisconnectedCells, PictureGrid
from seewhy.analyses.ground_truth.run import Study, run_study
from seewhy.analyses.ground_truth.tetrominoes import PLACES, Tetrominoes, draw_patterns
from seewhy.core.errors import Incompatible
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import ExpectedGradients
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel
from seewhy.models.architectures import Own
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.build import build_classifier
from seewhy.models.cifar_networks import DenseNetwork
from seewhy.models.classifier import AutoOptimization, Classifier
from tiny import classifier_of, small_cnn

LINEAR = Tetrominoes(background="correlated", alpha=0.2, smoothing=0.6, scale="all", steps=30)
WHITE = Tetrominoes(background="white", alpha=0.5, scale="all", steps=30)


def best_classifier(kind: Tetrominoes) -> Classifier:
    """The best linear network of a linear task on 8x8 pixels, in double precision: score 1 less score 0 is the log odds."""
    layer = nn.Linear(3 * 64, 2)
    weights = torch.from_numpy(kind.compute_best_weights()) / 3
    with torch.no_grad():
        layer.double().weight.copy_(torch.stack([-weights / 2, weights / 2])[:, None].expand(-1, 3, -1, -1).flatten(1))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return classifier_of(nn.Sequential(nn.Flatten(), layer), 8, 2, normalised=False)


def judge(classifier: Classifier, explainer: Explainer, kind: GroundTruth, count: int = 40) -> dict[str, float]:
    """Mean scores of an explainer."""
    planted = kind.plant("explain", range(count), (3, 8, 8))
    values = judge_maps(classifier, explainer, kind, planted)
    return {name: float(np.mean(values[name])) for name in name_columns()}


@dataclass(frozen=True, kw_only=True)
class Shuffled(Explainer):
    """A broken explainer: the gradient's map with its pixels in another order."""

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        maps = Saliency(probe_batch_size=64)(evaluator.classifier, images, targets).flatten(1)
        orders = [
            torch.randperm(maps.shape[1], generator=torch.Generator().manual_seed(row)) for row in range(len(maps))
        ]
        shuffled = torch.stack([row[order] for row, order in zip(maps, orders, strict=True)])
        return AttributionResult(shuffled.view(len(images), *images.shape[2:]))


@dataclass(frozen=True, kw_only=True)
class Refusing(Explainer):
    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        raise Incompatible("this network is not for it")


def test_exact_attribution_of_a_linear_network_reaches_the_bound_and_a_shuffled_map_does_not() -> None:
    """In white noise the best weights are the patterns themselves."""
    classifier = best_classifier(WHITE)
    exact = judge(classifier, Saliency(probe_batch_size=64), WHITE)
    assert {name: exact[name] for name in SCORES} == pytest.approx(dict.fromkeys(SCORES, 1.0), abs=1e-6)
    broken = judge(classifier, Shuffled(), WHITE, 200)
    for name in SCORES:
        deviation = {"relevance_mass": 0.13, "average_precision": 0.12, "rank_share": 0.12, "pointing": 0.34}[name]
        assert abs(broken[name] - broken[f"{name}_chance"]) < 5 * deviation / 200**0.5, name


def test_controls_without_the_network_score_by_chance_or_by_the_place() -> None:
    classifier = best_classifier(WHITE)
    random = judge(classifier, build_controls()["random"], WHITE, 200)
    for name in SCORES:
        assert abs(random[name] - random[f"{name}_chance"]) < 5 * 0.34 / 200**0.5, name
    assert list(build_controls()) == ["random", "edges", "centre"]


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients", "deep_lift"])
def test_the_false_attribution_to_suppressors_is_that_of_the_closed_form(method: str) -> None:
    """Haufe et al.: a pixel without class has the weight -Sigma_ss^-1 Sigma_sm w_m that cancels the noise of the others.

    The four methods of a linear network are |w| and w (x - baseline) of these weights, to rounding.
    """
    kind, classifier = LINEAR, best_classifier(LINEAR)
    weights = kind.compute_best_weights()
    inside = draw_patterns(PLACES).any(0).ravel()
    unit = (1 - kind.alpha) * kind.filter_noise() / (2 * kind.compute_largest())
    sigma = unit @ unit.T
    flat = weights.ravel()
    expected = -np.linalg.solve(sigma[np.ix_(~inside, ~inside)], sigma[np.ix_(~inside, inside)] @ flat[inside])
    np.testing.assert_allclose(flat[~inside], expected, rtol=1e-6, atol=1e-9 * np.abs(flat).max())
    planted = kind.plant("explain", range(6), (3, 8, 8))
    images = planted.images.double()
    explainer: Explainer = {
        "saliency": Saliency(),
        "input_x_gradient": InputXGradient(),
        "integrated_gradients": IntegratedGradients(n_steps=4),
        "deep_lift": DeepLift(),
    }[method]
    maps = fit_explainer(explainer, kind)(classifier, images, planted.labels)
    signs = torch.where(planted.labels == 1, 0.5, -0.5)[:, None, None].double()
    single = torch.from_numpy(weights)[None] * signs
    base = {"saliency": None, "input_x_gradient": 0.0}.get(method, 0.5)
    closed = single.abs() / 3 if base is None else single * (images[:, 0] - base)
    torch.testing.assert_close(maps.double(), closed, rtol=1e-5, atol=1e-6 * float(closed.abs().max()))
    mass = float((single[0].abs().ravel()[torch.from_numpy(inside)]).sum() / single[0].abs().sum())
    assert 0.3 < mass < 0.35, "two thirds of a gradient lie on pixels that carry no class"


@pytest.mark.slow
@pytest.mark.parametrize("method", [Saliency(), InputXGradient(), IntegratedGradients(n_steps=4), DeepLift(), Lrp()])
def test_a_correlated_background_costs_every_method_as_published(method: Explainer) -> None:
    """XAI-TRIS, 8x8, linear: perfect on white noise, far worse where pixels off the patterns cancel noise, never by chance.

    The edge detector, which knows no network, is below all of them on both.
    """
    scores = {}
    for name, kind in (("white", WHITE), ("correlated", LINEAR)):
        classifier = best_classifier(kind)
        ours, edges = (judge(classifier, each, kind, 60) for each in (method, build_controls()["edges"]))
        scores[name] = ours["average_precision"], ours["relevance_mass"]
        assert ours["average_precision"] > edges["average_precision"] + 0.1
        assert ours["average_precision"] > ours["average_precision_chance"] + 0.1
    assert scores["white"] == (pytest.approx(1), pytest.approx(1, abs=1e-6))
    assert max(scores["correlated"]) < 0.7


@pytest.mark.slow
def test_a_fitted_linear_network_has_the_closed_form_within_its_interval() -> None:
    """Logistic regression on 20,000 images: (w - w*)' H (w - w*) is chi-squared with as many degrees as weights."""
    kind = LINEAR
    planted = kind.plant("train", range(20_000), (1, 8, 8))
    features = np.c_[planted.images[:, 0].double().flatten(1).numpy() - 0.5, np.ones(20_000)]
    labels, fitted = planted.labels.numpy(), np.zeros(65)
    for _ in range(12):
        p = 1 / (1 + np.exp(-features @ fitted))
        information = (features * (p * (1 - p))[:, None]).T @ features
        fitted += np.linalg.solve(information, features.T @ (labels - p))
    best = kind.compute_best_weights()
    middle = kind.alpha / 4 / (2 * kind.compute_largest()) * draw_patterns(PLACES).sum(0)  # of the two classes
    distance = fitted - np.append(best.ravel(), -float((best * middle).sum()))
    assert stats.chi2.cdf(distance @ information @ distance, 65) < 0.999
    outside = np.append(~draw_patterns(PLACES).any(0).ravel(), False)
    silent = np.where(outside, fitted, 0) @ information @ np.where(outside, fitted, 0)
    assert stats.chi2.cdf(silent, 56) > 0.999999, "the weights of suppressors are not zero"


def test_exact_methods_put_nothing_outside_of_their_disconnected_cell() -> None:
    """DiFull: whatever the weights are, gradient, input x gradient, integrated gradients, DeepLift and LRP are perfect."""
    inner = small_cnn()
    cells = DisconnectedCells(inner.network, copy.deepcopy(inner.network))
    classifier = classifier_of(cells, 64, 2)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :32, :32] = masks[1, 32:, 32:] = True
    planted = Planted(images, torch.tensor([0, 1]), masks)
    for explainer in (Saliency(), InputXGradient(), IntegratedGradients(n_steps=4), DeepLift(), Lrp()):
        values = judge_maps(classifier, explainer, PictureGrid(connected=False), planted)
        for name in ("relevance_mass", "pointing"):
            assert values[name] == [1.0, 1.0], (explainer.name, name)
    edges = judge_maps(classifier, build_controls()["edges"], PictureGrid(connected=False), planted)
    assert max(edges["relevance_mass"]) < 0.3


def test_the_explained_network_of_disconnected_cells_is_two_copies() -> None:
    inner = small_cnn()
    kind = PictureGrid(pair=("a", "b"), connected=False)
    explained = prepare_explained(inner, kind)
    assert explained.facts.shape == (64, 64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        both = explained(images)
        torch.testing.assert_close(both[:, 0], inner(images[:, :, :32, :32])[:, 0])
        torch.testing.assert_close(both[:, 1], inner(images[:, :, 32:, 32:])[:, 1])
    assert prepare_explained(inner, PictureGrid(pair=("a", "b"))) is inner


def test_a_network_that_uses_the_feature_is_told_from_one_that_does_not() -> None:
    best = prove_use(best_classifier(LINEAR), LINEAR, 200)
    assert best.used, best.reason
    assert best.shares["with"] > 0.93
    blind = best_classifier(LINEAR)
    with torch.no_grad():
        blind.network[1].weight.zero_()
    proof = prove_use(blind, LINEAR, 200)
    assert proof.shares["with"] == 0.5
    assert "accuracy 50 % is below 80 %" in proof.reason


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"with": 0.9, "without": 0.5, "inserted": 0.9, "elsewhere": 0.5}, ""),
        ({"with": 0.7, "without": 0.5, "inserted": 0.9, "elsewhere": 0.5}, "accuracy 70 % is below 80 %"),
        (
            {"with": 0.9, "without": 0.8, "inserted": 0.9, "elsewhere": 0.5},
            "without the feature 80 % still get its class",
        ),
        (
            {"with": 0.9, "without": 0.5, "inserted": 0.6, "elsewhere": 0.5},
            "inserted into others it is followed in 60 %",
        ),
        (
            {"with": 0.9, "without": 0.5, "inserted": 0.9, "elsewhere": 0.8},
            "it follows other things .*: elsewhere .80 %.",
        ),
    ],
)
def test_each_part_of_the_proof_can_fail(shares: dict[str, float], words: str) -> None:
    reason = find_fault(shares, LINEAR, 0.5, 200)
    assert (not reason) if not words else pd.Series([reason]).str.contains(words).all()


def test_what_is_followed_as_often_as_by_chance_proves_nothing_whatever_is_asked_for() -> None:
    asked = LINEAR.replace(accuracy=0.0, follow=0.0)
    chance = {"with": 0.5, "without": 0.5, "inserted": 0.5, "elsewhere": 0.5}
    assert "followed in 50 %, which is not told from chance, 50 %" in find_fault(chance, asked, 0.5, 200)
    assert "not told from chance" in find_fault(chance | {"inserted": 0.55}, asked, 0.5, 200)
    assert not find_fault(chance | {"inserted": 0.7}, asked, 0.5, 200)


def test_too_few_images_for_an_interval_are_said_and_no_nan() -> None:
    table = build_certificate(make_cells("edges", 0.3, images=2) + make_cells("lrp", 0.6, images=2), "net")
    assert "0.60 (too few images for an interval; chance 0.20" in describe_finding(table)[0]
    assert "nan" not in write_page(table, "Ground truth", "")


def test_only_images_that_are_given_their_class_are_explained() -> None:
    numbers, planted = select_explained(best_classifier(LINEAR), LINEAR, 30)
    assert len(numbers) == len(planted.images) == 30
    whole = LINEAR.plant("explain", range(40), (3, 8, 8))
    with torch.no_grad():
        right = (best_classifier(LINEAR)(whole.images).argmax(1) == whole.labels).nonzero().flatten().tolist()
    assert numbers == right[:30]


def make_cells(explainer: str, level: float, spread: float = 0.0, networks: int = 3, images: int = 40) -> list[Cell]:
    """Cells around a level: images differ by +-0.05, networks by `spread`."""
    cells = []
    for seed in range(networks):
        offset = np.linspace(-0.05, 0.05, images) + (seed - (networks - 1) / 2) * spread
        frame = {"image": range(images)} | dict.fromkeys(SCORES, level + offset)
        frame |= {f"{name}_chance": np.full(images, 0.2) for name in SCORES}
        cells.append(Cell("patch", explainer, seed, pd.DataFrame(frame)))
    return cells


def judge_study() -> pd.DataFrame:
    """A certificate in which a method is right, one weak and one refused."""
    refused = [Cell("patch", "refused", seed, None, "refused: no <layers>", "explainer") for seed in range(3)]
    return build_certificate(
        [*make_cells("edges", 0.4), *make_cells("right", 0.6), *make_cells("weak", 0.3), *refused], "net"
    )


@pytest.mark.slow
def test_a_certificate_says_who_beats_chance_and_edges(tmp_path: Path) -> None:
    cells = [
        *make_cells("edges", 0.4),
        *make_cells("right", 0.6),
        *make_cells("weak", 0.3),
        *make_cells("wild", 0.6, spread=0.3),
        *make_cells("varied", 0.6, spread=0.05),
        *make_cells("wrong", 0.1),
        *[Cell("patch", "refused", seed, None, "refused: no layers", "explainer") for seed in range(3)],
    ]
    table = build_certificate(cells, "net").set_index(["explainer", "metric"])
    assert len(table) == 28
    row = table.loc[("right", "relevance_mass")]
    assert row["value"] == pytest.approx(0.6)
    assert (row["chance"], row["edges"]) == (pytest.approx(0.2), pytest.approx(0.4))
    assert (row["n_images"], row["n_networks"], row["beats_chance"], row["beats_edges"]) == (40, 3, "yes", "yes")
    assert row["low"] < 0.6 < row["high"] < 0.63
    assert table.loc[("weak", "pointing"), ["beats_chance", "beats_edges"]].tolist() == ["yes", "worse"]
    assert table.loc[("wrong", "pointing"), ["beats_chance", "beats_edges"]].tolist() == ["worse", "worse"]
    wild = table.loc[("wild", "relevance_mass")]
    assert (wild["low"], wild["high"]) == (0, 1), "a share has no interval beyond 0 and 1"
    varied = table.loc[("varied", "relevance_mass")]
    assert varied["high"] - varied["low"] == pytest.approx(2 * stats.t.ppf(0.975, 2) * 0.05 / 3**0.5, rel=0.01)
    assert wild["p_chance"] < 0.05, "on these networks it is above chance ..."
    assert wild["beats_chance"] == "no", "... but a new one may not be"
    refused = table.loc[("refused", "pointing")]
    assert math.isnan(refused["value"])
    assert (refused["used"], refused["reason"]) == (True, "refused: no layers")
    (tmp_path / "certificate.csv").write_bytes(write_table(table.reset_index()))
    read = read_certificate(tmp_path / "certificate.csv")
    assert read["value"].to_numpy() == pytest.approx(table["value"].to_numpy(), nan_ok=True, rel=1e-5)
    assert read["used"].tolist() == table["used"].tolist()


def test_networks_that_do_not_use_the_feature_give_no_score() -> None:
    unused = [
        Cell("tag_0", "lrp", seed, None, "inserted into others it is followed in 9 %", "network") for seed in (0, 1)
    ]
    row = build_certificate(unused, "net").iloc[0]
    assert (row["used"], row["n_networks"]) == (False, 0)
    assert row["reason"].startswith("0 of 2 networks use the feature; network 0: inserted into others")
    some = [*make_cells("lrp", 0.6)[:2], Cell("patch", "lrp", 5, None, "accuracy 20 % is below 80 %", "network")]
    kept = build_certificate(some, "net").iloc[0]
    assert (kept["used"], kept["n_networks"], kept["value"]) == (True, 2, pytest.approx(0.6))
    assert kept["reason"] == "without the networks 5, which do not use the feature"


@pytest.mark.slow
def test_where_most_beat_both_the_others_are_named() -> None:
    cells = [*make_cells("edges", 0.4), *make_cells("first", 0.6), *make_cells("second", 0.5), *make_cells("low", 0.3)]
    (sentence,) = describe_finding(build_certificate(cells, "net"))
    assert sentence.endswith("2 of 3 methods beat both chance and edges; above chance, but not above edges: `low`.")


def test_the_finding_is_in_words_with_numbers() -> None:
    table = build_certificate([*make_cells("edges", 0.4), *make_cells("right", 0.6), *make_cells("wrong", 0.1)], "net")
    (sentence,) = describe_finding(table)
    assert sentence.startswith("**patch** on `net`: `right` is highest, area under the precision-recall curve 0.60")
    assert "chance 0.20, edges 0.40; 40 images, 3 networks)" in sentence
    assert sentence.endswith("1 of 2 methods beat both chance and edges: `right`; not above chance: `wrong`.")
    several = pd.concat([table.assign(ground_truth=kind) for kind in ("patch", "xor", "grid", "tag_50")])
    first, *others = describe_finding(several)
    assert first.startswith("Of 4 cells")
    assert "`right` 4 of 4, `wrong` 0 of 4; least often: `wrong` 0 of 4, `right` 4 of 4." in first
    assert len(others) == 4
    page = write_page(table, "Ground truth", "make ground_truth")
    assert "| `right` | **0.60** (0.59 to 0.61) |" in page


def study(
    folder: Path,
    explainers: dict[str, Explainer],
    train: Callable[[], Any] | None = None,
    kind: GroundTruth = WHITE,
    lr: float = 0.01,
    accuracy: float = 0.6,
    beside: Mapping[str, GroundTruth] | None = None,
) -> Any:
    optimization = AutoOptimization(lr=lr)

    def build_network(kind: GroundTruth, seed: int) -> Classifier:
        options: dict[str, Any] = {"classes": list(kind.classes), "size": 8, "mean": [0.5] * 3, "std": [0.2] * 3}
        return build_classifier(
            "linear",
            Own(DenseNetwork),
            "random",
            **options,
            arguments={"side": 8},
            seed=seed,
            optimization=optimization,
        )

    def build_trainer() -> Trainer:
        off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        return Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **off)

    def build_pool(classifier: Classifier) -> Any:
        raise AssertionError("no pictures are needed")

    kinds = {"linear": kind.replace(accuracy=accuracy, follow=0.6), **(beside or {})}
    made = Study(
        kinds, explainers, build_network, train or build_trainer, build_pool, networks=2, images=12, proof_images=60
    )
    return run_study(made, folder)


def test_a_study_trains_judges_and_is_not_computed_again(tmp_path: Path) -> None:
    explainers: dict[str, Explainer] = {"saliency": Saliency(), "refusing": Refusing()}
    first, facts = study(tmp_path / "one", explainers)
    assert (facts["cells"], facts["cells_done_before"]) == (10, 0)
    assert [network["used"] for network in facts["networks"]["linear"]] == [True, True]
    by_method = first[first["metric"] == "relevance_mass"].set_index("explainer")
    assert list(by_method.index) == ["random", "edges", "centre", "saliency", "refusing"]
    assert by_method.loc["saliency", "value"] > 1.5 * by_method.loc["random", "value"]
    assert by_method.loc["refusing", "reason"] == "refused: this network is not for it"

    def refuse() -> Any:
        raise AssertionError("it is trained again")

    again, facts = study(tmp_path / "one", explainers, refuse)
    assert facts["cells_done_before"] == 10
    assert write_table(again) == write_table(first)
    cell = tmp_path / "one" / "cells" / "linear_1_saliency.json"
    content = json.loads(cell.read_text())
    cell.write_text(cell.read_text()[: len(cell.read_text()) // 2])
    mended, facts = study(tmp_path / "one", explainers, refuse)
    assert facts["cells_done_before"] == 9, "half a file does not count"
    assert json.loads(cell.read_text()) | {"seconds": 0} == content | {"seconds": 0}
    assert write_table(mended) == write_table(first)
    study(tmp_path / "three", {}, kind=LINEAR)
    strict, _ = study(tmp_path / "three", {}, refuse, kind=LINEAR, accuracy=1.0)
    assert "is below 100 %" in strict["reason"].iloc[0], "what is demanded is judged anew, and nothing is trained again"
    _, facts = study(tmp_path / "one", {**explainers, "input_x_gradient": InputXGradient()}, refuse)
    assert (facts["cells"], facts["cells_done_before"]) == (12, 10), "another method leaves the cells of these valid"
    other, _ = study(tmp_path / "two", explainers)
    assert write_table(other) == write_table(first), "same seed, same bytes"
    weights = tmp_path / "two" / "cells" / "linear_0.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(AssertionError, match="trained again"):
        study(tmp_path / "two", explainers, refuse)


@dataclass(frozen=True, kw_only=True)
class Likewise(Tetrominoes):
    """Another kind, whose networks are those of WHITE."""

    @property
    def trained_as(self) -> GroundTruth:
        return Tetrominoes(**vars(self))


@pytest.mark.slow
def test_networks_that_are_trained_alike_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def train(classifier: Classifier, trainer: Any, kind: GroundTruth, seed: int, pool: Any) -> Classifier:
        trained.append(seed)
        return train_network(classifier, trainer, kind, seed, pool)

    monkeypatch.setattr(run, "train_network", train)
    alike = Likewise(**vars(WHITE.replace(accuracy=0.6, follow=0.6)))
    table, facts = study(tmp_path, {}, beside={"likewise": alike})
    assert trained == [0, 1]
    first, second = (facts["networks"][name] for name in ("linear", "likewise"))
    assert [network["shares"] for network in first] == [network["shares"] for network in second]
    assert [network["seconds"] for network in second] == [0, 0]
    assert (tmp_path / "cells" / "likewise_1.safetensors").is_file(), "whole by itself, should the other be deleted"
    assert (table["n_networks"] == 2).all()
    study(tmp_path, {}, beside={"likewise": alike.replace(steps=alike.steps + 1)})
    assert trained == [0, 1, 0, 1], "longer is not alike"


def test_networks_without_the_feature_are_replaced_unless_none_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def answer(good: set[int]) -> Callable[..., Proof]:
        def prove(classifier: Classifier, *_: Any) -> Proof:
            seed = len(tried)
            tried.append(seed)
            return Proof(10, 0.5, {"with": 0.9}, "" if seed in good else "it did not learn the task")

        return prove

    monkeypatch.setattr(run, "train_network", lambda classifier, *_: classifier)
    monkeypatch.setattr(run, "prove_use", answer({0, 2}))
    table, _ = study(tmp_path / "some", {})
    assert len(tried) == 3
    assert table["n_networks"].eq(2).all()
    tried.clear()
    monkeypatch.setattr(run, "prove_use", answer(set()))
    table, _ = study(tmp_path / "none", {})
    assert len(tried) == 2
    assert not table["used"].any()


def test_values_are_given_to_a_baseline_that_nobody_chose() -> None:
    assert fit_explainer(IntegratedGradients(), LINEAR).parameters.startswith("baseline=grey")
    assert fit_explainer(IntegratedGradients(baseline="white"), LINEAR).parameters.startswith("baseline=white")
    assert fit_explainer(Saliency(), LINEAR) == Saliency()
    inner = fit_explainer(NoiseTunnel(explainer=IntegratedGradients()), LINEAR)
    assert inner == NoiseTunnel(explainer=IntegratedGradients(baseline="grey"))
    assert fit_explainer(ExpectedGradients(), LINEAR) == ExpectedGradients(), "its baselines are images"
    assert fit_explainer(IntegratedGradients(), PictureGrid()) == IntegratedGradients()


def test_average_precision_of_all_orders() -> None:
    """Ties: the mean over every order of the equal pixels, and by hand without any."""
    from itertools import permutations

    from seewhy.metrics.localisation import _average_precision

    inside = torch.tensor([True, False, True, False, True])
    assert float(_average_precision(inside, torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))) == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 3
    )
    values = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])

    def score(order: tuple[int, ...]) -> float:
        hits = inside[list(order)].double()
        return float((hits * hits.cumsum(0) / torch.arange(1, 6)).sum() / 3)

    orders = [order for order in permutations(range(5)) if set(order[:3]) == {0, 1, 3}]
    assert float(_average_precision(inside, values)) == pytest.approx(np.mean([score(order) for order in orders]))
    chance = np.mean([score(order) for order in permutations(range(5))])
    assert float(_average_precision(inside, torch.zeros(5))) == pytest.approx(chance)
    harmonic = sum(1 / rank for rank in range(1, 6))
    assert chance == pytest.approx((harmonic + 2 / 4 * (5 - harmonic)) / 5)
    assert math.isnan(float(_average_precision(torch.zeros(5, dtype=torch.bool), values)))
