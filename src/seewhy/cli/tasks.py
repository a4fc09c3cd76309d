"""What each command does: build the objects of a config, run them, finish with a record and an exit code."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seewhy.cli.audit import run_audit_task
from seewhy.cli.build import Job, build_data, build_job
from seewhy.cli.compare import FAILED, compare
from seewhy.cli.config import SPLITTING, check_settings
from seewhy.cli.doctor import examine
from seewhy.cli.foreign import TRAINING
from seewhy.cli.ground_truth import run_ground_truth
from seewhy.cli.instantiate import build_object
from seewhy.cli.own_configs import list_given_folders
from seewhy.cli.program import find_command, find_command_line, list_overrides, quieten
from seewhy.cli.resume import build_resume_command
from seewhy.cli.suggestions import describe_broken_reference
from seewhy.cli.sweep import PAGED, note_refused_job
from seewhy.core.disclosure import mask_values, print_error, print_line
from seewhy.core.errors import Incompatible, UserError, describe_failed_write, shorten_path
from seewhy.core.signals import Stop, end_with_parent, handle_signals, is_first_process, outlive_readers
from seewhy.runs.ownership import check_folder_is_free, check_folder_name, discard_beginnings, hold_folder, is_new
from seewhy.runs.record import RunRecord
from seewhy.runs.resume_check import ChangedRun, Shard, select_decisive

if TYPE_CHECKING:
    pass

LOCAL_WORKER = "LokyProcess"
"""How joblib calls its processes, whose parent is the sweep; those of a scheduler have another."""
INTERRUPTED = (130, 143)
"""Exit codes after Ctrl-C, a full disk or SIGTERM."""


Task = Callable[[DictConfig, RunRecord], None]
UNREAD = 5
"""Images that could not be read which the end of a training names."""


def explain(cfg: DictConfig, record: RunRecord) -> None:
    """Test a loaded classifier on the data while callbacks explain; batches that the run folder holds are left out.

    Args:
        cfg: The composed config of `explain` or `robustness`.
        record: The record of the run, which is updated.

    Raises:
        UserError: The config asks for something that cannot be done.
    """
    shard = Shard.parse(cfg.get("shard"))
    job = build_job(cfg)
    if job.trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN and "SLURM_NTASKS" not in os.environ:
        raise UserError("trainer=ddp starts the command again, so it cannot be in a sweep (-m) outside Slurm")
    job.keep_batch_sizes(record.before)
    record.update(**job.describe(), **({"shard": str(shard)} if shard.total > 1 else {}))
    if cfg.task == "explain":
        from seewhy.callbacks.journaling import JournalRecorder

        config = mask_values(select_decisive(OmegaConf.to_container(cfg, resolve=True)), digest=True)  # type: ignore[arg-type]
        job.trainer.callbacks.append(JournalRecorder(cfg.output, config, record.content["overrides"], shard))  # type: ignore[attr-defined]
    with job.open_loggers():
        job.trainer.test(job.classifier, job.data, verbose=False)
    record.update(**job.collect_results())
    _print_accuracy(job)
    if shard.total == 1:  # a shard may hold nothing but what cannot be used
        _check_images(job, cfg.task == "explain")


def _print_accuracy(job: Job) -> None:
    """Print what a run without the callback that prints results would keep to itself."""
    from seewhy.callbacks.journaling import JournalRecorder, find_callback
    from seewhy.callbacks.results import Terminal
    from seewhy.runs.console import describe_accuracy, doubt_accuracy

    recorder = find_callback(job.trainer, JournalRecorder)
    if recorder is not None and find_callback(job.trainer, Terminal) is None:
        facts, doubts = job.classifier.facts, job.classifier.doubts
        for text in (describe_accuracy(recorder.totals), doubt_accuracy(recorder.totals, len(facts.classes), doubts)):
            if text:
                _print_first(text)


def _check_images(job: Job, explains: bool) -> None:
    """UserError where images were left out and none is left, or none was explained in a run that explains."""
    from seewhy.callbacks.attribution import Attribution
    from seewhy.callbacks.journaling import JournalRecorder, find_callback

    recorder = find_callback(job.trainer, JournalRecorder)
    if recorder is None or not recorder.totals.skipped:
        return
    totals, attribution = recorder.totals, find_callback(job.trainer, Attribution)
    asked = explains and attribution is not None and attribution.limit != 0
    if totals.images and (totals.explained or not asked):
        return
    first = next(skipped for results in recorder.journal.read_batches() for skipped in results.skipped)
    what = "explained" if totals.images else "read"
    raise UserError(
        f"no image was {what}: {totals.skipped} of {totals.skipped} were left out (skipped.csv lists them), the first is "
        f"{first.path}: {first.reason}"
    )


def train(cfg: DictConfig, record: RunRecord) -> None:
    """Fit, save the best checkpoint's weights with their facts, test them while callbacks explain test images.

    Args:
        cfg: The composed config of `train`; weights that are `auto` begin at random.
        record: The record of the run, which is updated.
    """
    if cfg.model.weights == "auto":
        cfg.model.weights = "random"
    if cfg.model.classes is None:
        cfg.model.classes = _list_classes(cfg)
    job = build_job(cfg)
    job.keep_batch_sizes(record.before)
    record.update(**job.describe())
    if hasattr(job.data, "describe_parts"):
        job.data.setup("fit")
        parts = job.data.describe_parts()
        record.update(training_data=parts)
        counts = "{train:,} images of {classes:,} classes, {val:,} more choose the weights, {test:,} test them"
        _print_first(f"training {job.classifier.name} ({job.classifier.origin}) on {counts.format(**parts)}")
    with job.open_loggers():
        training = _fit_and_test(job, record, Path(cfg.output))
    unread: dict[str, str] = getattr(job.data, "unread", {})
    record.update(**training, **job.describe(), **job.collect_results(), training_unread=unread)
    for path, reason in list(unread.items())[:UNREAD]:
        _print_first(f"not trained on: {path}: {reason}")
    if len(unread) > UNREAD:
        _print_first(f"... and {len(unread) - UNREAD:,} more, in run.json")
    weights = Path(cfg.output) / "weights.safetensors"
    _print_first(f"weights: {weights}")
    if command := _find_explain_command(weights, hasattr(job.data, "describe_parts")):
        _print_first(f"explain with them: {command}")


def _print_first(line: str) -> None:
    """Print a line in the first of several processes."""
    if is_first_process():
        print_line(line)


def _find_explain_command(weights: Path, split: bool) -> str:
    """Find the command that explains the test images with new weights; empty where an experiment set up the network."""
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    if choices.get("experiment") not in (None, "null"):
        return ""
    repeated = [text for text in list_overrides(hydra) if re.match(r"\+*(model|data)\.", text)]
    unread = "|".join((*TRAINING["data"], *(() if split else SPLITTING)))
    repeated = [
        text for text in repeated if not re.match(rf"\+*(model\.(weights|classes)|data\.(split|{unread}))=", text)
    ]
    words = [f"model={choices['model']}", f"model.weights={weights}", f"data={choices['data']}", *repeated]
    return shlex.join([*find_command("explain"), *words, *(["data.split=test"] if split else [])])


def _list_classes(cfg: DictConfig) -> list[str] | None:
    """List the classes of the data; None where they have none of their own."""
    data_class = get_class(cfg.data._target_)
    if hasattr(data_class, "class_names"):
        return list(data_class.class_names)
    if not hasattr(data_class, "list_classes"):
        return None
    data: Any = build_data(cfg)
    data.several = cfg.model.get("score") == "sigmoid"
    return list(data.list_classes())


def _fit_and_test(job: Job, record: RunRecord, folder: Path) -> dict[str, Any]:
    """Leave the best weights in the folder and in the classifier; what the record says of the training."""
    job.classifier.train()
    job.trainer.fit(job.classifier, job.data)
    training = {"training_seconds": record.seconds(), "training": job.collect_results().get("logged", {})}

    from seewhy.models.weights import fit_weights, hash_weights, read_weights, save_weights

    best = getattr(job.trainer.checkpoint_callback, "best_model_path", "")
    if best:
        fit_weights(job.classifier.network, read_weights(Path(best))[0], best)
    job.classifier.origin, job.classifier.doubts = "trained in this run", ()
    job.classifier.weights_sha256 = hash_weights(job.classifier.network)
    save_weights(job.classifier.network, job.classifier.facts, folder / "weights.safetensors")
    job.trainer.test(job.classifier, job.data, verbose=False)
    return training


def report(cfg: DictConfig, record: RunRecord) -> None:
    """Compare finished runs, or merge the shards of one.

    Args:
        cfg: The composed config of `report`.
        record: The record of the run, which is updated.
    """
    from seewhy.report.merge_shards import find_shards, merge_shards
    from seewhy.report.write import write_report

    runs = [str(cfg.runs)] if isinstance(cfg.runs, str | int) else [str(folder) for folder in cfg.runs or ()]
    shards = find_shards(runs)
    if shards:
        record.update(**merge_shards(shards, Path(cfg.output)))
        return
    command, page = record.content["command"], bool(cfg.page)
    record.update(**write_report(runs, Path(cfg.output), cfg.seed, cfg.faithfulness, page, command, cfg.certificate))


def synthesize(cfg: DictConfig, record: RunRecord) -> None:
    """Make images with a loaded classifier, and write them.

    Args:
        cfg: The composed config of `synthesize`.
        record: The record of the run, which is updated.
    """
    from seewhy.analyses.synthesis.base import Output
    from seewhy.analyses.synthesis.run import run_synthesis

    synthesis = build_object(cfg.synthesis, "synthesis", "object")
    job = build_job(cfg)
    job.keep_batch_sizes(record.before)
    record.update(**job.describe(), synthesis={"name": synthesis.name, **synthesis.parameters})
    job.classifier.to(job.trainer.strategy.root_device)
    with job.open_loggers() as loggers, job.trainer.precision_plugin.forward_context():
        loggers.log_config(Path(cfg.output))
        results = run_synthesis(synthesis, job.classifier, job.data, Output(Path(cfg.output), loggers))
    passes = {"forward": job.classifier.passes.forward, "backward": job.classifier.passes.backward}
    record.update(**job.collect_results(), **results, passes=passes)


TASKS: dict[str, Task] = {
    "explain": explain,
    "train": train,
    "robustness": explain,  # its callback compares with the clean images
    "synthesize": synthesize,
    "doctor": examine,
    "compare": compare,
    "audit": run_audit_task,
    "ground_truth": run_ground_truth,
    "report": report,
}
"""The function of each command."""


def execute(task: Task, cfg: DictConfig) -> None:
    """Run a task with its record.

    In a sweep a job that fails, for whatever reason, is reported and the others go on; `seewhy.cli.sweep` names it at the
    end and sets the exit code.

    Args:
        task: One of `TASKS`.
        cfg: Its composed config, inside of a command of Hydra.

    Raises:
        SystemExit: 2 after a user's mistake, 130 after Ctrl-C or on a full disk, 143 after SIGTERM.
    """
    quieten()
    first = is_first_process()
    if not first:
        end_with_parent(os.getppid())
    single = HydraConfig.get().mode == RunMode.RUN
    overrides = list_overrides(HydraConfig.get())
    with contextlib.ExitStack() as held:
        try:
            check_folder_name(str(cfg.output), "output")
            if first:
                held.enter_context(hold_folder(Path(cfg.output)))
                check_folder_is_free(Path(cfg.output), cfg.task, overrides)
        except (UserError, OmegaConfBaseException) as error:
            mistake = error if isinstance(error, UserError) else describe_broken_reference(error)
            return _refuse(str(mistake), single)
        new = first and single and is_new(Path(cfg.output))
        try:
            _execute_with_record(task, cfg, overrides, first, single)
        except Refused:
            if new:
                discard_beginnings(Path(cfg.output))
                held.pop_all().close()  # the lock
                _remove_empty_folder()
            raise


class Refused(SystemExit):
    """The end of a command that was refused with a message."""


def _remove_empty_folder() -> None:
    """Remove the folder that Hydra named, where a refused command left nothing in it; a folder that the user named stays."""
    hydra = HydraConfig.get()
    if OmegaConf.is_missing(hydra.runtime, "output_dir"):
        return
    if any(text.lstrip("+").startswith("hydra.run.dir=") for text in list_overrides(hydra, "hydra")):
        return
    folder = Path(hydra.runtime.output_dir)
    if not (folder / "run.json").exists():
        discard_beginnings(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _refuse(reason: str, single: bool) -> None:
    """Say why nothing was written; the end of a single run, while a sweep goes on to its next job."""
    print_error(f"error: {reason}")
    if single:
        raise SystemExit(2) from None
    note_refused_job(HydraConfig.get(), reason)


def execute_in_worker(task: Task, cfg: DictConfig, parent: int) -> None:
    """Run a job of a sweep in a process of its launcher, which ends with the sweep.

    Args:
        task: One of `TASKS`.
        cfg: Its composed config.
        parent: The process of the sweep.

    Raises:
        SystemExit: The job failed; an interrupted one ends the process, which would else be given the next job.
    """
    outlive_readers()
    end_with_parent(parent)
    if Stop.parent is None and multiprocessing.current_process().name.startswith(LOCAL_WORKER):
        os._exit(143)  # the sweep died before this job began
    try:
        execute(task, cfg)
    except SystemExit as stop:
        if stop.code in INTERRUPTED and Stop.parent is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(stop.code)
        raise


def _execute_with_record(task: Task, cfg: DictConfig, overrides: list[str], first: bool, single: bool) -> None:
    """Run a task in a folder that is this run's own; the record says how it ended."""
    folder = Path(cfg.output)
    try:
        record = RunRecord(folder, cfg.task, overrides, cfg.seed, writes=first, command=find_command_line())
    except OSError as error:
        reason = describe_failed_write(error, folder)
        if reason is None:
            raise
        words = f"the run folder {shorten_path(folder)} cannot be written to ({reason}); nothing was computed"
        return _refuse(words, single)
    try:
        check_settings(cfg, overrides)
        with handle_signals():
            task(cfg, record)
            record.update(status="completed")
    except (KeyboardInterrupt, SystemExit) as stop:
        if stop.args == (FAILED,):  # an answer, not an end before the end
            raise
        raise SystemExit(_end_interrupted(cfg, record, _name_reason(stop)) if first else 0) from None
    except Exception as error:
        reason = describe_failed_write(error, folder)
        if reason is not None:
            raise SystemExit(_end_interrupted(cfg, record, reason)) from None
        mistake = find_user_error(error)
        with contextlib.suppress(OSError):  # the disk may be full
            _end_failed(record, mistake, error)
        if not single:  # the others go on
            if mistake is None:
                print_error(traceback.format_exc())
            if isinstance(mistake, ChangedRun):
                note_refused_job(HydraConfig.get(), str(mistake))
            return
        if mistake is None:
            raise
        raise Refused(2) from None
    finally:
        gc.collect()  # the next job of a sweep shall not find the data of this one in memory
    if first and single and record.content["task"] in PAGED and cfg.get("page"):
        from seewhy.report.write import attempt_page, write_run_page
        from seewhy.runs.console import TextConsole

        attempt_page(lambda: write_run_page(Path(cfg.output), cfg.seed, cfg.get("certificate"), TextConsole()))
    if first:
        print_line(f"run folder: {cfg.output}")


def _name_reason(stop: BaseException) -> str:
    """Name who ended the run: Lightning turns Ctrl-C into an exit with code 1; schedulers' helpers exit with others."""
    if Stop.signum == signal.SIGTERM:
        return "SIGTERM"
    by_hand = isinstance(stop, KeyboardInterrupt) or stop.args in ((1,), (128 + signal.SIGINT,))
    return "Ctrl-C" if by_hand else "asked to exit"


def _end_interrupted(cfg: DictConfig, record: RunRecord, reason: str) -> int:
    """Say what was done and how to resume; return the exit code."""
    with contextlib.suppress(OSError):  # the disk may be full
        record.update(status="interrupted", reason=reason)
    print_error(f"\ninterrupted ({reason}); finished batches are in {cfg.output}")
    if cfg.task in ("ground_truth", "audit") and HydraConfig.get().mode == RunMode.RUN:
        print_error(f"to resume: the same command with hydra.run.dir={cfg.output}")
    if cfg.task == "explain":
        hydra = HydraConfig.get()
        command = build_resume_command(cfg.task, cfg.output, list_overrides(hydra), list_given_folders(hydra))
        print_error(f"to resume: {command}")
        if HydraConfig.get().mode == RunMode.MULTIRUN and (Stop.parent is None or Stop.is_orphan()):
            sweep = HydraConfig.get().sweep.dir
            print_error(f"to resume the sweep: the same command with hydra.sweep.dir={sweep}")
    return 143 if reason == "SIGTERM" else 130


def _end_failed(record: RunRecord, mistake: UserError | None, error: Exception) -> None:
    """Record and print why a run failed; a folder that holds another run gets its own record back."""
    status = "refused" if isinstance(mistake, Incompatible) else "failed"
    if isinstance(mistake, ChangedRun):
        record.restore()
    else:
        record.update(status=status, reason=str(mistake or repr(error)))
    if mistake is not None and record.writes:
        print_error(f"{'refused' if status == 'refused' else 'error'}: {mistake}")


def find_user_error(error: BaseException | None) -> UserError | None:
    """Find the user's mistake behind an error.

    Args:
        error: Any exception.

    Returns:
        The error itself or the nearest cause that is a UserError; None where the fault is the project's own.
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
