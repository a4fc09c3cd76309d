"""Rectifiers as steps of their own: the rule of the way back is chosen when the whole pass is known.

The rectifiers of a forward pass, found in its autograd graph: ReLU and ReLU6, as module, method or function.
The gradient with another backward rule at every rectifier: what guided backprop and deconvolution share.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from seewhy.core.errors import UserError
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.elementwise import SPELLINGS, elementwise
from seewhy.explainers._backward_rules.function_mode import GraphWatch, Keeper, Kept, Step, run
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.fusion.autograd_graph import in_blocks, is_linear, is_product, operation, sources, spoken
from seewhy.models.fusion.fused_convolution import Activation, FusedRectifier

CutRule = Callable[[Tensor, Tensor, Tensor, float], None]
"""(out, signal, result, high): writes the signal of the argument of y = min(max(x, 0), high) into `out`."""

NAMES = {"relu": "relu", "relu6": "hardtanh", "hardtanh": "hardtanh"}
"""Functions that may be rectifiers, in autograd's words. A clamp is none: its gradient passes at the bounds as well."""


class CutOff(Step):
    """y = min(max(x, 0), high), which remembers its result alone: 0 < y < high says what 0 < x < high does.

    Autograd's own ReLU6 in place copies its argument. `rule` is the gradient until it is replaced.
    """

    def __init__(self, call: Callable[[], Tensor], name: str, high: float, keeper: Keeper) -> None:
        self.call: Callable[[], Tensor] | None = call
        self.name = NAMES[name]
        self.high = high
        self.keeper = keeper
        self.rule: CutRule = gradient
        self.kept: Kept

    def forward(self, *operands: Tensor) -> Tensor:
        """The function as the network wrote it."""
        assert self.call is not None
        result, self.call = self.call(), None
        self.kept = self.keeper.keep(result)
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """The rule, block by block."""
        result = self.kept.take()
        found = torch.empty_like(result)

        def compute(out: Tensor, signal: Tensor, result: Tensor) -> None:
            self.rule(out, signal, result, self.high)

        in_blocks(compute, found, signal, result)
        return (found,)


def cut_off(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], keeper: Keeper
) -> tuple[CutOff, tuple[Tensor, bool]] | None:
    """(the step, (its argument, in place or not)) of a call of relu, relu6 or hardtanh from 0 on; None for any other."""
    call = elementwise(func, args, kwargs)
    if call is None or call.name not in NAMES or not call.argument.requires_grad:
        return None
    try:
        low, high = call.function(call.argument.new_tensor([-math.inf, math.inf])).tolist()
    except (RuntimeError, ValueError):
        return None
    if low != 0 or high <= 0:
        return None
    # writing into a part of a tensor hides the step from the graph: its result is copied there instead
    apart = call.in_place and call.argument._is_view()

    def result() -> Tensor:
        found: Tensor = call.function(call.argument.detach()) if apart else func(*args, **kwargs)
        return found

    return CutOff(result, call.name, high, keeper), (call.argument, call.in_place)


def gradient(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """What autograd passes back: the signal where 0 < y < high."""
    if high == math.inf:
        torch.ops.aten.threshold_backward.grad_input(signal, result, 0, grad_input=out)
    else:
        torch.ops.aten.hardtanh_backward.grad_input(signal, result, 0, high, grad_input=out)


def guided(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The gradient where it is positive."""
    gradient(out, signal, result, high)
    out.relu_()


def deconvolved(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The positive signal, whatever the argument was, up to the bound, which keeps its true derivative."""
    torch.ops.aten.threshold_backward.grad_input(signal, signal, 0, grad_input=out)
    if high < math.inf:
        torch.ops.aten.hardtanh_backward.grad_input(out, result, -math.inf, high, grad_input=out)


LOWER_BOUND = {"Relu": 0.0, "Hardtanh": "_saved_min_val", "Clamp": "_saved_min", "ClampMin": "_saved_min"}
"""Functions that may be rectifiers, with the attribute that holds their lower bound."""
UPPER_BOUND = {"Hardtanh": "_saved_max_val", "Clamp": "_saved_max"}
GATES = frozenset(("Sigmoid", "Hardsigmoid", "Softmax"))
"""Functions that are allowed where they weigh other activations, as in squeeze-and-excitation."""
UNCHANGED = frozenset(
    "MaxPool2DWithIndices AdaptiveMaxPool2D ClampMax NativeLayerNorm NativeGroupNorm Amax Div Max".split()
)
"""Functions that are no activations: the gradient passes them as it is."""
SCALING = frozenset(
    "Add Alias AsStrided Clone Div Expand Mul Neg Permute Reshape ReshapeAlias Rsub Select Slice Split SplitWithSizes "
    "Squeeze Sub ToCopy Transpose Unbind UnsafeView Unsqueeze View".split()
)
"""Functions of one activation that keep its values apart."""


class RectifierWatch(GraphWatch):
    """Collects the rectifiers of one forward pass; Incompatible at any other activation.

    Rectifiers that are called in the usual ways become steps (`CutOff`), whose rule can be replaced; those of compiled
    code and clamps stay nodes of autograd.
    A sigmoid, hard sigmoid or softmax that only weighs other activations (a gate) is no activation function: its
    gradient stays as it is. One that multiplies its own argument is (Swish, hard-swish), and is refused.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str) -> None:
        super().__init__(network, method, alternatives)
        self._candidates: dict[Node, str] = {}
        self._users: dict[Node, list[Node]] = {}
        self._keeper = Keeper()

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of the function; that of a rectifier comes from a step."""
        found = cut_off(func, args, kwargs, self._keeper) if func in SPELLINGS and torch.is_grad_enabled() else None
        self._keeper.protect(func, args, kwargs)
        if found is None:
            return func(*args, **kwargs)
        step, (argument, in_place) = found
        result = run(step, (argument,))
        step.kept.settle()
        return argument.copy_(result) if in_place and result is not argument else result

    def knows_fused(self, activation: Activation) -> bool:
        """Whether the watch finds an activation that a convolution computes: a node of the graph with a step."""
        return activation.high is not None

    def visit(self, node: Node) -> None:
        """Remember the node and who uses it; refuse an unknown function or an activation that is no rectifier."""
        for source in sources(node):
            self._users.setdefault(source, []).append(node)
        name = operation(node)
        if name in GATES or step_of(node) is not None or is_rectifier(node):
            self._candidates[node] = self.module()
        elif not (is_linear(node) or is_product(node) or name in UNCHANGED or _only_bounded_above(node)):
            self.refuse_node(node)

    def rectifiers(self) -> list[Node]:
        """The nodes whose backward rule is to be changed, once the pass is complete."""
        found = []
        for node, module in self._candidates.items():
            weighed = list(self._products(node))
            if any(node_is_own_factor(node, product) for product in weighed):
                self._refuse_in(module, f"`x * {_function(node)}(x)`, an activation like Swish,")
            if operation(node) in GATES:
                if not weighed or None in weighed:
                    self._refuse_in(module, f"`{spoken(node)}` as an activation")
            elif not (weighed and all(product is not None and _is_broadcast(node, product) for product in weighed)):
                found.append(node)
        return found

    def _refuse_in(self, module: str, what: str) -> None:
        self.module = lambda: module  # type: ignore[method-assign]
        self.refuse(what)

    def _products(self, node: Node) -> list[Node | None]:
        """The products that the node's result, scaled or reshaped, is a factor of; None for any other use."""
        products: list[Node | None] = []
        waiting = list(self._users.get(node, ()))
        while waiting:
            user = waiting.pop()
            if is_product(user):
                products.append(user)
            elif operation(user) in SCALING and len(sources(user)) == 1:
                waiting += self._users.get(user, [])
            else:
                products.append(None)
        return products


def step_of(node: Node) -> CutOff | FusedRectifier | None:
    """The step that the node stands for, if it is a rectifier whose rule can be replaced."""
    step = getattr(node, "step", None)
    return step if isinstance(step, CutOff | FusedRectifier) else None


def _function(node: Node) -> str:
    step = step_of(node)
    return spoken(node) if step is None else step.name


def is_rectifier(node: Node) -> bool:
    """Whether the node is max(x, 0), with or without an upper bound."""
    bound = LOWER_BOUND.get(operation(node))
    return (getattr(node, bound) if isinstance(bound, str) else bound) == 0


def upper_bound(node: Node) -> tuple[Tensor, float] | None:
    """(values, bound): the bound cuts where the values reach it (6 for ReLU6); None for a rectifier without one."""
    name = UPPER_BOUND.get(operation(node))
    bound = getattr(node, name) if name else None
    if bound is None:
        return None
    saved: Any = getattr(node, "_saved_self", None)
    return (saved if saved is not None else node._saved_result), float(bound)  # type: ignore[attr-defined]


def node_is_own_factor(node: Node, product: Node | None) -> bool:
    """Whether the product multiplies a function of x by x itself: the other factor is what the node was made of."""
    if product is None:
        return False
    factors = set(sources(product))
    own = [node]
    while own:
        current = own.pop()
        for source in sources(current):
            if source in factors:
                return True
            if operation(source) in SCALING and len(sources(source)) == 1:
                own.append(source)
    return False


def _only_bounded_above(node: Node) -> bool:
    return operation(node) == "Clamp" and node._saved_min is None  # type: ignore[attr-defined]


def _is_broadcast(node: Node, product: Node) -> bool:
    """Whether the node's result has fewer values than the product: one weight for a channel."""
    (own,), (whole,) = node._input_metadata, product._input_metadata
    return math.prod(own.shape) < math.prod(whole.shape)


@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(Explainer):
    """d logit / d image under a changed rule at each ReLU; `reduction` over the channels: `sum`, or `max` of |.|.

    The rule is set on the autograd graph of the very pass that is differentiated: the network is not touched. ReLU6
    counts as a ReLU followed by min(., 6). Incompatible where an activation is no rectifier.
    """

    reduction: str = "sum"

    rule: ClassVar[CutRule]
    """The backward rule of a rectifier that runs as a step."""

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "max"):
            raise UserError(f"explainer.reduction={self.reduction!r} must be sum or max")

    @abstractmethod
    def change_rule(self, rectifier: Node) -> None:
        """Set the same backward rule at a rectifier that autograd runs itself."""

    def rectified_gradient(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> Images:
        """The changed gradient [batch, 3, height, width] of the target's logit."""
        gradients = []
        for chunk in evaluator.chunks(len(images), gradient=True):
            leaves = images[chunk].requires_grad_()
            watch = RectifierWatch(evaluator.classifier.network, self.name, "smooth_grad or integrated_gradients")
            with torch.enable_grad():
                with watch:
                    logits = evaluator.classifier(leaves)
                for rectifier in watch.rectifiers():
                    step = step_of(rectifier)
                    if step is None:
                        self.change_rule(rectifier)
                    else:
                        step.rule = type(self).rule
                score = targets[chunk].score(widen(logits)).sum()
                gradients.append(torch.autograd.grad(score, leaves)[0])
        return torch.cat(gradients)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        gradient = self.rectified_gradient(evaluator, images, targets)
        return AttributionResult(gradient.sum(1) if self.reduction == "sum" else gradient.abs().amax(1))

    def passes_per_image(self, **size: Any) -> tuple[int, int]:
        """One pass each way."""
        return 1, 1
