"""The pictures that the commands read: sample images of the checkout, sorted into folders, and masks drawn for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 5
"""Folders in the class tree, of two images each."""


def write_inputs(folder: Path, checkout: Path, cifar10: Path | None) -> None:
    """Write `tree/` (class folders), `masks/` (a disc for each image), `flat/` (with labels.csv) and link `cifar10`.

    Args:
        folder: Where the inputs are written; it does not exist yet.
        checkout: Its sample images of CIFAR-10 are taken.
        cifar10: Folder that holds `cifar-10-batches-bin`; None where there is none.

    Raises:
        FileNotFoundError: The checkout has no such sample images.
    """
    samples = checkout / "logbook" / "images" / "cifar10"
    by_class: dict[str, list[Path]] = {}
    for path in sorted(samples.glob("*_*.png")):
        by_class.setdefault(path.stem.rpartition("_")[0], []).append(path)
    if len(by_class) < CLASSES:
        raise FileNotFoundError(f"{samples} has images <class>_<number>.png of {len(by_class)} classes, not {CLASSES}")
    flat = folder / "flat"
    flat.mkdir(parents=True)
    rows = ["file,class"]
    for number, (name, paths) in enumerate(sorted(by_class.items())[:CLASSES]):
        for path in paths[:2]:
            place = folder / "tree" / name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            mask = folder / "masks" / name / path.name
            mask.parent.mkdir(parents=True, exist_ok=True)
            write_disc(mask, Image.open(path).size, radius=0.2 + 0.05 * number)
        shutil.copy(paths[0], flat)
        rows.append(f"{paths[0].name},{name}")
    (flat / "labels.csv").write_text("\n".join(rows) + "\n")
    (flat / "broken.png").write_bytes(b"no picture")
    if cifar10 is not None:
        (folder / "cifar10").symlink_to(cifar10.resolve())


def write_disc(path: Path, size: tuple[int, int], radius: float) -> None:
    """Write a mask of a disc in the middle; `radius` is a share of the picture's width."""
    width, height = size
    rows, columns = np.ogrid[:height, :width]
    inside = (columns - (width - 1) / 2) ** 2 + (rows - (height - 1) / 2) ** 2 <= (radius * width) ** 2
    Image.fromarray(inside.astype(np.uint8) * 255).save(path)
