"""Which method is right on which network: the matrix, measured on the spot.

usage: python scripts/methods.py [--models NAME ...] [--methods NAME ...] [--markdown FILE]

Each method explains one sample image on each network. `exact`: the method promises that its map adds up to a score or a
change of it, and it does, to 0.1 %. `gap 3.1 % of 5 %`: approximately, within the method's tolerance, here 5 %; `gap 9
% over 5 %`: beyond it. `absorbs 12 %`: the share of the score that biases and constants keep, which is right for LRP.
`map`: finite and not empty, nothing is promised. `map of exact terms`: what is drawn are absolute values of terms that
add up. `control`: a map that knows nothing of the network. `refused`: the method would be silently wrong on this
network; the reasons stand below the table. Behind a cell are its forward and backward passes.

Recommended is by this rule: of the methods that are exact on a network the one with the fewest passes; where none is exact,
the one with the smallest gap; in both cases the first in the alphabet of several. It is the cheapest map that accounts for
the whole score, not the map that looks best.

Weights are `auto`, or random where none are at hand. Methods that draw samples get fewer than their yaml says (10, or
200 masks), so their gaps are larger than in a run, and their passes fewer. torchvision begins vit_b_16 with a head of
zeros: without trained weights its score does not depend on the image, and maps of it are zero.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

SMALL = ["model.size=64", "++model.arguments.img_size=64"]
"""A transformer for small images, which takes seconds instead of minutes."""
NETWORKS: dict[str, list[str]] = {
    "cifar_cnn": ["model=cifar_cnn"],
    "vgg16_cifar": ["model=vgg16_cifar"],
    "mobilenetv3": ["model=mobilenetv3"],
    "vit_cifar": ["model=vit_cifar"],
    "efficientnet_lite0": ["model=efficientnet_lite0"],
    "squeezenet": ["model=squeezenet"],
    "vgg16": ["model=vgg16", "model.size=64"],
    "resnet18": ["model=timm", "model.name=resnet18"],
    "convnext_atto": ["model=timm", "model.name=convnext_atto", "model.size=64"],
    "vit_tiny": ["model=timm", "model.name=vit_tiny_patch16_224", *SMALL],
    "deit_tiny distilled": ["model=timm", "model.name=deit_tiny_distilled_patch16_224", *SMALL],
    "vit_small registers": [
        *("model=timm", "model.name=vit_small_patch14_reg4_dinov2", "model.size=56"),
        *("++model.arguments.img_size=56", "model.classes=10"),
    ],
    "swin_tiny": ["model=timm", "model.name=swin_tiny_patch4_window7_224", *SMALL, "++model.arguments.window_size=4"],
    "torchvision vit_b_16": [
        *("model=torchvision", "model.name=vit_b_16", "model.size=64", "++model.arguments.image_size=64")
    ],
    "Hugging Face ViT": ["model=transformers", "model.name={folder}", "model.size=64"],
}
"""The networks, each with the settings of `src/explain.py` that choose it."""
VARIANTS = {
    "lrp attn_lrp": ("lrp", {"rule": "attn_lrp"}),
    "lrp cp_lrp": ("lrp", {"rule": "cp_lrp"}),
    "libra_grad integrated_gradients": ("libra_grad", {"over": "integrated_gradients"}),
    "libra_grad grad_cam": ("libra_grad", {"over": "grad_cam"}),
}
"""Methods with other settings than those of their yaml, which stand in rows of their own."""
EXACT = 1e-3
"""A gap up to this share of the score is none: single precision leaves less."""
CHEAP = {"n_masks": 200, "n_samples": 10}
"""Fewer samples than the yaml says: enough to see whether a method works."""
FEW = {
    "occlusion": {"window": 16, "stride": 16},
    "score_cam": {"channels": 32},
    "kernel_shap": {"n_samples": 200},
    "shapley_value_sampling": {"n_segments": 8},
}
"""The same for methods whose passes depend on other fields, or that need more samples than CHEAP allows."""


@dataclass(frozen=True)
class Cell:
    """What a method does on a network."""

    words: str
    passes: tuple[int, int] = (0, 0)
    gap: float | None = None
    """Of a method that promises completeness."""
    reason: str = ""

    def write(self) -> str:
        """The cell of the table."""
        spent = "+".join(map(str, self.passes)) if any(self.passes) else ""
        return f"{self.words} ({spent})" if spent else self.words


def compose(overrides: Sequence[str]) -> Any:
    """The config of `src/explain.py`."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("explain", list(overrides))


def find_settings(model: str) -> list[str]:
    """The settings that choose a network of `NETWORKS`, of configs/model or timm:NAME."""
    group, _, name = model.partition(":")
    return NETWORKS.get(model, [f"model={group}", *([f"model.name={name}"] if name else [])])


def load(model: str, folder: str) -> Any:
    """The classifier with the weights that are at hand, else random ones; `folder` is for a network of transformers."""
    from hydra.utils import instantiate

    from seewhy.core.errors import MissingWeights

    settings = [each.format(folder=folder) for each in find_settings(model)]
    if settings[0] == "model=transformers":
        save_transformer(folder)
    for weights in ("auto", "random"):
        try:
            return instantiate(compose([*settings, f"model.weights={weights}"]).model, _convert_="object")
        except Exception as error:
            if not isinstance(error, MissingWeights) and not isinstance(error.__cause__, MissingWeights):
                raise
    raise AssertionError


def save_transformer(folder: str) -> None:
    """A small ViT of transformers with random weights, as its own library writes it."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(image_size=64, patch_size=16, hidden_size=96, num_hidden_layers=4, num_attention_heads=3)
    config.id2label = {index: f"class {index}" for index in range(10)}
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def judge(classifier: Any, explainer: Any, image: Any, target: Any) -> Cell:
    """What one method does on one network."""
    from seewhy.core.errors import Incompatible, UserError
    from seewhy.explainers.batch import find_warnings
    from seewhy.models.classifier import Passes
    from seewhy.report.comparison import CONTROLS

    before = Passes(classifier.passes.forward, classifier.passes.backward)
    try:
        attributed = explainer.attribute(classifier, image, target)
    except (Incompatible, UserError) as refused:
        return Cell("refused", reason=str(refused))
    spent = classifier.passes.since(before)
    passes = spent.forward, spent.backward
    facts = {key: float(values[0]) for key, values in attributed.facts.items()}
    warnings = find_warnings(explainer, attributed.maps[0].cpu(), facts)
    gap, tolerance = facts.get("completeness_gap_relative"), getattr(explainer, "tolerance", None)
    if gap is not None and not explainer.signed:
        return Cell("map of exact terms" if gap <= EXACT else f"map, its terms leave {percent(gap)}", passes)
    if gap is not None and gap <= EXACT:
        return Cell("exact", passes, gap)
    if gap is not None and tolerance is not None:
        return Cell(f"gap {percent(gap)} {'of' if gap <= tolerance else 'over'} {percent(tolerance)}", passes, gap)
    if warnings:
        return Cell(warnings[0], passes)
    if "conservation_gap_relative" in facts:
        return Cell(f"absorbs {percent(facts['conservation_gap_relative'])}", passes)
    return Cell("control" if explainer.name in CONTROLS else "map", passes)


def recommend(cells: dict[str, Cell]) -> str:
    """The method that the rule at the head of this file recommends; empty where none promises completeness."""
    complete = {method: cell for method, cell in cells.items() if cell.gap is not None}
    exact = {method: sum(cell.passes) for method, cell in complete.items() if cell.words == "exact"}
    best = exact or {method: cell.gap for method, cell in complete.items()}
    return min(sorted(best), key=lambda method: best[method]) if best else ""


def percent(share: float) -> str:
    """A share as a percentage of two digits.

    >>> percent(1.37), percent(0.021), percent(3e-8)
    ('137 %', '2.1 %', '3e-06 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def image_for(classifier: Any) -> Any:
    """One sample image with the classifier's own preprocessing, [1, 3, size, size]."""
    from seewhy.data.folder import Samples

    data = Samples(facts=classifier.facts, limit=1)
    data.setup("test")
    return next(iter(data.test_dataloader())).images


def main() -> None:
    """Measure and print the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plain = [path.stem for path in (ROOT / "configs" / "explainer").glob("*.yaml") if path.stem != "captum"]
    everything = sorted([*plain, *VARIANTS])
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), help="timm:NAME for any timm network")
    parser.add_argument("--methods", nargs="+", default=everything, choices=everything, metavar="NAME")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()
    models = arguments.models
    if find_spec("transformers") is None and "Hugging Face ViT" in models:
        print("Hugging Face ViT: left out, the package transformers is not there", file=sys.stderr)
        models = [model for model in models if model != "Hugging Face ViT"]
    text = write_markdown({model: measure(model, arguments.methods) for model in models}, arguments.methods)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


def measure(model: str, methods: Sequence[str]) -> dict[str, Cell]:
    """The column of one network."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import open_dict

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        classifier = load(model, folder)
    image = image_for(classifier)
    with torch.no_grad():
        target = classifier(image).argmax(1)
    column = {}
    for method in methods:
        name, changed = VARIANTS.get(method, (method, {}))
        config = compose([f"explainer={name}"]).explainer
        with open_dict(config):
            for key, value in CHEAP.items():
                if key in config:
                    config[key] = min(config[key], value)
            config.update(FEW.get(name, {}) | changed)
        column[method] = judge(classifier, instantiate(config, _convert_="object"), image, target)
        print(f"{model} {method}: {column[method].write()}", file=sys.stderr, flush=True)
    return column


def write_markdown(columns: dict[str, dict[str, Cell]], methods: Sequence[str]) -> str:
    """The matrix, what is recommended and the reasons of refusals as Markdown."""
    rows = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    chosen = [recommend(column) for column in columns.values()]
    rows.append("| **recommended** | " + " | ".join(f"`{method}`" if method else "" for method in chosen) + " |")
    rows += [
        f"| `{method}` | " + " | ".join(column[method].write() for column in columns.values()) + " |"
        for method in methods
    ]
    reasons: dict[str, list[str]] = {}
    for model, column in columns.items():
        for method, cell in column.items():
            if cell.reason:
                reasons.setdefault(cell.reason.replace(method, "METHOD", 1), []).append(f"`{method}` on {model}")
    listed = [f"- {', '.join(pairs)}: {reason}" for reason, pairs in reasons.items()]
    about = "\n\n".join((__doc__ or "").split("\n\n")[2:]).strip()
    return "\n".join(["# Methods and networks", "", about, "", *rows, "", *listed, ""])


if __name__ == "__main__":
    main()
