"""What a page says of the runs that it rests on: commit, time, versions, machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seewhy.core.errors import UserError
from studies.found_runs import records
from studies.part import Part
from studies.run_part import Ran


def run_facts(ran: Ran) -> dict[str, Any]:
    """commit, date, seconds, device, threads, versions, seed and networks of all runs. UserError where no part was run."""
    found = [record for folder in ran.folders.values() for _, record in records(folder)]
    if not found:
        raise UserError("no part of the study was run")
    return {
        "commit": _joined(_commit(record) for record in found),
        "date": max(record["started"] for record in found)[:10],
        "seconds": sum(record["seconds"] for record in found),
        "device": _joined(str(record["device"]) for record in found if "device" in record),
        "threads": _joined(str(record["threads"]) for record in found if "threads" in record),
        "seed": _joined(str(record["seed"]) for record in found),
        "python": _joined(record["python"] for record in found),
        "networks": "; ".join(
            dict.fromkeys(_describe_network(record["model"]) for record in found if "model" in record)
        ),
        "versions": ", ".join(f"{name} {version}" for name, version in found[0]["versions"].items()),
    }


def part_rows(parts: Sequence[Part], ran: Ran) -> list[dict[str, str]]:
    """A row for every part: its command and its time, or that it was not run."""
    return [
        {"part": part.name, "seconds": _seconds(ran.folders.get(part.name)), "command": f"`{part.shown}`"}
        for part in parts
    ]


def _describe_network(model: dict[str, Any]) -> str:
    """Name, pixels and normalisation of a network."""
    size = model["size"] if isinstance(model["size"], int) else " x ".join(map(str, model["size"]))
    values = [f"{key} {', '.join(f'{value:.4g}' for value in model[key])}" for key in ("mean", "std") if key in model]
    return ", ".join([f"`{model['name']}` {size} pixels", *values])


def _seconds(folder: Path | None) -> str:
    if folder is None:
        return "-"
    return f"{sum(record['seconds'] for _, record in records(folder)):.0f}"


def _commit(record: dict[str, Any]) -> str:
    return f"`{str(record['git_commit'])[:10]}`" + (" with changes" if record["git_dirty"] else "")


def _joined(words: Any) -> str:
    return ", ".join(dict.fromkeys(words))
