"""`from seewhy import explain`: the numbers of the command, whatever the images come as."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from torch import nn

from commands import composed
from seewhy import UserError, explain, load_classifier
from seewhy.cli import config, tasks
from seewhy.cli.config import CONFIGS
from seewhy.data.folder import SAMPLES
from seewhy.explainers.gradient import Saliency
from tiny import linear_classifier, random_images

CIFAR = SAMPLES / "cifar10"
QUICK: dict[str, Any] = {"probe_batch_size": 16, "overrides": ["model.weights=random", "trainer=cpu"]}
README = (CONFIGS.parent / "README.md").read_text()


def maps(explanations: list[Any]) -> torch.Tensor:
    return torch.stack([one.attribution for one in explanations])


@pytest.mark.slow
def test_the_bytes_are_those_of_the_command(tmp_path: Path) -> None:
    given = ["model=cifar_cnn", *QUICK["overrides"], "probe_batch_size=16", f"output={tmp_path}", "hydra.mode=RUN"]
    given += ["explainer=integrated_gradients", "explainer.n_steps=8", "metric=[deletion,complexity]"]
    given += ["data=folder", f"data.root={CIFAR}", "data.limit=2", "target=runner_up", "seed=3", "logger=[]"]
    tasks.execute(tasks.explain, composed("explain", given))
    options = {**QUICK, "overrides": [*QUICK["overrides"], "data.limit=2"]}
    chosen = {"explainer": "integrated_gradients", "metrics": ["deletion", "complexity"], "n_steps": 8}
    made = explain("cifar_cnn", CIFAR, target="runner_up", seed=3, **chosen, **options)
    assert len(made) == 2
    with (tmp_path / "metrics.csv").open() as file:
        written = {(row["image"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert written == {
        (one.name, name): repr(value) for one in made for name, value in {**one.facts, **one.metrics}.items()
    }
    for one in made:
        stored = np.load(tmp_path / "attributions" / f"{one.name}.npy")
        assert stored.tobytes() == one.attribution.numpy().tobytes()
        assert one._repr_png_() == (tmp_path / "figures" / f"{one.name}.png").read_bytes()
    assert made._repr_png_() == (tmp_path / "sheet.png").read_bytes()


@pytest.mark.slow
def test_files_pillow_images_and_tensors_give_the_same_maps() -> None:
    files = [CIFAR / "cat_0000.png", CIFAR / "airplane_0003.png", CIFAR / "bird_0025.png"]
    by_file = explain("cifar_cnn", files, "saliency", **QUICK)
    assert [one.name for one in by_file] == [path.stem for path in files]
    by_picture = explain("cifar_cnn", [Image.open(path) for path in files], "saliency", **QUICK)
    assert [one.name for one in by_picture] == ["image_000", "image_001", "image_002"]
    by_tensor = explain("cifar_cnn", torch.stack([one.image for one in by_file]), "saliency", **QUICK)
    assert torch.equal(maps(by_file), maps(by_picture))
    assert torch.equal(maps(by_file), maps(by_tensor))
    one = explain("cifar_cnn", Image.open(files[0]), Saliency(probe_batch_size=16), **QUICK)
    # alone in its batch, a gate that stands at its edge in single precision may open
    assert float((one[0].attribution - by_file[0].attribution).norm() / one[0].attribution.norm()) < 1e-2


@pytest.mark.slow
def test_folders_patterns_and_lists_of_them_keep_the_order_given() -> None:
    names = [one.name for one in explain("cifar_cnn", str(CIFAR / "cat_*.png"), "edges", **QUICK)]
    assert names
    assert all(name.startswith("cat") for name in names)
    both = explain("cifar_cnn", [str(CIFAR / "ship_0001.png"), CIFAR], "edges", **QUICK)
    files = sorted(CIFAR.glob("*.png"))
    assert len(both) == len(files)
    assert both[0].name == "ship_0001"
    assert [one.name for one in both[1:]] == [path.stem for path in files if path.stem != "ship_0001"]


@pytest.mark.slow
def test_a_network_of_ones_own_is_normalised_and_left_as_it_was() -> None:
    classifier, weights = linear_classifier(size=8, classes=3)
    network = classifier.network.train()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    images = random_images(2, 8).float()
    made = explain(network, images, "saliency", target=2, classes=3, size=8, mean=mean, std=std, probe_batch_size=4)
    expected = (weights[2] / torch.tensor(std).view(3, 1, 1)).abs().amax(0)
    for one in made:
        torch.testing.assert_close(one.attribution, expected)
        assert one.target.name == "class 2"
    logits = network((images.double() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    assert [one.prediction.index for one in made] == logits.argmax(1).tolist()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert explain(classifier, images, "saliency", target=2, probe_batch_size=4)[0].classifier == "Sequential (random)"


@pytest.mark.slow
def test_a_loaded_classifier_serves_many_calls() -> None:
    loaded = load_classifier("cifar_cnn", classes=[f"kind {index}" for index in range(10)], weights="random")
    assert loaded.facts.classes[3] == "kind 3"
    assert load_classifier(loaded) is loaded
    made = explain(loaded, random_images(1, 32), "saliency", target="kind 3", probe_batch_size=4)
    assert made[0].target.index == 3


@pytest.mark.slow
def test_weights_are_given_to_explain_as_to_load_classifier() -> None:
    image = np.full((32, 32, 3), 128, np.uint8)
    shipped, random = (explain("cifar_cnn", image, "saliency", weights=word) for word in ("shipped", "random"))
    loaded = explain(load_classifier("cifar_cnn", weights="random"), image, "saliency")
    assert random[0].attribution.equal(loaded[0].attribution)
    assert not random[0].attribution.equal(shipped[0].attribution)
    with pytest.raises(UserError, match="weights=random: of which network"):
        explain(["cifar_cnn", "vgg16_cifar"], image, "saliency", weights="random")


@pytest.mark.slow
def test_a_timm_network_is_found_by_its_name() -> None:
    options: dict[str, Any] = {"classes": 4, "size": 32, "weights": "random"}
    for name in ("resnet10t", "timm/resnet10t"):
        assert load_classifier(name, **options).name == "resnet10t"


@pytest.mark.slow
def test_masks_and_metrics_that_need_them(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    shutil.copy(CIFAR / "cat_0000.png", tmp_path / "images" / "one.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "masks" / "one.png")
    options = {**QUICK, "overrides": [*QUICK["overrides"], f"data.masks={tmp_path / 'masks'}"]}
    made = explain("cifar_cnn", tmp_path / "images", "saliency", metrics="relevance_mass", **options)
    assert made[0].metrics["relevance_mass"] == 1
    with pytest.raises(UserError, match=r"data\.masks"):
        explain("cifar_cnn", tmp_path / "images", "saliency", metrics="relevance_mass", **QUICK)


@pytest.mark.slow
def test_what_cannot_be_used_is_listed(tmp_path: Path) -> None:
    shutil.copy(CIFAR / "cat_0000.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    made = explain("cifar_cnn", tmp_path, "edges", **QUICK)
    assert [one.name for one in made] == ["good"]
    assert [Path(one.path).name for one in made.skipped] == ["bad.png"]
    assert "1 images skipped" in repr(made)
    assert list(made.table().image) == ["good"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("cifar_cn",), {}, "nearest: cifar_cnn"),
        (("timm/resnet19",), {}, "timm/resnet18"),
        (("cifar_cnn", None, "gradcam"), {}, r"did you mean explainer=grad_cam\?"),
        (("cifar_cnn", None, "rise"), {"n_mask": 5}, r"did you mean explainer\.n_masks="),
        (("cifar_cnn", None, Saliency()), {"n_steps": 5}, "on the explainer itself"),
        (("cifar_cnn",), {"metrics": ["deletin"]}, "did you mean metric=deletion"),
        (("cifar_cnn",), {"target": "shipp"}, "nearest: ship"),
        (("cifar_cnn", random_images(1, 32)), {"target": "true"}, "target=true"),
        (("cifar_cnn", random_images(1, 30)), {}, "30 x 30 pixels, the network sees 32 x 32"),
        (("cifar_cnn", random_images(1, 32) * 255), {}, r"give \[0, 1\]"),
        (("cifar_cnn", random_images(1, 32) * torch.nan), {}, "reach from nan"),
        (("cifar_cnn", torch.zeros(1, 3, 32, 32, dtype=torch.int64)), {}, r"torch\.int64: give 8 bits"),
        (("cifar_cnn", []), {}, "at least one image"),
        (("cifar_cnn", [1, CIFAR]), {}, "images=1: give paths, Pillow images"),
        (("cifar_cnn", "nowhere"), {}, "does not exist"),
        ((nn.Flatten(),), {"size": 8}, "needs classes, mean, std"),
        ((linear_classifier()[0],), {"size": 8}, "this classifier has its own"),
    ],
)
def test_a_mistake_names_the_value_and_the_fix(arguments: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        explain(*arguments, **options)


def test_outside_a_checkout_it_says_where_the_configs_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    with pytest.raises(UserError, match="pip install <checkout>"):
        explain("cifar_cnn")


def test_a_hydra_application_keeps_its_state() -> None:
    GlobalHydra.instance().clear()
    config.compose("explain")
    assert not GlobalHydra.instance().is_initialized()


def test_the_random_state_of_the_notebook_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    explain("cifar_cnn", random_images(1, 32), "random", **QUICK)
    assert torch.equal(torch.rand(3), expected)


def test_importing_the_package_imports_nothing_heavy() -> None:
    lines = "import sys, seewhy; assert set(seewhy.__all__) <= set(dir(seewhy)); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", lines], cwd=CONFIGS.parent / "src", capture_output=True, text=True)
    assert "'seewhy'" in done.stdout
    assert not any(f"'{heavy}'" in done.stdout for heavy in ("torch", "numpy", "hydra", "omegaconf", "matplotlib"))


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import seewhy

    assert all(callable(getattr(seewhy, name)) for name in seewhy.__all__)
    with pytest.raises(AttributeError, match="explian"):
        getattr(seewhy, "explian")  # noqa: B009 (the name does not exist)


def test_no_argument_hides_a_key_of_an_explainer() -> None:
    import inspect

    keys = set(re.findall(r"^(\w+):", "".join(p.read_text() for p in (CONFIGS / "explainer").glob("*.yaml")), re.M))
    own = set(inspect.signature(explain).parameters) - {"seed", "probe_batch_size"}
    assert keys & own == {"explainer"}, "noise_tunnel's explainer is set with overrides"


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"```python\n(.+?)```", README, re.DOTALL)[0]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 5
    (tmp_path / "photographs").mkdir()
    photograph = sorted((SAMPLES / "photographs").glob("*.jpg"))[0]
    shutil.copy(photograph, tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    few = ["metric.deletion.n_steps=4", "metric.insertion.n_steps=4"]
    names: dict[str, Any] = {}
    exec(lines.replace("metrics=[", f"probe_batch_size=16, overrides={few}, metrics=["), names)
    assert names["figure"].width > 500
    assert list(names["scores"].image) == [photograph.stem]
    assert {"deletion", "insertion"} <= set(names["scores"])


def test_a_network_of_ones_own_needs_what_no_network_tells() -> None:
    with pytest.raises(UserError, match="a network of your own needs size, std: for example classes=10"):
        load_classifier(nn.Identity(), classes=3, mean=0.5)
