"""Every classifier of torchvision, by its name."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from seewhy.core.errors import UserError
from seewhy.models.architectures import AUXILIARY, Architecture, Timm, Torchvision
from seewhy.models.build import build_classifier

NAMES = torchvision.models.list_models(module=torchvision.models)


def test_every_classifier_has_a_checkpoint_and_facts() -> None:
    assert len(NAMES) >= 80
    for name in NAMES:
        source = Torchvision(name)
        facts, checkpoint = source.facts(), source._find_checkpoint()
        assert checkpoint.startswith(name.removesuffix("_v1")[:4]) or "-" in checkpoint
        assert checkpoint.endswith(".pth") and "/" not in checkpoint
        assert len(facts.classes) == 1000 and facts.mean != (0.0, 0.0, 0.0)


def test_the_file_of_known_networks_is_that_of_torchvision() -> None:
    for name, checkpoint in (("vgg16", "vgg16-397923af.pth"), ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth")):
        assert Torchvision(name)._find_checkpoint() == checkpoint


def test_a_network_is_built_with_its_classes_and_arguments() -> None:
    options: dict[str, Any] = {"classes": 3, "size": 64, "arguments": {"zero_init_residual": True}}
    classifier = build_classifier("resnet18", Torchvision("resnet18"), "random", **options)
    images = torch.rand(2, 3, 64, 64)
    assert classifier(images).shape == (2, 3) and classifier.facts.size == 64


@pytest.mark.parametrize("name", ["resnet81", "fasterrcnn_resnet50_fpn", "raft_large"])
def test_other_names_are_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=rf"model\.name={name}: torchvision has no classifier.*nearest"):
        Torchvision(name).network(3, 64)


@pytest.mark.parametrize("source", [Torchvision("resnet18"), Timm("resnet18")])
@pytest.mark.parametrize("arguments", [{"widht": 3}, {"groups": 7}, {"block": 3}])
def test_arguments_that_a_network_does_not_take(source: Architecture, arguments: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"model\.arguments=.* does not suit resnet18"):
        build_classifier("resnet18", source, "random", classes=3, size=64, arguments=arguments)


@pytest.mark.parametrize("name", AUXILIARY)
def test_published_weights_bring_their_normalisation(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Torchvision changes the input of these networks where it loads its own weights, and not otherwise."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = Torchvision(name)
    with torch.device("meta"):
        network = source.network(1000, 299, init_weights=False)
    assert network.transform_input is False
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *args, **options: {})
    source.pretrained(network)
    assert network.transform_input is True
    assert source.find_doubt({"transform_input": False}) is None
    assert "model.arguments.transform_input=true" in str(source.find_doubt({}))
    assert Torchvision("resnet18").find_doubt({}) is None
