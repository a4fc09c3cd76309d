"""Shards of one run merged into the run that one machine would have given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.report.runs import find_records, read_record
from seewhy.runs.console import TextConsole, doubt_accuracy
from seewhy.runs.journal import FOLDER, Journal
from seewhy.runs.logged_results import write_sheet
from seewhy.runs.precision import read_compared, summarise_precision, warn_of_precision, write_precision
from seewhy.runs.resume_check import Shard, describe_differences, select_shared
from seewhy.runs.scores import write_curves, write_scores
from seewhy.runs.tables import Totals, write_tables
from seewhy.statistics.schema import read_metric_facts

COPIED = ("model", "device", "threads", "explainer", "attribution_form", "metrics", "sheet", "seed", "pictures_cut")
"""What the record of the whole run takes from that of its first shard."""


LINKED = ("attributions/", "images/", "figures/", f"{FOLDER}/")
"""Where the files of a batch lie."""
LISTED = 20
"""Missing shards that a message names."""


class ShardRun(NamedTuple):
    """The run folder of a shard.

    Attributes:
        folder: Of the shard.
        shard: Its number and how many there are.
        plan: Of its journal.
        record: run.json.
    """

    folder: Path
    shard: Shard
    plan: dict[str, Any]
    record: dict[str, Any]


def find_shards(patterns: Iterable[str]) -> list[ShardRun]:
    """Find the shards among the runs in and below folders.

    Args:
        patterns: Folders or glob patterns.

    Returns:
        The shards by number; none where there are only other runs.

    Raises:
        UserError: If there are shards and other runs, or a pattern without any run.
    """
    folders = sorted({path.parent for pattern in patterns for path in find_records(pattern)})
    plans = {folder: _read_plan(folder) for folder in folders}
    numbers = {folder: Shard.parse(plan.get("shard")) for folder, plan in plans.items()}
    others = [folder for folder, shard in numbers.items() if shard.total == 1]
    if len(others) == len(folders):
        return []
    if others:
        raise UserError(f"runs= holds shards and other runs, such as {others[0]}: merge the shards of one run alone")
    shards = [ShardRun(folder, numbers[folder], plans[folder], read_record(folder / "run.json")) for folder in folders]
    return sorted(shards, key=lambda run: (run.shard.number, run.folder))


def _read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a run; empty where there is none, or where it cannot be used and the record names no shard."""
    try:
        return Journal(folder).read_plan() or {}
    except UserError:
        if "shard" in read_record(folder / "run.json"):
            raise
        return {}


def merge_shards(shards: Sequence[ShardRun], folder: Path) -> dict[str, Any]:
    """Merge shards: link or copy maps, figures and journals, and write the tables of the whole run.

    Args:
        shards: All shards of a run.
        folder: Of the whole run.

    Returns:
        What its record says.

    Raises:
        UserError: Unless the shards are those of one run, finished, each there once.
    """
    check_shards(shards)
    first = shards[0]
    out, journal = RunFolder(folder), Journal(folder)
    _check_names(shards)
    journal.begin(first.plan | {"shard": "1/1", "overrides": _drop_shard(first.plan["overrides"])})
    for run in shards:
        _link_batches(Journal(run.folder), out)
    write_tables(out, journal)
    facts = {name: fact for run in shards for name, fact in read_metric_facts(run.folder).items()}
    seed, totals = int(first.record["seed"]), Totals.read(journal)
    write_scores(out, facts, journal, seed)
    write_curves(out, journal, f"{first.record['explainer']['name']} on {first.record['model']['name']}", seed)
    if "sheet" in first.record:
        write_sheet(out, journal, first.record["sheet"]["maximum"], first.record["sheet"]["style"])
    TextConsole().print(f"{len(shards)} shards merged: {totals.images:,} images", soft_wrap=True)
    model = first.record["model"]
    doubt = doubt_accuracy(totals, model.get("classes") or 0, model.get("doubts", ()))
    return {
        **{key: first.record[key] for key in COPIED if key in first.record},
        **({"accuracy_warning": doubt} if doubt else {}),
        **_merge_precision(out, journal, shards),
        "task": "explain",
        "overrides": _drop_shard(first.plan["overrides"]),
        **({"logged": totals.average_losses()} if totals.losses else {}),
        **totals.describe_images(),
        **totals.describe_attributions(),
        **(totals.describe_metrics() if "metrics" in first.record else {}),
        "shards": [str(run.folder) for run in shards],
    }


def _merge_precision(out: RunFolder, journal: Journal, shards: Sequence[ShardRun]) -> dict[str, Any]:
    """What a shorter type changed on the first images, which lie in the first shard."""
    dtypes = [run.record["precision"]["type"] for run in shards if "precision" in run.record]
    compared = read_compared(journal.read_explanations()) if dtypes else []
    if not compared:
        return {"precision": {"type": dtypes[0]}} if dtypes else {}
    write_precision(out, compared)
    summary = summarise_precision(compared, dtypes[0])
    warning = warn_of_precision(summary)
    return {"precision": summary | ({"warning": warning} if warning else {})}


def check_shards(shards: Sequence[ShardRun]) -> None:
    """Check that these are all shards of one run, each there once and finished.

    Args:
        shards: To be merged.

    Raises:
        UserError: If they are not.
    """
    first = shards[0]
    for run in shards[1:]:
        changes = describe_differences(select_shared(first.plan), select_shared(run.plan))
        if changes or run.shard.total != first.shard.total:
            what = "; ".join(changes) or f"shard: {first.shard} → {run.shard}"
            raise UserError(f"{first.folder} and {run.folder} are not of one run: {what}; merge shards of one run")
    numbers = [run.shard.number for run in shards]
    twice = [run for number, run in enumerate(shards) if run.shard.number in numbers[:number]]
    if twice:
        raise UserError(f"shard {twice[0].shard} is there twice, also in {twice[0].folder}: leave one of them out")
    total = first.shard.total
    missing = list(islice((number for number in range(1, total + 1) if number not in set(numbers)), LISTED + 1))
    if missing:
        listed = ", ".join(f"{number}/{total}" for number in missing[:LISTED])
        more = ", ..." if len(missing) > LISTED else ""
        raise UserError(f"{len(shards)} of {total} shards are there; missing: shard={listed}{more}")
    for run in shards:
        finished = Journal(run.folder).count_finished()
        own = range(run.plan["batches"])[run.shard.number - 1 :: run.shard.total]
        complete = len(finished) == len(own) and all(number in own for number in finished)
        absent = [key for key in ("explainer", "model", "seed") if run.record.get(key) is None]
        if absent:
            raise UserError(
                f"{run.folder}/run.json does not hold {' and '.join(absent)}; merge the folders of whole runs"
            )
        if run.record["status"] != "completed" or not complete:
            state = f"{len(finished)} of {len(own)} batches, status {run.record['status']}"
            raise UserError(
                f"shard {run.shard} in {run.folder} is not finished ({state}): resume it with resume={run.folder}"
            )


def _drop_shard(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not override.startswith(("shard=", "output=", "hydra."))]


def _link_batches(journal: Journal, out: RunFolder) -> None:
    """Link what belongs to the finished batches of a shard, or copy it where the disk cannot link."""
    for number in journal.list_numbers():
        results = journal.read(number)
        if results is None:
            continue
        entry = journal.locate(number).relative_to(journal.folder.path).as_posix()
        for name in (*results.stored, entry):
            if name.startswith(LINKED):
                _link(journal.folder.path / name, out, name)


def _link(path: Path, out: RunFolder, name: str) -> None:
    target = out.path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(path):
        return
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        out.write_bytes(name, path.read_bytes())


def _check_names(shards: Sequence[ShardRun]) -> None:
    names: set[str] = set()
    for run in shards:
        for entry in Journal(run.folder).read_batches():
            for image in entry.images:
                if image.name in names:
                    raise UserError(f"image {image.name} is in two shards: they are not of one run")
                names.add(image.name)
