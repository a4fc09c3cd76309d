"""The gradient under another backward rule at every rectifier: guided backpropagation and deconvolution.

`RectifierMode` runs the forward pass and collects the rectifiers y = min(max(x, 0), high) of its graph, however they are
written: a ReLU or ReLU6 that is called in the usual ways runs as a `RectifierOp`, whose rule can be replaced; one inside a
fused convolution offers the same; clamps and compiled code stay nodes of autograd and get a hook. Only the complete
graph shows which rectifiers are gates (a hard sigmoid written as ReLU6 that weighs channels), so the rule is set after
the forward pass. `compute_rectified_gradient` is the front, with the rule `GUIDED` or `DECONVOLVED`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from seewhy.core.tensors import compute_in_blocks, widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.calls import SPELLINGS, parse_elementwise
from seewhy.explainers._backward_rules.rule_mode import RuleMode, RuleOp, SavedTensor, SavedTensors, apply_rule
from seewhy.models.fusion.chain import describe_operation, is_linear, is_product, list_sources, name_operation
from seewhy.models.fusion.convolution import Activation, FusedRectifier
from seewhy.models.fusion.internals import is_view, read_saved

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

NAMES = {"relu": "relu", "relu6": "hardtanh", "hardtanh": "hardtanh"}
"""Functions that may be rectifiers, in autograd's words. A clamp is none: its gradient passes at the bounds as well."""
LOWER_BOUND = {"Relu": 0.0, "Hardtanh": "min_val", "Clamp": "min", "ClampMin": "min"}
"""Operations that may be rectifiers, with the attribute that holds their lower bound."""
UPPER_BOUND = {"Hardtanh": "max_val", "Clamp": "max"}
GATES = frozenset(("Sigmoid", "Hardsigmoid", "Softmax"))
"""Operations that are allowed where they weigh other activations, as in squeeze-and-excitation."""
UNCHANGED = frozenset(
    "MaxPool2DWithIndices AdaptiveMaxPool2D ClampMax NativeLayerNorm NativeGroupNorm Amax Div Max".split()
)
"""Operations that are no activations: the gradient passes them as it is."""
SCALING = frozenset(
    "Add Alias AsStrided Clone Div Expand Mul Neg Permute Reshape ReshapeAlias Rsub Select Slice Split SplitWithSizes "
    "Squeeze Sub ToCopy Transpose Unbind UnsafeView Unsqueeze View".split()
)
"""Operations on one activation that keep its values apart."""

WriteSignal = Callable[[Tensor, Tensor, Tensor, float], None]
"""(out, signal, result, high): writes the signal of the argument of y = min(max(x, 0), high) into `out`."""


def _write_gradient(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """What autograd passes back: the signal where 0 < y < high."""
    if high == math.inf:
        torch.ops.aten.threshold_backward.grad_input(signal, result, 0, grad_input=out)
    else:
        torch.ops.aten.hardtanh_backward.grad_input(signal, result, 0, high, grad_input=out)


def _write_guided(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The gradient where it is positive."""
    _write_gradient(out, signal, result, high)
    out.relu_()


def _hook_guided(rectifier: Node) -> None:
    """Negative gradients stop behind the ReLU's own rule, in the memory that this has just written."""

    def guide(inner: tuple, outer: object) -> tuple:  # type: ignore[type-arg]
        return inner[0].clamp_(min=0), *inner[1:]

    rectifier.register_hook(guide)


def _write_deconvolved(out: Tensor, signal: Tensor, result: Tensor, high: float) -> None:
    """The positive signal, whatever the argument was, up to the bound, which keeps its true derivative."""
    torch.ops.aten.threshold_backward.grad_input(signal, signal, 0, grad_input=out)
    if high < math.inf:
        torch.ops.aten.hardtanh_backward.grad_input(out, result, -math.inf, high, grad_input=out)


def _hook_deconvolved(rectifier: Node) -> None:
    """The ReLU's own result is replaced; the bound of a ReLU6 keeps its true derivative."""
    bounded = _find_upper_bound(rectifier)

    def deconvolve(inner: tuple, outer: tuple) -> tuple:  # type: ignore[type-arg]
        if bounded is None:
            signal = outer[0].clamp(min=0)
        else:
            signal = torch.ops.aten.hardtanh_backward(outer[0], bounded[0], -math.inf, bounded[1]).clamp_(min=0)
        return signal, *(None for _ in inner[1:])

    rectifier.register_hook(deconvolve)


class RectifierRule(NamedTuple):
    """One backward rule, for both ways in which a network computes a rectifier."""

    write_signal: WriteSignal
    """For a rectifier that runs as an operation with a rule."""
    hook: Callable[[Node], None]
    """Sets the rule at a rectifier that autograd runs itself."""


GUIDED = RectifierRule(_write_guided, _hook_guided)
"""g * (x > 0) * (g > 0): the gradient where it is positive."""
DECONVOLVED = RectifierRule(_write_deconvolved, _hook_deconvolved)
"""g * (g > 0), whatever x was."""


def compute_rectified_gradient(
    classifier: Classifier, images: Images, targets: Targets, rule: RectifierRule, method: str
) -> Images:
    """Differentiate the target's score by the image, with another rule at every rectifier.

    Args:
        classifier: The classifier, frozen.
        images: float32 [n, 3, height, width] in [0, 1].
        targets: The target of each image.
        rule: `GUIDED` or `DECONVOLVED`.
        method: Name of the explainer, for refusals.

    Returns:
        The changed gradient [n, 3, height, width].

    Raises:
        Incompatible: Where an activation is no rectifier.
    """
    leaves = images.detach().requires_grad_()
    mode = RectifierMode(classifier.network, method, "smooth_grad or integrated_gradients")
    with torch.enable_grad():
        with mode:
            logits = classifier(leaves)
            mode.visit_rest(logits)
        for rectifier in mode.find_rectifiers():
            op = _find_op(rectifier)
            if op is None:
                rule.hook(rectifier)
            else:
                op.rule = rule.write_signal
        score = targets.score(widen(logits)).sum()
        return torch.autograd.grad(score, leaves)[0]


class RectifierOp(RuleOp):
    """y = min(max(x, 0), high), which saves its result alone: 0 < y < high says what 0 < x < high does.

    Autograd's own ReLU6 in place copies its argument. `rule` is the gradient until it is replaced.
    """

    def __init__(self, call: Callable[[], Tensor], name: str, high: float, tensors: SavedTensors) -> None:
        self.call: Callable[[], Tensor] | None = call
        self.name = NAMES[name]
        self.high = high
        self.tensors = tensors
        self.rule: WriteSignal = _write_gradient
        self.saved: SavedTensor

    def forward(self, *operands: Tensor) -> Tensor:
        """Run the function as the network wrote it."""
        assert self.call is not None
        result, self.call = self.call(), None
        self.saved = self.tensors.save(result)
        return result

    def backward(self, signal: Tensor) -> tuple[Tensor | None, ...]:
        """Apply the rule, block by block."""
        result = self.saved.take()
        rectified = torch.empty_like(result)

        def compute(out: Tensor, signal: Tensor, result: Tensor) -> None:
            self.rule(out, signal, result, self.high)

        compute_in_blocks(compute, rectified, signal, result)
        return (rectified,)


class RectifierMode(RuleMode):
    """A forward pass that collects its rectifiers; Incompatible at any other activation.

    A sigmoid, hard sigmoid or softmax that only weighs other activations (a gate) is no activation function: its
    gradient stays as it is. One that multiplies its own argument is (Swish, hard-swish), and is refused.
    """

    def __init__(self, network: nn.Module, method: str, alternatives: str) -> None:
        super().__init__(network, method, alternatives)
        self._candidates: dict[Node, str] = {}
        self._users: dict[Node, list[Node]] = {}
        self._saved = SavedTensors()

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function; a rectifier runs as a `RectifierOp`."""
        rectifier = self._parse_rectifier(func, args, kwargs)
        self._saved.copy_before(func, args, kwargs)
        if rectifier is None:
            return func(*args, **kwargs)
        op, argument, in_place = rectifier
        result = apply_rule(op, (argument,))
        op.saved.lock()
        return argument.copy_(result) if in_place and result is not argument else result

    def _parse_rectifier(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[RectifierOp, Tensor, bool] | None:
        """(operation, argument, in place or not) of a call of relu, relu6 or hardtanh from 0 on; None for any other."""
        call = parse_elementwise(func, args, kwargs) if func in SPELLINGS and torch.is_grad_enabled() else None
        if call is None or call.name not in NAMES or not call.argument.requires_grad:
            return None
        bounds = call.find_clamp_bounds()
        if bounds is None or bounds[0] != 0 or bounds[1] <= 0:
            return None
        # writing into a part of a tensor hides the operation from the graph: its result is copied there instead
        apart = call.in_place and is_view(call.argument)

        def run() -> Tensor:
            result: Tensor = call.function(call.argument.detach()) if apart else func(*args, **kwargs)
            return result

        return RectifierOp(run, call.name, bounds[1], self._saved), call.argument, call.in_place

    def knows_fused(self, activation: Activation) -> bool:
        """Whether the mode sees an activation that a convolution computes: a node of the graph with a step."""
        return activation.high is not None

    def visit(self, node: Node) -> None:
        """Remember the node and who uses it; refuse an unknown function or an activation that is no rectifier."""
        for source in list_sources(node):
            self._users.setdefault(source, []).append(node)
        name = name_operation(node)
        if name in GATES or _find_op(node) is not None or _is_rectifier(node):
            self._candidates[node] = self.describe_module()
        elif not (is_linear(node) or is_product(node) or name in UNCHANGED or _is_bounded_above_only(node)):
            self.refuse_node(node)

    def find_rectifiers(self) -> list[Node]:
        """The nodes whose backward rule is to be changed, once the pass is complete."""
        rectifiers = []
        for node, module in self._candidates.items():
            products = list(self._find_products(node))
            if any(_multiplies_itself(node, product) for product in products):
                self._refuse_in(module, f"`x * {_describe_function(node)}(x)`, an activation like Swish,")
            if name_operation(node) in GATES:
                if not products or None in products:
                    self._refuse_in(module, f"`{describe_operation(node)}` as an activation")
            elif not (products and all(product is not None and _is_broadcast(node, product) for product in products)):
                rectifiers.append(node)
        return rectifiers

    def _refuse_in(self, module: str, what: str) -> None:
        self.describe_module = lambda: module  # type: ignore[method-assign]
        self.refuse(what)

    def _find_products(self, node: Node) -> list[Node | None]:
        """The products that the node's result, scaled or reshaped, is a factor of; None for any other use."""
        products: list[Node | None] = []
        waiting = list(self._users.get(node, ()))
        while waiting:
            user = waiting.pop()
            if is_product(user):
                products.append(user)
            elif name_operation(user) in SCALING and len(list_sources(user)) == 1:
                waiting += self._users.get(user, [])
            else:
                products.append(None)
        return products


def _find_op(node: Node) -> RectifierOp | FusedRectifier | None:
    """The operation behind a node, if it is a rectifier whose rule can be replaced."""
    op = getattr(node, "step", None)
    return op if isinstance(op, RectifierOp | FusedRectifier) else None


def _describe_function(node: Node) -> str:
    op = _find_op(node)
    return describe_operation(node) if op is None else op.name


def _is_rectifier(node: Node) -> bool:
    """Whether the node is max(x, 0), with or without an upper bound."""
    bound = LOWER_BOUND.get(name_operation(node))
    return (read_saved(node, bound) if isinstance(bound, str) else bound) == 0


def _is_bounded_above_only(node: Node) -> bool:
    return name_operation(node) == "Clamp" and read_saved(node, "min") is None


def _find_upper_bound(node: Node) -> tuple[Tensor, float] | None:
    """(values, bound): the bound cuts where the values reach it (6 for ReLU6); None for a rectifier without one."""
    name = UPPER_BOUND.get(name_operation(node))
    bound = read_saved(node, name) if name else None
    if bound is None:
        return None
    saved = read_saved(node, "self")
    return (saved if saved is not None else read_saved(node, "result")), float(bound)


def _multiplies_itself(node: Node, product: Node | None) -> bool:
    """Whether the product multiplies a function of x by x itself: the other factor is what the node was made of."""
    if product is None:
        return False
    factors = set(list_sources(product))
    origins = [node]
    while origins:
        for source in list_sources(origins.pop()):
            if source in factors:
                return True
            if name_operation(source) in SCALING and len(list_sources(source)) == 1:
                origins.append(source)
    return False


def _is_broadcast(node: Node, product: Node) -> bool:
    """Whether the node's result has fewer values than the product: one weight for a channel."""
    (factor,), (result,) = node._input_metadata, product._input_metadata
    return math.prod(factor.shape) < math.prod(result.shape)
