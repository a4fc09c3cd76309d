"""Make logbook/images from the originals that its README.md names.

python scripts/make_samples.py photographs FOLDER   every picture of FOLDER, its shorter side at most 360 pixels
python scripts/make_samples.py cifar10 FOLDER       the first six test images of each class; FOLDER holds CIFAR-10
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from seewhy.core.facts import CIFAR10_CLASSES
from seewhy.data.cifar10 import read_part
from seewhy.data.images import read_image
from seewhy.data.labels import find_images

IMAGES = Path(__file__).parents[1] / "logbook" / "images"


def photographs(folder: Path, short: int = 360, quality: int = 88) -> None:
    """Write each picture as JPEG, made smaller where it is larger; the labels are written by hand."""
    for path, _ in find_images([folder]):
        image = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
        scale = min(1.0, short / min(image.size))
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        image.save(IMAGES / "photographs" / f"{path.stem}.jpg", quality=quality, optimize=True)


def cifar10(folder: Path, each: int = 6) -> None:
    """Write the first `each` test images of every class as PNG, and labels.csv."""
    pictures, labels = read_part(folder, train=False)
    rows = []
    for label, name in enumerate(CIFAR10_CLASSES):
        for index in (labels == label).nonzero().flatten()[:each].tolist():
            file = f"{name}_{index:04d}.png"
            Image.fromarray(pictures[index].permute(1, 2, 0).numpy()).save(IMAGES / "cifar10" / file, optimize=True)
            rows.append((file, name))
    with (IMAGES / "cifar10" / "labels.csv").open("w", newline="") as table:
        csv.writer(table, lineterminator="\n").writerows([("file", "class"), *sorted(rows)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("photographs", "cifar10"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    (IMAGES / chosen.part).mkdir(parents=True, exist_ok=True)
    {"photographs": photographs, "cifar10": cifar10}[chosen.part](chosen.folder)
