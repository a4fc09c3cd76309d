"""Images that a caller holds, as batches: files, Pillow images, or a tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Batch, Images
from seewhy.data.images import convert_pillow
from seewhy.data.preprocessing import resize_and_crop, to_unit_range

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
ImageInput: TypeAlias = Paths | Image.Image | Sequence[Image.Image] | Tensor


def is_paths(given: Any) -> bool:
    """Whether `given` is a path or a sequence of paths."""
    each = [given] if isinstance(given, str | os.PathLike) else given
    return isinstance(each, Sequence) and bool(each) and all(isinstance(one, str | os.PathLike) for one in each)


def list_roots(paths: Paths) -> list[str]:
    """The folders, files and patterns to look into, as `data.root=` takes them."""
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]


def order_by_root(paths: Sequence[Path], roots: Sequence[str]) -> list[int]:
    """Positions of files that were found below several roots: root by root in the order given, then as found."""
    places = [os.path.abspath(os.path.expanduser(root)) for root in roots]

    def root_number(path: Path) -> int:
        full = os.path.abspath(path)
        return next((place for place, root in enumerate(places) if _is_below(full, root)), len(places))

    return sorted(range(len(paths)), key=lambda position: root_number(paths[position]))


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))


def iterate_batches(given: Any, facts: Facts, batch_size: int) -> Iterator[Batch]:
    """Batches of Pillow images (resized and cropped as files are) or of float images that are ready for the network.

    Names are image_000, image_001, ...; the true classes are unknown. UserError where `given` is neither.
    """
    images = stack_images(given, facts)
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        names = [f"image_{number:03d}" for number in range(start, start + len(part))]
        yield Batch(part, torch.full((len(part),), -1), names, list(names), [""] * len(part), [])


def stack_images(given: Any, facts: Facts) -> Images:
    """float32 [n, 3, height, width] in [0, 1] of a tensor, a Pillow image, or a sequence of Pillow images."""
    if isinstance(given, Tensor):
        return _checked(given[None] if given.ndim == 3 else given, facts)
    pictures = [given] if isinstance(given, Image.Image) else given
    if not isinstance(pictures, Sequence) or not all(isinstance(one, Image.Image) for one in pictures):
        kinds = (
            sorted({type(one).__name__ for one in given}) if isinstance(given, list | tuple) else [type(given).__name__]
        )
        raise UserError(
            f"images={', '.join(kinds)}: give a path or a list of paths, Pillow images (Image.fromarray makes one of an "
            "array), or a float tensor [n, 3, height, width] in [0, 1]"
        )
    if not pictures:
        raise UserError("images=[]: give at least one image")
    fitted = []
    for number, picture in enumerate(pictures):
        try:
            fitted.append(to_unit_range(resize_and_crop(convert_pillow(picture), facts)))
        except UnreadableImage as error:
            raise UserError(f"image {number} cannot be used: {error}") from error
    return torch.stack(fitted)


def _checked(images: Tensor, facts: Facts) -> Images:
    if images.ndim != 4 or images.shape[1] != 3 or not len(images) or not images.is_floating_point():
        raise UserError(
            f"images are {images.dtype} {list(images.shape)}: give floats [n, 3, height, width] in [0, 1], n at least 1 "
            "(8-bit images: images.float() / 255)"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"images reach from {low:g} to {high:g}: give [0, 1], not normalised; the classifier does that itself"
        )
    if images.shape[2:] != (facts.size, facts.size):
        raise UserError(
            f"images are {images.shape[2]} x {images.shape[3]} pixels, the network sees {facts.size} x {facts.size}: "
            f"resize them, or give Pillow images or files, or set size={images.shape[3]}"
        )
    return images.detach().float()
