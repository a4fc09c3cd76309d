"""Checkpoints of other people's training scripts, and the facts that lie beside them."""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hidden import build_plain, script
from seewhy.core.errors import UserError
from seewhy.models.architectures import Own
from seewhy.models.build import build_classifier
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.companions import read_companion
from seewhy.models.weights import fit_weights, read_checkpoint


def stack(value: float) -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


def test_settings_and_numbers_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    content = {
        "model": stack(0.5).state_dict(),
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "hyper_parameters": {"width": 3},
    }
    torch.save(content, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").state["2.weight"].unique().tolist() == [0.5]


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "network", "params", "weights"])
@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt"])
def test_wrappers_of_training_scripts(tmp_path: Path, wrapper: str, suffix: str) -> None:
    torch.save({wrapper: stack(0.5).state_dict(), "epoch": 1}, tmp_path / f"w.{suffix}")
    network = stack(0)
    fit_weights(network, read_checkpoint(tmp_path / f"w.{suffix}").state, "w")
    assert network[2].weight.unique().tolist() == [0.5]


def test_what_is_no_state_dict_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"encoder": stack(1).state_dict(), "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="it holds encoder, epoch"):
        read_checkpoint(tmp_path / "w.pth")


def test_pickled_networks_are_named(tmp_path: Path) -> None:
    torch.save(stack(1), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"pickled objects \(torch.nn.modules.*save network.state_dict"):
        read_checkpoint(tmp_path / "w.pth")


def test_tensors_of_a_loss_are_left_out_and_named() -> None:
    state = {f"model.{key}": value for key, value in stack(0.5).state_dict().items()}
    network = stack(0)
    note = fit_weights(network, state | {"criterion.weight": torch.ones(2)}, "w.ckpt")
    assert note == "criterion.weight left out, prefix model. removed"
    assert network[2].weight.unique().tolist() == [0.5]
    with pytest.raises(UserError, match=r"unexpected: criterion\.weight"):
        fit_weights(stack(0), stack(1).state_dict() | {"criterion.weight": torch.ones(2)}, "without a prefix")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_another_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    state = {key: value.to(dtype) for key, value in CifarCNN().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    classifier = build_classifier("cifar_cnn", Own(CifarCNN), str(tmp_path / "w.safetensors"))
    assert torch.equal(classifier.network.state_dict()["fc1.weight"], state["fc1.weight"].float())
    assert ("float64 weights rounded to float32" in classifier.origin) == (dtype == torch.float64)


def test_programs_are_told_from_weights(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(script(build_plain()), str(tmp_path / "net.pt"))
    with pytest.raises(UserError, match=r"is TorchScript.*torch\.jit\.load.*model=own model\.build=mynet:load"):
        read_checkpoint(tmp_path / "net.pt")
    program = torch.export.export(build_plain(), (torch.rand(2, 3, 12, 12).double(),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(UserError, match=r"is an exported program.*torch\.export\.load.*\.module\(\).*model=own"):
        read_checkpoint(tmp_path / "net.pt2")


TIMM = {
    "architecture": "resnet18",
    "num_classes": 2,
    "label_names": ["cat", "dog"],
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 96, 96], "crop_pct": 0.9},
}
HUB = {"id2label": {"1": "dog", "0": "cat"}, "image_size": 96}
PROCESSOR = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "rescale_factor": 1 / 255}
PLAIN = {"classes": ["cat", "dog"], "size": 96, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop": 0.9}
RIGHT = {"classes": ("cat", "dog"), "size": 96, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


@pytest.mark.parametrize("name", ["config.json", "w.json"])
@pytest.mark.parametrize(("content", "crop"), [(TIMM, 0.9), (HUB, None), (PLAIN, 0.9)], ids=["timm", "hub", "plain"])
def test_facts_beside_the_weights(tmp_path: Path, name: str, content: dict[str, object], crop: float | None) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    facts, source = read_companion(tmp_path / "w.pth")
    assert facts.pop("crop", None) == crop and facts == RIGHT and source == name


def test_facts_of_timm_need_no_processor(tmp_path: Path) -> None:
    timm = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 96, 96], "interpolation": "bilinear"}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {**timm, "crop_pct": 0.9}, "num_classes": 2}))
    assert read_companion(tmp_path / "w.pth")[0] == {
        "classes": ("class 0", "class 1"),
        "size": 96,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "crop": 0.9,
        "interpolation": "bilinear",
    }


def test_heights_and_widths_beside_the_weights(tmp_path: Path) -> None:
    for side, size in (([3, 64, 96], (64, 96)), ([1, 64, 64], 64)):
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"input_size": side}}))
        assert read_companion(tmp_path / "w.pth")[0] == {"size": size}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"classes": 3}', "classes=3 has another form"),
        ('{"mean": ["a"]}', "mean=.*model.mean"),
        ('{"size": "big"}', "size=big"),
        ('{"pretrained_cfg": {"crop_pct": true}}', "crop=True"),
    ],
)
def test_damaged_facts_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_companion(tmp_path / "w.pth")


def test_other_files_beside_the_weights_say_nothing(tmp_path: Path) -> None:
    assert read_companion(tmp_path / "w.pth") == ({}, "")
    for content in ("[1, 2]", '{"lr": 0.1}', "null"):
        (tmp_path / "config.json").write_text(content)
        assert read_companion(tmp_path / "w.pth") == ({}, "")


def test_a_processor_that_does_not_scale_to_one_says_nothing_of_the_mean(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HUB))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | {"rescale_factor": 1.0}))
    assert set(read_companion(tmp_path / "w.pth")[0]) == {"classes", "size"}


def test_given_facts_go_before_those_beside_the_weights(tmp_path: Path) -> None:
    names = [f"kind {index}" for index in range(10)]
    torch.save(CifarCNN().state_dict(), tmp_path / "w.pth")
    (tmp_path / "config.json").write_text(json.dumps({"classes": names, "mean": [0.1] * 3, "size": 32}))
    classifier = build_classifier("cifar_cnn", Own(CifarCNN), str(tmp_path / "w.pth"), mean=[0.2] * 3)
    assert classifier.facts.classes == tuple(names) and classifier.facts.mean == (0.2,) * 3
    assert classifier.origin.endswith("w.pth, facts of config.json, std as usual for this network")
