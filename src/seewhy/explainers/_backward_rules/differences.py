"""Exact differences of what transformers compute: the multipliers of softmax, normalisation and products of matrices.

For y = f(x) and a baseline b each operation hands back multipliers m with sum(m (x - b)) = f(x) - f(b). They are closed
forms whose limit is the gradient, without a small difference in a denominator:

- Softmax: with L_i the logarithmic mean of y_i(x) and y_i(b), the difference of y_i is L_i (d_i - sum(L d) / sum(L)) for
  d = x - b, which is the softmax's own gradient with L in the place of y. The differences of y add up to 0, and those of
  ln y are d less a number that is the same for all.
- Normalisation y = u r of u = x - mean and r = 1 / sqrt(v): the means of u and r, with the difference of r as that of
  v = mean(u^2) + eps times -1 / (sqrt(v) sqrt(v_b) (sqrt(v) + sqrt(v_b))), and that of v as 2 mean(u) times that of u.
- A product of matrices: the mean of the other factor, as in `ProductOp`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seewhy.explainers._backward_rules.rule_mode import RuleOp
from seewhy.explainers._backward_rules.transformer_calls import Normalisation


class SoftmaxDifferenceOp(RuleOp):
    """Softmax over an axis: its gradient with the logarithmic mean of both results in the place of the result."""

    def __init__(self, baseline: Tensor, axis: int, function: Callable[[Tensor], Tensor]) -> None:
        self.baseline = baseline
        self.axis = axis
        self.function = function
        self.mean: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute the softmax and save the mean."""
        image, baseline = (values.log_softmax(self.axis) for values in (operands[0], self.baseline))
        self.mean = compute_logarithmic_mean(image, baseline)
        return self.function(operands[0])

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """L (signal - sum(L signal) / sum(L))."""
        total = self.mean.sum(self.axis, keepdim=True).clamp_min_(torch.finfo(signal.dtype).tiny)
        centre = (self.mean * signal).sum(self.axis, keepdim=True) / total
        return (self.mean * (signal - centre),)


def compute_logarithmic_mean(first: Tensor, second: Tensor) -> Tensor:
    """Compute (a - b) / (ln a - ln b) of a = exp(first) and b = exp(second), a where both are equal.

    Args:
        first: Logarithms; -inf for a = 0.
        second: Logarithms, broadcast.

    Returns:
        The mean; 0 where a or b is 0.
    """
    larger, smaller = torch.maximum(first, second), torch.minimum(first, second)
    difference = (smaller - larger).masked_fill(smaller == -torch.inf, -torch.inf)  # -inf - -inf is no number
    ratio = torch.expm1(difference) / difference
    ratio = torch.where(difference == 0, 1.0, ratio).masked_fill(difference == -torch.inf, 0.0)
    return larger.exp() * ratio


class NormalisationDifferenceOp(RuleOp):
    """A normalisation, whose scale depends on the image as much as what it scales."""

    def __init__(self, baseline: Tensor, call: Normalisation) -> None:
        self.call = call
        self.baseline = baseline

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute the normalisation and save the means and the slope of the scale."""
        (image, variance), (other, other_variance) = map(self.call.measure, (operands[0], self.baseline))
        spread, other_spread = variance.sqrt(), other_variance.sqrt()
        self.centred = (image + other) / 2
        self.scale = (1 / spread + 1 / other_spread) / 2
        self.slope = -2 / (image.shape[-1] * spread * other_spread * (spread + other_spread))
        return self.call.run(operands[0])[0]

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The signal of x."""
        weighed = self.call.split(self.call.weigh(signal))
        along = (weighed * self.centred).sum(-1, keepdim=True)
        carried = self.call.carry_back(self.scale * weighed + self.slope * along * self.centred)
        return (carried.reshape(signal.shape),)


class BilinearOp(RuleOp):
    """A product of two tensors of any kind: the gradient at the means of image and baseline is exact for both factors."""

    def __init__(self, baselines: tuple[Tensor, ...], call: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.call = call
        self.baselines = baselines

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute the product and save the means."""
        self.means = [(image + other).div_(2) for image, other in zip(operands, self.baselines, strict=True)]
        return self.call(operands[0], operands[1])

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient at the means."""
        with torch.enable_grad():
            first, second = (mean.requires_grad_() for mean in self.means)
            return torch.autograd.grad(self.call(first, second), (first, second), signal)
