"""DeepLift's multipliers as a backward pass: each nonlinear operation hands back (f(x) - f(b)) / (x - b), not f'(x).

The baselines b run first, and `BaselineRecording` keeps what went into every operation that may be nonlinear
(`record_baselines`). The images x then run the same operations in the same order (`DeepLiftMode`): each nonlinear one
becomes one of the `rescale_rules`, which knows its operands for both and is exact for the difference. Linear operations
are exact anyway, so the whole backward pass is, and the map is complete. `compute_multipliers` is the front.

Shrikumar, Greenside, Kundaje: Learning important features through propagating activation differences, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.core.tensors import compute_in_blocks_beside, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.calls import SPELLINGS, Elementwise, find_memory_format, parse_elementwise
from seewhy.explainers._backward_rules.differences import BilinearOp, NormalisationDifferenceOp, SoftmaxDifferenceOp
from seewhy.explainers._backward_rules.rule_mode import RuleMode, RuleOp, SavedTensor, SavedTensors, apply_rule
from seewhy.explainers._backward_rules.transformer_calls import (
    NORMALISATIONS,
    SOFTMAXES,
    depends,
    find_factors,
    find_steps,
    parse_normalisation,
)
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.fusion.chain import is_linear, name_operation

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier


SAME = 1e-6
"""Differences up to this size count as none for curved functions: the derivative is the limit of the multiplier."""
SMOOTH = frozenset("atan cos erf exp gelu logsigmoid mish sigmoid silu sin softplus tanh".split())
NEAR = 1e-2
"""Up to this difference the derivative of a smooth function in the middle is closer to the slope than a quotient, which
rounds by 6e-8 over the difference; it is off by a 24th of the third derivative times the difference squared."""
TIED = 64
"""Two values of a map are the same up to this many units of rounding of the map's largest value: sums of equal terms in
another order."""
GRID = 1024
"""Units of rounding in a step of the grid on which such values are one: of a thousand some four lie at an edge of it. A fall
of the maximum by less than 4 steps is too small for the grid."""
PIECEWISE_LINEAR = frozenset("abs clamp clamp_max clamp_min clip hardsigmoid hardtanh leaky_relu prelu relu6".split())


class DifferenceOp(RuleOp):
    """An operation that knows its operands for the baseline, beside each image or [1, ...] for all of them."""

    def __init__(self, baselines: tuple[Tensor, ...]) -> None:
        self.baselines = baselines


class RescaleOp(DifferenceOp):
    """Rescale rule for y = f(x), element by element: m = (f(x) - f(b)) / (x - b), f'(x) where x = b."""

    def __init__(self, baselines: tuple[Tensor, ...], call: Elementwise) -> None:
        super().__init__(baselines)
        self.function = call.function
        self.in_place = call.in_place
        self.by_channel = call.name == "prelu"
        self.near = 0.0 if call.name in PIECEWISE_LINEAR else NEAR if call.name in SMOOTH else SAME
        self.multiplier: Tensor

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute f(x) and save the slope of the line through both points."""
        (values,), (baseline,) = operands, self.baselines
        result = self.function(values)
        self.multiplier = torch.empty_like(result)
        points = (self.multiplier, values, result), (baseline, self.function(baseline))
        if self.by_channel:
            self._compute_slope(*points[0], *points[1])
        else:
            compute_in_blocks_beside(self._compute_slope, *points)
        return values.copy_(result) if self.in_place else result

    def _compute_slope(
        self, slope: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor
    ) -> None:
        change = image - baseline
        torch.sub(result, baseline_result, out=slope).div_(change)
        near = change == 0 if self.near == 0 else change.abs() <= self.near
        if near.any():
            middle = image - change / 2
            slope[near] = (
                _differentiate(self.function, middle)[near]
                if self.by_channel
                else _differentiate(self.function, middle[near])
            )

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """m * signal, in the memory of m."""
        return (self.multiplier.mul_(signal),)


def _differentiate(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """f' at every element."""
    with torch.enable_grad():
        leaves = values.detach().requires_grad_()
        result = function(leaves)
        return torch.autograd.grad(result, leaves, torch.ones_like(result))[0]


class ClampRescaleOp(RescaleOp):
    """`RescaleOp` for min(max(x, low), high): the share of the way from b to x that lies between the bounds.

    The difference of both results is exact or that of a bound and a number, so the quotient is rounded once and within
    0 and 1. The smallest number above and below it makes x = b the limit: 1 between the bounds, else 0.
    """

    def __init__(self, baselines: tuple[Tensor, ...], call: Elementwise, bounds: tuple[float, float]) -> None:
        super().__init__(baselines, call)
        self.low, self.high = bounds

    def forward(self, *operands: Tensor) -> Tensor:
        """Clamp the values and save the share, in one go over the memory."""
        (values,), (baseline,) = operands, self.baselines
        result = values if self.in_place else torch.empty_like(values)
        self.multiplier = torch.empty_like(values)
        smallest = torch.full_like(baseline, torch.finfo(baseline.dtype).tiny)
        limit = torch.ops.aten.hardtanh_backward(smallest, baseline, self.low, self.high)
        beside = baseline, self.function(baseline), limit
        compute_in_blocks_beside(self._compute_share, (self.multiplier, values, result), beside)
        return result

    def _compute_share(
        self, share: Tensor, image: Tensor, result: Tensor, baseline: Tensor, baseline_result: Tensor, limit: Tensor
    ) -> None:
        change = (image - baseline).add_(torch.finfo(image.dtype).tiny)
        torch.clamp(image, self.low, self.high, out=result)
        torch.sub(result, baseline_result, out=share).add_(limit).div_(change)


class ProductOp(DifferenceOp):
    """z = x * y, both depending on the image: m_x = (y + y_b) / 2 and m_y = (x + x_b) / 2, exact for the sum of both."""

    def __init__(self, baselines: tuple[Tensor, ...], call: Callable[[], Tensor]) -> None:
        super().__init__(baselines)
        self.call: Callable[[], Tensor] | None = call

    def forward(self, *operands: Tensor) -> Tensor:
        """Run the product as the network wrote it and save the means of both factors."""
        assert self.call is not None
        self.means = [(image + other).div_(2) for image, other in zip(operands, self.baselines, strict=True)]
        result, self.call = self.call(), None
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Each mean times the signal, summed where the factor was broadcast."""
        first, second = self.means
        return (signal * second).sum_to_size(first.shape), (signal * first).sum_to_size(second.shape)


class MaxPoolOp(DifferenceOp):
    """The maximum over each window, which may overlap others.

    With i the image's largest position, j the baseline's, and D the change of the maximum: m_i = 1 where i = j;
    otherwise m_i = D / (x_i - b_i) where the maximum rose and m_j = D / (x_j - b_j) where it fell. D lies between
    those differences, so every multiplier is in [0, 1]. Where several positions of the baseline are largest up to rounding,
    as everywhere in a flat one, j is i if i is among them and otherwise the first of them: rounding decides nothing, and
    two machines give the same map. `pool` returns the maxima and their flat positions in each map.
    """

    def __init__(self, baselines: tuple[Tensor, ...], pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(baselines)
        self.pool = pool
        self.shares: list[tuple[Tensor, Tensor]] = []

    def forward(self, *operands: Tensor) -> Tensor:
        """Compute the maxima and save how the change of each is shared."""
        (image,), (baseline,) = operands, self.baselines
        highest, index = self.pool(image)
        highest_b, exact_b = (each.expand_as(highest) for each in self.pool(baseline))
        self.memory_format = find_memory_format(image)
        self.shape = image.shape
        change = highest - highest_b
        at_b = self._gather(index, baseline.expand_as(image))
        rounding = torch.finfo(baseline.dtype).eps * baseline.abs().amax((-3, -2, -1), keepdim=True)
        same = (index == exact_b) | (highest_b - at_b <= TIED * rounding)
        grid = GRID * rounding.where(rounding > 0, 1.0)
        first_b = self.pool((baseline / grid).round())[1].expand_as(highest)
        index_b = first_b.where(change < -4 * grid, exact_b)
        fall = self._gather(index_b, image) - self._gather(index_b, baseline.expand_as(image))
        share = (change / (highest - at_b)).where(change > 0, 0.0).masked_fill_(same, 1.0)
        share_b = (change / fall).where(change < 0, 0.0).masked_fill_(same, 0.0)
        self.shares = [(index, share), (index_b, share_b)]
        return highest

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The signal of each window to its two positions, added up over the windows."""
        total = torch.empty(
            self.shape, device=signal.device, dtype=signal.dtype, memory_format=self.memory_format
        ).zero_()
        positions = self._flatten(total)
        for index, share in self.shares:
            positions.scatter_add_(1, self._flatten(index), self._flatten(signal * share))
        return (total,)

    def _flatten(self, values: Tensor) -> Tensor:
        """[batch, rows * columns, channels] or [batch * channels, rows * columns]: whichever needs no copy."""
        if self.memory_format == torch.channels_last:
            return values.permute(0, 2, 3, 1).flatten(1, 2)
        return values.flatten(0, -3).flatten(1)

    def _gather(self, index: Tensor, values: Tensor) -> Tensor:
        """The values at flat positions of the rows and columns, in the shape of `index`."""
        gathered = self._flatten(values).gather(1, self._flatten(index))
        if self.memory_format == torch.channels_last:
            return gathered.unflatten(1, index.shape[2:]).permute(0, 3, 1, 2)
        return gathered.view(index.shape)


def build_indexed_pool(func: Any, args: tuple[Any, ...], kwargs: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A max pooling call without its input, that also returns where each maximum is."""

    def pool(values: Tensor) -> tuple[Tensor, Tensor]:
        maximum, index = func(values, *args[1:], **{**kwargs, "return_indices": True})
        return maximum, index

    return pool


PRODUCTS = frozenset(
    (torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.mul_, Tensor.multiply_)
) | frozenset((Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__))
"""Every function that multiplies two tensors element by element."""
POOLS = {
    functional.max_pool2d: functional.max_pool2d,
    torch.max_pool2d: functional.max_pool2d,
    functional.adaptive_max_pool2d: functional.adaptive_max_pool2d,
}
"""Max pooling, and the function that also returns where each maximum is."""


class UnsharedBaseline(Exception):
    """The network arranges a batch so that one baseline cannot be held against all images."""


class BaselineRecording(TorchFunctionMode):
    """The operands of every call that may be nonlinear, in order, and the `logits` of the baselines.

    `shared`: the pass is of one baseline [1, ...] that stands beside every image, and is read once for each batch.
    Otherwise the operands are forgotten when they are read.
    """

    logits: Tensor

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self._tensors = SavedTensors()
        self._calls: list[tuple[Any, list[SavedTensor]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        steps = find_steps(func)
        if steps is not None:
            with self:
                return steps(*args, **kwargs)
        if _may_be_nonlinear(func):
            self._calls.append((func, [self._tensors.save(each) for each in _find_operands(func, args, kwargs)]))
        self._tensors.copy_before(func, args, kwargs)
        return func(*args, **kwargs)

    @property
    def count(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def read(self, index: int) -> tuple[Any, tuple[Tensor, ...]]:
        """(function, operands) of a call; (None, none) after the last one."""
        if index >= len(self._calls):
            return None, ()
        func, saved = self._calls[index]
        return func, tuple(each.read() if self.shared else each.take() for each in saved)


def record_baselines(classifier: Classifier, baselines: Images, shared: bool) -> BaselineRecording:
    """Run the baselines and record what `compute_multipliers` needs of them.

    Args:
        classifier: The classifier, frozen.
        baselines: float32 [n, 3, height, width] in [0, 1], one for each image, or [1, ...] if `shared`.
        shared: Whether one baseline serves all images, of any number of batches.

    Returns:
        The recording, with the baselines' logits.
    """
    with BaselineRecording(shared) as recording:
        recording.logits = classifier(baselines)
    return recording


def compute_multipliers(
    classifier: Classifier, images: Images, targets: Targets, baselines: BaselineRecording
) -> tuple[Images, Tensor, Tensor]:
    """Compute the multiplier m of each pixel: the sum of m * (x - b) is f(x) - f(b).

    Args:
        classifier: The classifier, frozen.
        images: float32 [n, 3, height, width] in [0, 1].
        targets: The target of each image.
        baselines: The recording of the images' baselines.

    Returns:
        (multipliers [n, 3, height, width], f(image) - f(baseline) [n] of the target's score, its rounding [n]).

    Raises:
        Incompatible: At a nonlinear operation without a rule.
        UnsharedBaseline: Where a shared baseline cannot be held against all images.
    """
    leaves = images.detach().requires_grad_()
    mode = DeepLiftMode(classifier.network, baselines)
    with torch.enable_grad():
        with mode:
            logits = classifier(leaves)
            mode.visit_rest(logits)
        mode.finish()
        scores = targets.score(widen(logits))
        (multipliers,) = torch.autograd.grad(scores.sum(), leaves)
    baseline_scores = targets.score(widen(baselines.logits).expand_as(logits))
    rounding = torch.maximum(
        bound_score_differences(classifier, widen(logits.detach()), targets, images),
        bound_score_differences(classifier, widen(baselines.logits).expand_as(logits), targets, images),
    )
    return multipliers, scores.detach().double() - baseline_scores.double(), rounding.double()


def _may_be_nonlinear(func: Any) -> bool:
    return func in SPELLINGS or func in POOLS or func in SOFTMAXES or func in NORMALISATIONS or _multiplies(func)


def _multiplies(func: Any) -> bool:
    return func in PRODUCTS or func is torch.einsum or bool(find_factors(func))


def _find_operands(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that an operation works on; none where there is no rule for the call."""
    if func in PRODUCTS:
        operands = (*args, *kwargs.values())
        return operands if len(operands) == 2 and all(isinstance(each, Tensor) for each in operands) else ()
    if func in POOLS or func in SOFTMAXES:
        return (args[0],) if args else ()
    if func in NORMALISATIONS:
        normalisation = parse_normalisation(func, args, kwargs)
        return (normalisation.argument,) if normalisation is not None and normalisation.is_fixed else ()
    if _multiplies(func):
        factors = _find_factors(func, args)
        return tuple(args[index] for index in factors) if len(factors) == 2 else ()
    call = parse_elementwise(func, args, kwargs)
    return () if call is None else (call.argument,)


def _find_factors(func: Any, args: tuple[Any, ...]) -> tuple[int, ...]:
    """The positions of two factors; none where a further argument depends on the image."""
    factors = (1, 2) if func is torch.einsum and len(args) == 3 else find_factors(func)
    rest = (each for index, each in enumerate(args) if index not in factors)
    right = all(index < len(args) and isinstance(args[index], Tensor) for index in factors)
    return factors if right and not any(map(depends, rest)) else ()


class DeepLiftMode(RuleMode):
    """A forward pass of images whose backward pass gives multipliers; `baselines` has seen a pass of theirs.

    Nonlinear functions without a rule are refused.
    """

    def __init__(self, network: nn.Module, baselines: BaselineRecording) -> None:
        super().__init__(network, "deep_lift", "integrated_gradients or occlusion")
        self._baselines = baselines
        self._next = 0

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function, with an exact rule where it is nonlinear."""
        steps = find_steps(func)
        if steps is not None:
            with self:
                return steps(*args, **kwargs)
        if not _may_be_nonlinear(func):
            return func(*args, **kwargs)
        expected, baselines = self._baselines.read(self._next)
        self._next += 1
        if expected is not func:
            self._refuse_other_calls()
        operands = _find_operands(func, args, kwargs)
        if not operands or not torch.is_grad_enabled() or not all(operand.requires_grad for operand in operands):
            return func(*args, **kwargs)
        self._check_shapes(operands, baselines)
        return apply_rule(self._build_op(func, args, kwargs, baselines), operands)

    def finish(self) -> None:
        """To be called after the pass: the baselines must not have made further calls."""
        if self._next != self._baselines.count:
            self._refuse_other_calls()

    def visit(self, node: Node) -> None:
        """Everything but linear functions must have gone through a rule."""
        if not is_linear(node) and name_operation(node) != "LocalRule":
            self.refuse_node(node)

    def _refuse_other_calls(self) -> None:
        self.refuse("functions that are called for some images and not for others")

    def _check_shapes(self, operands: tuple[Tensor, ...], baselines: tuple[Tensor, ...]) -> None:
        """Each baseline must be of its image's shape, or one for all images."""
        for image, baseline in zip(operands, baselines, strict=True):
            beside = 1 if self._baselines.shared else len(image)
            if baseline.shape != (beside, *image.shape[1:]):
                if self._baselines.shared:
                    raise UnsharedBaseline
                self._refuse_other_calls()

    def _build_op(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], baselines: tuple[Tensor, ...]
    ) -> RuleOp:
        """The rule for a call with operands."""
        if func in PRODUCTS:
            return ProductOp(baselines, lambda: func(*args, **kwargs))
        if func in POOLS:
            return MaxPoolOp(baselines, build_indexed_pool(POOLS[func], args, kwargs))
        if func in SOFTMAXES:
            axis = args[1] if len(args) > 1 else kwargs["dim"]
            return SoftmaxDifferenceOp(baselines[0], axis, lambda values: func(values, *args[1:], **kwargs))
        normalisation = parse_normalisation(func, args, kwargs)
        if normalisation is not None:
            return NormalisationDifferenceOp(baselines[0], normalisation)
        if _multiplies(func):
            first, second = _find_factors(func, args)
            before, between, after = args[:first], args[first + 1 : second], args[second + 1 :]
            return BilinearOp(baselines, lambda left, right: func(*before, left, *between, right, *after, **kwargs))
        call = parse_elementwise(func, args, kwargs)
        assert call is not None
        bounds = call.find_clamp_bounds()
        return RescaleOp(baselines, call) if bounds is None else ClampRescaleOp(baselines, call, bounds)
