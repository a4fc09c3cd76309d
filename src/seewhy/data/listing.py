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
    """Every image file below the roots once, sorted by path; a file given by name counts whatever its extension."""
    found: dict[str, ListedImage] = {}
    for root in roots:
        for each in _expand(root):
            found.setdefault(os.path.abspath(each.path), each)
    return [found[path] for path in sorted(found)]


def _expand(root: Path) -> list[ListedImage]:
    if root.is_dir():
        return [ListedImage(path, root) for path in _walk(root, set())]
    if os.path.lexists(root):
        return [ListedImage(root, root.parent)]
    if not glob.has_magic(str(root)):
        raise UserError(f"data.root={root} does not exist: give a folder, an image file or a pattern such as 'a/*.jpg'")
    parts = root.parts
    base = Path(*parts[: next(position for position, part in enumerate(parts) if glob.has_magic(part))])
    matches = [Path(match) for match in glob.glob(str(root), recursive=True)]
    if not matches:
        raise UserError(f"data.root={root} matches no file")
    visited: set[tuple[int, int]] = set()
    files = [path for path in matches if is_image_name(path.name)]
    folders = [path for path in matches if path.is_dir() and not is_image_name(path.name)]
    return [ListedImage(path, base) for path in files + [path for folder in folders for path in _walk(folder, visited)]]


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
        if is_image_name(name):
            yield path
        elif not name.startswith(".") and path.is_dir():
            yield from _walk(path, visited)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: a known extension, and not hidden."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in EXTENSIONS and "." in name


def _common_folder(found: Sequence[ListedImage]) -> Path:
    return Path(os.path.commonpath([os.path.abspath(each.base) for each in found]))


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
