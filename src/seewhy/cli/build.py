"""From a composed config to the objects of a run: classifier, data, callbacks, loggers, trainer."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.cli.instantiate import build_object
from seewhy.core.errors import UserError
from seewhy.models.build import choose_origin

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import LightningDataModule, Trainer

    from seewhy.core.facts import Facts
    from seewhy.core.types import Batch
    from seewhy.data.loading import Reader
    from seewhy.models.classifier import Classifier
    from seewhy.runs.loggers.backends import LoggerGroup


PRECISIONS = ("bf16-mixed", "32-true")
"""What Lightning calls the passes of precision=bfloat16, and its default."""


@dataclass
class Job:
    """The objects of one run."""

    classifier: Classifier
    data: LightningDataModule
    trainer: Trainer

    def describe(self) -> dict[str, Any]:
        """Describe the objects before they start, for the record."""
        import torch

        facts = self.classifier.facts
        return {
            "model": {
                "name": self.classifier.name,
                "weights": self.classifier.origin,
                "weights_sha256": self.classifier.weights_sha256,
                "classes": len(facts.classes),
                "size": facts.size,
                "mean": facts.mean,
                "std": facts.std,
                **({"display": facts.display} if facts.display else {}),
                **({} if facts.fit == "crop" else {"fit": facts.fit}),
                **({"doubts": list(self.classifier.doubts)} if self.classifier.doubts else {}),
            },
            "device": str(self.trainer.strategy.root_device),
            "threads": torch.get_num_threads(),
        }

    def keep_batch_sizes(self, before: Mapping[str, Any]) -> None:
        """Begin with the batch sizes that an earlier attempt in the same folder measured.

        Args:
            before: Its record.
        """
        sizes = before.get("probe_batch_sizes", {})
        self.classifier.batch_sizes |= {kind: used[-1] for kind, used in sizes.items() if used}

    def open_loggers(self) -> LoggerGroup:
        """The loggers of the run, to be closed when it ends: `with job.open_loggers() as loggers`."""
        from seewhy.runs.loggers.backends import LoggerGroup

        return LoggerGroup(self.trainer.loggers)

    def collect_results(self) -> dict[str, Any]:
        """Collect what was logged and what the callbacks counted, for the record."""
        logged = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        results: dict[str, Any] = {"logged": logged} if logged else {}
        if self.classifier.batch_sizes:
            results["probe_batch_sizes"] = {kind: [size] for kind, size in self.classifier.batch_sizes.items()}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            results |= callback.record() if hasattr(callback, "record") else {}
        return results


def build_job(cfg: DictConfig) -> Job:
    """Instantiate classifier, data, callbacks, loggers and trainer of a config.

    Cheap checks come first: missing weights are reported before torch, timm or Lightning are imported.

    Args:
        cfg: The composed config of a task, checked by `seewhy.cli.config.check_settings`.

    Returns:
        The objects; random numbers are seeded and the number of threads is set.

    Raises:
        UserError: A setting is wrong, or weights are missing.
    """
    architecture = build_object(cfg.model.architecture, "model.architecture")
    choose_origin(str(cfg.model.name), architecture, str(cfg.model.weights))

    import torch
    from lightning.pytorch import seed_everything

    if cfg.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cfg.threads))  # of further processes; Lightning would divide
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    options: dict[str, Any] = {}
    if "optimization" in cfg and cfg.task == "train":
        options = {"optimization": build_object(cfg.optimization, "optimization"), "new_head": True}
    callbacks = _build_each(cfg.callbacks, "callbacks")
    classifier = build_classifier(cfg, **options)
    data = build_data(cfg, facts=classifier.facts)
    loggers = _build_each(cfg.logger, "logger")
    if not loggers:
        from lightning.pytorch.callbacks import LearningRateMonitor

        callbacks = [each for each in callbacks if not isinstance(each, LearningRateMonitor)]  # it has nothing to tell
    trainer = build_trainer(cfg, callbacks=callbacks, logger=loggers or False, default_root_dir=cfg.output)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
        gc.freeze()  # what is loaded by now stays: no collection needs to look at it again
    return Job(classifier, data, trainer)


def _build_each(group: DictConfig, key: str) -> list[Any]:
    return [build_object(config, f"{key}.{name!s}") for name, config in group.items() if config]


def build_classifier(cfg: DictConfig, **options: Any) -> Classifier:
    """Build the classifier of the group `model`.

    Args:
        cfg: The composed config of a task.
        **options: Further arguments of `seewhy.models.build.build_classifier`; they replace those of the config.

    Returns:
        The classifier with its weights, on the CPU.
    """
    classifier: Classifier = build_object(cfg.model, "model", "object", _partial_=True)(**options)
    return classifier


def build_data(cfg: DictConfig, **options: Any) -> LightningDataModule:
    """Build the data module of the group `data`.

    Args:
        cfg: The composed config of a task.
        **options: Further arguments of the data module, such as the classifier's `facts`.

    Returns:
        The data module, before its `setup`.
    """
    data: LightningDataModule = build_object(cfg.data, "data", "object", _partial_=True)(**options)
    return data


def read_test_images(cfg: DictConfig, device: torch.device) -> Reader:
    """Prepare to read the test images of the group `data` as some facts ask for them, as often as needed.

    Args:
        cfg: The composed config of a task.
        device: Where the batches go.

    Returns:
        Reads the batches for facts.
    """

    def read(facts: Facts) -> Iterator[Batch]:
        data: Any = build_data(cfg, facts=facts)
        data.prepare_data()
        data.setup("test")
        for batch in data.test_dataloader():
            yield data.on_after_batch_transfer(batch.to(device), 0)

    return read


def build_trainer(cfg: DictConfig, **options: Any) -> Trainer:
    """Build the trainer of the group `trainer`, which knows device and precision.

    Args:
        cfg: The composed config of a task.
        **options: Further arguments of Lightning's Trainer.

    Returns:
        The trainer.

    Raises:
        UserError: `precision` and `trainer.precision` say different things.
    """
    if cfg.get("precision", "float32") != "float32":
        if (given := cfg.trainer.get("precision", PRECISIONS[1])) not in PRECISIONS:
            raise UserError(
                f"precision={cfg.precision} and trainer.precision={given} contradict each other: leave one out"
            )
        options["precision"] = PRECISIONS[0]
    trainer: Trainer = build_object(cfg.trainer, "trainer", "all", **options)
    return trainer
