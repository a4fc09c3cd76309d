"""Peers of the benchmark that change their environment: the same values as ours, and nothing left changed."""

from typing import Any

import pytest
import torch
import torchvision
from benchmarking.command import LIBRARIES, parsed
from benchmarking.compare import peer_rows
from benchmarking.peers import transformer_methods, xplique_methods
from benchmarking.subject import Subject
from torch import nn

from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images


def build_transformer() -> Classifier:
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    return classifier_of(network, 32, 5)


def subject() -> Subject:
    return Subject(build_transformer(), random_images(2, 32), torch.tensor([0, 3]), "network.encoder")


@pytest.mark.oracle
def test_lxt_and_le_grad_have_our_values_and_leave_torch_and_zennit_as_they_were() -> None:
    pytest.importorskip("lxt")
    hooks: Any = pytest.importorskip("zennit.core").BasicHook
    patients = (nn.GELU, nn.LayerNorm, nn.MultiheadAttention, hooks)
    before = [dict(vars(patient)) for patient in patients]
    for row in peer_rows(subject(), transformer_methods.peers(), repeats=1):
        assert row.ratio is not None, row.note
        assert row.difference is None or row.difference < 1e-6, row  # double precision
        assert (row.difference is None) == ("gamma" in row.setting)
    assert [dict(vars(patient)) for patient in patients] == before


@pytest.mark.oracle
def test_xplique_has_our_values() -> None:
    """On a network without a maximum: of equal values, as in a black image, it takes another gradient than ours."""
    pytest.importorskip("xplique")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 10))
    given = Subject(classifier_of(network, 32, 10).float(), random_images(2, 32).float(), torch.tensor([3, 7]), "1")
    for row in peer_rows(given, xplique_methods.peers(True, 32), repeats=1):
        assert row.ratio is not None, row.note
        assert "DIFFER" not in row.note, row


def test_a_library_that_is_missing_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = [*peer_rows(subject(), [*transformer_methods.peers(), *xplique_methods.peers(True, 32)], repeats=1)]
    notes = {row.setting.split(":")[0]: row.note for row in rows}
    assert notes["lxt"] == notes["torchcam"] == "not installed: make oracle"
    assert notes["xplique"].startswith("not installed: pip install --no-deps xplique")
    assert all(row.ratio is None for row in rows)


def test_what_takes_minutes_is_left_out_of_a_quick_look_unless_it_is_asked_for() -> None:
    assert "compile" not in parsed([]).parts
    assert "compile" in parsed(["--full"]).parts
    assert parsed(["--parts", "compile"]).parts == ["compile"]
    assert "vit" not in parsed([]).peers
    assert parsed(["--full"]).peers == list(LIBRARIES)
    assert parsed(["--peers", "vit"]).peers == ["vit"]
    assert parsed(["--peers"]).peers == []
