"""Convolutions are fused with the tested series of torch only, and not where fusion is switched off."""

import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.models.fusion.convolution import can_fuse, read_activation
from seewhy.models.fusion.internals import TESTED_SERIES, is_fusion_supported
from tiny import classifier_of, random_images


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SEEWHY_FUSION", raising=False)
    is_fusion_supported.cache_clear()
    yield
    is_fusion_supported.cache_clear()


def assert_computed_layer_by_layer() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    )
    classifier, images = classifier_of(network, 8, 2), random_images(2, 8)
    expected = classifier(images)
    with classifier.frozen():
        assert torch.equal(classifier(images), expected)
        assert not classifier.folding.chains
    activation = read_activation(torch.nn.ReLU())
    assert activation is not None and not can_fuse(torch.ones(1, 3, 4, 4), torch.ones(3, 3, 1, 1), activation)


def test_it_is_on_with_the_tested_series_and_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", f"{TESTED_SERIES}.7+cpu")
    assert is_fusion_supported()
    assert not caplog.records


@pytest.mark.parametrize("version", ["2.13.1", "2.15.0a0+git1234", "3.14.0", "2.140.0"])
def test_it_is_off_with_another_series_which_is_said_once(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with caplog.at_level(logging.WARNING):
        assert_computed_layer_by_layer()
        assert_computed_layer_by_layer()
    assert [record.getMessage() for record in caplog.records] == [
        f"convolutions are not fused: tested with torch {TESTED_SERIES}, this is {version}; results stay the same, "
        "passes take longer"
    ]


def test_it_can_be_switched_off_without_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SEEWHY_FUSION", "off")
    assert_computed_layer_by_layer()
    assert not caplog.records


def test_another_value_of_the_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEWHY_FUSION", "maybe")
    with pytest.raises(UserError, match="SEEWHY_FUSION=maybe must be on or off"):
        is_fusion_supported()


def test_the_tested_series_is_the_one_that_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (torch_requirement,) = [each for each in project["dependencies"] if each.startswith("torch>")]
    assert torch_requirement.startswith(f"torch>={TESTED_SERIES},<")
