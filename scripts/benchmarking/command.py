"""The command: options, the parts in order, the files they leave behind."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarking.place import ROOT
from benchmarking.row import Row

if TYPE_CHECKING:
    from benchmarking.peers.peer import Peer
    from benchmarking.subject import Subject

QUICK = ("methods", "metrics", "peers", "memory", "adaptive")
PARTS = (*QUICK, "scaling", "start", "data", "script", "below", "compile")
LIBRARIES = ("captum", "cams", "saliency", "zennit", "xplique", "quantus", "vit")
SLOW = 0.1
"""Seconds of a gradient for one image, above which a network is measured sparingly in a full run.

That is in the steps and samples of a quick run, and unless options say otherwise in two turns on `FEW` images of `SMALL`
pixels: as they are used, the methods and metrics of VGG16 would take a day.
"""
FEW, SMALL = 8, 112
ALL = "all"
"""Every method or metric, also in a quick run."""


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options; `--quick` is the default."""
    from benchmarking import methods, metrics

    parser = argparse.ArgumentParser(
        prog="python scripts/benchmark.py",
        description="Time over floor, passes, memory and peers; writes benchmark.md and benchmark.csv.",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_true", help="some methods and metrics, small sizes (default)")
    pace.add_argument("--full", action="store_true", help="all methods and metrics, as they are used")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="timm:NAME for any timm network")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"{', '.join(PARTS)} (default: all with --full, else the first five)",
    )
    parser.add_argument("--methods", nargs="*", choices=(ALL, *methods.NAMES), metavar="NAME", help="or all")
    parser.add_argument("--metrics", nargs="*", choices=(ALL, *metrics.NAMES), metavar="NAME", help="or all")
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=LIBRARIES,
        metavar="LIBRARY",
        help=f"{', '.join(LIBRARIES)} (default: all; vit with --full)",
    )
    parser.add_argument("--device", default="cpu", help="cpu | cuda")
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument("--images", type=int, help=f"at most (default: 32; {FEW} of a slow network)")
    parser.add_argument(
        "--repeats", type=int, help="turns of each row (default: 2, or 3 with --full, not of a slow network)"
    )
    parser.add_argument(
        "--size",
        type=int,
        help="pixels (default: the model's own; 96 in a quick run without --models; "
        f"at most {SMALL} of a slow network)",
    )
    parser.add_argument("--keep", action="store_true", help="other rows that are in the folder stay there")
    parser.add_argument(
        "--folder", type=Path, help="of the page: logbook with --full or --keep, else logbook/outputs/benchmark"
    )
    options = parser.parse_args(arguments)
    full = options.full
    if options.folder is None:  # a quick look never replaces the whole page
        options.folder = ROOT / "logbook" if full or options.keep else ROOT / "logbook" / "outputs" / "benchmark"
    if not full and not options.models and not options.size:
        options.size = 96
    options.models = options.models or ["efficientnet_lite0"]
    options.parts = options.parts or list(PARTS if full else QUICK)
    if options.peers is None:
        options.peers = [library for library in LIBRARIES if full or library != "vit"]
    if options.methods is None or ALL in options.methods:
        options.methods = list(methods.NAMES if full or options.methods else methods.QUICK_NAMES)
    if options.metrics is None or ALL in options.metrics:
        options.metrics = list(metrics.NAMES if full or options.metrics else metrics.QUICK_NAMES)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, then write the page, the table and the figure."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parsed(given)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # the best batch sizes are found anew
        import torch

        from benchmarking import machine, methods, metrics, page, scaling, scaling_figure

        if options.threads:
            torch.set_num_threads(options.threads)
        gc.collect()
        gc.freeze()  # as a run does: collections need not walk over what is loaded
        rows: list[Row] = []
        floors: list[str] = []
        try:
            for row in measured(options, floors):
                rows.append(row)
                print(_line(row, time.perf_counter() - started), file=sys.stderr, flush=True)
        finally:  # an error at the end does not lose what was measured before it
            options.folder.mkdir(parents=True, exist_ok=True)
            file, table = options.folder / "benchmark.md", options.folder / "benchmark.csv"
            if options.keep:
                names = {"method": methods.NAMES, "metric": [*metrics.NAMES, *metrics.SETS]}
                rows = page.join(page.read_csv(table), rows, names)
            earlier = page.runs_before(file) if options.keep else []
            facts = machine.facts(options.device, time.perf_counter() - started, shlex.join(given))
            page.write_csv(table, rows)
            page.write_page(file, rows, facts, options.device, floors, earlier)
            if lines := scaling.lines_of(rows):
                scaling_figure.draw(lines, options.folder / "benchmark.png", f"{scaling.MODEL} on {options.device}")
            print(f"written: {file}")


def measured(options: argparse.Namespace, floors: list[str]) -> Iterator[Row]:
    """All rows; each model's bare passes in words are added to `floors`."""
    import torch

    from benchmarking import adaptive, below, compilation, data_path, memory, methods, metrics, scaling, script, start
    from benchmarking.compare import peer_rows
    from benchmarking.subject import build

    quick = not options.full
    usual = options.repeats or (2 if quick else 3)
    for model in options.models:
        subject = build(model, options.images or 32, options.device, options.size)
        slow = not quick and _is_slow(subject)
        if slow:
            images, pixels = options.images or FEW, options.size or min(SMALL, *subject.images.shape[2:])
            subject = build(model, images, options.device, pixels)
        repeats, sparing = options.repeats or (2 if slow else usual), quick or slow
        sizes = _prepare(subject, model, quick, sparing, floors)
        if "methods" in options.parts:
            yield from methods.method_rows(subject, options.methods, sizes, repeats, sparing)
        if "metrics" in options.parts:
            yield from metrics.metric_rows(subject, options.metrics, sizes, repeats, sparing)
        if "peers" in options.parts:
            yield from peer_rows(subject, _peers(options, subject, sizes[1], sparing), repeats)
            if model == options.models[0]:
                yield from _rows_of_transformers(options, floors)
        if "script" in options.parts and model == options.models[0]:
            threads = torch.get_num_threads()
            yield from script.script_rows(subject.first(1), quick, 1 if quick else usual, threads)
        if "adaptive" in options.parts and model == options.models[0]:
            yield from adaptive.adaptive_rows(subject.first(2 if quick else 4), sizes[1], 100 if quick else 600)
    if "below" in options.parts:
        yield from below.below_rows(options.device, quick, usual)
    if "compile" in options.parts:
        yield from compilation.compile_rows(quick, torch.get_num_threads())
    if "memory" in options.parts:
        model, pixels = ("cifar_cnn", None) if quick else (options.models[0], options.size or 96)
        yield from memory.memory_rows(model, options.methods, options.device, quick, pixels)
    if "scaling" in options.parts:
        yield from scaling.scaling_rows(options.device, quick, options.threads)
    if "start" in options.parts:
        yield from start.start_rows(options.models[0], 1 if quick else usual, torch.get_num_threads())
    if "data" in options.parts:
        for explainer, count in data_path.RUNS["quick" if quick else "full"].items():
            yield from data_path.data_rows(options.models[0], count, explainer)


def _peers(options: argparse.Namespace, subject: Subject, best: int, quick: bool) -> list[Peer]:
    from benchmarking.peers import (
        cam_methods,
        captum_methods,
        pair_methods,
        quantus_metrics,
        xplique_methods,
        zennit_methods,
    )

    size = subject.images.shape[-1]
    network = subject.classifier.network
    makers = {
        "captum": lambda: captum_methods.peers(best, quick, size, network),
        "cams": lambda: cam_methods.peers(quick),
        "saliency": lambda: pair_methods.peers(best, quick),
        "zennit": lambda: zennit_methods.peers(network),
        "xplique": lambda: xplique_methods.peers(quick, size),
        "quantus": lambda: quantus_metrics.peers(quick),
    }
    wanted = {*options.methods, *options.metrics}
    return [peer for name in options.peers if name in makers for peer in makers[name]() if peer.method in wanted]


def _is_slow(subject: Subject) -> bool:
    """Whether a network is measured sparingly in a full run."""
    from benchmarking.floor import bare_pass

    bare_pass(subject.classifier, subject.images[:1], True)
    return min(bare_pass(subject.classifier, subject.images[:4], True) for _ in range(2)) > SLOW


def _prepare(subject: Subject, model: str, quick: bool, sparing: bool, floors: list[str]) -> tuple[int, int]:
    """Find the best batch sizes, which every method takes from here on."""
    from benchmarking.floor import best_sizes, measured_floor, remember

    image = subject.images[:1]
    sizes = best_sizes(subject.classifier, image, budget=0.4 if quick else 3)
    floor = measured_floor(subject.classifier, image, sizes)
    remember(subject.classifier, image[0], sizes)
    words = (
        f"bare pass of {model} at {image.shape[-1]} pixels: forward {_pace(floor.forward)} at batch {sizes[0]}, "
        f"with gradient {_pace(floor.gradient)} at batch {sizes[1]}"
    )
    floors.append(f"{words}; in the steps and samples of a quick run" if sparing else words)
    return sizes


def _pace(seconds: float) -> str:
    return f"{1 / seconds:.{0 if seconds < 0.1 else 1}f} images/s"


def _rows_of_transformers(options: argparse.Namespace, floors: list[str]) -> Iterator[Row]:
    """Peers that know one network alone, on that."""
    from benchmarking.compare import peer_rows
    from benchmarking.peers import transformer_methods

    peers = [peer for peer in transformer_methods.peers() if peer.method in options.methods]
    if "vit" in options.peers and peers:
        count, quick = min(options.images or 32, max(peer.images for peer in peers)), not options.full
        subject = transformer_methods.build_subject(count, options.device, quick)
        _prepare(subject, transformer_methods.MODEL, quick, quick, floors)
        yield from peer_rows(subject, peers, options.repeats or (2 if quick else 3))


def _line(row: Row, seconds: float) -> str:
    """What a person reads while it works."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"{seconds:6.0f} s  {row.part:8} {row.model:20} {row.name} {row.setting[:60]}  {ratio}  {row.note[:60]}"
