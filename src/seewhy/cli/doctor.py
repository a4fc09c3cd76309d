"""The task `doctor`: a classifier is examined on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from seewhy.cli.build import build_job, read_test_images

if TYPE_CHECKING:
    from seewhy.runs.record import RunRecord


def examine(cfg: DictConfig, record: RunRecord) -> None:
    """Try every usual mistake on a loaded classifier, and write what was found.

    Args:
        cfg: The composed config of `doctor`.
        record: The record of the run, which is updated.
    """
    from seewhy.analyses.doctor.examination import examine as examine_classifier
    from seewhy.analyses.doctor.report import write_examination
    from seewhy.runs.console import TextConsole, describe_work

    job = build_job(cfg)
    job.keep_batch_sizes(record.before)
    record.update(**job.describe())
    classifier = job.classifier
    classifier.to(job.trainer.strategy.root_device)
    TextConsole().print(describe_work(classifier), soft_wrap=True)

    read = read_test_images(cfg, classifier.device)
    with job.trainer.precision_plugin.forward_context():
        results = write_examination(
            examine_classifier(classifier, read, cfg.probe_batch_size), classifier.name, Path(cfg.output)
        )
    record.update(**job.collect_results(), **results)
