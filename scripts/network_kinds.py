"""What each method does with each kind of network, measured on small ones: the matrix in docs/networks.md.

usage: python scripts/network_kinds.py [--markdown FILE]

Forms of one network: `right` where the map is that of the plain module, to 1e-5 of its largest value. Outputs and inputs of
other kinds: `right` where the map has the size of the image, is finite and is not empty (the tests compare these maps with
those of twins). `refused`: with a sentence that names the network and what to use instead; the sentences stand below.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

SIZE = 32
CHEAP = {"n_steps": 4, "n_samples": 4, "n_masks": 16, "n_segments": 6}
"""Smaller settings: enough to see whether a method works."""
TOLERANCE = 1e-5


def build_module(channels: int = 3, outputs: int = 4) -> nn.Sequential:
    """Two convolutions with rectifiers and a dense layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, outputs)).eval()


class WithoutGradients(nn.Module):
    """A network whose forward records no operation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the scores."""
        scores: Tensor = self.network(images)
        return scores


class Named(nn.Module):
    """A network that returns its scores beside other values."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the scores, and their half."""
        scores = self.network(images)
        return {"aux": scores / 2, "logits": scores}


def trace(network: nn.Module) -> nn.Module:
    """The network as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        traced: nn.Module = torch.jit.trace(network, torch.rand(2, 3, SIZE, SIZE))
    return traced


def export(network: nn.Module) -> nn.Module:
    """The network as an exported program of any number of images."""
    shapes: Any = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(network, (torch.rand(2, 3, SIZE, SIZE),), dynamic_shapes=shapes).module()


def build_transformer() -> nn.Module:
    """A small vision transformer of timm."""
    import timm

    torch.manual_seed(0)
    network: nn.Module = timm.create_model("test_vit", img_size=SIZE, num_classes=4)
    for name, parameter in network.named_parameters():
        if "bias" in name or "token" in name:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "module": lambda network: network,
    "mapping of outputs": Named,
    "`DataParallel`": nn.DataParallel,
    "`torch.compile`": lambda network: torch.compile(network, backend="eager"),
    "TorchScript": trace,
    "exported program": export,
    "without gradients": WithoutGradients,
}
KINDS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "transformer": (build_transformer, {}),
    "half precision": (lambda: build_module().half(), {}),
    "one logit": (lambda: build_module(outputs=1), {"classes": ["positive"]}),
    "several labels": (build_module, {"score": "sigmoid"}),
    "no probabilities": (build_module, {"score": "none"}),
    "probabilities inside": (lambda: nn.Sequential(*build_module(), nn.Softmax(1)).eval(), {}),
    "1 channel": (lambda: build_module(1), {"mean": [0.5], "std": [0.25]}),
    "13 channels": (lambda: build_module(13), {"mean": [0.5] * 13, "std": [0.25] * 13}),
    "24 x 40 pixels": (build_module, {"size": (24, 40)}),
}


def build_explainer(path: Path, probe_batch_size: int = 8) -> Any:
    """The method of a yaml of configs/explainer with few samples."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from seewhy.explainers.captum_methods import takes

    root: Any = OmegaConf.create({"seed": 0, "probe_batch_size": probe_batch_size, "explainer": OmegaConf.load(path)})
    for config in (root.explainer, root.explainer.get("explainer") or {}, root.explainer.get("options") or {}):
        if config.get("distribution") != "image":  # an expert of one image walks no path
            cheap = {key: value for key, value in CHEAP.items() if isinstance(config.get(key), int)}
            if "options" in config and not takes(config.method, "feature_mask"):  # captum's without superpixels
                cheap.pop("n_segments", None)
            config.update(cheap)
    return instantiate(root.explainer, _convert_="object")


def build_explainers() -> dict[str, Any]:
    """Every method of configs/explainer with few samples."""
    return {path.stem: build_explainer(path) for path in sorted((ROOT / "configs" / "explainer").glob("*.yaml"))}


def load(network: Any, **facts: Any) -> Any:
    """The classifier of a network."""
    from seewhy import load_classifier

    usual = {"classes": 4, "size": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
    return load_classifier(network, **{**usual, **facts})


def explain(classifier: Any, explainer: Any) -> Tensor | str:
    """The map of one image, or why it is refused; `expert` looks at the last activation function."""
    from seewhy.core.errors import Incompatible

    facts = classifier.facts
    activations = [name for name, module in classifier.network.named_modules() if isinstance(module, nn.ReLU | nn.GELU)]
    if explainer.name == "expert" and activations:
        explainer = dataclasses.replace(explainer, layer=activations[-1])
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, facts.channels, *facts.shape, generator=generator)
    with torch.no_grad():
        target = classifier(image).argmax(1)  # of another class a rectified map may rightly be empty
    try:
        attributed: Tensor = explainer(classifier, image, target)
    except Incompatible as refusal:
        return str(refusal)
    return attributed[0]


def measure() -> tuple[dict[tuple[str, str], str], dict[str, list[str]]]:
    """({(method, kind): cell}, {reason: pairs})."""
    plain = build_module()
    classifiers = {name: load(form(copy.deepcopy(plain))) for name, form in FORMS.items()}
    classifiers |= {name: load(build(), **facts) for name, (build, facts) in KINDS.items()}
    cells: dict[tuple[str, str], str] = {}
    reasons: dict[str, list[str]] = {}
    for method, explainer in build_explainers().items():
        reference = explain(classifiers["module"], explainer)
        for kind, classifier in classifiers.items():
            found = explain(classifier, explainer)
            if isinstance(found, str):
                cells[method, kind] = "refused"
                reasons.setdefault(re.sub(rf"^{method}\b", "METHOD", found), []).append(f"`{method}` ({kind})")
                continue
            fits = tuple(found.shape) == classifier.facts.shape and bool(found.isfinite().all() and found.any())
            if kind in FORMS and isinstance(reference, Tensor):
                fits &= bool((found - reference).abs().max() <= TOLERANCE * reference.abs().max())
            cells[method, kind] = "right" if fits else "WRONG"
    return cells, reasons


def write_markdown(cells: dict[tuple[str, str], str], reasons: dict[str, list[str]]) -> str:
    """The matrix and the reasons as Markdown."""
    methods, kinds = (list(dict.fromkeys(pair[side] for pair in cells)) for side in (0, 1))
    rows = ["| method | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    rows += [f"| `{method}` | " + " | ".join(cells[method, kind] for kind in kinds) + " |" for method in methods]
    about = re.sub(r"\s*\n", "\n", (__doc__ or "").split("\n\n")[2].strip())
    listed = [f"- {', '.join(pairs)}: {reason}" for reason, pairs in reasons.items()]
    how = "Measured by `python scripts/network_kinds.py --markdown docs/networks.md`."
    return "\n".join(["# Methods and kinds of networks", "", about, how, "", *rows, "", *listed, ""])


def main() -> None:
    """Measure and print the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the matrix to this file as well")
    arguments = parser.parse_args()
    text = write_markdown(*measure())
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
