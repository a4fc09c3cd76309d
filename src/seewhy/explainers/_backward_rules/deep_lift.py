"""DeepLift's multipliers as a backward pass: each nonlinear operation hands back (f(x) - f(b)) / (x - b), not f'(x).

The baselines b run first, and `BaselineRecording` keeps what went into every operation that may be nonlinear
(`record_baselines`). The images x then run the same operations in the same order (`DeepLiftMode`): each nonlinear one
becomes one of the `rescale_rules`, which knows its operands for both and is exact for the difference. Linear operations
are exact anyway, so the whole backward pass is, and the map is complete. `compute_multipliers` is the front.

Shrikumar, Greenside, Kundaje: Learning important features through propagating activation differences, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.calls import SPELLINGS, parse_elementwise
from seewhy.explainers._backward_rules.rescale_rules import (
    ClampRescaleOp,
    DifferenceOp,
    MaxPoolOp,
    ProductOp,
    RescaleOp,
    build_indexed_pool,
)
from seewhy.explainers._backward_rules.rule_mode import RuleMode, SavedTensor, SavedTensors, apply_rule
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.fusion.graph import is_linear, name_operation

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

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
    return func in SPELLINGS or func in PRODUCTS or func in POOLS


def _find_operands(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors that an operation works on; none where there is no rule for the call."""
    if func in PRODUCTS:
        operands = (*args, *kwargs.values())
        return operands if len(operands) == 2 and all(isinstance(each, Tensor) for each in operands) else ()
    if func in POOLS:
        return (args[0],)
    call = parse_elementwise(func, args, kwargs)
    return () if call is None else (call.argument,)


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
    ) -> DifferenceOp:
        """The rule for a call with operands."""
        if func in PRODUCTS:
            return ProductOp(baselines, lambda: func(*args, **kwargs))
        if func in POOLS:
            return MaxPoolOp(baselines, build_indexed_pool(POOLS[func], args, kwargs))
        call = parse_elementwise(func, args, kwargs)
        assert call is not None
        bounds = call.find_clamp_bounds()
        return RescaleOp(baselines, call) if bounds is None else ClampRescaleOp(baselines, call, bounds)
