"""Facts that lie beside a file of weights: a config.json of this project's form, of timm or of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError

OWN = ("classes", "size", "mean", "std", "crop", "interpolation", "score")
"""Facts under their own names."""
LARGEST = 2**24
"""Bytes of such a file, at most."""


def read_companion(weights: Path) -> tuple[dict[str, Any], str]:
    """Read the facts beside a file of weights: from <its name>.json, or from config.json in its folder.

    Args:
        weights: The file of weights.

    Returns:
        Fields of `seewhy.core.facts.Facts` (some, or none), and the name of the file that they are from.

    Raises:
        UserError: The file cannot be read, or holds something else where a fact is expected.
    """
    for path in (weights.with_suffix(".json"), weights.parent / "config.json"):
        if path.is_file():
            facts = parse_facts(_read_json(path), path)
            processor = path.parent / "preprocessor_config.json"
            if facts and "mean" not in facts and processor.is_file():
                facts = _parse_processor(_read_json(processor), processor) | facts
            return facts, path.name if facts else ""
    return {}, ""


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} beside the weights cannot be read ({error}); mend it or move it away") from error
    return content if isinstance(content, Mapping) else {}


def parse_facts(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Find facts in what a config.json holds.

    Args:
        content: Its object.
        path: Where it lies, for messages.

    Returns:
        Fields of `seewhy.core.facts.Facts`.

    Raises:
        UserError: A fact has another form than it should.
    """
    nested = content.get("pretrained_cfg")
    timm = nested if isinstance(nested, Mapping) else content
    names = content.get("label_names") or timm.get("label_names") or _list_labels(content.get("id2label"))
    side = timm.get("input_size") or content.get("image_size")
    values = {
        "classes": names or _count_names(content.get("num_classes") or timm.get("num_classes")),
        "size": side[-2:] if isinstance(side, list) else side,
        "mean": timm.get("mean"),
        "std": timm.get("std"),
        "crop": timm.get("crop_pct"),
        "interpolation": timm.get("interpolation"),
    }
    values |= {key: content[key] for key in OWN if key in content}
    return {key: _check(key, value, path) for key, value in values.items() if value is not None}


def _list_labels(labels: Any) -> list[str] | None:
    """Hugging Face's names by index, in order."""
    if not isinstance(labels, Mapping):
        return None
    names = {str(index): str(name) for index, name in labels.items()}
    order = [str(index) for index in range(len(names))]
    return [names[index] for index in order] if set(order) == set(names) else None


def _count_names(count: Any) -> list[str] | None:
    return [f"class {index}" for index in range(count)] if isinstance(count, int) and 0 < count < 10**6 else None


def _parse_processor(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Mean and standard deviation of a Hugging Face processor that scales bytes to [0, 1] first."""
    if not content.get("do_normalize", True) or abs(float(content.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-6:
        return {}
    values = {"mean": content.get("image_mean"), "std": content.get("image_std")}
    return {key: _check(key, value, path) for key, value in values.items() if value is not None}


def _check(key: str, value: Any, path: Path) -> Any:
    """The value as a field of the facts."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    numbers = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    words = isinstance(value, list) and all(isinstance(each, str) for each in value)
    right = {
        "classes": words,
        "size": (number or (numbers and len(value) == 2)),
        "mean": numbers,
        "std": numbers,
        "crop": number,
        "interpolation": isinstance(value, str),
        "score": isinstance(value, str),
    }
    if not right[key]:
        raise UserError(
            f"{path} beside the weights: {key}={str(value)[:60]} has another form than it should; mend it or set model.{key}"
        )
    if key == "size" and isinstance(value, list):
        return int(value[0]) if value[0] == value[1] else tuple(int(side) for side in value)
    if key == "interpolation" and value not in ("nearest", "bilinear", "bicubic"):
        return "bicubic"
    return tuple(value) if isinstance(value, list) else value
