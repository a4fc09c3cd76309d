"""A wrong request ends in seconds as one message with the value and the fix, exit code 2 and no traceback."""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from commands import Runner, composed, runner
from seewhy.cli import tasks
from seewhy.models.cifar_networks import CifarCNN

__all__ = ["runner"]

Check = Callable[..., str]


@pytest.fixture
def refused(runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """The one message with which a run ends; it leaves no file."""

    def check(*overrides: str) -> str:
        start = time.process_time()
        with pytest.raises(SystemExit) as stop:
            runner("explainer=saliency", "callbacks=[attribution,tables,faithfulness]", "logger=[]", *overrides)
        assert stop.value.code == 2
        assert time.process_time() - start < 10
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.startswith("error: ") or said.startswith("refused: ")
        assert not list((tmp_path / "run").rglob("*"))
        return said.partition(": ")[2].strip()

    return check


CONFIGS = [
    ("+explainer.windw=3", "explainer.windw is not a setting of Saliency"),
    ("+data.limt=3", "data.limt is not a setting of Samples: nearest: limit"),
    ("+callbacks.tables.colour=red", "callbacks.tables.colour is not a setting of Tables"),
    ("+trainer.max_epoch=3", "trainer.max_epoch is not a setting of Trainer: nearest: max_epochs"),
    ("explainer=integrated_gradients explainer.n_steps=0", "explainer.n_steps=0"),
    ("explainer=integrated_gradients explainer.n_steps=many", "explainer.n_steps=many"),
    ("explainer=integrated_gradients explainer.n_steps=2.5", "explainer.n_steps=2.5"),
    ("explainer=integrated_gradients explainer.tolerance=-1", "explainer.tolerance=-1"),
    ("explainer=integrated_gradients explainer.baseline=gray", "gray"),
    ("explainer=edges explainer.sigma=-1", "explainer.sigma=-1"),
    ("explainer=centre explainer.sigma=0", "explainer.sigma=0 must be a number above 0"),
    ("explainer=edges explainer.sigma=nan", "explainer.sigma=nan must be a finite number from 0"),
    ("explainer=smooth_grad explainer.noise=-0.1", "explainer.noise=-0.1"),
    ("explainer=smooth_grad explainer.noise=inf", "explainer.noise=inf must be a finite number from 0 to 1"),
    ("explainer=smooth_grad explainer.n_samples=0", "explainer.n_samples=0"),
    ("explainer=occlusion explainer.window=64", "window 64 is larger than the 32-pixel image"),
    (
        "explainer=occlusion explainer.window=wide",
        "explainer.window=wide must be a whole number from 1 to 1,000,000 or null",
    ),
    ("explainer=occlusion explainer.window=4 explainer.stride=9", "explainer.stride=9 is larger than the window"),
    ("explainer=rise explainer.probability=1.5", "explainer.probability=1.5"),
    ("explainer=rise explainer.cells=99", "explainer.cells=99"),
    ("explainer=lime explainer.n_segments=0", "n_segments=0"),
    ("explainer=kernel_shap explainer.n_samples=7", "explainer.n_samples=7 must be an even whole number from 2"),
    ("explainer=grad_cam explainer.layer=conv77", "conv77"),
    ("explainer=grad_cam explainer.layer=3", "explainer.layer=3 must be text that is not empty or null"),
    ("explainer.reduction=mean", "explainer.reduction=mean must be max or sum"),
    ("explainer=xrai explainer.scales=[]", "explainer.scales=[]"),
    ("data.limit=0", "data.limit=0 must be a whole number from 1 or null"),
    ("data.limit=-3", "data.limit=-3"),
    ("data.limit=two", "data.limit=two must be a whole number from 1 or null"),
    ("data.batch_size=0", "data.batch_size=0 must be a whole number from 1 to 65,536"),
    ("data.num_workers=-1", "data.num_workers=-1"),
    ("data=folder data.root=3", "data.root=3 does not exist"),
    ("data=folder data.root=[]", "data.root is not set"),
    ("data=folder data.root=nowhere/*.png", "matches no file"),
    ("data=folder data.root=. data.max_pixels=0", "data.max_pixels=0"),
    ("data=folder data.root=. data.labels=none.csv", "data.labels=none.csv"),
    ("data=cifar10 data.root=nowhere", "nowhere"),
    ("data=cifar10 data.limit=0", "data.limit=0"),
    ("data=cifar10 data.validation=0", "data.validation=0"),
    ("data=cifar10 data.label_noise=0.1", "data.label_noise=0.1 is read by train, or by callbacks=representers"),
    ("data=cifar10 data.shift=2", "data.shift=2 is read by train alone, not by explain: leave it out"),
    ("data=folder data.root=. data.test=0.3", "data.test=0.3 is read by train, or by callbacks=representers"),
    ("explainer=captum explainer.n_segments=9", "explainer.n_segments=9 is not read by IntegratedGradients"),
    ("explainer=captum explainer.options.n_steps=0", "explainer.options.n_steps=0 must be a whole number from 1"),
    ("probe_batch_size=0", "probe_batch_size=0 must be a whole number from 1 to 1,000,000 or auto"),
    ("probe_batch_size=fast", "probe_batch_size=fast"),
    ("probe_batch_size=2.5", "probe_batch_size=2.5"),
    ("probe_batch_size=true", "probe_batch_size=true"),
    ("seed=abc", "seed=abc must be a whole number from 0 to 4,294,967,295"),
    ("seed=-1", "seed=-1"),
    ("seed=99999999999", "seed=99999999999"),
    ("threads=0", "threads=0 must be a whole number from 1 to 1,024 or null"),
    ("threads=some", "threads=some"),
    ("target=10", "target=10 must be from 0 to 9"),
    ("target=-1", "target=-1"),
    ("target=shark", "target='shark'"),
    ("target=1.5", "target"),
    ("trainer.devices=0", "trainer"),
    ("trainer.precision=17", "trainer"),
    ("trainer.accelerator=quantum", "trainer"),
    ("model.size=0", "model.size=0"),
    ("model.size=100000", "model.size=100000"),
    ("model.size=64", "model.size"),
    ("model.crop=2", "model.crop=2"),
    ("model.mean=[0.5]", "model.mean=[0.5]"),
    ("model.mean=[a,b,c]", "model.mean"),
    ("model.std=[1,1,nan]", "model.std=[1,1,nan] must be a finite number above 0 and at most 1,000,000, a list"),
    ("model.interpolation=cubic", "model.interpolation=cubic must be nearest, bilinear, bicubic or null"),
    ("model.classes=0", "model.classes=0"),
    ("model.classes=[]", "model.classes=[]"),
    ("model.weights=7", "model.weights=7"),
    ("model=timm model.name=resnet1800", "resnet1800"),
    ("model=efficientnet_lite0 model.architecture.package=antigravity", "model.architecture.package=antigravity"),
    ("metric=[pointing_game]", "data.masks"),
    ("metric=[deletion] metric.deletion.n_steps=0", "n_steps=0"),
    ("explainer.seed=${nothing.here}", "the config cannot be filled in"),
    ("callbacks.attribution.limit=many", "callbacks.attribution.limit=many"),
    ("callbacks.attribution.limit=-1", "callbacks.attribution.limit=-1"),
    (
        "callbacks=explain callbacks.figures.strength=nan",
        "callbacks.figures.strength=nan must be a finite number from 0 to 1",
    ),
    ("callbacks=explain callbacks.figures.maximum=-1", "callbacks.figures.maximum=-1"),
    ("callbacks=explain callbacks.figures.limit=-1", "callbacks.figures.limit=-1"),
    ("callbacks=explain callbacks.figures.strength=7", "callbacks.figures.strength=7"),
]


@pytest.mark.parametrize(("overrides", "words"), CONFIGS, ids=[overrides for overrides, _ in CONFIGS])
def test_a_wrong_setting_is_named(refused: Check, overrides: str, words: str) -> None:
    assert words in refused(*overrides.split(" "))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(refused: Check) -> None:
    assert "trainer" in refused("trainer=gpu")


# Weights


class Canary:
    """Pickled, it would create a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def pickled(content: object, **options: object) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, **options)  # type: ignore[arg-type]
    return memory.getvalue()


def header(text: str, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


def tensors(tmp_path: Path, metadata: dict[str, str] | None = None) -> bytes:
    save_file(CifarCNN().state_dict(), tmp_path / "whole.safetensors", metadata)
    return (tmp_path / "whole.safetensors").read_bytes()


def changed(**changes: object) -> dict[str, object]:
    return {**CifarCNN().state_dict(), **changes}


def archive(size: int) -> bytes:
    """A zip with the names of a checkpoint that unpacks to far more than its size."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
        file.writestr("archive/data/0", bytes(size))
    return memory.getvalue()


BIAS = "fc3.bias"
LAPPING = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
OUTSIDE = '{"a":{"dtype":"F32","shape":[9000],"data_offsets":[0,36000]}}'
WEIGHTS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "empty": ("w.pth", lambda _: b"", "empty"),
    "empty safetensors": ("w.safetensors", lambda _: b"", "empty"),
    "text": ("w.pth", lambda _: b"these are my weights\n", "cannot be read"),
    "noise": ("w.pth", lambda _: bytes(range(256)) * 20, "cannot be read"),
    "truncated": ("w.pth", lambda _: pickled(CifarCNN().state_dict())[:9999], "complete"),
    "truncated safetensors": ("w.safetensors", lambda path: tensors(path)[:9999], "complete"),
    "pickle with code": ("w.pth", lambda path: pickled({"w": Canary(path / "canary")}), "could run code"),
    "old pickle with code": (
        "w.pt",
        lambda path: pickled({"w": Canary(path / "canary")}, _use_new_zipfile_serialization=False),
        "could run code",
    ),
    "whole network": ("w.pth", lambda _: pickled(CifarCNN()), "could run code"),
    "checkpoint with code": (
        "w.ckpt",
        lambda path: pickled({"state_dict": CifarCNN().state_dict(), "extra": Canary(path / "canary")}),
        "could run code",
    ),
    "plain zip": ("w.pth", lambda _: archive(10), "cannot be read|state dict"),
    "zip bomb": ("w.pth", lambda _: archive(30_000_000), "unpacks to 30,000,004 bytes"),
    "list": ("w.pth", lambda _: pickled([torch.zeros(3)]), "not a state dict"),
    "numbered": ("w.pth", lambda _: pickled({0: torch.zeros(3)}), "not a state dict"),
    "no tensors": ("w.pth", lambda _: pickled({}), "not a state dict"),
    "one tensor": ("w.pth", lambda _: pickled(torch.zeros(3)), "not a state dict"),
    "wrong network": ("w.pth", lambda _: pickled({"layer1.weight": torch.zeros(3)}), "do not fit the network"),
    "seven classes": ("w.pth", lambda _: pickled(CifarCNN(num_classes=7).state_dict()), "model.classes"),
    "NaN": ("w.pth", lambda _: pickled(changed(**{BIAS: torch.full((10,), torch.nan)})), f"NaN.*{BIAS}"),
    "infinite": ("w.pth", lambda _: pickled(changed(**{BIAS: torch.full((10,), -torch.inf)})), f"infinite.*{BIAS}"),
    "complex": ("w.pth", lambda _: pickled(changed(**{BIAS: torch.zeros(10, dtype=torch.complex64)})), "complex64"),
    "whole numbers": ("w.pth", lambda _: pickled(changed(**{BIAS: torch.zeros(10, dtype=torch.int64)})), "int64"),
    "sparse": (
        "w.pth",
        lambda _: pickled(changed(**{BIAS: torch.zeros(10).to_sparse()})),
        "sparse|cannot be read|could run code",
    ),
    "other suffix": ("w.h5", lambda _: b"\x89HDF\r\n", "expected .safetensors"),
    "header of garbage": ("w.safetensors", lambda _: header("{not json"), "cannot be read"),
    "huge header": ("w.safetensors", lambda _: header("{}", 2**62), "cannot be read"),
    "header past the end": ("w.safetensors", lambda _: header("{}", 4000), "cannot be read"),
    "overlapping": ("w.safetensors", lambda _: header(LAPPING, data=bytes(12)), "cannot be read"),
    "outside": ("w.safetensors", lambda _: header(OUTSIDE, data=bytes(12)), "cannot be read"),
    "pickle called safetensors": (
        "w.safetensors",
        lambda path: pickled({"w": Canary(path / "canary")}),
        "cannot be read",
    ),
    "damaged facts": ("w.safetensors", lambda path: tensors(path, {"facts": "{"}), "its facts.*are damaged"),
    "facts of another kind": ("w.safetensors", lambda path: tensors(path, {"facts": "[1]"}), "are damaged"),
    "unknown facts": ("w.safetensors", lambda path: tensors(path, {"facts": '{"evil": 1}'}), "are damaged"),
    "huge facts": (
        "w.safetensors",
        lambda path: tensors(
            path,
            {"facts": '{"classes": ["a"], "size": 99999999, "mean": [0,0,0], "std": [1,1,1]}'},
        ),
        "model.size=99999999",
    ),
    "escape sequence in a class": (
        "w.safetensors",
        lambda path: tensors(
            path, {"facts": '{"classes": ["a\\u001b[2J"], "size": 32, "mean": [0,0,0], "std": [1,1,1]}'}
        ),
        "control character",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("title", WEIGHTS)
def test_bad_weights_are_named_and_not_executed(refused: Check, tmp_path: Path, title: str) -> None:
    name, make, words = WEIGHTS[title]
    (tmp_path / name).write_bytes(make(tmp_path))
    assert re.search(words, refused(f"model.weights={tmp_path / name}").replace("\n", " "))
    assert not (tmp_path / "canary").exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    torch.load(io.BytesIO(pickled({"w": Canary(tmp_path / "canary")})), weights_only=False)
    assert (tmp_path / "canary").exists()


def test_a_folder_is_no_weights_file(refused: Check, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").mkdir()
    assert "it is not a file" in refused(f"model.weights={tmp_path / 'w.safetensors'}")


# Masks


def masked(folder: Path, mask: Callable[[Path], object] | None) -> list[str]:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(folder / "masks" / f"{name}.png")
    place = folder / "masks" / "b.png"
    place.unlink()
    if mask is not None:
        mask(place)
    return ["data=folder", f"data.root={folder / 'images'}", f"data.masks={folder / 'masks'}", "metric=[pointing_game]"]


MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (lambda path: Image.new("L", (31, 32), 255).save(path), "31x32 pixels and the image 32x32"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("x"), "not an image"),
    "bomb": (lambda path: Image.new("1", (20000, 6000)).save(path), "20000 x 6000 is more than"),
}


@pytest.mark.slow
@pytest.mark.parametrize("title", MASKS)
def test_an_image_with_a_bad_mask_is_skipped_and_the_rest_goes_on(runner: Runner, tmp_path: Path, title: str) -> None:
    make, words = MASKS[title]
    given = ["explainer=saliency", "callbacks=[attribution,faithfulness,tables]", "logger=[]"]
    folder = runner(*given, *masked(tmp_path, make))
    skipped = (folder / "skipped.csv").read_text()
    assert words in skipped and "its mask" in skipped
    assert (folder / "predictions.csv").read_text().count("\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["nowhere", "empty"])
def test_a_folder_without_masks_is_named(refused: Check, tmp_path: Path, masks: str) -> None:
    (tmp_path / "empty").mkdir()
    given = masked(tmp_path, None)
    given[2] = f"data.masks={tmp_path / masks}"
    assert f"data.masks={tmp_path / masks}" in refused(*given)


def test_an_output_that_is_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "taken"
    place.write_text("")
    with pytest.raises(SystemExit) as stop:
        tasks.execute(tasks.explain, composed("explain", [f"output={place}", "hydra.mode=RUN"]))
    assert stop.value.code == 2
    assert f"the run folder {place} is a file" in capsys.readouterr().err
