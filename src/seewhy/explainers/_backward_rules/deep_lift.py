"""A forward pass of baselines that remembers what went into every step that may need a rule.

Steps whose backward rule is exact for the difference between an image and its baseline.
A forward pass of images whose nonlinear steps know what the baselines were there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.explainers._backward_rules.affine import memory_format
from seewhy.explainers._backward_rules.elementwise import SPELLINGS, Elementwise, derivative, elementwise
from seewhy.explainers._backward_rules.function_mode import GraphWatch, Keeper, Kept, Step, run
from seewhy.models.fusion.autograd_graph import in_blocks_beside, is_linear, operation

PRODUCTS = frozenset(
    getattr(owner, name)
    for owner, names in (
        (torch, ("mul", "multiply")),
        (Tensor, ("mul", "multiply", "mul_", "multiply_", "__mul__", "__rmul__", "__imul__")),
    )
    for name in names
)
POOLS = {
    functional.max_pool2d: functional.max_pool2d,
    torch.max_pool2d: functional.max_pool2d,
    functional.adaptive_max_pool2d: functional.adaptive_max_pool2d,
}


class BaselinePass(TorchFunctionMode):
    """Inside the block every call that may be nonlinear is written down with its operands, in order.

    `shared`: the pass is of one baseline [1, ...] that stands beside every image, and is read once for each batch.
    Otherwise the operands are forgotten when they are read.
    """

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self._keeper = Keeper()
        self._calls: list[tuple[Any, list[Kept]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if may_be_nonlinear(func):
            self._calls.append((func, [self._keeper.keep(each) for each in operands_of(func, args, kwargs)]))
        self._keeper.protect(func, args, kwargs)
        return func(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._calls)

    def read(self, index: int) -> tuple[Any, tuple[Tensor, ...]]:
        """(function, operands) of a call; (None, none) after the last one."""
        if index >= len(self._calls):
            return None, ()
        func, kept = self._calls[index]
        return func, tuple(each.read() if self.shared else each.take() for each in kept)


def may_be_nonlinear(func: Any) -> bool:
    """Whether a rule may be needed for the calls of a function."""
    return func in SPELLINGS or func in PRODUCTS or func in POOLS


def operands_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that a step works on; none where there is no rule for the call."""
    if func in PRODUCTS:
        operands = (*args, *kwargs.values())
        return operands if len(operands) == 2 and all(isinstance(each, Tensor) for each in operands) else ()
    if func in POOLS:
        return (args[0],)
    found = elementwise(func, args, kwargs)
    return () if found is None else (found.argument,)


SAME = 1e-6
"""Differences up to this size count as none for curved functions: the derivative is the limit of the multiplier."""
SMOOTH = frozenset("atan cos erf exp gelu logsigmoid mish sigmoid silu sin softplus tanh".split())
NEAR = 1e-2
"""Up to this difference the derivative of a smooth function in the middle is closer to the slope than a quotient, which
rounds by 6e-8 over the difference; it is off by a 24th of the third derivative times the difference squared."""
TIED = 64
"""Two values of a map are the same up to this many units of rounding of the map's largest value: sums of equal terms in
another order."""
CUTTING = frozenset("clamp clamp_max clamp_min clip hardtanh relu relu6".split())
PIECEWISE_LINEAR = frozenset("abs clamp clamp_max clamp_min clip hardsigmoid hardtanh leaky_relu prelu relu6".split())


class PairStep(Step):
    """A step that knows its operands for the baseline, beside each image or [1, ...] for all of them."""

    def __init__(self, baselines: tuple[Tensor, ...]) -> None:
        self.baselines = baselines


class Secant(PairStep):
    """Rescale rule for y = f(x), element by element: m = (f(x) - f(b)) / (x - b), f'(x) where x = b."""

    def __init__(self, baselines: tuple[Tensor, ...], function: Elementwise) -> None:
        super().__init__(baselines)
        self.function = function.function
        self.in_place = function.in_place
        self.by_channel = function.name == "prelu"
        self.near = 0.0 if function.name in PIECEWISE_LINEAR else NEAR if function.name in SMOOTH else SAME
        self.multiplier: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """f(x); the slope of the line through both points is kept."""
        (values,), (baseline,) = operands, self.baselines
        result = self.function(values)
        self.multiplier = torch.empty_like(result)
        points = (self.multiplier, values, result), (baseline, self.function(baseline))
        if self.by_channel:
            self._slope(*points[0], *points[1])
        else:
            in_blocks_beside(self._slope, *points)
        return values.copy_(result) if self.in_place else result

    def _slope(self, slope: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor) -> None:
        change = image - baseline
        torch.sub(result, baseline_result, out=slope).div_(change)
        near = change == 0 if self.near == 0 else change.abs() <= self.near
        if near.any():
            middle = image - change / 2
            slope[near] = (
                derivative(self.function, middle)[near] if self.by_channel else derivative(self.function, middle[near])
            )

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """m * signal, in the memory of m."""
        return (self.multiplier.mul_(signal),)


class ClampSecant(Secant):
    """`Secant` for min(max(x, low), high): the share of the way from b to x that lies between the bounds.

    The difference of both results is exact or that of a bound and a number, so the quotient is rounded once and within
    0 and 1. The smallest number above and below it makes x = b the limit: 1 between the bounds, else 0.
    """

    def __init__(self, baselines: tuple[Tensor, ...], function: Elementwise, bounds: tuple[float, float]) -> None:
        super().__init__(baselines, function)
        self.low, self.high = bounds

    def forward(self, *operands: Tensor) -> Tensor:
        """The numbers cut off, and the share, in one go over the memory."""
        (values,), (baseline,) = operands, self.baselines
        result = values if self.in_place else torch.empty_like(values)
        self.multiplier = torch.empty_like(values)
        smallest = torch.full_like(baseline, torch.finfo(baseline.dtype).tiny)
        limit = torch.ops.aten.hardtanh_backward(smallest, baseline, self.low, self.high)
        beside = baseline, self.function(baseline), limit
        in_blocks_beside(self._share, (self.multiplier, values, result), beside)
        return result

    def _share(
        self, share: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor, limit: Tensor
    ) -> None:
        change = (image - baseline).add_(torch.finfo(image.dtype).tiny)
        torch.clamp(image, self.low, self.high, out=result)
        torch.sub(result, baseline_result, out=share).add_(limit).div_(change)


def bounds_of(function: Elementwise, like: Tensor) -> tuple[float, float] | None:
    """(low, high) of a function that cuts numbers off at two bounds and leaves the others; None for any other."""
    if function.name not in CUTTING:
        return None
    try:
        low, high = function.function(like.new_tensor([-torch.inf, torch.inf])).tolist()
    except (RuntimeError, ValueError):  # a bound for each element
        return None
    return low, high


class Product(PairStep):
    """z = x * y, both depending on the image: m_x = (y + y_b) / 2 and m_y = (x + x_b) / 2, exact for the sum of both."""

    def __init__(self, baselines: tuple[Tensor, ...], call: Callable[[], Tensor]) -> None:
        super().__init__(baselines)
        self.call: Callable[[], Tensor] | None = call

    def forward(self, *operands: Tensor) -> Tensor:
        """The product as the network wrote it; the means of both factors are kept."""
        assert self.call is not None
        self.means = [(image + other).div_(2) for image, other in zip(operands, self.baselines, strict=True)]
        result, self.call = self.call(), None
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Each mean times the signal, summed where the factor was broadcast."""
        first, second = self.means
        return (signal * second).sum_to_size(first.shape), (signal * first).sum_to_size(second.shape)


class MaxPool(PairStep):
    """The maximum over each window, which may overlap others.

    With i the image's largest position, j the baseline's, and D the change of the maximum: m_i = 1 where i = j;
    otherwise m_i = D / (x_i - b_i) where the maximum rose and m_j = D / (x_j - b_j) where it fell. D lies between
    those differences, so every multiplier is in [0, 1]. Where several positions of the baseline are largest up to rounding,
    as everywhere in a flat one, j is i if i is among them: rounding decides nothing, and the map is that of one machine as
    of another.
    """

    def __init__(self, baselines: tuple[Tensor, ...], pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(baselines)
        self.pool = pool
        self.shares: list[tuple[Tensor, Tensor]] = []

    def forward(self, *operands: Tensor) -> Tensor:
        """The maxima; the change of each, shared out, is kept."""
        (image,), (baseline,) = operands, self.baselines
        highest, place = self.pool(image)
        highest_b, place_b = (each.expand_as(highest) for each in self.pool(baseline))
        self.memory_format = memory_format(image)
        self.shape = image.shape
        change = highest - highest_b
        at_b = self._at(place, baseline.expand_as(image))
        rounding = TIED * torch.finfo(baseline.dtype).eps * baseline.abs().amax((-3, -2, -1), keepdim=True)
        one = (place == place_b) | (highest_b - at_b <= rounding)
        share = (change / (highest - at_b)).where(change > 0, 0.0).masked_fill_(one, 1.0)
        share_b = (change / (self._at(place_b, image) - highest_b)).where(change < 0, 0.0).masked_fill_(one, 0.0)
        self.shares = [(place, share), (place_b, share_b)]
        return highest

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The signal of each window to its two positions, added up over the windows."""
        total = torch.empty(
            self.shape, device=signal.device, dtype=signal.dtype, memory_format=self.memory_format
        ).zero_()
        positions = self._positions(total)
        for place, share in self.shares:
            positions.scatter_add_(1, self._positions(place), self._positions(signal * share))
        return (total,)

    def _positions(self, values: Tensor) -> Tensor:
        """[batch, rows * columns, channels] or [batch * channels, rows * columns]: whichever needs no copy."""
        if self.memory_format == torch.channels_last:
            return values.permute(0, 2, 3, 1).flatten(1, 2)
        return values.flatten(0, -3).flatten(1)

    def _at(self, place: Tensor, values: Tensor) -> Tensor:
        """The values at flat positions of the rows and columns, in the shape of `place`."""
        found = self._positions(values).gather(1, self._positions(place))
        if self.memory_format == torch.channels_last:
            return found.unflatten(1, place.shape[2:]).permute(0, 3, 1, 2)
        return found.view(place.shape)


def pool_with_places(func: Any, args: tuple[Any, ...], kwargs: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A pooling call without its first argument, that also returns where each maximum was."""

    def pool(values: Tensor) -> tuple[Tensor, Tensor]:
        maximum, place = func(values, *args[1:], **{**kwargs, "return_indices": True})
        return maximum, place

    return pool


class Unshared(Exception):
    """The network arranges a batch so that one baseline cannot be held against all images."""


class PairWatch(GraphWatch):
    """The block runs images, after `baselines` has seen a pass of theirs.

    A backward pass from the images' logits then gives multipliers instead of gradients. Nonlinear functions without a
    rule are refused.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str, baselines: BaselinePass) -> None:
        super().__init__(network, method, alternatives)
        self._baselines = baselines
        self._next = 0

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function, with an exact rule where it is nonlinear."""
        if not may_be_nonlinear(func):
            return func(*args, **kwargs)
        expected, baselines = self._baselines.read(self._next)
        self._next += 1
        if expected is not func:
            self._refuse_other_calls()
        operands = operands_of(func, args, kwargs)
        if not operands or not torch.is_grad_enabled() or not all(operand.requires_grad for operand in operands):
            return func(*args, **kwargs)
        self._check(operands, baselines)
        return run(self._step(func, args, kwargs, baselines), operands)

    def finish(self) -> None:
        """To be called after the pass: the baselines must not have made further calls."""
        if self._next != len(self._baselines):
            self._refuse_other_calls()

    def visit(self, node: Node) -> None:
        """Everything but linear functions must have gone through a rule."""
        if not is_linear(node) and operation(node) != "LocalRule":
            self.refuse_node(node)

    def _refuse_other_calls(self) -> None:
        self.refuse("functions that are called for some images and not for others")

    def _check(self, operands: tuple[Tensor, ...], baselines: tuple[Tensor, ...]) -> None:
        """Each baseline must be of its image's shape, or one for all images."""
        for image, baseline in zip(operands, baselines, strict=True):
            beside = 1 if self._baselines.shared else len(image)
            if baseline.shape != (beside, *image.shape[1:]):
                if self._baselines.shared:
                    raise Unshared
                self._refuse_other_calls()

    def _step(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], baselines: tuple[Tensor, ...]
    ) -> PairStep:
        """The rule for a call with operands."""
        call: Callable[[], Tensor] = lambda: func(*args, **kwargs)  # noqa: E731
        if func in PRODUCTS:
            return Product(baselines, call)
        if func in POOLS:
            return MaxPool(baselines, pool_with_places(POOLS[func], args, kwargs))
        found = elementwise(func, args, kwargs)
        assert found is not None
        bounds = bounds_of(found, found.argument)
        return Secant(baselines, found) if bounds is None else ClampSecant(baselines, found, bounds)
