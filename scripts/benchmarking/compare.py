"""Ours and a peer in turn: first the values, then the seconds."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarking.clock import Spread, in_turn, ratio
from benchmarking.ordinary_pages import ordinary_pages
from benchmarking.peers.peer import Peer, difference
from benchmarking.row import DIFFER, Row
from benchmarking.subject import Subject
from seewhy.core.errors import Incompatible

SHARE_OF_MEMORY = 0.8
"""Of the free memory that a peer may need to be run."""
INSTALL = {"xplique": "pip install --no-deps xplique beside tensorflow: it asks for an older torch"}
"""What brings a library that `make oracle` does not."""


def free_bytes(device: torch.device) -> int:
    """Memory that is free now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def peer_rows(subject: Subject, peers: Sequence[Peer], repeats: int) -> Iterator[Row]:
    """A row for each peer; one that is missing, too large or broken says so in its note."""
    for peer in peers:
        yield _row(subject.first(peer.images), peer, repeats)


def _row(subject: Subject, peer: Peer, repeats: int) -> Row:
    common = {"part": "peer", "model": subject.classifier.name, "name": peer.method, "images": len(subject.images)}
    setting = f"{peer.library}: {peer.setting}"
    if importlib.util.find_spec(peer.library) is None:
        return Row(**common, setting=setting, note=f"not installed: {INSTALL.get(peer.library, 'make oracle')}")  # type: ignore[arg-type]
    need = peer.at_once * len(subject.images) * subject.bytes_of_a_gradient if peer.at_once else 0
    if need > SHARE_OF_MEMORY * free_bytes(subject.device):
        note = f"not run: would keep {need / 1e9:.0f} GB, extrapolated from one image"
        return Row(**common, setting=setting, megabytes=need / 1e6, note=note)  # type: ignore[arg-type]

    def theirs() -> None:
        with ordinary_pages():
            peer.theirs(subject)

    try:
        found = _compare(subject, peer)
        measured = in_turn({"ours": lambda: peer.ours(subject), "theirs": theirs}, repeats, subject.device)
    except Incompatible as error:
        return Row(**common, setting=setting, note=f"refused: {error}")  # type: ignore[arg-type]
    except Exception as error:
        words = traceback.format_exception_only(error)[-1].split("\n")[0]
        return Row(**common, setting=setting, note=f"theirs raises {words[:150]}")  # type: ignore[arg-type]
    spread = ratio(measured["theirs"], measured["ours"])
    seconds = Spread.of(measured["ours"]).median / len(subject.images)
    note = peer.note
    if peer.tolerance is not None and found is not None and found > peer.tolerance:
        note = f"{DIFFER} by more than {peer.tolerance:g}; {note}".rstrip("; ")
    return Row(
        **common,  # type: ignore[arg-type]
        setting=setting,
        seconds=seconds,
        ratio=spread.median,
        smallest=spread.smallest,
        largest=spread.largest,
        megabytes=need / 1e6 if need else None,
        difference=found,
        note=note,
    )


def _compare(subject: Subject, peer: Peer) -> float | None:
    """The largest difference of the values, ours computed layer by layer too; None where they are not meant to be equal."""
    if peer.tolerance is None:
        return None
    ours, theirs = peer.check or (peer.ours, peer.theirs)
    with subject.classifier.folding.off():
        return difference(ours(subject), theirs(subject), peer.affine)
