"""From a composed config to the objects of a run: classifier, data, callbacks, loggers, trainer."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.cli.instantiate import build_object
from seewhy.models.build import choose_origin

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, Trainer

    from seewhy.models.classifier import Classifier


@dataclass
class Job:
    """The objects of one run."""

    classifier: Classifier
    data: LightningDataModule
    trainer: Trainer

    def describe(self) -> dict[str, Any]:
        """What the record says of the objects before they start."""
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
            },
            "device": str(self.trainer.strategy.root_device),
            "threads": torch.get_num_threads(),
        }

    def collect_results(self) -> dict[str, Any]:
        """What the record says after they are done."""
        logged = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        found: dict[str, Any] = {"logged": logged} if logged else {}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            found |= callback.record() if hasattr(callback, "record") else {}
        return found


def build_job(cfg: DictConfig) -> Job:
    """Instantiate classifier, data, callbacks, loggers and trainer of a config.

    Cheap checks come first: missing weights are reported before torch, timm or Lightning are imported.
    """
    architecture = build_object(cfg.model.architecture, "model.architecture")
    choose_origin(cfg.model.name, architecture, str(cfg.model.weights))

    import torch
    from lightning.pytorch import seed_everything

    if cfg.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cfg.threads))  # of further processes; Lightning would divide
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    optimization = build_object(cfg.optimization, "optimization") if "optimization" in cfg else None
    callbacks = [build_object(part, f"callbacks.{name}") for name, part in cfg.callbacks.items() if part]
    classifier = build_classifier(cfg, optimization=optimization)
    data = build_data(cfg, facts=classifier.facts)
    loggers = [build_object(part, f"logger.{name}") for name, part in cfg.logger.items() if part]
    trainer = build_trainer(cfg, callbacks=callbacks, logger=loggers or False, default_root_dir=cfg.output)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
        gc.freeze()  # what is loaded by now stays: no collection needs to look at it again
    return Job(classifier, data, trainer)


def build_classifier(cfg: DictConfig, **options: Any) -> Classifier:
    """The classifier of the group `model`; `options` are further arguments of `seewhy.models.build.classifier`."""
    built: Classifier = build_object(cfg.model, "model", "object", _partial_=True)(**options)
    return built


def build_data(cfg: DictConfig, **options: Any) -> LightningDataModule:
    """The data module of the group `data`; `options` are further arguments, such as the classifier's `facts`."""
    data: LightningDataModule = build_object(cfg.data, "data", "object", _partial_=True)(**options)
    return data


def build_trainer(cfg: DictConfig, **options: Any) -> Trainer:
    """The trainer of the group `trainer`, which knows device and precision."""
    trainer: Trainer = build_object(cfg.trainer, "trainer", "all", **options)
    return trainer
