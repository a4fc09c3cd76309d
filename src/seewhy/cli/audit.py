"""The task `audit`: the network and its images, or a network that is trained on tagged images first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from seewhy.cli.build import build_classifier, build_job, read_test_images
from seewhy.cli.compare import FAILED
from seewhy.cli.ground_truth import build_quiet_trainer, read_pool
from seewhy.cli.instantiate import build_object
from seewhy.cli.program import find_shown_command
from seewhy.core.disclosure import print_line
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder

if TYPE_CHECKING:
    from seewhy.analyses.ground_truth.base import GroundTruth
    from seewhy.core.types import Batch
    from seewhy.models.classifier import Classifier
    from seewhy.runs.record import RunRecord

DECISIVE = ("model", "data", "explainer", "ground_truth", "optimization", "audited", "seed")
"""Settings that decide the maps."""
TRAINING = ("optimization", "audited")
"""What is read where a network is trained first."""


def run_audit_task(cfg: DictConfig, record: RunRecord) -> None:
    """Find what a classifier uses besides the object, and prove it.

    Args:
        cfg: The composed config of `audit`.
        record: The record of the run, which is updated.

    Raises:
        UserError: A setting does not fit, or there are too few images.
        SystemExit: 3 where a shortcut has at least the effect `audit.fail_on`.
    """
    audit: Any = build_object(cfg.audit, "audit", "object")
    unread = [text for text in record.content["overrides"] if text.lstrip("+").startswith(TRAINING)]
    if unread and not cfg.ground_truth:
        raise UserError(
            f"{unread[0]} is read where a network is trained on tagged images first: add ground_truth=[tag], or leave it out"
        )
    if cfg.ground_truth and cfg.model.weights == "auto":
        cfg.model.weights = "random"
    job = build_job(cfg)
    job.keep_batch_sizes(record.before)
    from seewhy.analyses.audit.report import write_audit
    from seewhy.analyses.audit.run import clean_up, run_audit
    from seewhy.report.html.audit import render_audit
    from seewhy.runs.console import TextConsole, describe_work

    explainer: Any = build_object(cfg.explainer, "explainer", "object")
    folder, device = Path(cfg.output), job.trainer.strategy.root_device
    batches: Iterable[Batch]
    if cfg.ground_truth:
        job.classifier, batches, planted = _train_on_planted(cfg, folder)
        record.update(planted=planted)
    else:
        batches = read_test_images(cfg, device)(job.classifier.facts)
    classifier = job.classifier.to(device)
    record.update(**job.describe())
    TextConsole().print(describe_work(classifier), soft_wrap=True)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    plan = {key: plain.get(key) for key in DECISIVE}
    with job.open_loggers() as loggers, job.trainer.precision_plugin.forward_context():
        result = run_audit(audit, classifier, explainer, batches, folder, plan)
        method = f"{explainer.name} ({explainer.parameters})" if explainer.parameters else explainer.name
        results, content = write_audit(result, classifier, method, folder, loggers)
    facts = [f"{classifier.name} ({classifier.origin}), {len(result.pictures):,} images, maps: {method}"]
    page = render_audit(content, f"Audit of {classifier.name}", find_shown_command(), facts)
    RunFolder(folder).write_bytes("report.html", page.encode())
    clean_up(result)
    passes = {"forward": classifier.passes.forward, "backward": classifier.passes.backward}
    record.update(**job.collect_results(), **results, passes=passes)
    if audit.fail_on is not None and any(each.effect >= audit.fail_on for each in result.shortcuts):
        record.update(status="completed")
        print_line(f"failed: a shortcut has an effect of at least {audit.fail_on:g}")
        raise SystemExit(FAILED)


def _train_on_planted(cfg: DictConfig, folder: Path) -> tuple[Classifier, Iterable[Batch], dict[str, Any]]:
    """(a network trained on planted data, images like those it was trained on, how far it follows what was planted)."""
    from seewhy.analyses.ground_truth.base import PlantedImages
    from seewhy.analyses.ground_truth.networks import describe_shares, get_shape, prove_use, train_network
    from seewhy.analyses.ground_truth.run import CellStore, digest_plan
    from seewhy.models.weights import hash_weights

    name, given = next(iter(cfg.ground_truth.items()))
    kind: GroundTruth = build_object(given, f"ground_truth.{name}", "object")
    if len(cfg.ground_truth) > 1 or not kind.needs_pictures or len(getattr(kind, "shares", ())) != 1:
        raise UserError(
            "an audit trains on one kind of tag with one share: ground_truth=[tag] 'ground_truth.tag.shares=[0.5]'"
        )
    optimization = build_object(cfg.optimization, "optimization")

    def build(names: list[str]) -> Classifier:
        return build_classifier(cfg, new_head=True, optimization=optimization, classes=names)

    pool = read_pool(cfg, build(list(kind.classes)))
    kind = kind.fit_pool(pool)
    classifier = build(list(kind.classes))
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    decisive = ("model", "data", "ground_truth", "optimization", "seed")
    store = CellStore(RunFolder(folder), digest_plan({key: plain.get(key) for key in decisive}))
    proof = store.read_network("tagged", classifier)
    classifier.weights_sha256 = hash_weights(classifier.network)
    if proof is None:
        print_line(f"training {classifier.name} on {kind.steps:,} batches of {kind.batch_size} tagged images")
        classifier = train_network(build(list(kind.classes)), build_quiet_trainer(cfg), kind, cfg.seed, pool)
        proof = prove_use(classifier, kind, 200, pool)
        store.write_network("tagged", classifier, proof)
    shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in proof.shares.items())
    print_line(f"of the tagged class: {shares}")
    images = PlantedImages(kind, "audit", cfg.audited, get_shape(classifier), pool)
    loader = images.load(100)
    batches = (batch._replace(masks=None, paths=[""] * len(batch.names)) for batch in loader)
    return classifier, batches, {"kind": str(name), **kind.parameters, **describe_shares(proof)}
