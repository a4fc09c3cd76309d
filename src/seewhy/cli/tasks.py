"""From a composed config to objects, and from objects to a finished run: the only file that knows Hydra."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from seewhy.cli import resume
from seewhy.cli.build import build_job
from seewhy.cli.config import check_settings
from seewhy.cli.instantiate import build_object
from seewhy.cli.quiet import quieten
from seewhy.cli.sweep import PAGED
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.signals import FULL, Stop, is_first_process, signals
from seewhy.runs.record import RunRecord
from seewhy.runs.resume_check import ChangedRun, select_decisive
from seewhy.runs.shard import Shard

if TYPE_CHECKING:
    pass


def explain(cfg: DictConfig, record: RunRecord) -> None:
    """Test a loaded classifier on the data; the callbacks explain. What the run folder holds already is left out."""
    shard = Shard.of(cfg.get("shard"))
    job = build_job(cfg)
    if job.trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN and "SLURM_NTASKS" not in os.environ:
        raise UserError("trainer=ddp starts the command again, so it cannot be in a sweep (-m) outside Slurm")
    record.update(**job.describe(), **({"shard": str(shard)} if shard.total > 1 else {}))
    if cfg.task == "explain":
        from seewhy.callbacks.journal_recorder import JournalRecorder

        config = select_decisive(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
        job.trainer.callbacks.append(JournalRecorder(cfg.output, config, record.content["overrides"], shard))  # type: ignore[attr-defined]
    job.trainer.test(job.classifier, job.data, verbose=False)
    record.update(**job.collect_results())


def train(cfg: DictConfig, record: RunRecord) -> None:
    """Fit, take the best checkpoint, save its weights with their facts, test it; the callbacks explain test images."""
    if cfg.model.weights == "auto":
        cfg.model.weights = "random"
    data_class = get_class(cfg.data._target_)
    if cfg.model.classes is None and hasattr(data_class, "class_names"):
        cfg.model.classes = list(data_class.class_names)
    job = build_job(cfg)
    record.update(**job.describe())
    job.classifier.train()
    job.trainer.fit(job.classifier, job.data)
    training = {"training_seconds": record.seconds(), "training": job.collect_results().get("logged", {})}

    from seewhy.models.weights import fit_weights, read_weights, save_weights, weights_sha256

    best = getattr(job.trainer.checkpoint_callback, "best_model_path", "")
    if best:
        fit_weights(job.classifier.network, read_weights(Path(best))[0], best)
    job.classifier.origin = "trained in this run"
    job.classifier.weights_sha256 = weights_sha256(job.classifier.network)
    save_weights(job.classifier.network, job.classifier.facts, Path(cfg.output) / "weights.safetensors")
    job.trainer.test(job.classifier, job.data, verbose=False)
    record.update(**training, **job.describe(), **job.collect_results())


def report(cfg: DictConfig, record: RunRecord) -> None:
    """Compare finished runs, or merge the shards of one."""
    from seewhy.report.merge_shards import find_shards, merge_shards
    from seewhy.report.write import write_report as compare_runs

    runs = [cfg.runs] if isinstance(cfg.runs, str) else [str(place) for place in cfg.runs or ()]
    shards = find_shards(runs)
    if shards:
        record.update(**merge_shards(shards, Path(cfg.output)))
        return
    command = record.content["command"]
    record.update(**compare_runs(runs, Path(cfg.output), cfg.seed, cfg.faithfulness, bool(cfg.page), command))


def synthesize(cfg: DictConfig, record: RunRecord) -> None:
    """Make images with a loaded classifier; the synthesis writes them."""
    from seewhy.analyses.synthesis.base import Output
    from seewhy.analyses.synthesis.run import run_synthesis

    synthesis = build_object(cfg.synthesis, "synthesis", "object")
    job = build_job(cfg)
    record.update(**job.describe(), synthesis={"name": synthesis.name, **synthesis.parameters})
    job.classifier.to(job.trainer.strategy.root_device)
    output = Output(Path(cfg.output), job.trainer.loggers)
    try:
        with job.trainer.precision_plugin.forward_context():
            made = run_synthesis(synthesis, job.classifier, job.data, output)
    finally:
        output.finish()
    passes = {"forward": job.classifier.passes.forward, "backward": job.classifier.passes.backward}
    record.update(**made, passes=passes)


def execute(task: Callable[[DictConfig, RunRecord], None], cfg: DictConfig) -> None:
    """Run a task with its record; a user's mistake ends as one message and exit code 2, Ctrl-C as exit code 130.

    In a sweep a failed job is reported and the others go on; `seewhy.cli.sweep` sets the exit code.
    """
    quieten()
    hydra = HydraConfig.get()
    first = is_first_process()
    if Path(cfg.output).exists() and not Path(cfg.output).is_dir():
        print(f"error: output={cfg.output} is a file; name a folder for the run", file=sys.stderr)
        raise SystemExit(2)
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    record = RunRecord(Path(cfg.output), cfg.task, overrides, cfg.seed, writes=first)
    try:
        check_settings(cfg, overrides)
        with signals():
            task(cfg, record)
    except (KeyboardInterrupt, SystemExit) as stop:
        reason = _reason(stop)
        raise SystemExit(_interrupted(cfg, record, reason) if first else 0) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise SystemExit(_interrupted(cfg, record, f"{error.strerror}: {error.filename or cfg.output}")) from None
        mistake = find_user_error(error)
        if isinstance(mistake, ChangedRun):
            record.restore()
        else:
            status = "refused" if isinstance(mistake, Incompatible) else "failed"
            record.update(status=status, reason=str(mistake or repr(error)))
        if mistake is None:
            raise
        if first:
            print(f"{'refused' if isinstance(mistake, Incompatible) else 'error'}: {mistake}", file=sys.stderr)
        if hydra.mode == RunMode.RUN or isinstance(mistake, ChangedRun):
            raise SystemExit(2) from None
        return
    finally:
        gc.collect()  # the next job of a sweep shall not find the data of this one in memory
    record.update(status="completed")
    if first and hydra.mode == RunMode.RUN and record.content["task"] in PAGED and cfg.get("page"):
        from seewhy.report.write import attempt_page, write_run_page

        attempt_page(lambda: write_run_page(Path(cfg.output), cfg.seed))
    if first:
        print(f"run folder: {cfg.output}")


def _reason(stop: BaseException) -> str:
    """Who ended the run: Lightning turns Ctrl-C into an exit with code 1; schedulers' helpers exit with others."""
    if Stop.signum == signal.SIGTERM:
        return "SIGTERM"
    by_hand = isinstance(stop, KeyboardInterrupt) or stop.args in ((1,), (128 + signal.SIGINT,))
    return "Ctrl-C" if by_hand else "asked to exit"


def _interrupted(cfg: DictConfig, record: RunRecord, reason: str) -> int:
    """Say what was done and how to go on; the exit code."""
    with contextlib.suppress(OSError):  # the disk may be full
        record.update(status="interrupted", reason=reason)
    print(f"\ninterrupted ({reason}); what was done lies in {cfg.output}", file=sys.stderr)
    if cfg.task == "explain":
        print(f"to go on: {resume.command(cfg.task, cfg.output)}", file=sys.stderr)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sweep = HydraConfig.get().sweep.dir
            print(f"to go on with the sweep: the same command with hydra.sweep.dir={sweep}", file=sys.stderr)
    return 143 if reason == "SIGTERM" else 130


def find_user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake behind an error, or None where the error is ours."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
