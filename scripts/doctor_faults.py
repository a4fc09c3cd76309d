"""Plant each usual fault in trained networks in turn, and count how often the doctor names it: docs/doctor.md.

usage: python scripts/doctor_faults.py CIFAR10_FOLDER [--squeezenet FILE --photographs FOLDER] [--images 200] [--seed 0]

Faults are planted in the shipped networks of CIFAR-10 on test images, and, where its weights are given, in SqueezeNet on
photographs in folders of their class.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.analyses.doctor.alternatives import CROP, LABELS, NORMALISATION, ORDER, SIZE
from seewhy.analyses.doctor.examination import NOTHING, examine
from seewhy.api import load_classifier
from seewhy.core.errors import UserError
from seewhy.core.facts import IMAGENET_MEAN, Facts
from seewhy.core.types import Batch
from seewhy.data.cifar10 import CIFAR10
from seewhy.data.folder import Folder
from seewhy.data.loading import Reader
from seewhy.models.classifier import Classifier
from seewhy.models.contract import check_contract

Plant = Callable[[Classifier, torch.Generator], None]
REFUSED = "refused before it is examined"


def _change(classifier: Classifier, **facts: object) -> None:
    classifier.facts = classifier.facts.replace(facts)
    for key in ("mean", "std"):
        getattr(classifier, key).copy_(torch.tensor(getattr(classifier.facts, key)).view(1, -1, 1, 1))


def _list_convolutions(classifier: Classifier) -> list[nn.Conv2d]:
    return [each for each in classifier.network.modules() if isinstance(each, nn.Conv2d)]


def _find_head(classifier: Classifier) -> nn.Linear | nn.Conv2d:
    wanted = classifier.facts.output_count
    kinds = nn.Linear | nn.Conv2d
    heads = [
        each for each in classifier.network.modules() if isinstance(each, kinds) and each.weight.shape[0] == wanted
    ]
    return heads[-1]


def plant_normalisation(classifier: Classifier, generator: torch.Generator) -> None:
    """Images as bytes where the network was trained on normalised ones."""
    _change(classifier, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def plant_range(classifier: Classifier, generator: torch.Generator) -> None:
    """Images in [0, 1] where the network was trained on normalised ones."""
    _change(classifier, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def plant_order(classifier: Classifier, generator: torch.Generator) -> None:
    """A first convolution for blue, green, red."""
    first = _list_convolutions(classifier)[0]
    first.weight.data = first.weight.data.flip(1)


def plant_size(classifier: Classifier, generator: torch.Generator) -> None:
    """Images of half the side."""
    height, width = classifier.facts.shape
    _change(classifier, size=(height // 2, width // 2))


def plant_crop(classifier: Classifier, generator: torch.Generator) -> None:
    """The middle two fifths of the side alone."""
    _change(classifier, crop=0.4)


def plant_labels(classifier: Classifier, generator: torch.Generator) -> None:
    """Class names that begin one output too early."""
    names = classifier.facts.classes
    _change(classifier, classes=(*names[1:], names[0]))


def plant_random_weights(classifier: Classifier, generator: torch.Generator) -> None:
    """Every layer as it begins."""
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    for module in classifier.network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def plant_random_head(classifier: Classifier, generator: torch.Generator) -> None:
    """The last layer as it begins."""
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    _find_head(classifier).reset_parameters()


def plant_statistics(classifier: Classifier, generator: torch.Generator) -> None:
    """Batch normalisations without their statistics."""
    norms = [each for each in classifier.network.modules() if isinstance(each, nn.BatchNorm2d)]
    if not norms:
        raise UserError("it has no batch normalisation")
    for norm in norms:
        norm.reset_running_stats()


def plant_dead_layer(classifier: Classifier, generator: torch.Generator) -> None:
    """A convolution in the middle whose weights are all zero."""
    convolutions = _list_convolutions(classifier)
    convolutions[len(convolutions) // 2].weight.data.zero_()


def plant_saturation(classifier: Classifier, generator: torch.Generator) -> None:
    """Logits a thousand times as large."""
    head = _find_head(classifier)
    for value in (head.weight, head.bias):
        if value is not None:
            value.data *= 1000


def plant_negative_maps(classifier: Classifier, generator: torch.Generator) -> None:
    """The same lowering of every class by every feature: the probabilities stay, all gradients are negative."""
    head = _find_head(classifier)
    if not isinstance(head, nn.Linear) or type(classifier.network).__name__ == "CifarCNN":
        raise UserError("it has no linear layer on averaged features")
    if any(isinstance(each, nn.LayerNorm) for each in classifier.network.modules()):
        raise UserError("its layer normalisation takes out what all features have in common: its maps stay as they are")
    head.weight.data -= 10 * head.weight.data.abs().max()


def plant_layer(classifier: Classifier, generator: torch.Generator) -> None:
    """Maps from the first convolution."""
    names = [name for name, each in classifier.network.named_modules() if isinstance(each, nn.Conv2d)]
    classifier.cam_layer = names[0]


class _Dropped(nn.Module):
    """A network whose outputs are dropped at random, also in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(self.network(images), 0.3, training=True)


def plant_training_mode(classifier: Classifier, generator: torch.Generator) -> None:
    """Dropout that does not end with the training."""
    classifier.network = _Dropped(classifier.network)


FAULTS: dict[str, tuple[Plant | None, str]] = {
    "none": (None, NOTHING),
    "images from 0 to 255": (plant_normalisation, NORMALISATION),
    "images not normalised": (plant_range, NORMALISATION),
    "blue, green, red": (plant_order, ORDER),
    "half the size": (plant_size, SIZE),
    "cut too closely": (plant_crop, CROP),
    "labels shifted by one": (plant_labels, LABELS),
    "random weights": (plant_random_weights, "random weights"),
    "random head": (plant_random_head, "random head"),
    "statistics not kept": (plant_statistics, "statistics of batch normalisation"),
    "dead layer": (plant_dead_layer, "dead layer"),
    "saturated softmax": (plant_saturation, "saturated probabilities"),
    "all-negative CAM": (plant_negative_maps, "empty Grad-CAM"),
    "wrong layer": (plant_layer, "layer of the maps"),
    "training mode": (plant_training_mode, REFUSED),
}
"""What is planted, and the diagnosis that is right."""


def list_networks(arguments: argparse.Namespace) -> Iterator[tuple[Classifier, Callable[[Facts], Any]]]:
    """Each network with the data module of its images for some facts."""

    def read_cifar(facts: Facts) -> CIFAR10:
        return CIFAR10(arguments.cifar10, facts.replace({"classes": facts.classes}), limit=arguments.images)

    for name in ("cifar_cnn", "vgg16_cifar", "vit_cifar"):
        yield load_classifier(name), read_cifar
    if arguments.squeezenet:
        known = load_classifier("squeezenet", weights=arguments.squeezenet, mean=IMAGENET_MEAN, std=[1 / 255] * 3)
        yield known, lambda facts: Folder(arguments.photographs, facts, limit=arguments.images)


def _reader(build: Callable[[Facts], Any], names: tuple[str, ...]) -> Reader:
    """Images with labels by name: where the names begin one output too early, so does the index of every label."""

    def read(facts: Facts) -> Iterator[Batch]:
        data = build(facts)
        data.setup("test")
        for batch in data.test_dataloader():
            if facts.classes != names:
                batch = batch._replace(labels=(batch.labels - 1) % len(names))
            yield data.on_after_batch_transfer(batch, 0)

    return read


def diagnose(classifier: Classifier, build: Callable[[Facts], Any], fault: str, seed: int) -> str:
    """Plant a fault in a copy of a network; the diagnosis, or "" where it cannot be planted."""
    plant, _ = FAULTS[fault]
    sick, names = copy.deepcopy(classifier), classifier.facts.classes
    try:
        if plant is not None:
            plant(sick, torch.Generator().manual_seed(seed))
        sick = Classifier(sick.network, sick.facts, name=sick.name, cam_layer=sick.cam_layer)
    except UserError:
        return ""
    try:
        check_contract(sick)
    except UserError:
        return REFUSED
    found = examine(sick, _reader(build, names)).diagnosis
    return NOTHING if found is None else found.name


def main() -> None:
    """Read the arguments, examine, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", help="folder with CIFAR-10")
    parser.add_argument(
        "--squeezenet", default="", help="weights of squeezenet1_1 for images from 0 to 255 less the mean of ImageNet"
    )
    parser.add_argument("--photographs", default="", help="folder of photographs in folders of their ImageNet class")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", type=Path, default=Path("doctor_faults.csv"), help="diagnoses; the command goes on there"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "doctor_faults.md")
    arguments = parser.parse_args()
    networks = list(list_networks(arguments))
    measured = _read_rows(arguments.rows)
    with arguments.rows.open("a", newline="") as file:
        for fault in FAULTS:
            for classifier, build in networks:
                key = classifier.name, fault
                if key not in measured:
                    measured[key] = diagnose(classifier, build, fault, arguments.seed)
                    csv.writer(file).writerow([*key, measured[key]])
                    file.flush()
                print(f"{classifier.name}: {fault} -> {measured[key] or 'cannot be planted'}", flush=True)
    text = write_table([classifier.name for classifier, _ in networks], measured, arguments.images, arguments.seed)
    arguments.out.write_text(text)
    print(text.splitlines()[2])


def _read_rows(path: Path) -> dict[tuple[str, str], str]:
    """{(network, fault): diagnosis} of an earlier call."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {(name, fault): found for name, fault, found in csv.reader(file)}


def write_table(names: list[str], measured: Mapping[tuple[str, str], str], images: int, seed: int) -> str:
    """The page: how many are right, and what was diagnosed where it is not what was planted."""
    lines = [f"| fault | right diagnosis | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    right = tried = 0
    for fault, (_, wanted) in FAULTS.items():
        found = [measured[name, fault] for name in names]
        right += sum(each in (wanted, REFUSED) for each in found)
        tried += sum(bool(each) for each in found)
        cells = ["-" if not each else "right" if each == wanted else each for each in found]
        lines.append(f"| {fault} | {wanted} | {' | '.join(cells)} |")
    summary = (
        f"{right} of {tried} diagnoses are right: {images} images each, seed {seed}, `python scripts/doctor_faults.py`."
    )
    return "\n".join([f"# Planted faults, and what the doctor says\n\n{summary}", "", *lines, ""])


if __name__ == "__main__":
    main()
