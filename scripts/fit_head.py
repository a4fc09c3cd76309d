"""Fit a linear head on the features of a network that has none, and write both as one file of weights.

usage: python scripts/fit_head.py NETWORK BACKBONE --data FOLDER --output FOLDER [--classes imagenet] [--test FOLDER]

NETWORK is one of timm, BACKBONE its weights without a head, FOLDER holds photographs in folders named by their class, or
with a labels.csv. A third of each class is held out, or `--test` has other photographs of the same classes; the share of
these that is right is printed. OUTPUT gets weights.safetensors, classes.txt and, without `--test`, the photographs held
out in `held_out`. The head is multinomial logistic regression on standardised features, fitted to convergence: the same
features give the same head. To explain the result:

    python src/explain.py model=timm model.name=NETWORK model.weights=OUTPUT/weights.safetensors model.size=224
        model.classes=OUTPUT/classes.txt 'model.mean=[0.485,0.456,0.406]' 'model.std=[0.229,0.224,0.225]'
        model.arguments.img_size=224 data=folder data.root=OUTPUT/held_out
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from seewhy.core.facts import IMAGENET_MEAN, IMAGENET_STD, Facts  # noqa: E402
from seewhy.data.folder import Folder  # noqa: E402
from seewhy.models.facts import read_class_names  # noqa: E402

HELD_OUT = 1 / 3
"""Share of each class that is not trained on."""
PENALTY = 1e-2
"""Weight of the mean square of the head's weights beside the mean loss."""


def read_parts(
    data: Path, test: Path | None, labels: Path | None, classes: list[str] | None, size: int
) -> tuple[Folder, Folder]:
    """The photographs to train on and to test with; `classes`: None takes those of the folders."""
    facts = Facts(tuple(classes or Folder(str(data)).list_classes()), size, IMAGENET_MEAN, IMAGENET_STD)
    if test is not None:
        parts = Folder(str(data), facts), Folder(str(test), facts, labels=None if labels is None else str(labels))
    else:
        split: dict[str, Any] = {"validation": 1e-6, "test": HELD_OUT}
        parts = Folder(str(data), facts, split="train", **split), Folder(str(data), facts, split="test", **split)
    for part in parts:
        part.setup("test")
    return parts


@torch.no_grad()
def compute_features(network: Any, part: Folder) -> tuple[Tensor, Tensor]:
    """(features [n, channels], classes [n]) of photographs whose class is among those of the head."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    features, labels = [], []
    for batch in part.test_dataloader():
        chosen = batch.labels >= 0
        tokens = network.forward_features((batch.images[chosen] - mean) / std)
        features.append(network.forward_head(tokens, pre_logits=True))
        labels.append(batch.labels[chosen])
    return torch.cat(features).double(), torch.cat(labels)


def fit_head(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(weight [classes, channels], bias [classes]) for features as they are."""
    mean, spread = features.mean(0), features.std(0)
    standard = (features - mean) / spread
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(standard @ weight.T + bias, labels) + PENALTY * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(compute_loss)
    scaled = weight.detach() / spread
    return scaled, bias.detach() - scaled @ mean


def main() -> None:
    """Fit, test and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("backbone", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument(
        "--test-labels", type=Path, help="of the photographs of --test, where it is not their labels.csv"
    )
    parser.add_argument("--classes", help="imagenet, cifar10 or a text file; else the names of the folders")
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    import timm

    named = None if arguments.classes is None else list(read_class_names(arguments.classes))
    train, test = read_parts(arguments.data, arguments.test, arguments.test_labels, named, arguments.size)
    classes = test.facts.classes
    network = timm.create_model(arguments.network, img_size=arguments.size, num_classes=len(classes)).eval()
    weights = load_file(arguments.backbone)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith("head") for name in missing), (missing, unexpected)
    weight, bias = fit_head(*compute_features(network, train), len(classes))
    features, labels = compute_features(network, test)
    right = (features @ weight.T + bias).argmax(1) == labels
    print(f"{len(train.items)} photographs to train on; right {int(right.sum())} of {len(right)} others")

    arguments.output.mkdir(parents=True, exist_ok=True)
    head = {"head.weight": weight.float(), "head.bias": bias.float()}
    save_file(weights | head, arguments.output / "weights.safetensors")
    (arguments.output / "classes.txt").write_text("\n".join(classes) + "\n")
    for item in test.items if arguments.test is None else ():
        copied = arguments.output / "held_out" / item.label_name / Path(item.path).name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.path, copied)


if __name__ == "__main__":
    main()
