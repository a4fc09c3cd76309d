"""Images as a caller of the Python interface holds them: paths, pictures, arrays, data sets, loaders, mixed in any way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.core.files import refuse_address
from seewhy.core.types import Batch, Skipped
from seewhy.data.arrays import find_channel_axis, scale_values
from seewhy.data.dataset import Item, Record, collate, escape_path
from seewhy.data.images import MAX_PIXELS, convert_pillow, read_image
from seewhy.data.labels import (
    Label,
    ListedImage,
    find_common_folder,
    find_images,
    join_labels,
    match_class,
    split_labels,
)
from seewhy.data.loading import resize_and_crop, to_unit_range
from seewhy.data.names import name_images

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
ImageInput: TypeAlias = Any
"""Paths, Pillow images, numpy arrays, tensors, a list of any of those, a map-style data set, or a DataLoader."""
LabelInput: TypeAlias = Any
"""An index or a name for each image, in a sequence, array or tensor; with paths also the path of a CSV file."""


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


IMAGE_KEYS = ("image", "images", "img", "picture", "pixel_values")
LABEL_KEYS = ("label", "labels", "target", "targets", "class", "fine_label")
"""Keys under which items of data sets commonly hold the image and its true class."""
FORMS = (
    "paths, Pillow images, numpy arrays [height, width, channels], tensors [channels, height, width], a list of those, "
    "a data set with numbered items, or a DataLoader"
)


class _Entry(NamedTuple):
    """One image as it was given."""

    image: Any
    label: Any = None
    """Its true class as it was given; None where nothing is said of it."""
    name: str = ""
    """Of a file; empty for images without a name."""


def iterate_batches(
    images: ImageInput, facts: Facts, batch_size: int, labels: LabelInput = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Batch]:
    """Make batches of images in memory.

    Pillow images, files and arrays of whole numbers are pictures, resized and cropped as files are; floating-point arrays
    and tensors must be ready for the network. Numpy arrays are [height, width, channels], or [channels, height, width]
    where only that fits; tensors are [channels, height, width]; both may have a dimension of images in front.

    Args:
        images: See `ImageInput`. Items of data sets and loaders may be (image, label), or mappings with such keys.
        facts: What the classifier asks of images (size, channels, crop, interpolation).
        batch_size: Images of a batch.
        labels: See `LabelInput`; None: those of the data set, if any.
        max_pixels: A file of more pixels is skipped before it is decoded.

    Yields:
        The batches; images without a name are called image_000, image_001, ...

    Raises:
        UserError: An image or label cannot be used.
    """
    count, entries = _list_entries(images, facts)
    given = None if labels is None else list_labels(labels)
    if given is not None and count is not None and len(given) != count:
        raise UserError(
            f"labels has {len(given)} values for {count} images: give one for each, None for an unknown one"
        )
    names, number = _find_class_names(images), 0
    while chunk := list(islice(entries, batch_size)):
        records = []
        for entry in chunk:
            if given is not None and number >= len(given):
                raise UserError(f"labels has {len(given)} values, and there are more images: give one for each")
            value = entry.label if given is None else given[number]
            read = read_several_labels if facts.score == "sigmoid" else read_label
            label = read(value, facts.classes, names if given is None else ())
            records.append(_read_entry(entry, number, label, facts, max_pixels))
            number += 1
        outputs = len(facts.classes) if facts.score == "sigmoid" else None
        yield collate(records, size=facts.shape, channels=facts.channels, outputs=outputs)
    if not number:
        raise UserError("images=[]: give at least one image")
    if given is not None and len(given) > number:
        raise UserError(f"labels has {len(given)} values for {number} images: give one for each")


def list_labels(labels: LabelInput) -> list[Any]:
    """List the labels that a caller gave.

    Args:
        labels: A value for each image, or a single value.

    Returns:
        The values.

    Raises:
        UserError: They are neither a sequence nor one index or name.
    """
    if isinstance(labels, Tensor | np.ndarray):
        return list(labels) if labels.ndim else [labels]
    if isinstance(labels, str | int) or not isinstance(labels, Sequence):
        if isinstance(labels, str | int | np.integer):
            return [labels]
        raise UserError(f"labels={type(labels).__name__}: give a list of indices or class names, one for each image")
    return list(labels)


def read_label(value: Any, classes: Sequence[str], names: Sequence[str] = ()) -> Label:
    """Read the true class of an image.

    Args:
        value: An index, a class name, or None.
        classes: The names of the classifier's classes.
        names: What the data set calls the classes that its indices mean; empty where it does not say.

    Returns:
        The class of the classifier; unknown where it has none of that name.

    Raises:
        UserError: The value is neither, or no index of a class.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if value is None:
        return Label(-1, "")
    if isinstance(value, str):
        number = match_class(value, classes)
        return Label(number, classes[number] if number >= 0 else value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"the label {_describe(value)} is no index and no class name")
    if value == -1:
        return Label(-1, "")
    if any(match_class(name, classes) >= 0 for name in names):  # else the classes of the classifier have no names
        if not 0 <= value < len(names):
            raise UserError(
                f"the label {value} must be from 0 to {len(names) - 1}: the data set has {len(names)} classes"
            )
        return read_label(names[value], classes)
    if not 0 <= value < len(classes):
        raise UserError(
            f"the label {value} must be from 0 to {len(classes) - 1}: the network has {len(classes)} classes"
        )
    return Label(value, classes[value])


def read_several_labels(value: Any, classes: Sequence[str], names: Sequence[str] = ()) -> Label:
    """Read the true labels of an image that may have several.

    Args:
        value: 0 or 1 for each label, as a tensor or an array; a list of indices or names; names with `|` between them;
            or None.
        classes: The names of the classifier's labels.
        names: What the data set calls the labels that its indices mean; empty where it does not say.

    Returns:
        The labels.

    Raises:
        UserError: A value is neither, or no index of a label.
    """
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1:
        marks = value.tolist()
        if len(marks) != len(classes) or not set(marks) <= {0, 1}:
            raise UserError(f"labels hold {_describe(marks)}: give 0 or 1 for each of the {len(classes)} labels")
        value = [index for index, mark in enumerate(marks) if mark]
    if isinstance(value, str):
        value = split_labels(value, classes)
    if isinstance(value, list | tuple):
        return join_labels([read_label(member, classes, names) for member in value], classes)
    label = read_label(value, classes, names)
    return label if label.number < 0 and not label.name else join_labels([label], classes)


def refuse_shuffling(images: ImageInput) -> None:
    """Refuse a loader that gives its images in another order each time, where it is read for several networks.

    Args:
        images: See `ImageInput`.

    Raises:
        UserError: It shuffles.
    """
    if isinstance(images, DataLoader) and isinstance(images.sampler, RandomSampler):
        raise UserError(
            "images=DataLoader shuffles, so each network would see another order: make it with shuffle=False"
        )


def _find_class_names(images: Any) -> list[str]:
    """The class names that a data set has: torchvision's `classes`, also below a Subset, or Hugging Face's features."""
    data = images
    for _ in range(4):
        names = getattr(data, "classes", None)
        if names is None and isinstance(features := getattr(data, "features", None), Mapping):
            names = next((getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), None)
        if isinstance(names, Sequence) and not isinstance(names, str):
            return [str(name) for name in names]
        data = getattr(data, "dataset", None)
    return []


def _list_entries(images: Any, facts: Facts) -> tuple[int | None, Iterator[_Entry]]:
    """(number of images, None where a loader does not say; the images one by one)."""
    if isinstance(images, DataLoader):
        return None, (entry for batch in images for entry in _split_batch(batch, facts))
    if isinstance(images, Tensor | np.ndarray):
        several = list(images) if _is_batch(images, facts) else [images]
        return len(several), (_Entry(image) for image in several)
    if isinstance(images, str | os.PathLike | Image.Image):
        images = [images]
    if isinstance(images, list | tuple):
        listed = [entry for item in images for entry in _expand(item, facts)]
        return len(listed), iter(_name_files(listed))
    is_numbered = hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, Mapping)
    if not is_numbered or isinstance(images, IterableDataset):
        once = "; list(images) gives its items numbers" if hasattr(images, "__iter__") else ""
        raise UserError(f"images={type(images).__name__}: give {FORMS}{once}")
    return len(images), (_read_item(images, position) for position in range(len(images)))


def _read_item(data: Any, position: int) -> _Entry:
    try:
        item = data[position]
    except Exception as error:  # a data set of somebody else's may raise anything
        raise UserError(f"item {position} of the data set cannot be read: {type(error).__name__}: {error}") from error
    return _split_item(item)


def _split_item(item: Any) -> _Entry:
    """Image and label of an item that holds both."""
    if isinstance(item, Mapping):
        key = next((key for key in IMAGE_KEYS if key in item), None)
        if key is None:
            raise UserError(
                f"an item has the keys {', '.join(map(str, item))}: the image is looked for in {IMAGE_KEYS}"
            )
        return _Entry(item[key], next((item[name] for name in LABEL_KEYS if name in item), None))
    if isinstance(item, list | tuple) and item:
        return _Entry(item[0], item[1] if len(item) > 1 and not isinstance(item[1], Mapping) else None)
    return _Entry(item)


def _split_batch(batch: Any, facts: Facts) -> Iterator[_Entry]:
    """The images of a batch of a loader, with their labels."""
    if isinstance(batch, Batch):
        rows = zip(batch.images, batch.labels.tolist(), batch.label_names, batch.names, strict=True)
        return iter([_Entry(image, words or label, name) for image, label, words, name in rows])
    images, labels, _ = _split_item(batch)
    if isinstance(images, Tensor | np.ndarray):
        images = images if _is_batch(images, facts) else images[None]
    several = list(images) if isinstance(images, Sequence | Tensor | np.ndarray) else [images]
    several_labels = [None] * len(several) if labels is None else list_labels(labels)
    if len(several_labels) != len(several):
        raise UserError(f"a batch of the loader has {len(several)} images and {len(several_labels)} labels")
    return iter([_Entry(image, label) for image, label in zip(several, several_labels, strict=True)])


def _is_batch(values: Tensor | NDArray[Any], facts: Facts) -> bool:
    """Whether the first dimension counts images: of four, or of three where none has the length of a single channel."""
    return values.ndim == 4 or (
        values.ndim == 3 and facts.channels == 1 and 1 not in (values.shape[0], values.shape[2])
    )


def _expand(item: Any, facts: Facts) -> list[_Entry]:
    """The images of one member of a list: a folder has many, an array with a dimension of images too."""
    entry = _split_item(item) if isinstance(item, tuple | Mapping) else _Entry(item)
    if isinstance(entry.image, str | os.PathLike):
        text = os.fspath(entry.image)
        refuse_address("images", str(text))
        return [_Entry(image, entry.label) for image in find_images([Path(text).expanduser()])]
    if isinstance(entry.image, Tensor | np.ndarray) and _is_batch(entry.image, facts):
        return [_Entry(image, entry.label) for image in entry.image]
    return [entry]


def _name_files(entries: Sequence[_Entry]) -> list[_Entry]:
    """The entries, files with their path as the image, a name and the class that their folder names."""
    files = list(dict.fromkeys(entry.image for entry in entries if isinstance(entry.image, ListedImage)))
    if not files:
        return list(entries)
    names = dict(zip(files, name_images([file.path for file in files], find_common_folder(files)), strict=True))
    return [
        _Entry(entry.image.path, entry.label or entry.image.folder or None, names[entry.image])
        if isinstance(entry.image, ListedImage)
        else entry
        for entry in entries
    ]


def _read_entry(entry: _Entry, number: int, label: Label, facts: Facts, max_pixels: int) -> Record | Skipped:
    """The image as the network takes it; a file that cannot be read is skipped, anything else is an error."""
    name = entry.name or f"image_{number:03d}"
    path = entry.image if isinstance(entry.image, Path) else Path(name)
    try:
        image = _read_picture(entry.image, facts, max_pixels)
    except UnreadableImage as error:
        if isinstance(entry.image, Path):
            return Skipped(escape_path(path), str(error))
        raise UserError(f"image {number} cannot be used: {error}") from error
    mask = torch.zeros(facts.shape, dtype=torch.bool)
    return Record(image, Item(path, name, label.number, label.name, several=label.several), mask)


def _read_picture(image: Any, facts: Facts, max_pixels: int) -> Tensor:
    """float32 [channels, height, width] in [0, 1]."""
    if isinstance(image, str | os.PathLike):
        picture = read_image(Path(image), max_pixels, facts.channels)
    elif isinstance(image, Image.Image):
        picture = convert_pillow(image, facts.channels)
    elif isinstance(image, Tensor):
        return _read_values(image.detach(), facts)
    elif isinstance(image, np.ndarray):
        return _read_array(image, facts)
    else:
        raise UserError(f"images={_describe(image)}: give {FORMS}")
    return to_unit_range(resize_and_crop(picture, facts))


def _read_array(values: NDArray[Any], facts: Facts) -> Tensor:
    """An array with its channels in front; grey and transparent pictures of 8 bits become RGB as files do."""
    colours = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 4)
    if facts.channels == 3 and values.dtype == np.uint8 and colours:
        return _read_picture(Image.fromarray(values), facts, MAX_PIXELS)
    if values.dtype.kind not in "uf":
        raise UnreadableImage(f"its values are {values.dtype}: give 8 bits (uint8), or floats in [0, 1]")
    axis = find_channel_axis(values.shape, facts.channels)
    planes = values[None] if axis < 0 else np.moveaxis(values, axis, 0)
    return _read_values(torch.from_numpy(np.array(planes if planes.dtype.kind == "f" else scale_values(planes))), facts)


def _read_values(values: Tensor, facts: Facts) -> Tensor:
    """Values [channels, height, width]: floats that are ready for the network, or 8 bits, which are fitted to it."""
    values = values[None] if values.ndim == 2 and facts.channels == 1 else values
    if values.ndim != 3 or values.shape[0] != facts.channels:
        shape = " x ".join(map(str, values.shape))
        raise UnreadableImage(f"it has {shape} values, not [{facts.channels}, height, width], which the network takes")
    if values.dtype == torch.uint8:
        return to_unit_range(resize_and_crop(values.cpu(), facts))
    if not values.is_floating_point():
        raise UnreadableImage(f"its values are {values.dtype}: give 8 bits (uint8), or floats in [0, 1]")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise UnreadableImage(
            f"its values reach from {low:g} to {high:g}: give [0, 1], not normalised (the classifier does that itself), or "
            "8 bits (uint8)"
        )
    if values.shape[1:] != facts.shape:
        height, width = values.shape[1:]
        raise UnreadableImage(
            f"it is {height} x {width} pixels, the network sees {facts.shape[0]} x {facts.shape[1]}: resize it, give a "
            f"picture of 8 bits (uint8), which is resized, or set size={width if height == width else (height, width)}"
        )
    return values.float()


def _describe(value: Any) -> str:
    """A value in a few words."""
    text = repr(value) if isinstance(value, str | int | float | list | tuple) else ""
    return text if 0 < len(text) <= 60 else type(value).__name__
