"""Which method is right on which network: the matrix, measured on the spot.

usage: python scripts/methods.py [--models NAME ...] [--methods NAME ...] [--markdown FILE]

Each method explains one sample image on each network. `map`: it is finite and not empty. `gap 3.1 % of 5 %`: the method
promises completeness, and its gap is within its tolerance, here 5 %; `gap 9 % over 5 %`: it is not. `control`: a map that
knows nothing of the network, which no check can make right. `refused`: the method would be silently
wrong on this network; the reasons stand below the table. Weights are `auto`, or random where none are at hand. Methods
that draw samples get fewer than their yaml says (10, or 200 masks), so their gaps are larger than in a run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

MODELS = (
    "cifar_cnn",
    "vgg16_cifar",
    "mobilenetv3",
    "efficientnet_lite0",
    "squeezenet",
    "vgg16",
    "timm:resnet18",
    "timm:mobilenetv3_large_100",
    "timm:vit_tiny_patch16_224",
)
CHEAP = {"n_masks": 200, "n_samples": 10}
"""Fewer samples than the yaml says: enough to see whether a method works."""
FEW = {
    "occlusion": {"window": 16, "stride": 16},
    "score_cam": {"channels": 32},
    "kernel_shap": {"n_samples": 200},
    "shapley_value_sampling": {"n_segments": 8},
}
"""The same for methods whose passes depend on other fields, or that need more samples than CHEAP allows."""
SMALL = {"vgg16": 64}
"""Pixels of the image for networks that are slow and not tied to a size."""


def composed(model: str, method: str, weights: str) -> Any:
    """The config of `src/explain.py` for one pair."""
    from hydra import compose, initialize_config_dir

    group, _, name = model.partition(":")
    overrides = [f"model={group}", f"model.weights={weights}", f"explainer={method}"]
    overrides += [f"model.name={name}"] if name else []
    overrides += [f"model.size={SMALL[model]}"] if model in SMALL else []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("explain", overrides)


def load(model: str) -> Any:
    """The classifier with the weights that are at hand, else random ones."""
    from hydra.utils import instantiate

    from seewhy.core.errors import MissingWeights

    for weights in ("auto", "random"):
        try:
            return instantiate(composed(model, "saliency", weights).model, _convert_="object")
        except Exception as error:
            if not isinstance(error, MissingWeights) and not isinstance(error.__cause__, MissingWeights):
                raise
    raise AssertionError


def verdict(classifier: Any, explainer: Any, image: Any, target: Any) -> tuple[str, str]:
    """(cell, reason of a refusal) of one method on one network."""
    from seewhy.core.errors import Incompatible
    from seewhy.explainers.batch import find_warnings
    from seewhy.report.comparison import CONTROLS

    try:
        attributed = explainer.attribute(classifier, image, target)
    except Incompatible as refused:
        return "refused", str(refused)
    facts = {key: float(values[0]) for key, values in attributed.facts.items()}
    found = find_warnings(explainer, attributed.maps[0].cpu(), facts)
    gap = facts.get("completeness_gap_relative")
    tolerance = getattr(explainer, "tolerance", None)
    if gap is not None and tolerance is not None and (gap > tolerance or not found):
        return f"gap {percent(gap)} {'of' if gap <= tolerance else 'over'} {percent(tolerance)}", ""
    return found[0] if found else "control" if explainer.name in CONTROLS else "map", ""


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
    everything = sorted(path.stem for path in (ROOT / "configs" / "explainer").glob("*.yaml"))
    parser.add_argument("--models", nargs="+", default=MODELS, help="timm:NAME for any timm network")
    parser.add_argument("--methods", nargs="+", default=everything, choices=everything, metavar="NAME")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()
    cells, reasons = measure(arguments.models, arguments.methods)
    text = markdown(cells, reasons, arguments.models, arguments.methods)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


def measure(models: list[str], methods: list[str]) -> tuple[dict[tuple[str, str], str], dict[str, list[str]]]:
    """({(method, model): cell}, {reason: pairs})."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import open_dict

    cells: dict[tuple[str, str], str] = {}
    reasons: dict[str, list[str]] = {}
    for model in models:
        classifier = load(model)
        image = image_for(classifier)
        with torch.no_grad():
            target = classifier(image).argmax(1)
        for method in methods:
            config = composed(model, method, "random").explainer
            with open_dict(config):
                for key, value in CHEAP.items():
                    if key in config:
                        config[key] = min(config[key], value)
                config.update(FEW.get(method, {}))
            explainer = instantiate(config, _convert_="object")
            cells[method, model], reason = verdict(classifier, explainer, image, target)
            if reason:
                reasons.setdefault(reason, []).append(f"{method} on {model}")
            print(f"{model} {method}: {cells[method, model]}", file=sys.stderr, flush=True)
    return cells, reasons


def markdown(
    cells: dict[tuple[str, str], str], reasons: dict[str, list[str]], models: list[str], methods: list[str]
) -> str:
    """The matrix and the reasons as Markdown."""
    names = [model.removeprefix("timm:") for model in models]
    rows = ["| method | " + " | ".join(names) + " |", "|---" * (len(models) + 1) + "|"]
    rows += [f"| `{method}` | " + " | ".join(cells[method, model] for model in models) + " |" for method in methods]
    listed = [f"- {', '.join(pairs)}: {reason}" for reason, pairs in reasons.items()]
    return "\n".join(
        ["# Methods and networks", "", (__doc__ or "").split("\n\n")[2].strip(), "", *rows, "", *listed, ""]
    )


if __name__ == "__main__":
    main()
