"""Shards of one run merged into the run that one machine would have given."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.report.runs import find_records, read_record
from seewhy.runs.contact_sheet import write_sheet
from seewhy.runs.journal import FOLDER, Journal
from seewhy.runs.resume_check import describe_differences
from seewhy.runs.scores import write_curves, write_scores
from seewhy.runs.shard import Shard
from seewhy.runs.tables import write_tables
from seewhy.runs.totals import Totals
from seewhy.statistics.schema import read_metric_facts

KEPT = ("model", "device", "threads", "explainer", "attribution_form", "metrics", "sheet", "seed")
"""What the record of the whole run takes from that of its first shard."""


class ShardRun(NamedTuple):
    """The run folder of a shard."""

    folder: Path
    shard: Shard
    plan: dict[str, Any]
    record: dict[str, Any]


def find_shards(places: Iterable[str]) -> list[ShardRun]:
    """The shards among the runs in and below folders or patterns, by number; empty where there are none.

    Raises UserError where there are shards and other runs, or a place without any run.
    """
    folders = sorted({path.parent for place in places for path in find_records(place)})
    plans = {folder: Journal(folder).plan() or {} for folder in folders}
    shards = {folder: Shard.of(plan.get("shard")) for folder, plan in plans.items()}
    others = [folder for folder, shard in shards.items() if shard.total == 1]
    if len(others) == len(folders):
        return []
    if others:
        raise UserError(f"runs= holds shards and other runs, such as {others[0]}: merge the shards of one run alone")
    parts = [ShardRun(folder, shards[folder], plans[folder], read_record(folder / "run.json")) for folder in folders]
    return sorted(parts, key=lambda part: (part.shard.number, part.folder))


def merge_shards(parts: Sequence[ShardRun], folder: Path) -> dict[str, Any]:
    """Join maps, figures and journals in `folder`, make its tables; what the record says of the run.

    Raises UserError unless the shards are those of one run, complete, each there once.
    """
    check_shards(parts)
    first = parts[0]
    out, journal = RunFolder(folder), Journal(folder)
    journal.begin(first.plan | {"shard": "1/1", "overrides": _whole(first.plan["overrides"])})
    for part in parts:
        for name in ("attributions", "images", "figures", FOLDER):
            _join(part.folder / name, folder / name)
    _check_names(journal)
    write_tables(out, journal)
    facts = {name: fact for part in parts for name, fact in read_metric_facts(part.folder).items()}
    seed, totals = int(first.record["seed"]), Totals.of(journal)
    write_scores(out, facts, journal, seed)
    write_curves(out, journal, f"{first.record['explainer']['name']} on {first.record['model']['name']}", seed)
    if "sheet" in first.record:
        write_sheet(out, journal, first.record["sheet"]["maximum"], first.record["sheet"]["style"])
    Console(highlight=False).print(f"{len(parts)} shards merged: {totals.images:,} images", soft_wrap=True)
    return {
        **{key: first.record[key] for key in KEPT if key in first.record},
        "task": "explain",
        "overrides": _whole(first.plan["overrides"]),
        **({"logged": totals.logged()} if totals.losses else {}),
        **totals.image_record(),
        **totals.attribution_record(),
        **(totals.metric_record() if "metrics" in first.record else {}),
        "shards": [str(part.folder) for part in parts],
    }


def check_shards(parts: Sequence[ShardRun]) -> None:
    """Raise UserError unless these are all shards of one run, each once and finished."""
    first = parts[0]
    for part in parts[1:]:
        changes = describe_differences(_common(first.plan), _common(part.plan))
        if changes or part.shard.total != first.shard.total:
            what = "; ".join(changes) or f"shard: {first.shard} → {part.shard}"
            raise UserError(f"{first.folder} and {part.folder} are not of one run: {what}; merge shards of one run")
    numbers = [part.shard.number for part in parts]
    twice = [part for number, part in enumerate(parts) if part.shard.number in numbers[:number]]
    if twice:
        raise UserError(f"shard {twice[0].shard} is there twice, also in {twice[0].folder}: leave one of them out")
    missing = [
        str(Shard(number, first.shard.total)) for number in range(1, first.shard.total + 1) if number not in numbers
    ]
    if missing:
        raise UserError(f"{len(parts)} of {first.shard.total} shards are there; missing: shard={', '.join(missing)}")
    for part in parts:
        done, own = Journal(part.folder).finished(), part.shard.part(range(part.plan["batches"]))
        if part.record["status"] != "completed" or set(done) != set(own):
            said = f"{len(done)} of {len(own)} batches, status {part.record['status']}"
            raise UserError(
                f"shard {part.shard} in {part.folder} is not finished ({said}): go on with resume={part.folder}"
            )


def _common(plan: dict[str, Any]) -> dict[str, Any]:
    """What all shards of a run share; copies of the images on other machines have other times."""
    data = {key: value for key, value in plan["data"].items() if not key.startswith("times")}
    return {key: value for key, value in plan.items() if key != "shard"} | {"data": data}


def _whole(overrides: Sequence[str]) -> list[str]:
    return [one for one in overrides if not one.startswith(("shard=", "output=", "hydra."))]


def _join(source: Path, target: Path) -> None:
    """Every file below `source` at its place below `target`: linked where the disk can, else copied."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir() or path.name.startswith(".") or path.name == "plan.json":
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)


def _check_names(journal: Journal) -> None:
    known: set[str] = set()
    for entry in journal.entries():
        for seen in entry.images:
            if seen.name in known:
                raise UserError(f"image {seen.name} is in two shards: they are not of one run")
            known.add(seen.name)
