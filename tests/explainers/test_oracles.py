"""Every method beside every peer that also has it: oracles/table.py says on which networks and how close."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import ROOT
from layer_twin import enlarged, first_cell, signals
from oracles.cam_maps import torchcam
from oracles.networks import ALL, case
from oracles.row import Row
from oracles.table import TABLE, WITHOUT_PEER
from seewhy.core.errors import Incompatible
from seewhy.explainers.cam import weigh_channels
from tiny import double_by_default


def pair(row: Row, network: str, far: bool = False) -> Any:
    """Marked `oracle` for another package than captum, and where a network takes long and tells nothing of its own.

    VGG16 has no layer that the others lack; the layers of EfficientNet matter where a method looks inside, and to gradients.
    """
    many = not row.method.looks_inside and row.method.name not in ("saliency", "input_x_gradient")
    far |= network == "vgg16" or (network == "efficientnet_lite0" and many)
    return pytest.param(row, network, marks=[pytest.mark.oracle] * far)


PAIRS = [pair(row, name, row.peer not in ("captum", "slow twin")) for row in TABLE for name in row.networks]
REFUSED = {
    (repr(row.method), name): pair(row, name)
    for row in TABLE
    for name, why in row.exceptions.items()
    if why.startswith("refused")
}


def name_of(value: object) -> str:
    if isinstance(value, Row):
        rule = f"_{value.method.rule}" if value.method.name == "lrp" else ""  # type: ignore[attr-defined]
        return f"{value.method.name}{rule}-{value.peer.replace(' ', '_')}"
    return str(value)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest absolute value, over all images."""
    assert bool(expected.flatten(1).any(1).all()), "an empty map proves nothing"
    return float(((found - expected).abs().amax((1, 2)) / expected.abs().amax((1, 2))).max())


@pytest.mark.slow
@pytest.mark.parametrize(("row", "network"), PAIRS, ids=name_of)
def test_a_method_equals_its_peer(row: Row, network: str) -> None:
    if row.peer != "slow twin" and importlib.util.find_spec(row.peer) is None:
        pytest.skip(f"{row.peer} is not installed")
    chosen = row.case(case(network))
    found = row.maps(chosen)
    with double_by_default():
        expected = row.theirs(chosen).detach()
    assert difference(found, expected) <= row.tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("row", "network"), REFUSED.values(), ids=name_of)
def test_where_the_table_says_refused_the_method_refuses(row: Row, network: str) -> None:
    chosen = case(network)
    with pytest.raises(Incompatible, match=r"use "):
        row.method(chosen.classifier, chosen.images, chosen.targets)


def test_every_method_is_in_the_table_or_has_no_peer_or_a_test_of_its_own() -> None:
    methods = {path.stem for path in (ROOT / "configs" / "explainer").glob("*.yaml")}
    compared = {row.method.name for row in TABLE}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "explainers").glob("test_*.py")}
    assert methods - compared - set(WITHOUT_PEER) - tested == set()
    assert (compared | set(WITHOUT_PEER)) - methods == set()
    assert not compared & set(WITHOUT_PEER)


def test_every_exception_is_a_network_with_a_reason() -> None:
    for row in TABLE:
        assert set(row.exceptions) < set(ALL)
        assert all(len(why) > 15 for why in row.exceptions.values())
        assert row.networks


@pytest.mark.oracle
def test_torchcam_leaves_the_alphas_of_grad_cam_plus_plus_undivided() -> None:
    """Why that pair is not in the table: its weights are the sums of ReLU(g)^3, to the last digit."""
    pytest.importorskip("torchcam")
    chosen = case("cifar_cnn")
    expected = []
    for image, target in zip(chosen.images, chosen.targets.tolist(), strict=True):
        features, gradient = signals(chosen.classifier, chosen.layer, image, target)
        expected.append(
            enlarged(
                weigh_channels(features[None], gradient[None].relu().pow(3).sum((2, 3)))[0].relu(),
                32,
                *first_cell("relu2"),
            )
        )
    assert difference(torchcam("GradCAMpp")(chosen), torch.stack(expected)) < 1e-5
