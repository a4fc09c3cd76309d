"""The order of the pixels of a map: the largest first, equal ones as they come."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LOWER_BITS = 32
"""Where a key holds the place of its value; the value itself is above."""


def largest_first(rows: Tensor) -> Tensor:
    """Places int64 [batch, n] of the finite float32 values of each row from the largest to the smallest, stable.

    On the host, numbers that hold value and place are sorted instead: no two are equal, so that numpy's fastest routine,
    which is not stable, gives the same order in a tenth of the time.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    bits = (rows.detach() + 0.0).numpy().view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    keys &= (1 << LOWER_BITS) - 1
    return torch.from_numpy(keys)
