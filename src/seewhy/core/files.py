"""Files of a run, written whole or not at all, and the files that come with the project."""

from __future__ import annotations

import csv
import errno
import hashlib
import importlib
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from seewhy.core.cells import quote_cell
from seewhy.core.disclosure import mask_values
from seewhy.core.errors import UserError

ABSENT = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG)
"""Errors of a name in a folder that is no file of it."""


class OutsideFolder(UserError, ValueError):
    """A name that leads out of a run folder."""


class TableWriter:
    """The rows of a table in a file of text; text that a spreadsheet would run is quoted (`seewhy.core.cells`).

    Args:
        file: Open for writing; the heading is written at once.
        columns: Names of the columns, in order.
    """

    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._rows = csv.DictWriter(file, columns, lineterminator="\n")
        self._rows.writeheader()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row.

        Args:
            row: A value for each column; a missing one is an empty cell.
        """
        self._rows.writerow({column: quote_cell(cell) for column, cell in row.items()})

    def add_numbers(self, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add rows that begin with the same names and go on with numbers: many, in a tenth of the time of `add`.

        Args:
            names: Cells of text.
            rows: The cells behind them; numbers as text, which is not quoted.
        """
        quoted = [quote_cell(name) for name in names]
        self._rows.writer.writerows([*quoted, *row] for row in rows)


class RunFolder:
    """Atomic files below one folder: a name either holds the whole content or does not exist.

    Every method raises `OutsideFolder` for a name that leads out of the folder: `..`, an absolute path, or a link.

    Args:
        path: The folder; it is created with the first file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, fill: Callable[[BinaryIO], None]) -> Path:
        """Write a file through a function.

        Args:
            name: Path below the folder, with slashes.
            fill: Writes the content to an open binary file; the file gets its name when this returns.

        Returns:
            The path of the file.
        """
        with self._replacing(name) as file:
            fill(file)
        return self.path / name

    @contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        """An open file that gets its name when the block ends without an error."""
        target = self._inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _inside(self, name: str) -> Path:
        target = self.path / name
        folder = self.path.resolve()
        plain = target.name not in ("", "..") and "\0" not in name and ".." not in Path(name).parts
        if not plain or Path(name).is_absolute() or not target.parent.resolve().is_relative_to(folder):
            raise OutsideFolder(f"{name!r} leads out of the run folder {self.path}; nothing is read or written there")
        return target

    def open(self, name: str) -> io.BufferedReader:
        """Open a file for reading; what is no regular file, such as a link, does not count.

        Args:
            name: Path below the folder.

        Returns:
            The open file.

        Raises:
            FileNotFoundError: There is no regular file of that name in the folder.
            OSError: It cannot be read.
        """
        path = self._inside(name)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            raise FileNotFoundError(errno.ENOENT, "no file of a run", str(path)) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "no file of a run", str(path))
        return open(descriptor, "rb")

    def compute_digest(self, name: str) -> str:
        """Compute the digest of a file.

        Args:
            name: Path below the folder.

        Returns:
            BLAKE2b of 16 bytes in hexadecimal digits; empty where there is no regular file of that name in the folder.
        """
        try:
            file = self.open(name)
        except (OSError, ValueError):
            return ""
        with file:
            return hashlib.file_digest(file, _start_digest).hexdigest()

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write bytes.

        Args:
            name: Path below the folder.
            content: All bytes of the file.

        Returns:
            The path of the file.
        """

        def fill(file: BinaryIO) -> None:
            file.write(content)

        return self.write(name, fill)

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a mapping as indented JSON, without the values that came from the environment.

        Args:
            name: Path below the folder.
            content: The mapping; values that JSON does not have are written as text.

        Returns:
            The path of the file.
        """
        return self.write_bytes(name, (json.dumps(mask_values(content), indent=2, default=str) + "\n").encode())

    def write_csv(self, name: str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write a table, row by row; text that a spreadsheet would run is quoted (`seewhy.core.cells`).

        Args:
            name: Path below the folder.
            columns: Names of the columns, in order.
            rows: A value for each column; a missing one is an empty cell.

        Returns:
            The path of the file.
        """
        with self.writing_csv(name, columns) as table:
            for row in rows:
                table.add(row)
        return self.path / name

    @contextmanager
    def writing_csv(self, name: str, columns: Iterable[str]) -> Iterator[TableWriter]:
        """Write a table row by row inside a block; it gets its name when the block ends without an error.

        Args:
            name: Path below the folder.
            columns: Names of the columns, in order.

        Yields:
            What takes the rows.
        """
        with self._replacing(name) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="")
            try:
                yield TableWriter(text, list(columns))
            finally:
                text.detach()


def compute_digest(content: bytes) -> str:
    """Compute the digest of the content of a file.

    Args:
        content: All its bytes.

    Returns:
        What `RunFolder.compute_digest` gives of the file.
    """
    digest = _start_digest()
    digest.update(content)
    return digest.hexdigest()


def _start_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def name_files(titles: Iterable[str]) -> dict[str, str]:
    """Name a file for each title: letters, digits, `.`, `_` and `-` alone, short, and no two the same in any case.

    >>> name_files(["a/b", "a b", "A B", "lrp (rule=gamma)", "../.."])
    {'a/b': 'a_b', 'a b': 'a_b_2', 'A B': 'A_B_3', 'lrp (rule=gamma)': 'lrp_rule_gamma', '../..': 'unnamed'}

    Args:
        titles: Of models, methods or groups.

    Returns:
        The name of each title, without a suffix.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for title in titles:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", title).strip("_.")[:80] or "unnamed"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        names[title] = name
        taken.add(name.casefold())
    return names


CHECKOUT = Path(__file__).resolve().parents[3]
"""The top of the checkout, where the package lies in one."""


def find_resources(packaged: str, checkout: str) -> Path:
    """Find a folder of files that are no Python modules.

    Args:
        packaged: Its name below the installed package, such as `configs` for `seewhy.configs`.
        checkout: Its path below the top of a checkout, such as `logbook/images`.

    Returns:
        The folder inside the package where there is one, else that of the checkout, which may not exist.
    """
    folder = Path(str(resources.files("seewhy"))) / packaged
    return folder if folder.is_dir() else CHECKOUT / checkout


ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/]")
"""How the address of a file elsewhere begins; a path class leaves one slash of two."""


def refuse_address(key: str, text: str) -> None:
    """Refuse the address of a file on another machine, which nothing here fetches.

    Args:
        key: What was set to it, for the message.
        text: A path as it was given.

    Raises:
        UserError: It begins with a scheme, such as `https://`.
    """
    if ADDRESS.match(text) and not os.path.lexists(text):
        raise UserError(f"{key}={text}: nothing is fetched from the network; download it and give the path of the file")


def add_current_folder() -> Path:
    """Let modules of the current folder be imported, behind all others.

    Returns:
        The folder.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    return Path(folder)
