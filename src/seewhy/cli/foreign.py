"""What settings of other projects' classes may be, where their own annotations allow more than makes sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from seewhy.core.errors import UserError
from seewhy.core.settings import (
    MANY,
    Amount,
    Auto,
    Count,
    LearningRate,
    NonNegative,
    OneOf,
    PathText,
    Penalty,
    Positive,
    Share,
    Text,
    UnitInterval,
)

Rates = LearningRate | Annotated[Sequence[LearningRate], MinLen(1)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Limit = Annotated[int, Ge(0)] | UnitInterval
"""Batches, or the share of them."""
Monitor = Annotated[str, OneOf(("val/accuracy", "val/loss", "train/accuracy", "train/loss"))]
Mode = Annotated[str, OneOf(("max", "min"))]
Accelerator = Annotated[str, OneOf(("auto", "cpu", "cuda", "gpu", "mps", "tpu"))]
Devices = Annotated[int, Ge(1), Le(1024)] | Auto | Annotated[Sequence[Annotated[int, Ge(0)]], MinLen(1)]

OPTIMISER: dict[str, Any] = {
    "lr": LearningRate,
    "weight_decay": Penalty,
    "momentum": Momentum,
    "dampening": UnitInterval,
    "betas": tuple[Momentum, Momentum],
    "eps": Positive,
    "alpha": Momentum,
    "rho": UnitInterval,
}
SCHEDULE: dict[str, Any] = {
    "max_lr": Rates,
    "min_lr": NonNegative | Sequence[NonNegative],
    "eta_min": NonNegative,
    "pct_start": Annotated[float, Gt(0), Lt(1)],
    "div_factor": Positive,
    "final_div_factor": Positive,
    "factor": Annotated[float, Gt(0), Lt(1)],
    "gamma": Share,
    "patience": Annotated[int, Ge(0), Le(MANY)],
    "cooldown": Annotated[int, Ge(0), Le(MANY)],
    "threshold": NonNegative,
    "step_size": Count,
    "T_max": Count,
    "T_0": Count,
    "base_momentum": Momentum,
    "max_momentum": Momentum,
    "total_steps": Count | None,
    "mode": Mode,
}
TRAINER: dict[str, Any] = {
    "accelerator": Accelerator,
    "devices": Devices,
    "num_nodes": Annotated[int, Ge(1), Le(10_000)],
    "max_epochs": Count,
    "min_epochs": Annotated[int, Ge(0)] | None,
    "max_steps": Literal[-1] | Count,
    "min_steps": Annotated[int, Ge(0)] | None,
    "gradient_clip_val": Positive | None,
    "gradient_clip_algorithm": Annotated[str, OneOf(("norm", "value"))] | None,
    "num_sanity_val_steps": Literal[-1] | Amount,
    "log_every_n_steps": Count,
    "deterministic": bool | Annotated[str, OneOf(("warn",))] | None,
    "accumulate_grad_batches": Count,
    "enable_model_summary": bool,
    "enable_progress_bar": bool,
    "enable_checkpointing": bool,
    "check_val_every_n_epoch": Count,
    "val_check_interval": Count | Share | None,
    "limit_train_batches": Limit | None,
    "limit_val_batches": Limit | None,
    "limit_test_batches": Limit | None,
    "overfit_batches": Limit,
}
CHECKPOINT: dict[str, Any] = {
    "dirpath": PathText | None,
    "filename": Text | None,
    "monitor": Monitor | None,
    "mode": Mode,
    "save_top_k": Literal[-1] | Amount,
    "every_n_epochs": Count | None,
    "every_n_train_steps": Count | None,
}
STOPPING: dict[str, Any] = {"monitor": Monitor, "mode": Mode, "patience": Count, "min_delta": NonNegative}
LOGGER: dict[str, Any] = {"save_dir": PathText, "name": str | None, "version": Amount | str | None}

OPTIMISERS = "SGD Adam AdamW NAdam RAdam Adamax Adagrad Adadelta RMSprop ASGD Rprop"
SCHEDULES = (
    "OneCycleLR ReduceLROnPlateau CosineAnnealingLR CosineAnnealingWarmRestarts StepLR MultiStepLR ExponentialLR "
    "LinearLR ConstantLR PolynomialLR"
)
CALLBACKS = "lightning.pytorch.callbacks"
LOGGERS = "lightning.pytorch.loggers"

FOREIGN_SETTINGS: dict[str, dict[str, Any]] = {
    "lightning.pytorch.Trainer": TRAINER,
    f"{CALLBACKS}.ModelCheckpoint": CHECKPOINT,
    f"{CALLBACKS}.EarlyStopping": STOPPING,
    f"{CALLBACKS}.LearningRateMonitor": {"logging_interval": Annotated[str, OneOf(("step", "epoch"))] | None},
    f"{LOGGERS}.TensorBoardLogger": LOGGER,
    f"{LOGGERS}.CSVLogger": LOGGER,
    f"{LOGGERS}.WandbLogger": {"save_dir": PathText, "project": Text | None, "offline": bool},
    f"{LOGGERS}.MLFlowLogger": {"save_dir": PathText | None, "experiment_name": Text},
    **{f"torch.optim.{name}": OPTIMISER for name in OPTIMISERS.split()},
    **{f"torch.optim.lr_scheduler.{name}": SCHEDULE for name in SCHEDULES.split()},
}
"""What is declared here replaces the annotation of the class; a class without that setting is not given it."""

TRAINING = {
    "trainer": (
        *("max_epochs", "min_epochs", "max_steps", "min_steps", "gradient_clip_val", "gradient_clip_algorithm"),
        *("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval", "limit_train_batches"),
        *("limit_val_batches", "overfit_batches", "num_sanity_val_steps"),
    ),
    "data": ("augmentation", "shift", "training_batch_size"),
}
"""Settings by group that are read while a network is trained, and only then."""


def check_direction(config: Mapping[str, Any], key: str) -> None:
    """Refuse to keep the worst weights, or to stop where the training goes well.

    Args:
        config: The settings of an object that watches a value.
        key: Its path in the config.

    Raises:
        UserError: The direction does not fit what is watched.
    """
    monitor, mode = config.get("monitor"), config.get("mode", "min")
    if config.get("_target_") in WATCHING and isinstance(monitor, str):
        better = "max" if monitor.endswith("accuracy") else "min"
        if mode != better:
            raise UserError(f"{key}.mode={mode} must be {better}: of {monitor} the {DIRECTIONS[better]} is the best")


WATCHING = (f"{CALLBACKS}.ModelCheckpoint", f"{CALLBACKS}.EarlyStopping")
ELSEWHERE = (f"{LOGGERS}.WandbLogger", f"{LOGGERS}.MLFlowLogger")
"""Loggers whose folder is shared by all runs: each gets a place of its own there."""
DIRECTIONS = {"max": "largest", "min": "smallest"}
