"""Networks of the user's own code: what is imported, built, asked for and refused."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seewhy.core.errors import MissingWeights, UserError
from seewhy.models.architectures import Timm
from seewhy.models.build import build_classifier
from seewhy.models.classifier import Classifier
from seewhy.models.imported import Imported
from seewhy.models.weights import save_weights

SOURCE = """
import torch
from torch import nn
from {helper} import WIDTH

class MyNet(nn.Module):
    def __init__(self, outputs=3, width=WIDTH):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, outputs)
    def forward(self, values):
        return self.head(self.stem(values).relu().mean((2, 3)))

class Counted(MyNet):
    def __init__(self, num_classes, **more):
        super().__init__(num_classes, **more)

class Odd(MyNet):
    def __init__(self, size, channels=3, num_classes=3):
        super().__init__(num_classes, size)

class Grey(MyNet):
    def __init__(self, in_channels=3, outputs=3):
        super().__init__(outputs)
        self.stem = nn.Conv2d(in_channels, WIDTH, 3)

class Flat(nn.Sequential):
    def __init__(self, channels=3):
        super().__init__(nn.Flatten(), nn.Linear(256 * channels, 3))

class Zoo:
    small = MyNet

def load():
    network = MyNet(2)
    nn.init.constant_(network.head.bias, 7.0)
    return network

def fail():
    raise KeyError("no such thing")

def number():
    return 3

ready = MyNet(4)
PATH = "text"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module in the current folder, another one for every test; it imports one beside it."""
    name = f"mynet_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(SOURCE.format(helper=f"{name}_width"))
    (tmp_path / f"{name}_width.py").write_text("WIDTH = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def build(build: str, weights: str = "random", **options: Any) -> Classifier:
    return build_classifier(build, Imported(build), weights, **{"size": 16, **options})


def test_a_class_is_built_and_its_outputs_are_counted(module: str) -> None:
    classifier = build(f"{module}:MyNet")
    assert classifier.facts.classes == ("class 0", "class 1", "class 2")
    assert classifier.network.stem.out_channels == 5
    assert classifier.facts.mean == (0, 0, 0) and classifier.facts.std == (1, 1, 1)
    assert classifier.origin == "random (seed 0), images in [0, 1] as they are (model.mean and model.std are not set)"
    assert classifier.name == f"{module}:MyNet" and not classifier.network.training


def test_arguments_and_class_names_reach_the_network(module: str) -> None:
    classifier = build(f"{module}:Counted", classes=["a", "b", "c", "d"], arguments={"width": 2}, mean=[0.5] * 3)
    assert classifier.network.head.weight.shape == (4, 2)
    assert classifier.facts.classes == ("a", "b", "c", "d") and "as they are" not in classifier.origin
    assert build(f"{module}:Zoo.small").network.head.out_features == 3


def test_arguments_may_be_called_like_settings(module: str) -> None:
    network = build(f"{module}:Odd", arguments={"size": 7, "channels": 2, "num_classes": 4}).network
    assert network.stem.out_channels == 7 and network.head.out_features == 4
    with pytest.raises(UserError, match=r"4 .*3|3 .*4"):
        build(f"{module}:Odd", arguments={"size": 7, "num_classes": 4}, classes=["a", "b", "c"])


def test_random_weights_follow_the_seed(module: str) -> None:
    first, again, other = (build(f"{module}:MyNet", seed=seed).weights_sha256 for seed in (0, 0, 1))
    assert first == again != other


def test_weights_of_a_file_and_those_that_the_code_loads(module: str, tmp_path: Path) -> None:
    network = build(f"{module}:MyNet", seed=5).network
    state = {f"net.{key}": value for key, value in network.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3}, tmp_path / "mine.pth")
    classifier = build(f"{module}:MyNet", "mine.pth")
    assert torch.equal(classifier.network.head.weight, network.head.weight)
    assert classifier.origin.startswith("file: mine.pth") and "prefix net. removed" in classifier.origin
    loaded = build(f"{module}:load", "built")
    assert loaded.network.head.bias.tolist() == [7, 7] and loaded.origin.startswith("as its code builds it")
    assert build(f"{module}:ready", "built").network.head.out_features == 4


def test_what_the_weights_did_not_bring_may_be_wrong(module: str, tmp_path: Path) -> None:
    state = build(f"{module}:MyNet").network.state_dict()
    torch.save(state, tmp_path / "mine.pth")
    raw = "model.mean and model.std (images go in as they are, in [0, 1])"
    assert build(f"{module}:MyNet", "mine.pth").doubts == (raw, "the order of model.classes", "model.fit")
    scaled = build(f"{module}:MyNet", "mine.pth", mean=0.5, std=0.25)
    assert scaled.doubts[0] == "model.mean and model.std" and build(f"{module}:MyNet").doubts == ()
    save_weights(scaled.network, scaled.facts, tmp_path / "whole.safetensors")
    assert build(f"{module}:MyNet", "whole.safetensors", size=None).doubts == ()
    classes = ["a", "b", "c"]
    named = build(f"{module}:MyNet", "whole.safetensors", size=None, classes=classes)
    assert named.doubts == ("the order of model.classes",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "channels", "fix"),
    [("Grey", {"in_channels": 1}, None, 1), ("Grey", {}, 1, 3), ("Grey", {"in_channels": 5}, 2, 5), ("Flat", {}, 1, 3)],
)
def test_the_channels_that_a_network_takes_are_named(
    module: str, name: str, arguments: dict[str, int], channels: int | None, fix: int
) -> None:
    with pytest.raises(UserError, match=rf"takes images of {fix} channels?, not .*: set model\.channels={fix}, "):
        build(f"{module}:{name}", arguments=arguments, channels=channels)
    assert build(f"{module}:{name}", arguments=arguments, channels=fix).facts.channels == fix


@pytest.mark.parametrize(
    ("name", "stored", "arguments", "message"),
    [
        ("Grey", {"in_channels": 1}, {}, r"of 1 channel: .*; set model\.arguments\.in_channels=1 for the network and "
         r"model\.channels=1, with"),
        ("Grey", {"outputs": 7}, {}, r"for 7 classes: .*; set model\.arguments\.<name>=7 \(.*:Grey takes in_channels, "
         r"outputs\)$"),
        ("Odd", {"size": 4, "num_classes": 7}, {"size": 4}, r"set model\.classes=7, or to a list"),
        ("Odd", {"size": 4, "num_classes": 7}, {"size": 4, "num_classes": 2}, r"set model\.arguments\.num_classes=7$"),
        ("MyNet", {"width": 4}, {}, r"do not fit the network:\n.*(?s:(?!channels).)*$"),
    ],
)  # fmt: skip
def test_weights_for_others_name_the_argument(
    module: str, name: str, stored: dict[str, int], arguments: dict[str, int], message: str, tmp_path: Path
) -> None:
    channels = stored.get("in_channels")
    network = build(f"{module}:{name}", arguments=stored, channels=channels).network
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(UserError, match=message):
        build(f"{module}:{name}", "mine.pth", arguments=arguments)


def test_programs_are_loaded_by_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), (torch.rand(2, 3, 4, 4),))
    torch.export.save(program, tmp_path / "net.pt2")
    (tmp_path / "mynet_program.py").write_text("import torch\ndef load(): return torch.export.load('net.pt2')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    classifier = build("mynet_program:load", "built", size=4)
    images = torch.rand(3, 3, 4, 4)
    assert torch.equal(classifier(images)[:2], program.module()(images[:2]))


@pytest.mark.parametrize("weights", ["auto", "pretrained", "shipped"])
def test_weights_are_asked_for(module: str, weights: str) -> None:
    with pytest.raises(MissingWeights, match=r"model\.weights=<file.*model\.weights=built"):
        build(f"{module}:MyNet", weights)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("MyNet", {"size": None}, r"model\.size is not known"),
        ("MyNot", {}, "has no MyNot; it has MyNet, Counted, Odd, Grey, Flat, Zoo, load, fail, number"),
        (
            "MyNet",
            {"threshold": 0.3},
            r"model\.threshold=0\.3 .* model\.score=softmax: set model\.score=sigmoid, or leave",
        ),
        ("MyNet", {"threshold": 0.3, "score": "none"}, r"model\.threshold=0\.3 .* this one has model\.score=none"),
        ("MyNet", {"classes": "https://a.org/b.txt"}, r"model\.classes=https://a\.org/b\.txt: nothing is fetched"),
        ("MyNet", {"arguments": {"widht": 3}}, r"model\.arguments\.widht: .* it takes outputs, width"),
        ("Counted", {}, r"needs num_classes: set model\.arguments\.num_classes= or model\.classes="),
        ("fail", {}, "failed: KeyError: 'no such thing'"),
        ("number", {}, "gives int, not a torch.nn.Module"),
        ("PATH", {}, "is str, neither a class nor a function"),
        ("ready", {"arguments": {"width": 1}}, "is a network already"),
    ],
)
def test_what_does_not_fit_is_one_sentence(module: str, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(f"{module}:{name}", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (None, r"model=own needs the code.*model\.build=mynet:MyNet"),
        ("mynet.MyNet", "such as mynet:MyNet"),
        ("nets/mynet.py:MyNet", "such as nets.mynet:MyNet"),
        ("mynet.py", "such as mynet:MyNet"),
        ("my net:MyNet", "must be module:name"),
        ("no_such_module_at_all:Net", "there is no module 'no_such_module_at_all'"),
        ("os:no", "os has no no; it has"),
        ("seewhy.no_such_part:Net", r"there is no module 'seewhy\.no_such_part'"),
    ],
)
def test_names_of_code_that_is_not_there(build: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Imported(build).network(2, 16)


def test_near_files_are_named(module: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {module}"):
        Imported(f"{module}x:MyNet")


def test_a_module_behind_an_installed_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("def net(): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UserError, match=r"colorsys is also a module elsewhere.*rename colorsys\.py"):
        Imported("colorsys:net").network(2, 16)


def test_modules_that_fail_and_that_lack_others(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}_a.py").write_text("import no_such_library\n")
    (tmp_path / f"{module}_b.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=f"{module}_a imports no_such_library, which is not installed"):
        Imported(f"{module}_a:Net").network(2, 16)
    with pytest.raises(UserError, match="failed: ZeroDivisionError"):
        Imported(f"{module}_b:Net").network(2, 16)


def test_other_code_has_another_hash(module: str, tmp_path: Path) -> None:
    before = build(f"{module}:MyNet").code_sha256
    assert before == build(f"{module}:MyNet").code_sha256 and len(before) == 64
    (tmp_path / f"{module}_width.py").write_text("WIDTH = 5  # as before\n")
    assert build(f"{module}:MyNet").code_sha256 != before


@pytest.mark.parametrize(
    ("key", "setting"), [("num_classes", "classes"), ("in_chans", "channels"), ("pretrained", "weights")]
)
def test_arguments_of_libraries_that_have_a_setting_are_named(key: str, setting: str) -> None:
    with pytest.raises(UserError, match=rf"model\.arguments\.{key}: set model\.{setting} instead"):
        build_classifier("resnet18", Timm("resnet18"), "random", classes=3, size=32, arguments={key: 3})
