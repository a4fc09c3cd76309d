"""Training, validation and test part of a folder of images: by its subfolders, or drawn from each class by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

PARTS = ("train", "val", "test")
FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The part that a folder of each of the usual names holds."""


def find_part_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the parts of a data set.

    Args:
        root: A folder.

    Returns:
        The folder of each part, in the order of their names, where `root` has one for training and another, and no other
        folders: in root/train, root/car, root/bus `train` is a class. Else nothing.
    """
    if not root.is_dir():
        return {}
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts = {FOLDERS.get(path.name.lower(), ""): path for path in folders}
    return parts if "train" in parts and "" not in parts and len(parts) == len(folders) > 1 else {}


def split_by_class(
    names: Sequence[str], classes: Sequence[str], validation: float, test: float, seed: int = 0
) -> list[str]:
    """Split images into training, validation and test part, each with its share of every class.

    The order of a class follows from a hash of seed and name, so neither the order of the files nor another class moves an
    image to another part.

    >>> split_by_class([f"{number}" for number in range(10)], ["cat"] * 10, 0.2, 0.1).count("val")
    2

    Args:
        names: Of the images, unique.
        classes: Of each image.
        validation: Share of a class that is held out to choose the best weights, 0 to 1, rounded to whole images.
        test: Share of a class that is held out for the test.
        seed: Decides which images are held out.

    Returns:
        `train`, `val` or `test` for each image; the first image of every class is for training.
    """

    def rank(position: int) -> bytes:
        return hashlib.blake2b(names[position].encode(), digest_size=8, key=str(seed).encode()[:64]).digest()

    members: dict[str, list[int]] = {}
    for position, name in enumerate(classes):
        members.setdefault(name, []).append(position)
    parts = ["train"] * len(names)
    for positions in members.values():
        ordered = sorted(positions, key=rank)[1:]
        tested, validated = (int(share * len(positions) + 0.5) for share in (test, validation))
        for position in ordered[:tested]:
            parts[position] = "test"
        for position in ordered[tested : tested + validated]:
            parts[position] = "val"
    return parts
