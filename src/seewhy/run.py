"""From a composed config to objects, and from objects to a finished run: the only file that knows Hydra."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from seewhy.models.build import choose_origin

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, Trainer

    from seewhy.classifier import Classifier


@dataclass
class Job:
    """The objects of one run."""

    classifier: Classifier
    data: LightningDataModule
    trainer: Trainer
    folder: Path


def check_weights(model: DictConfig) -> None:
    """Fail within a second where the weights are missing: before torch, timm or Lightning are imported."""
    choose_origin(model.name, instantiate(model.architecture), str(model.weights))


def build(cfg: DictConfig) -> Job:
    """Instantiate classifier, data, callbacks, loggers and trainer of a config."""
    check_weights(cfg.model)

    import torch
    from lightning.pytorch import seed_everything

    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    optimization = instantiate(cfg.optimization) if "optimization" in cfg else None
    classifier = instantiate(cfg.model, _partial_=True, _convert_="object")(optimization=optimization)
    data = instantiate(cfg.data, _partial_=True)(facts=classifier.facts)
    callbacks = [instantiate(part) for part in cfg.callbacks.values() if part]
    loggers = [instantiate(part) for part in cfg.logger.values() if part]
    folder = Path(HydraConfig.get().runtime.output_dir)
    trainer = instantiate(
        cfg.trainer, callbacks=callbacks, logger=loggers or False, default_root_dir=str(folder), _convert_="all"
    )
    return Job(classifier, data, trainer, folder)


def train(cfg: DictConfig) -> None:
    """Fit, test the best checkpoint, and save its weights with the facts that belong to them."""
    if cfg.model.weights == "auto":
        cfg.model.weights = "random"
    if cfg.model.classes is None and hasattr(get_class(cfg.data._target_), "class_names"):
        cfg.model.classes = list(get_class(cfg.data._target_).class_names)
    job = build(cfg)
    job.trainer.fit(job.classifier, job.data)
    from seewhy.models.weights import save_weights

    best = getattr(job.trainer.checkpoint_callback, "best_model_path", "")
    if best:
        from seewhy.models.weights import fit_weights, read_weights

        fit_weights(job.classifier.network, read_weights(Path(best))[0], best)
    save_weights(job.classifier.network, job.classifier.facts, job.folder / "weights.safetensors")
    job.trainer.test(job.classifier, job.data, verbose=False)
    print({key: float(value) for key, value in job.trainer.callback_metrics.items()})
