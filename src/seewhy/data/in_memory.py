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


def is_paths(images: Any) -> bool:
    """Whether images are given as paths.

    Args:
        images: What a caller gave.

    Returns:
        True for a path or a sequence of paths.
    """
    paths = [images] if isinstance(images, str | os.PathLike) else images
    return isinstance(paths, Sequence) and bool(paths) and all(isinstance(path, str | os.PathLike) for path in paths)


def list_roots(paths: Paths) -> list[str]:
    """List the folders, files and patterns to look into.

    Args:
        paths: A path or a sequence of paths.

    Returns:
        The roots, as `data.root=` takes them.
    """
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(path) for path in paths]


def order_by_root(paths: Sequence[Path], roots: Sequence[str]) -> list[int]:
    """Order files by the roots that they lie below.

    Args:
        paths: The files, as they were listed.
        roots: Folders or files.

    Returns:
        Positions in `paths`: root by root in the order given, then as listed.
    """
    folders = [os.path.abspath(os.path.expanduser(root)) for root in roots]

    def find_root(path: Path) -> int:
        full = os.path.abspath(path)
        return next((number for number, root in enumerate(folders) if _is_below(full, root)), len(folders))

    return sorted(range(len(paths)), key=lambda position: find_root(paths[position]))


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))


def iterate_batches(images: Any, facts: Facts, batch_size: int) -> Iterator[Batch]:
    """Make batches of images in memory.

    Args:
        images: Pillow images (resized and cropped as files are), or a float tensor that is ready for the network.
        facts: What the classifier asks of images (size, crop, interpolation).
        batch_size: Images of a batch.

    Yields:
        The batches; names are image_000, image_001, ..., the true classes are unknown.

    Raises:
        UserError: The images are neither, or cannot be used.
    """
    stacked = stack_images(images, facts)
    for start in range(0, len(stacked), batch_size):
        chunk = stacked[start : start + batch_size]
        names = [f"image_{number:03d}" for number in range(start, start + len(chunk))]
        yield Batch(chunk, torch.full((len(chunk),), -1), names, list(names), [""] * len(chunk), [])


def stack_images(images: Any, facts: Facts) -> Images:
    """float32 [n, 3, height, width] in [0, 1] of a tensor, a Pillow image, or a sequence of Pillow images."""
    if isinstance(images, Tensor):
        return _check_tensor(images[None] if images.ndim == 3 else images, facts)
    pictures = [images] if isinstance(images, Image.Image) else images
    if not isinstance(pictures, Sequence) or not all(isinstance(picture, Image.Image) for picture in pictures):
        items = images if isinstance(images, list | tuple) else [images]
        kinds = sorted({type(item).__name__ for item in items})
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


def _check_tensor(images: Tensor, facts: Facts) -> Images:
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
