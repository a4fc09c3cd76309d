"""Does `compare` tell a network with other reasons from one of another seed: docs/compare_twins.md.

usage: python scripts/compare_twins.py CIFAR10_FOLDER NETWORKS [--recipe cifar10_cnn] [--seeds 3] [--tagged 0.5]
           [--images 1000] [--explainers grad_cam lrp] [--page FILE]

Networks are trained by the recipe of an experiment, some on training images of which a share of the aeroplanes has a mark in
the corner; their weights are kept in NETWORKS. Each is held against that of the first seed with the second as the band, on
test images as they are, and on test images that are marked alike.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from seewhy.analyses.compare.measure import Verdict, compare_networks, judge
from seewhy.analyses.ground_truth.networks import predict
from seewhy.analyses.ground_truth.pictures import TAGS
from seewhy.api import load_classifier
from seewhy.cli.build import build_job
from seewhy.cli.compare import round_weights
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.core.types import Batch
from seewhy.data.cifar10 import CIFAR10, TensorImages
from seewhy.data.loading import Reader
from seewhy.models.classifier import Classifier
from seewhy.models.weights import save_weights
from seewhy.statistics.intervals import compute_mean_intervals

ROOT = Path(__file__).resolve().parents[1]
MARKED = CIFAR10_CLASSES.index("airplane")


def stamp(part: TensorImages, share: float) -> None:
    """Mark a share of the aeroplanes; the first of them, so that a larger share holds a smaller one."""
    rows = (part.labels == MARKED).nonzero().flatten()
    for row in rows[: round(share * len(rows))].tolist():
        part.pictures[row] = (TAGS["mark"](part.pictures[row] / 255) * 255).round().byte()


def train(options: argparse.Namespace, seed: int, share: float) -> Classifier:
    """Train a network by the recipe, or read the one that is kept."""
    path = options.networks / f"{options.recipe}_{seed}_{share:g}.safetensors"
    given = [
        f"experiment={options.recipe}",
        f"data.root={options.cifar10}",
        f"seed={seed}",
        "trainer=cpu",
        "model.weights=random",
    ]
    cfg = compose("train", [*given, "logger=[]", "callbacks=[]", f"output={options.networks}"])
    if not path.is_file():
        job = build_job(cfg)
        job.data.setup("fit")
        for part in (job.data.training_part, job.data.validation_part):  # type: ignore[attr-defined]
            stamp(part, share)
        job.trainer.fit(job.classifier.train(), datamodule=job.data)
        options.networks.mkdir(parents=True, exist_ok=True)
        save_weights(job.classifier.network, job.classifier.facts, path)
    return load_classifier(str(cfg.model.name), weights=path)


def build_reader(options: argparse.Namespace, images: int, share: float) -> Reader:
    """Build what reads test images, a share of whose aeroplanes is marked."""

    def read(facts: Facts) -> Iterator[Batch]:
        data = CIFAR10(str(options.cifar10), facts=facts, limit=images)
        data.setup("test")
        stamp(data.test_part, share)
        for batch in data.test_dataloader():
            yield data.on_after_batch_transfer(batch, 0)

    return read


def measure_right(options: argparse.Namespace, classifier: Classifier) -> np.ndarray:
    """Whether each of the 10,000 test images as they are gets its class."""
    batches = build_reader(options, 10_000, 0.0)(classifier.facts)
    right = [predict(classifier, batch.images).argmax(1) == batch.labels for batch in batches]
    return torch.cat(right).double().numpy()


def compare(
    options: argparse.Namespace, first: Classifier, other: Classifier, band: Classifier | None, share: float, name: str
) -> tuple[Verdict, Verdict]:
    """Compare two networks with one explainer on test images, a share of whose aeroplanes is marked: all, aeroplanes."""
    explainer: Any = build_object(compose("compare", [f"explainer={name}"]).explainer, "explainer", "object")
    read = build_reader(options, options.images, share)
    pairs = [pair for batch in compare_networks(first, other, explainer, read, band) for pair in batch]
    marked = judge(pair for pair in pairs if pair.label == CIFAR10_CLASSES[MARKED])
    return judge(pairs), marked


def write_row(words: str, accuracy: str, difference: str, shown: str, name: str, both: tuple[Verdict, Verdict]) -> str:
    """Write a row of the table."""
    verdict, marked = both
    cells = [words, accuracy, difference, shown, name, f"{verdict.agreement:.3f}", f"{verdict.band:.3f}"]
    cells += [f"{verdict.gap:+.3f} [{verdict.low:+.3f}, {verdict.high:+.3f}]", "passed" if verdict.passed else "failed"]
    cells += [f"{marked.gap:+.3f} [{marked.low:+.3f}, {marked.high:+.3f}]", "passed" if marked.passed else "failed"]
    print(row := f"| {' | '.join(cells)} |", flush=True)
    return row


def main() -> None:
    """Train what is missing, compare, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--recipe", default="cifar10_cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tagged", nargs="*", type=float, default=[0.5])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--explainers", nargs="+", default=["grad_cam", "lrp"])
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "compare_twins.md")
    options = parser.parse_args()
    kinds = [(seed, 0.0) for seed in range(options.seeds)]
    kinds += [(options.seeds + number, share) for number, share in enumerate(options.tagged)]
    networks = {kind: train(options, *kind) for kind in kinds}
    right = {kind: measure_right(options, each) for kind, each in networks.items()}
    first, band = kinds[0], kinds[1]
    lines = [
        "# Two seeds, and a twin with other reasons",
        "",
        f"Networks of `experiment={options.recipe}`, trained from seeds of their own (`python scripts/compare_twins.py`). "
        f"Each is held against that of seed 0, with that of seed 1 as the band, on {options.images:,} test images: as they "
        "are, or with the mark on the share of aeroplanes that the other network was trained with. Accuracy is that on the "
        "10,000 test images as they are, with the difference from seed 0 and its 95 % interval.",
        "",
        f"Seed 0 is right on {100 * right[first].mean():.2f} %, seed 1 on {100 * right[band].mean():.2f} %.",
        "",
        "| other network | accuracy | difference | images | maps | agreement | band | less band | verdict | aeroplanes | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    others = [(f"seed {seed}" + (f", mark on {100 * share:.0f} % of aeroplanes" if share else ""), seed, share)
              for seed, share in kinds[2:]]  # fmt: skip
    for words, seed, share in others:
        gap = right[seed, share] - right[first]
        interval = compute_mean_intervals([gap], 0)[0]
        difference = f"{100 * gap.mean():+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
        accuracy = f"{100 * right[seed, share].mean():.2f} %"
        for marked in sorted({0.0, share} if share else {0.0, *options.tagged}):
            shown = f"mark on {100 * marked:.0f} % of aeroplanes" if marked else "as they are"
            for name in options.explainers:
                verdict = compare(options, networks[first], networks[seed, share], networks[band], marked, name)
                lines.append(write_row(words, accuracy, difference, shown, name, verdict))
    for kind in ("float16", "bfloat16"):
        rounded = copy.deepcopy(networks[first])
        round_weights(rounded, getattr(torch, kind), kind)
        for name in options.explainers:
            verdict = compare(options, networks[first], rounded, None, 0.0, name)
            words = f"seed 0 rounded to {kind}, band: seed 0 under noise"
            lines.append(write_row(words, "", "", "as they are", name, verdict))
    options.page.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
