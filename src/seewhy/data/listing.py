"""The image files of a data set: found below folders, by pattern or by name, in an order that never changes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seewhy.core.errors import UserError
from seewhy.data.dataset import escape_path

EXTENSIONS = ("jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm")


class ListedImage(NamedTuple):
    """A file and the folder that it was found below."""

    path: Path
    base: Path

    @property
    def folder(self) -> str:
        """The first folder between `base` and the file; empty where there is none."""
        parts = self.path.relative_to(self.base).parts
        return escape_path(Path(parts[0])) if len(parts) > 1 else ""


def find_images(roots: Sequence[Path]) -> list[ListedImage]:
    """List every image file below the roots once.

    Args:
        roots: Folders, files and glob patterns; a file given by name counts whatever its extension.

    Returns:
        The files, sorted by path.

    Raises:
        UserError: A root does not exist, or a pattern matches nothing.
    """
    images: dict[str, ListedImage] = {}
    for root in roots:
        for image in _expand(root):
            images.setdefault(os.path.abspath(image.path), image)
    return [images[path] for path in sorted(images)]


def find_common_folder(images: Sequence[ListedImage]) -> Path:
    """The deepest folder that holds every root."""
    return Path(os.path.commonpath([os.path.abspath(image.base) for image in images]))


def take_turns(groups: Sequence[str]) -> list[int]:
    """Positions ordered by turns: the first of each group, then the second of each, and so on.

    >>> take_turns(["cat", "cat", "cat", "dog"])
    [0, 3, 1, 2]
    """
    turn: dict[str, int] = {}
    keys = []
    for position, group in enumerate(groups):
        turn[group] = turn.get(group, -1) + 1
        keys.append((turn[group], position))
    return [position for _, position in sorted(keys)]


def _expand(root: Path) -> list[ListedImage]:
    if root.is_dir():
        return [ListedImage(path, root) for path in _walk(root, set())]
    if os.path.lexists(root):
        return [ListedImage(root, root.parent)]
    if not glob.has_magic(str(root)):
        raise UserError(f"data.root={root} does not exist: give a folder, an image file or a pattern such as 'a/*.jpg'")
    parts = root.parts
    base = Path(*parts[: next(position for position, name in enumerate(parts) if glob.has_magic(name))])
    matches = [Path(match) for match in glob.glob(str(root), recursive=True)]
    if not matches:
        raise UserError(f"data.root={root} matches no file")
    visited: set[tuple[int, int]] = set()
    files = [path for path in matches if _is_image_name(path.name)]
    folders = [path for path in matches if path.is_dir() and not _is_image_name(path.name)]
    files += [path for folder in folders for path in _walk(folder, visited)]
    return [ListedImage(path, base) for path in files]


def _walk(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Image files below a folder; no folder is entered twice, whatever the links. An unreadable one is returned."""
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError:
        yield folder
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for name in names:
        path = folder / name
        if _is_image_name(name):
            yield path
        elif not name.startswith(".") and path.is_dir():
            yield from _walk(path, visited)


def _is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: by its extension, and not hidden."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in EXTENSIONS and "." in name
