"""Read what a run stores as JSON: its plan, its record and the entries of its journal. Nothing read is trusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError

VERSION = 2
"""Of the files that a run leaves. Version 1 (none is written in them) had sizes where this one has digests."""
LARGEST = 2**24
"""Bytes of the largest plan or record that is read."""
LONE_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
"""File names that are no text hold them; Python reads and writes them, other parsers of JSON do not."""


def read_form(path: Path, form: str) -> dict[str, Any]:
    """Read a plan or a record.

    Args:
        path: Of the file.
        form: `plan` or `record`.

    Returns:
        Its content; `version` is 1 where a record holds none.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be read, is not what a run writes, or is of another version.
    """
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path} is no file; give the folder of a run, as it was written")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        plain: dict[str, Any] = parse_form(content, form)
    except ValueError as misfit:
        raise UserError(f"{path} is not the {form} of a run: {misfit}") from None
    version = plain.get("version", 1)
    if version > VERSION or (form == "plan" and version != VERSION):
        age = "a later" if version > VERSION else "an earlier"
        raise UserError(
            f"{path} was written by {age} version of seewhy (format {version}, this one reads {VERSION}): take that "
            "version, or begin in a new folder"
        )
    return plain


def parse_form(content: bytes, form: str) -> Any:
    """Read JSON of a given form.

    Args:
        content: Of the file.
        form: `plan`, `record` or `entry`.

    Returns:
        What the JSON holds, as `json.loads` reads it.

    Raises:
        ValueError: It is no JSON, or of another form; the message names the first value that does not fit.
    """
    if len(content) > LARGEST and form != "entry":
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    from pydantic import ValidationError  # takes a moment, and a refused command needs none of it
    from pydantic_core import from_json

    from seewhy.runs.schemas import SCHEMAS

    try:
        if LONE_SURROGATES.search(content) is None:
            SCHEMAS[form].model_validate_json(content)
            return from_json(content)  # the same values in a quarter of the time
        SCHEMAS[form].model_validate_json(LONE_SURROGATES.sub(rb"\\u003f", content))
        return json.loads(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        held = f" (it is {str(first['input'])[:40]!a})" if where and first["type"] != "missing" else ""
        reason = str(first["msg"]).replace("Input should", "should").replace("Field required", "is missing")
        raise ValueError(f"{where} {reason}{held}".strip()) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
