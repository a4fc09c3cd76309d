"""How often does the audit find a tag, and how often does it cry wolf: logbook/audit.csv and logbook/audit.md.

usage: python scripts/audit_power.py CIFAR10_FOLDER [--seeds 10] [--clean 10] [--looks mark watermark cast]
           [--shares 0.5 0.8 0.2] [--audited 2000] [--model cifar_cnn] [--weights random] [--explainer lrp]
           [--given model.size=96 ...] [--steps 1200] [--table FILE] [--page FILE] [--keep FOLDER]

Each line of the table is one network: trained on CIFAR-10's training images, of which a share of one class has the tag (or
none), and audited on test images that are tagged alike. Lines that are there are not computed again, so that the script can
be ended and begun again at any time; the page is written anew each time, but for its last section, which is written by hand;
with --keep the networks and their maps lie in a folder and a line that was deleted is
audited again without a training. Which class is tagged changes with the seed. Networks begin at random, or with the weights
that are given.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from lightning.pytorch import Trainer
from torch import Tensor, nn

from seewhy.analyses.audit.groups import compute_jaccard
from seewhy.analyses.audit.run import Audit, clean_up, run_audit
from seewhy.analyses.ground_truth.base import PlantedImages, Shape
from seewhy.analyses.ground_truth.networks import Proof, get_shape, prove_use, train_network
from seewhy.analyses.ground_truth.pictures import Tag
from seewhy.analyses.ground_truth.pool import MARGIN, Pool, build_pool
from seewhy.analyses.ground_truth.run import CellStore, digest_plan
from seewhy.cli.build import build_classifier
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.core.facts import CIFAR10_CLASSES
from seewhy.core.files import RunFolder
from seewhy.data.cifar10 import CIFAR10
from seewhy.models.classifier import Classifier
from seewhy.models.weights import hash_weights

ROOT = Path(__file__).resolve().parents[1]


class Job(NamedTuple):
    """One network; what it holds are the first columns of its line."""

    model: str
    weights: str
    size: int
    look: str
    share: float
    seed: int
    steps: int
    audited: int
    effect: float


COLUMNS = (
    *(*Job._fields, "tagged", "explainer", "resamples", "accuracy", "follow"),
    *("groups", "shortcuts", "rank", "share_found", "share_low", "share_high", "true_share", "jaccard", "found_effect"),
    *("alarms", "strongest_alarm", "train_seconds", "audit_seconds", "passes"),
)
POOL, VALUES = 20_000, 2**28
"""Training and test pictures that networks are trained on and audited with, at most, and so many pixels of each."""
NOTES = "## What this does not cover"
"""Heading of the section of the page that is written by hand."""
PROBED = 300
"""Test images that tell whether a network follows the tag."""


Drawn = tuple[Tensor, int, list[float]]


class SharedTag(Tag):
    """A tag whose training pictures are remembered: those of one seed are the same for every look and share."""

    drawn: ClassVar[dict[int, Drawn]] = {}
    owner: ClassVar[tuple[Any, ...]] = ()

    def _draw(self, part: str, number: int, shape: Shape, pool: Pool) -> Drawn:
        if part != "train":
            return super()._draw(part, number, shape, pool)
        owner = (self.seed, self.tagged, shape, id(pool))
        if SharedTag.owner != owner:
            SharedTag.owner = owner
            self.drawn.clear()
        if number not in self.drawn:
            image, label, draws = super()._draw(part, number, shape, pool)
            self.drawn[number] = (image * 255).round().byte(), label, draws
        image, label, draws = self.drawn[number]
        return image.float() / 255, label, draws


def list_jobs(options: argparse.Namespace, size: int) -> Iterator[Job]:
    """List the networks: the first share with the clean ones, seed by seed, then the next share."""
    weights = Path(options.weights).stem
    rest = options.steps, options.audited, options.effect
    for share in options.shares:
        for seed in range(max(options.seeds, options.clean)):
            if share == options.shares[0] and seed < options.clean:
                yield Job(options.model, weights, size, "none", 0.0, seed, *rest)
            if seed < options.seeds:
                yield from (Job(options.model, weights, size, look, share, seed, *rest) for look in options.looks)


def build_network(options: argparse.Namespace, kind: Tag, seed: int) -> Classifier:
    """Build a network for the classes of tagged images, with random weights or with those that are given."""
    given = [f"model={options.model}", "optimization.lr=0.003", "optimization.lr_trained=0.001", *options.given]
    cfg = compose("ground_truth", given)
    optimization = build_object(cfg.optimization, "optimization")
    fixed: dict[str, Any] = {"weights": options.weights, "classes": list(kind.classes), "seed": seed}
    classifier = build_classifier(cfg, new_head=True, optimization=optimization, **fixed)
    if options.weights == "shipped":
        head = [each for each in classifier.network.modules() if isinstance(each, nn.Linear)][-1]
        order = [CIFAR10_CLASSES.index(name) for name in kind.classes]
        for values in (head.weight, head.bias):
            values.data = values.data[order]
    return classifier


def train(options: argparse.Namespace, kind: Tag, pool: Pool, seed: int, store: CellStore) -> tuple[Classifier, Proof]:
    """Train a network on tagged images and measure how far it follows them, or read what is stored."""
    classifier = build_network(options, kind, seed)
    proof = store.read_network("network", classifier)
    if proof is not None:
        classifier.weights_sha256 = hash_weights(classifier.network)
        return classifier.cpu().eval(), proof
    off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **off)
    classifier = train_network(build_network(options, kind, seed), trainer, kind, seed, pool)
    proof = prove_use(classifier, kind, PROBED, pool)
    store.write_network("network", classifier, proof)
    return classifier, proof


def run_job(options: argparse.Namespace, pool: Pool, job: Job, folder: Path) -> dict[str, Any]:
    """Train and audit one network; the line of the table."""
    classes = pool.list_classes()
    kind: Tag = SharedTag(
        steps=job.steps,
        seed=job.seed,
        look="mark" if job.look == "none" else job.look,
        shares=(job.share,),
        tagged=classes[job.seed % len(classes)],
    )
    kind = kind.fit_pool(pool)  # type: ignore[assignment]
    start = time.perf_counter()
    store = CellStore(RunFolder(folder), digest_plan({**job._asdict(), "given": options.given, **kind.parameters}))
    classifier, proof = train(options, kind, pool, job.seed, store)
    trained = time.perf_counter() - start
    shape = get_shape(classifier)
    cfg = compose("audit", [f"explainer={options.explainer}"])
    explainer = build_object(cfg.explainer, "explainer", "object")
    audit = Audit(effect=job.effect, seed=job.seed)
    images = PlantedImages(kind, "audit", job.audited, shape, pool)
    batches = (batch._replace(masks=None) for batch in images.load(100))
    truth = np.flatnonzero(kind.plant("audit", range(job.audited), shape, pool).masks.flatten(1).any(1).numpy())
    before = classifier.passes.forward
    start = time.perf_counter()
    result = run_audit(audit, classifier, explainer, batches, folder)
    clean_up(result)
    seconds = time.perf_counter() - start
    shortcuts = result.shortcuts
    right = [
        number
        for number, each in enumerate(shortcuts, 1)
        if each.target == 0 and compute_jaccard(each.members, truth) >= 0.5
    ]
    found = shortcuts[right[0] - 1] if right else None
    alarms = [each for number, each in enumerate(shortcuts, 1) if number not in right]
    of_class = (result.facts.labels == 0).sum()
    return {
        **job._asdict(),
        "tagged": kind.tagged,
        "explainer": options.explainer,
        "resamples": audit.resamples,
        "accuracy": proof.shares["with"],
        "follow": proof.shares["inserted"],
        "groups": len(result.findings),
        "shortcuts": len(shortcuts),
        "rank": right[0] if right else "",
        "share_found": found.share[0] if found else "",
        "share_low": found.share[1] if found else "",
        "share_high": found.share[2] if found else "",
        "true_share": len(truth) / of_class,
        "jaccard": compute_jaccard(found.members, truth) if found else "",
        "found_effect": found.effect if found else "",
        "alarms": len(alarms),
        "strongest_alarm": max((each.effect for each in alarms), default=""),
        "train_seconds": round(trained),
        "audit_seconds": round(seconds),
        "passes": classifier.passes.forward - before,
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the table; nothing where there is none."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: row.get(key, "") for key in COLUMNS} for row in csv.DictReader(file)]


def write_page(rows: list[dict[str, str]], before: str = "") -> str:
    """Write power and false alarms in Markdown; what was written by hand below an earlier page stays."""

    def count(hits: int, n: int) -> str:
        low, high = stats.binomtest(hits, n).proportion_ci(0.95, "wilson") if n else (0, 1)
        return f"{hits} of {n} [{100 * low:.0f}, {100 * high:.0f}] %"

    def span(members: list[dict[str, str]], key: str, digits: int = 2) -> str:
        values = [float(row[key]) for row in members if row[key]]
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else ""

    lines = [
        "# Does the audit find what is there, and only that?",
        "",
        "Networks were trained on CIFAR-10 with a tag on a share of the training images of one class, and audited on test "
        "images that are tagged alike (`python scripts/audit_power.py CIFAR10_FOLDER`; every network is a line of "
        "[audit.csv](audit.csv)). The class changes with the seed. A network *follows* the tag where at least half of "
        f"{PROBED} test images of other classes become the tagged class when the tag is put on them: only there is it to be "
        "found. *Found first*: the tag is the first shortcut that the audit names, in those that follow it. *Share*: the "
        "true share lies within the interval that the audit gives. *Effect*: what the audit says. *Alarms*: runs that "
        "call something else a shortcut. Intervals are Wilson's, at 95 %.",
        "",
        "| network | tag | on | seeds | accuracy | follow it | found first | found | share right | effect | alarms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, float], list[dict[str, str]]] = {}
    for row in rows:
        network = row["model"] + ("" if row["weights"] == "random" else ", fine-tuned")
        network += "" if row["size"] == "32" else f" at {row['size']} px"
        groups.setdefault((network, row["look"], float(row["share"])), []).append(row)
    for (model, look, share), members in sorted(groups.items()):
        seeds = ", ".join(sorted((row["seed"] for row in members), key=int))
        alarms = count(sum(int(row["alarms"]) > 0 for row in members), len(members))
        accuracy = span(members, "accuracy")
        if look == "none":
            lines.append(f"| {model} | none | | {seeds} | {accuracy} | | | | | | {alarms} |")
            continue
        follow = [row for row in members if float(row["follow"]) >= 0.5]
        found = [row for row in follow if row["rank"]]
        first = sum(row["rank"] == "1" for row in follow)
        right = sum(float(row["share_low"]) <= float(row["true_share"]) <= float(row["share_high"]) for row in found)
        cells = [model, look, f"{100 * share:.0f} %", seeds, accuracy, f"{len(follow)} of {len(members)}"]
        cells += [count(first, len(follow)), f"{len(found)} of {len(follow)}", f"{right} of {len(found)}"]
        lines.append("| " + " | ".join([*cells, span(found, "found_effect"), alarms]) + " |")
    models = sorted({(row["model"], row["size"], row["audited"], row["explainer"]) for row in rows})
    lines.append("")
    for model, size, audited, explainer in models:
        members = [row for row in rows if (row["model"], row["size"], row["audited"]) == (model, size, audited)]
        lines.append(
            f"An audit of {model} with {audited} images of {size} pixels (`{explainer}`) took "
            f"{span(members, 'audit_seconds', 0)} seconds of a shared processor and {span(members, 'passes', 0)} forward "
            f"passes, its training {span(members, 'train_seconds', 0)} seconds for {members[0]['steps']} batches of 64; "
            "what lay in the folder of an earlier attempt (networks, maps, first looks) is not counted.  "
        )
    notes = ["", NOTES + before.split(NOTES, 1)[1].rstrip()] if NOTES in before else []
    return "\n".join([*lines, *notes, ""])


def main() -> None:
    """Compute what is missing, and write the page after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--clean", type=int, default=10)
    parser.add_argument("--looks", nargs="+", default=["mark", "watermark", "cast"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.8, 0.2])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--audited", type=int, default=2000)
    parser.add_argument("--effect", type=float, default=Audit().effect)
    parser.add_argument("--model", default="cifar_cnn")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--explainer", default="lrp")
    parser.add_argument("--given", nargs="+", default=[])
    parser.add_argument("--table", type=Path, default=ROOT / "logbook" / "audit.csv")
    parser.add_argument("--page", type=Path, default=ROOT / "logbook" / "audit.md")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    rows = read_rows(options.table)
    done = {tuple(row[key] for key in Job._fields) for row in rows}
    side = get_shape(build_network(options, Tag(names=CIFAR10_CLASSES), 0))[-1]
    pool: Pool | None = None
    for job in list_jobs(options, side):
        if tuple(map(str, job)) in done:
            continue
        if pool is None:
            size = round(MARGIN * side)
            cfg = compose("audit", ["model=cifar_cnn", "data=cifar10", f"data.root={options.cifar10}"])
            facts = build_classifier(cfg).facts.replace({"size": (size, size), "crop": 1.0})
            pool = build_pool(CIFAR10(str(options.cifar10), facts=facts), min(POOL, VALUES // (3 * size**2)))
        with tempfile.TemporaryDirectory() as temporary:
            name = "_".join(map(str, job[:-1]))
            row = run_job(options, pool, job, Path(temporary) if options.keep is None else options.keep / name)
        rows.append({key: str(row[key]) for key in COLUMNS})
        print(" ".join(f"{key}={row[key]}" for key in COLUMNS), flush=True)
        options.table.parent.mkdir(parents=True, exist_ok=True)
        with options.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        _write(options.page, rows)
    _write(options.page, rows)


def _write(page: Path, rows: list[dict[str, str]]) -> None:
    page.write_text(write_page(rows, page.read_text() if page.is_file() else ""))


if __name__ == "__main__":
    main()
