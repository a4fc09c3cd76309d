"""How close the refitted last layer comes to the network that it stands for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seewhy.errors import UserError


class Reconstruction(NamedTuple):
    """Agreement of two sets of class probabilities."""

    pearson: float
    """Correlation over all images and classes, -1 to 1; NaN where one of them is constant."""
    mean_gap: float
    """Mean over the images of the sum over the classes of |difference|, 0 to 2; lower is closer."""

    def check(self, least: float, where: str) -> None:
        """UserError where the correlation is below `least`: the values would explain another network."""
        if not self.pearson >= least:
            raise UserError(
                f"on the {where} images the refitted last layer has a Pearson correlation of {self.pearson:.4f} with "
                f"the network's own probabilities (mean gap {self.mean_gap:.3f}), below {least:g}: its representer "
                "values would explain another network; set a smaller callbacks.representers.l2"
            )


def reconstruction(rebuilt: Tensor, given: Tensor) -> Reconstruction:
    """The agreement of probabilities [n, classes] of the refitted layer with those of the network."""
    one, other = rebuilt.double(), given.double()
    first, second = (values - values.mean() for values in (one, other))
    lengths = first.norm() * second.norm()
    pearson = float((first * second).sum() / lengths) if lengths > 0 else torch.nan
    return Reconstruction(pearson, float((one - other).abs().sum(1).mean()))
