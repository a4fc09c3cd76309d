"""Explain the decisions of image classifiers, and measure how far the explanations can be trusted.

    from seewhy import explain

    explanations = explain("efficientnet_lite0", "photographs", explainer="grad_cam", metrics=["deletion", "insertion"])
    explanations[0].figure()
    explanations.table()

Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seewhy.api import Explanations, explain, load_classifier
    from seewhy.core.errors import UserError
    from seewhy.core.types import Explanation
    from seewhy.report.loaded_run import load_run

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""torch asks Linux for pages of 2 MB where a tensor is that large: without, a quarter of a pass with gradients goes into
clearing pages of 4 kB, more in large batches. Read when torch allocates for the first time; set it to 0 to do without."""

__version__ = "0.2.0"

__all__ = ["Explanation", "Explanations", "UserError", "explain", "load_classifier", "load_run"]

_HOMES = {
    "Explanation": "seewhy.core.types",
    "Explanations": "seewhy.api",
    "UserError": "seewhy.core.errors",
    "explain": "seewhy.api",
    "load_classifier": "seewhy.api",
    "load_run": "seewhy.report.loaded_run",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names, for completion."""
    return list(__all__)
