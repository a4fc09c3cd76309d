"""In which precision numbers are kept: single at least, and double where the network is double."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(values: Tensor) -> Tensor:
    """The values in float32 at least: half precision is widened, float64 stays as it is.

    What leaves a network goes through here, so that a network in double precision is explained in double precision.
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
