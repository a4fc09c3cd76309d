"""The order of the pixels of a map, equal ones as they come, by a sort of numbers that hold value and place.

No two of these are equal, so that numpy's fastest routine, which is not stable, gives the order of a stable sort in a tenth
of its time.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LOWER_BITS = 32
"""Where a key holds the place of its value; the value itself is above."""


def largest_first(rows: Tensor) -> Tensor:
    """Places int64 [batch, n] of the finite float32 values of each row from the largest to the smallest, stable."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.argsort(dim=1, descending=True, stable=True)
    return torch.from_numpy(places_of(sorted_keys(rows.detach().numpy(), falling=True)))


def sorted_keys(rows: NDArray[np.float32], falling: bool = False) -> NDArray[np.int64]:
    """A key for each value of the rows [batch, n], sorted within each row; no value may be NaN."""
    assert rows.dtype == np.float32, f"keys hold float32 values, not {rows.dtype}"
    bits = (rows + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0, its equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~rising if falling else rising).astype(np.int64) << LOWER_BITS
    keys |= np.arange(rows.shape[1])
    keys.sort(axis=1)
    return keys


def places_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the values in their rows."""
    places: NDArray[np.int64] = keys & ((1 << LOWER_BITS) - 1)
    return places


def new_values(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the sorted values [..., n - 1] differ from the one before, from the second on."""
    values = keys >> LOWER_BITS
    differ: NDArray[np.bool_] = values[..., 1:] != values[..., :-1]
    return differ
