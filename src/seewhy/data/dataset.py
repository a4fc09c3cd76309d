"""Images as a torch data set that reports what it cannot read: files, or what a caller holds in memory."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.types import Batch, Corrupted, Facts, Images, Skipped
from seewhy.data.images import MAX_PIXELS, convert_pillow, fit_mask, read_image, read_mask
from seewhy.data.loading import resize_and_crop, to_bytes, to_unit_range

Corrupt: TypeAlias = Callable[[Tensor], Corrupted]
"""Picture uint8 [channels, height, width] -> its corrupted versions at the classifier's size."""


class Item(NamedTuple):
    """One file of a data set; `label` is -1 where the classifier does not know the class."""

    path: Path
    name: str
    label: int = -1
    label_name: str = ""
    mask: Path | None = None
    split: str = ""
    """The part of the data set, `train`, `val` or `test`; empty where it was not split."""


class Record(NamedTuple):
    """One image, float32 [channels, height, width] in [0, 1], its item, its mask, bool [height, width], and versions."""

    image: Tensor
    item: Item
    mask: Tensor
    corrupted: Corrupted | None = None


class ImageFiles(Dataset[Record | Skipped]):
    """Reads each file once and fits it to the classifier's size; `corrupt` adds its corrupted versions.

    A file that cannot be used becomes a `Skipped` with the reason; every other error is raised. Corruptions are defined
    for 8 bits: where there are any, pictures of more bits are rounded first, and the clean image is that of the rest.
    """

    def __init__(
        self,
        items: Sequence[Item],
        facts: Facts,
        corrupt: Corrupt | None = None,
        max_pixels: int = MAX_PIXELS,
        scale: float | None = None,
    ) -> None:
        self.items = list(items)
        self.facts = facts
        self.corrupt = corrupt
        self.max_pixels = max_pixels
        self.scale = scale

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> dict[str, str]:
        """Digests of the names and classes, and of the sizes and times of the files: what tells data apart."""
        names = [(item.name, item.label, item.label_name) for item in self.items]
        files = [_state(path) for item in self.items for path in (item.path, item.mask) if path is not None]
        sizes, times = zip(*files, strict=True) if files else ((), ())
        return {"names": _digest(names), "sizes of files": _digest(sizes), "times of files": _digest(times)}

    def __getitem__(self, position: int) -> Record | Skipped:
        item = self.items[position]
        try:
            picture = read_image(item.path, self.max_pixels, self.facts.channels, self.scale)
        except UnreadableImage as error:
            return Skipped(escape_path(item.path), str(error))
        try:
            size = picture.shape[1], picture.shape[2]
            mask = None if item.mask is None else read_mask(item.mask, size, self.max_pixels)
        except UnreadableImage as error:
            return Skipped(escape_path(item.path), f"its mask {escape_path(item.mask or Path())}: {error}")
        fitted = torch.zeros(self.facts.shape, dtype=torch.bool) if mask is None else fit_mask(mask, self.facts)
        picture = picture if self.corrupt is None else to_bytes(picture)
        corrupted = None if self.corrupt is None else self.corrupt(picture)
        return Record(to_unit_range(self.fit(picture)), item, fitted, corrupted)

    def fit(self, picture: Tensor) -> Tensor:
        """Fit a picture [channels, height, width] to the classifier's size."""
        return resize_and_crop(picture, self.facts)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _digest(values: Sequence[object]) -> str:
    return hashlib.blake2b("\n".join(map(repr, values)).encode(errors="backslashreplace"), digest_size=8).hexdigest()


def collate(
    records: Sequence[Record | Skipped], size: int | tuple[int, int], masked: bool = False, channels: int = 3
) -> Batch:
    """One batch of images float32 [n, channels, height, width], n being how many files could be read (perhaps 0).

    It has masks bool [n, height, width] if `masked`.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    read = [record for record in records if isinstance(record, Record)]
    skipped = [record for record in records if isinstance(record, Skipped)]
    items = [record.item for record in read]
    return Batch(
        images=torch.stack([record.image for record in read]) if read else torch.zeros(0, channels, *shape),
        labels=torch.tensor([item.label for item in items], dtype=torch.int64),
        names=[item.name for item in items],
        paths=[escape_path(item.path) for item in items],
        label_names=[item.label_name for item in items],
        skipped=skipped,
        masks=torch.stack([record.mask for record in read]) if masked and read else None,
        corrupted=stack_versions([record.corrupted for record in read]),
    )


def stack_versions(versions: Sequence[Corrupted | None]) -> Corrupted | None:
    """The versions of several pictures as one batch; None where there are none."""
    pictures = [each for each in versions if each is not None]
    return Corrupted(*(torch.stack(fields) for fields in zip(*pictures, strict=True))) if pictures else None


def escape_path(path: Path) -> str:
    r"""The path as one line of text that every file and terminal can hold.

    Bytes that are not UTF-8 and control characters (a new line, an escape sequence) are written as `\xe9`.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(f"\\x{ord(each):02x}" if unicodedata.category(each) == "Cc" else each for each in text)


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
    """float32 [n, channels, height, width] in [0, 1] of a tensor, a Pillow image, or a sequence of Pillow images."""
    if isinstance(images, Tensor):
        return _check_tensor(images[None] if images.ndim == 3 else images, facts)
    pictures = [images] if isinstance(images, Image.Image) else images
    if not isinstance(pictures, Sequence) or not all(isinstance(picture, Image.Image) for picture in pictures):
        items = images if isinstance(images, list | tuple) else [images]
        kinds = sorted({type(item).__name__ for item in items})
        raise UserError(
            f"images={', '.join(kinds)}: give a path or a list of paths, Pillow images (Image.fromarray makes one of an "
            f"array), or a float tensor [n, {facts.channels}, height, width] in [0, 1]"
        )
    if not pictures:
        raise UserError("images=[]: give at least one image")
    fitted = []
    for number, picture in enumerate(pictures):
        try:
            fitted.append(to_unit_range(resize_and_crop(convert_pillow(picture, facts.channels), facts)))
        except UnreadableImage as error:
            raise UserError(f"image {number} cannot be used: {error}") from error
    return torch.stack(fitted)


def _check_tensor(images: Tensor, facts: Facts) -> Images:
    channels = facts.channels
    if images.ndim != 4 or images.shape[1] != channels or not len(images) or not images.is_floating_point():
        raise UserError(
            f"images are {images.dtype} {list(images.shape)}: give floats [n, {channels}, height, width] in [0, 1], n at "
            "least 1 (8-bit images: images.float() / 255)"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"images reach from {low:g} to {high:g}: give [0, 1], not normalised; the classifier does that itself"
        )
    if images.shape[2:] != facts.shape:
        height, width = images.shape[2:]
        raise UserError(
            f"images are {height} x {width} pixels, the network sees {facts.shape[0]} x {facts.shape[1]}: "
            f"resize them, or give Pillow images or files, or set size={width if height == width else (height, width)}"
        )
    return images.detach().float()
