"""The task ground_truth: the objects of its config, the study, and the files of its certificate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seewhy.cli.build import build_classifier, build_data, build_trainer
from seewhy.cli.instantiate import build_object
from seewhy.cli.program import find_shown_command
from seewhy.core.disclosure import print_line
from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.core.words import count_noun
from seewhy.runs.record import RunRecord
from seewhy.runs.stored_json import read_form

if TYPE_CHECKING:
    from seewhy.analyses.ground_truth.base import GroundTruth
    from seewhy.analyses.ground_truth.pool import Pool
    from seewhy.models.classifier import Classifier

TABLE, PAGE = "certificate.csv", "certificate.md"
SMALL = 64
"""Pixels up to which the sample images are those of CIFAR-10."""
DECISIVE = ("model", "data", "optimization", "seed", "pictures", "explainers")
"""Settings that decide what is computed beside those of the study."""


def run_ground_truth(cfg: DictConfig, record: RunRecord) -> None:
    """Train networks on planted data, and judge explainers where the truth is known.

    Args:
        cfg: The composed config of `ground_truth`.
        record: The record of the run, which is updated.

    Raises:
        UserError: No kind or no explainer is chosen, or a setting does not fit.
    """
    if not cfg.ground_truth:
        raise UserError("ground_truth=[]: name at least one kind of planted data, such as ground_truth=[suppressor]")
    import torch

    if cfg.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cfg.threads))
        torch.set_num_threads(cfg.threads)
    from seewhy.analyses.ground_truth.certificate import describe_finding
    from seewhy.analyses.ground_truth.judge import BATCH
    from seewhy.analyses.ground_truth.run import run_study

    study = build_study(cfg)
    certificate, facts = run_study(study, Path(cfg.output))
    model = str(certificate["model"].iloc[0])
    threads = count_noun(torch.get_num_threads(), "thread")
    bound = "" if cfg.passes is None else f", at least {BATCH} where these cost more than {cfg.passes:,} passes"
    lines = [
        f"{model}: {cfg.networks} networks of each kind, seeds from {cfg.seed}; "
        f"{cfg.images} images explained with each{bound}; "
        f"seewhy {record.content['versions'].get('seewhy')}, commit {str(record.content.get('git_commit', ''))[:12]}, "
        f"{facts['computing_seconds']:.0f} seconds of training and judging on {threads}"
    ]
    record.update(architecture=model, threads=torch.get_num_threads(), certificate=lines, **facts)
    write_files(Path(cfg.output), certificate, find_shown_command(), lines)
    for sentence in describe_finding(certificate):
        print_line(sentence.replace("*", ""))
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        join_certificates(Path(HydraConfig.get().sweep.dir))


def build_study(cfg: DictConfig) -> Any:
    """Build what is judged from a config.

    Args:
        cfg: The composed config of `ground_truth`.

    Returns:
        A `seewhy.analyses.ground_truth.run.Study`.
    """
    from seewhy.analyses.ground_truth.run import Study

    kinds = {str(name): build_object(each, f"ground_truth.{name}", "object") for name, each in cfg.ground_truth.items()}
    explainers = {str(name): build_object(each, f"explainers.{name}") for name, each in cfg.explainers.items()}
    optimization = build_object(cfg.optimization, "optimization")
    chosen = {key: cfg.model.get(key) for key in ("mean", "std")}

    def build_network(kind: GroundTruth, seed: int) -> Classifier:
        options: dict[str, Any] = {"classes": list(kind.classes), "seed": seed, "optimization": optimization}
        options["weights"] = "random" if cfg.model.weights == "auto" else str(cfg.model.weights)
        if kind.statistics is not None and not any(value is not None for value in chosen.values()):
            count = cfg.model.get("channels") or 3
            options |= dict(zip(("mean", "std"), ([value] * count for value in kind.statistics), strict=True))
        return build_classifier(cfg, new_head=True, **options)

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    plan = {key: plain[key] for key in DECISIVE}
    return Study(
        kinds,
        explainers,
        build_network,
        partial(build_quiet_trainer, cfg),
        partial(read_pool, cfg),
        seed=cfg.seed,
        networks=cfg.networks,
        images=cfg.images,
        proof_images=cfg.proof_images,
        passes=cfg.passes,
        plan=plan,
    )


def read_pool(cfg: DictConfig, classifier: Classifier) -> Pool:
    """Read the pictures of `data=`, with a margin that cuts are taken from.

    Args:
        cfg: A composed config with `data`.
        classifier: Whose images are planted.

    Returns:
        The pictures.
    """
    from seewhy.analyses.ground_truth.pool import LARGEST, MARGIN, build_pool
    from seewhy.core.facts import CIFAR10_CLASSES

    height, width = (round(MARGIN * side) for side in classifier.facts.shape)
    changes: dict[str, Any] = {"size": (height, width), "crop": 1.0}
    if max(height, width) <= SMALL:
        changes["classes"] = CIFAR10_CLASSES  # of data=samples
    return build_pool(build_data(cfg, facts=classifier.facts.replace(changes)), cfg.get("pictures", LARGEST))


def build_quiet_trainer(cfg: DictConfig) -> Any:
    """Build a trainer for one epoch that writes nothing.

    Args:
        cfg: A composed config with `trainer`.

    Returns:
        A `lightning.pytorch.Trainer`.
    """
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    return build_trainer(cfg, max_epochs=1, callbacks=[], default_root_dir=cfg.output, **off)


def write_files(folder: Path, certificate: Any, command: str, facts: Sequence[str] = ()) -> None:
    """Write certificate.csv, certificate.md and report.html.

    Args:
        folder: The run folder, or that of a sweep.
        certificate: The table.
        command: That repeats the run.
        facts: Lines about the run.
    """
    from seewhy.analyses.ground_truth.certificate import write_page, write_table
    from seewhy.report.html.render import render_certificate

    out, title = RunFolder(folder), "Ground truth"
    out.write_bytes(TABLE, write_table(certificate))
    out.write_bytes(PAGE, write_page(certificate, title, command, facts).encode())
    out.write_bytes("report.html", render_certificate(certificate, title, command, facts).encode())
    print_line(f"certificate: {folder / PAGE}")


def join_certificates(folder: Path) -> None:
    """Join the certificates of the jobs of a sweep that have ended, in the folder of the sweep.

    Args:
        folder: Of the sweep.
    """
    import pandas as pd

    from seewhy.analyses.ground_truth.certificate import read_certificate

    paths = sorted(folder.glob(f"*/{TABLE}"))
    facts = [
        str(line) for path in paths for line in read_form(path.parent / "run.json", "record").get("certificate") or ()
    ]
    if paths:
        table = pd.concat([read_certificate(path) for path in paths], ignore_index=True)
        write_files(folder, table, find_shown_command(), facts)
