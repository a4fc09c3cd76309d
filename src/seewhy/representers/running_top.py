"""The largest values of each row of a matrix that is seen a block of columns at a time."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningTop:
    """`values` [rows, k] in falling order and `columns` int64 [rows, k], k = min(count, columns seen so far)."""

    def __init__(self, rows: int, count: int) -> None:
        self.count = count
        self.values = torch.zeros(rows, 0, dtype=torch.float64)
        self.columns = torch.zeros(rows, 0, dtype=torch.int64)

    def add(self, block: Tensor, first: int) -> None:
        """A block [rows, width] whose columns are `first`, `first` + 1, ..."""
        best = block.topk(min(self.count, block.shape[1]), dim=1)
        values = torch.cat([self.values, best.values.double().cpu()], dim=1)
        columns = torch.cat([self.columns, best.indices.cpu() + first], dim=1)
        order = values.argsort(dim=1, descending=True, stable=True)[:, : self.count]
        self.values, self.columns = values.gather(1, order), columns.gather(1, order)
