"""How often does the audit find a tag, and how often does it cry wolf: logbook/audit.csv and logbook/audit.md.

usage: python scripts/audit_power.py CIFAR10_FOLDER [--seeds 3] [--clean 10] [--looks mark watermark cast]
           [--shares 0.5 0.8 0.2] [--tuned] [--audited 2000] [--model cifar_cnn] [--table FILE] [--page FILE]

Each line of the table is one network: trained on CIFAR-10's training images, of which a share of one class has the tag (or
none), and audited on test images that are tagged alike. Lines that are there are not computed again, so that the script can
be ended and begun again at any time. Which class is tagged changes with the seed. Networks begin at random, or, with
--tuned, with the shipped weights, which takes a third of the time.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from lightning.pytorch import Trainer
from torch import nn

from seewhy.analyses.audit.groups import compute_jaccard
from seewhy.analyses.audit.run import Audit, clean_up, run_audit
from seewhy.analyses.ground_truth.base import PlantedImages
from seewhy.analyses.ground_truth.networks import get_shape, predict, train_network
from seewhy.analyses.ground_truth.pictures import Tag
from seewhy.analyses.ground_truth.pool import MARGIN, Pool, build_pool
from seewhy.cli.build import build_classifier
from seewhy.cli.config import compose
from seewhy.cli.instantiate import build_object
from seewhy.core.facts import CIFAR10_CLASSES
from seewhy.data.cifar10 import CIFAR10
from seewhy.models.classifier import Classifier

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    *(
        "model",
        "weights",
        "look",
        "share",
        "seed",
        "tagged",
        "steps",
        "audited",
        "effect",
        "resamples",
        "accuracy",
        "follow",
    ),
    *("groups", "shortcuts", "rank", "share_found", "share_low", "share_high", "true_share", "jaccard", "found_effect"),
    *("alarms", "strongest_alarm", "train_seconds", "audit_seconds", "passes"),
)
POOL = 20_000
"""Training and test pictures that networks are trained on and audited with."""


def list_jobs(options: argparse.Namespace) -> Iterator[tuple[str, float, int]]:
    """List (look, share, seed), so that every kind has its first network before any has its second."""
    for seed in range(max(options.seeds, options.clean)):
        if seed < options.clean:
            yield "none", 0.0, seed
        if seed < options.seeds:
            yield from ((look, share, seed) for share in options.shares for look in options.looks)


def train(options: argparse.Namespace, kind: Tag, pool: Pool, seed: int) -> Classifier:
    """Train a network on tagged images, from random weights or from those that are shipped."""
    cfg = compose("ground_truth", [f"model={options.model}", "optimization.lr=0.003", "optimization.lr_trained=0.001"])
    optimization = build_object(cfg.optimization, "optimization")
    made: dict[str, Any] = {"weights": options.weights, "classes": list(kind.classes), "seed": seed}
    classifier = build_classifier(cfg, new_head=True, optimization=optimization, **made)
    if options.weights == "shipped":
        head = [each for each in classifier.network.modules() if isinstance(each, nn.Linear)][-1]
        order = [CIFAR10_CLASSES.index(name) for name in kind.classes]
        for values in (head.weight, head.bias):
            values.data = values.data[order]
    off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **off)
    return train_network(classifier, trainer, kind, seed, pool)


def run_job(options: argparse.Namespace, pool: Pool, look: str, share: float, seed: int) -> dict[str, Any]:
    """Train and audit one network; the line of the table."""
    classes = pool.list_classes()
    kind = Tag(
        steps=options.steps,
        seed=seed,
        look="mark" if look == "none" else look,
        shares=(share,),
        tagged=classes[seed % len(classes)],
    )
    kind = kind.fit_pool(pool)  # type: ignore[assignment]
    start = time.perf_counter()
    classifier = train(options, kind, pool, seed)
    trained = time.perf_counter() - start
    shape = get_shape(classifier)
    probes = {probe.name: probe for probe in kind.build_probes(range(300), shape, pool)}
    rates = {
        name: float((predict(classifier, each.images).argmax(1) == each.labels).float().mean())
        for name, each in probes.items()
    }
    cfg = compose("audit")
    explainer = build_object(cfg.explainer, "explainer", "object")
    audit = Audit(effect=options.effect, seed=seed)
    images = PlantedImages(kind, "audit", options.audited, shape, pool)
    batches = (batch._replace(masks=None) for batch in images.load(100))
    truth = np.flatnonzero(kind.plant("audit", range(options.audited), shape, pool).masks.flatten(1).any(1).numpy())
    before = classifier.passes.forward
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = run_audit(audit, classifier, explainer, batches, Path(folder))
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
        "model": options.model,
        "weights": options.weights,
        "look": look,
        "share": share,
        "seed": seed,
        "tagged": kind.tagged,
        "steps": options.steps,
        "audited": options.audited,
        "effect": options.effect,
        "resamples": audit.resamples,
        "accuracy": rates["with"],
        "follow": rates["inserted"],
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


def write_page(rows: list[dict[str, str]]) -> str:
    """Write power and false alarms in Markdown."""
    from scipy import stats

    def count(hits: int, n: int) -> str:
        low, high = stats.binomtest(hits, n).proportion_ci(0.95, "wilson") if n else (0, 1)
        return f"{hits} of {n} [{100 * low:.0f}, {100 * high:.0f}] %"

    lines = [
        "# Does the audit find what is there, and only that?",
        "",
        "Networks were trained on CIFAR-10 with a tag on a share of the training images of one class, and audited on test "
        "images that are tagged alike (`python scripts/audit_power.py CIFAR10_FOLDER`; every network is a line of "
        "[audit.csv](audit.csv)). A network *follows* the tag where at least half of 300 test images of other classes "
        "become the tagged class when the tag is put on them: only there is it to be found. *Found*: the tag is the first "
        "shortcut that the audit names. *Share*: the true share lies within the interval that the audit gives. "
        "*Alarms*: runs that call something else a shortcut. Intervals are Wilson's, at 95 %.",
        "",
        "| network | tag | on | networks | seeds | follow it | found first | found | share right | runs with alarms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        network = row["model"] + (", fine-tuned" if row["weights"] == "shipped" else "")
        groups.setdefault((network, row["look"], row["share"]), []).append(row)
    for (model, look, share), members in sorted(groups.items()):
        seeds = ", ".join(sorted((row["seed"] for row in members), key=int))
        alarms = count(sum(int(row["alarms"]) > 0 for row in members), len(members))
        if look == "none":
            lines.append(f"| {model} | none | | {len(members)} | {seeds} | | | | | {alarms} |")
            continue
        follow = [row for row in members if float(row["follow"]) >= 0.5]
        found = [row for row in follow if row["rank"]]
        first = sum(row["rank"] == "1" for row in follow)
        right = sum(float(row["share_low"]) <= float(row["true_share"]) <= float(row["share_high"]) for row in found)
        cells = [model, look, f"{100 * float(share):.0f} %", str(len(members)), seeds]
        cells += [f"{len(follow)} of {len(members)}", count(first, len(follow)), f"{len(found)} of {len(follow)}"]
        lines.append("| " + " | ".join([*cells, f"{right} of {len(found)}", alarms]) + " |")
    if rows:
        seconds = [float(row["audit_seconds"]) for row in rows]
        lines += [
            "",
            f"An audit of {rows[0]['audited']} images took {min(seconds):.0f} to {max(seconds):.0f} seconds on a shared "
            f"processor, and {min(int(row['passes']) for row in rows):,} to {max(int(row['passes']) for row in rows):,} "
            "forward passes.",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Compute what is missing, and write the page after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clean", type=int, default=10)
    parser.add_argument("--looks", nargs="+", default=["mark", "watermark", "cast"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.8, 0.2])
    parser.add_argument("--tuned", dest="weights", action="store_const", const="shipped", default="random")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--audited", type=int, default=2000)
    parser.add_argument("--effect", type=float, default=Audit().effect)
    parser.add_argument("--model", default="cifar_cnn")
    parser.add_argument("--table", type=Path, default=ROOT / "logbook" / "audit.csv")
    parser.add_argument("--page", type=Path, default=ROOT / "logbook" / "audit.md")
    options = parser.parse_args()
    options.steps = options.steps or (500 if options.weights == "shipped" else 1500)
    rows = read_rows(options.table)
    keys = ("model", "weights", "look", "share", "seed", "steps", "audited", "effect")
    done = {tuple(row[key] for key in keys) for row in rows}
    pool: Pool | None = None
    for look, share, seed in list_jobs(options):
        job = (options.model, options.weights, look, share, seed, options.steps, options.audited, options.effect)
        if tuple(map(str, job)) in done:
            continue
        if pool is None:
            size = round(MARGIN * 32)
            cfg = compose("audit", ["model=cifar_cnn", "data=cifar10", f"data.root={options.cifar10}"])
            facts = build_classifier(cfg).facts.replace({"size": (size, size), "crop": 1.0})
            pool = build_pool(CIFAR10(str(options.cifar10), facts=facts), POOL)
        row = run_job(options, pool, look, share, seed)
        rows.append({key: str(row[key]) for key in COLUMNS})
        print(" ".join(f"{key}={row[key]}" for key in COLUMNS), flush=True)
        options.table.parent.mkdir(parents=True, exist_ok=True)
        with options.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        options.page.write_text(write_page(rows))


if __name__ == "__main__":
    main()
