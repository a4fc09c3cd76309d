"""The forms of what a run stores as JSON: its plan, its record and the entries of its journal.

Types are strict: no text stands for a number and no number for a truth value.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from seewhy.core.types import Explanation, Prediction, Skipped
from seewhy.runs.batch_results import OPTIONAL, list_stored_fields

Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
BatchSize: TypeAlias = Annotated[int, Field(ge=1)]
Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class _Closed(BaseModel):
    """Holds its fields and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class _Open(BaseModel):
    """Holds at least its fields: what readers of run folders use."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class Plan(_Open):
    """journal/plan.json: what a run computes."""

    version: int = 1
    config: dict[str, Any]
    overrides: list[str]
    weights: str
    device: str
    images: Count
    batches: Count
    data: dict[str, Any]
    shard: Annotated[str, Field(pattern=r"^[1-9]\d{0,8}/[1-9]\d{0,8}$")]


class Method(_Open):
    """The explainer of a record."""

    name: str
    parameters: str = ""
    target: str | int = "predicted"
    signed: bool = False
    tolerance: float | None = None


class Model(_Open):
    """The classifier of a record."""

    name: str
    weights: str = ""
    weights_sha256: str
    classes: Count | None = None
    size: Count | list[Count] | None = None
    mean: list[float] = []
    display: list[str | int] | None = None
    fit: str = ""
    doubts: list[str] = []


class Style(_Closed):
    """How maps are painted."""

    colours: Literal["default", "classic"]
    outlier_percent: Annotated[float, Field(ge=0, lt=100)]
    strength: Annotated[float, Field(ge=0, le=1)]


class Sheet(_Open):
    """How the sheet of a run is drawn."""

    maximum: Count
    style: Style


class Change(_Open):
    """What a shorter type changes of a metric."""

    float32: float | None
    change: Amount | None
    agreement: float | None


class Narrowing(_Open):
    """The shorter type in which a run computed, and what it changed on the explanations that were compared."""

    type: str
    explanations: Count = 0
    rank_correlation: float | None = None
    rank_correlation_least: float | None = None
    top_overlap: float | None = None
    top_overlap_least: float | None = None
    metrics: dict[str, Change] = {}
    warning: str = ""
    slow: str = ""


class Record(_Open):
    """run.json: what was run, on what, and how it ended."""

    version: int = 1
    status: Literal["running", "completed", "failed", "refused", "interrupted"]
    task: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    command: str = ""
    overrides: list[str] = []
    seed: int | None = None
    threads: int | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    python: str = ""
    platform: str = ""
    versions: dict[str, str] = {}
    started: str = ""
    seconds: Amount = 0.0
    reason: str = ""
    earlier: list[dict[str, Any]] = []
    device: str = ""
    precision: Narrowing | None = None
    explainer: Method | None = None
    model: Model | None = None
    sheet: Sheet | None = None
    images: Count = 0
    images_explained: Count = 0
    images_skipped: Count = 0
    passes_per_image: dict[str, Amount] = {}
    probe_batch_sizes: dict[str, list[BatchSize]] = {}
    attribution_seconds: Amount = 0.0
    metrics_left_out: list[str] = []
    logged: dict[str, float] = {}


_HINTS = get_type_hints(Explanation)
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Explanation) if field.name in OPTIONAL}
_FIELDS: dict[str, Any] = {name: (_HINTS[name], _DEFAULTS.get(name, ...)) for name in list_stored_fields()}
StoredExplanation = create_model("StoredExplanation", __base__=_Closed, **_FIELDS)
"""What the journal holds of an explanation."""


class StoredImage(_Closed):
    """An image of a batch."""

    name: str
    path: str
    loss: float | None
    prediction: Prediction
    explanation: StoredExplanation | None = None  # type: ignore[valid-type]
    explanations: list[StoredExplanation] = []  # type: ignore[valid-type]


Curve: TypeAlias = tuple[str, str, str, list[float], list[float], list[float | None]]


class Entry(_Closed):
    """journal/<number>.json: a finished batch."""

    batch: Count
    run: str
    images: list[StoredImage]
    skipped: list[Skipped]
    curves: list[Curve]
    costs: dict[str, tuple[Count, Count, Amount]]
    left_out: list[str]
    batch_sizes: dict[str, BatchSize]
    stored: dict[str, Digest]


SCHEMAS: dict[str, type[BaseModel]] = {"plan": Plan, "record": Record, "entry": Entry}
"""The forms by name."""
