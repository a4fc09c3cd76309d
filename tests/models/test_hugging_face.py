"""Image classifiers of Hugging Face transformers: from a folder, without a network, without code of others."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.core.errors import MissingWeights, UserError
from seewhy.explainers.attention import AttentionGradient, AttentionRollout
from seewhy.explainers.cam import GradCam
from seewhy.explainers.gradient import Saliency
from seewhy.models.build import build_classifier
from seewhy.models.classifier import Classifier
from seewhy.models.hugging_face import HuggingFace, find_crop

needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the extra `transformers` is not installed"
)
LABELS = {0: "cat", 1: "dog", 2: "owl"}


def save_vit(folder: Path, **changes: Any) -> Any:
    """A tiny vision transformer with its processor; returns the network."""
    import transformers

    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ViTConfig(**settings, image_size=32, patch_size=8, id2label=LABELS, **changes)
    network = transformers.ViTForImageClassification(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]
    ).save_pretrained(folder)
    return network


def load(folder: Path, weights: str = "auto", **options: Any) -> Classifier:
    return build_classifier(str(folder), HuggingFace(str(folder)), weights, **options)


def test_a_folder_is_called_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vit").mkdir()
    monkeypatch.chdir(tmp_path / "vit")
    for name in (str(tmp_path / "vit"), f"{tmp_path}/vit/", "."):
        assert HuggingFace(name).shorten_name(name) == "vit"
    assert HuggingFace("google/vit").shorten_name("google/vit") == "google/vit"


@needs_transformers
def test_a_folder_gives_the_network_and_its_facts(tmp_path: Path) -> None:
    network = save_vit(tmp_path)
    classifier = load(tmp_path)
    facts = classifier.facts
    assert classifier.name == tmp_path.name and str(tmp_path) not in classifier.origin
    assert facts.classes == ("cat", "dog", "owl") and facts.size == 32 and facts.fit == "squash"
    assert facts.interpolation == "bilinear" and facts.crop == 1
    assert facts.mean == pytest.approx((0.5, 0.4, 0.3), abs=1e-5) and facts.std == pytest.approx(
        (0.2, 0.3, 0.4), abs=1e-5
    )
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    with torch.no_grad():
        expected = network((images - mean) / std).logits
        torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-4)
    assert classifier.origin == f"folder: transformers {tmp_path.name}"


@needs_transformers
def test_methods_look_into_it(tmp_path: Path) -> None:
    save_vit(tmp_path)
    classifier, images, targets = load(tmp_path), torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    for explainer in (Saliency(), GradCam(), AttentionRollout(), AttentionGradient()):
        maps = explainer(classifier, images, targets)
        assert maps.shape == (2, 32, 32) and bool(maps.isfinite().all())
    rollout = AttentionRollout()(classifier, images, targets)
    assert float(rollout.std()) > 0


@needs_transformers
@pytest.mark.parametrize(
    ("name", "settings", "crop", "fit"),
    [
        ("ViTImageProcessor", {}, 1.0, "squash"),
        ("ViTImageProcessor", {"do_normalize": False}, 1.0, "squash"),
        (
            "ViTImageProcessor",
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
            1.0,
            "squash",
        ),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, 0.875, "crop"),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, 1.0, "squash"),
        ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}}, 1.0, "squash"),
        (
            "ConvNextImageProcessor",
            {"do_rescale": False, "image_mean": [127.5] * 3, "size": {"shortest_edge": 224}},
            0.875,
            "crop",
        ),
    ],
)
def test_what_a_processor_does_is_measured(
    tmp_path: Path, name: str, settings: dict[str, Any], crop: float, fit: str
) -> None:
    import transformers

    save_vit(tmp_path)
    processor = getattr(transformers, name)(**settings)
    processor.save_pretrained(tmp_path)
    facts = HuggingFace(str(tmp_path)).facts()
    assert (facts.crop, facts.fit) == (crop, fit)
    for level in (0, 100, 255):
        picture = Image.fromarray(np.full((80, 80, 3), level, np.uint8))
        expected = processor(picture, return_tensors="pt")["pixel_values"][0, :, 5, 5]
        assert facts.shape == tuple(processor(picture, return_tensors="pt")["pixel_values"].shape[2:])
        for channel in range(3):
            value = (level / 255 - facts.mean[channel]) / facts.std[channel]
            assert value == pytest.approx(float(expected[channel]), rel=1e-4, abs=1e-3)


def test_the_share_of_a_centre_crop() -> None:
    assert find_crop({"size": {"shortest_edge": 256}, "do_center_crop": True}, 224) == 224 / 256
    assert find_crop({"size": {"height": 256, "width": 320}, "do_center_crop": True}, (192, 224)) == 192 / 256
    assert find_crop({"size": {"height": 224, "width": 224}}, 224) == 1


@needs_transformers
def test_weights_without_a_head_are_refused(tmp_path: Path) -> None:
    network = save_vit(tmp_path)
    network.vit.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": LABELS}))
    with pytest.raises(
        UserError, match=r"weights lack classifier\.bias, classifier\.weight.*not trained as an image classifier"
    ):
        load(tmp_path)


@needs_transformers
def test_random_weights_own_files_and_other_classes(tmp_path: Path) -> None:
    network = save_vit(tmp_path)
    assert load(tmp_path, "random", classes=5)(torch.rand(1, 3, 32, 32)).shape == (1, 5)
    torch.save({f"model.{key}": value for key, value in network.state_dict().items()}, tmp_path / "mine.pth")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.pth").rename(tmp_path / "mine" / "mine.pth")
    classifier = load(tmp_path, str(tmp_path / "mine" / "mine.pth"))
    assert torch.equal(classifier.network.state_dict()["classifier.weight"], network.state_dict()["classifier.weight"])
    with pytest.raises(UserError, match=r"model\.arguments\.depth"):
        load(tmp_path, "random", arguments={"depth": 3})


@needs_transformers
def test_code_of_a_repository_is_not_run(tmp_path: Path) -> None:
    save_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Net"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('exploded').touch()\n")
    with pytest.raises(UserError, match=r"transformers cannot read a configuration"):
        load(tmp_path)
    assert not list(tmp_path.rglob("exploded"))


@needs_transformers
def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"holds no config\.json"):
        load(tmp_path)
    save_vit(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingWeights, match=r"holds no \*\.safetensors"):
        load(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="cannot read an image processor"):
        load(tmp_path, "random")


@needs_transformers
@pytest.mark.parametrize("name", ["no/such-repository", "vit", "./vit", "a/b/c"])
def test_a_name_that_is_out_of_reach(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    match = (
        r"hf download no/such-repository --local-dir FOLDER"
        if name.startswith("no/")
        else "neither a folder nor a name"
    )
    with pytest.raises(MissingWeights, match=match):
        build_classifier(name, HuggingFace(name), "auto")


def test_transformers_itself_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seewhy.models.hugging_face.find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match=r"pip install 'seewhy\[transformers\]'"):
        build_classifier("google/vit", HuggingFace("google/vit"), "auto")
    with pytest.raises(UserError, match=r"pip install 'seewhy\[transformers\]'"):
        build_classifier("google/vit", HuggingFace("google/vit"), "random")
    with pytest.raises(UserError, match=r"needs model\.name"):
        HuggingFace(None)
