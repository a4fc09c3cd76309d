"""FullGrad: the score as the sum of what the input and what every bias of the network add to it."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from seewhy.core.settings import OneOf, Positive
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers._backward_rules.calls import (
    SPELLINGS,
    Convolution,
    parse_affine,
    parse_batch_norm,
    parse_elementwise,
)
from seewhy.explainers._backward_rules.transformer_calls import depends
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.completeness import ScoreChange, describe_completeness_gap, measure_gap
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import tree_flatten, tree_unflatten
from seewhy.models.grid_search import find_grid, find_layout
from seewhy.models.layers import remember
from seewhy.models.tracing import IMAGES, Trace, draw_noise, run_uncounted

UNITS = 32
"""A bias of up to so many units of rounding of the result is none."""
WITHOUT_BIAS = frozenset(
    "relu relu_ max_pool2d avg_pool2d adaptive_avg_pool2d dropout view reshape flatten permute transpose contiguous "
    "clone squeeze unsqueeze chunk split unbind size dim detach expand __get__ __getitem__ mean sum".split()
)
"""Functions f with f(x) = f'(x) x, by name: what is known not to be worth a calculation."""
SUMS = frozenset("add add_ sub sub_ __add__ __iadd__ __radd__ __sub__ __isub__ __rsub__".split())
"""Functions without a bias where both operands depend on the image."""

Call: TypeAlias = tuple[int, str]
"""A call of a function of torch: its number in the order of execution, and the function's name."""
Take: TypeAlias = Callable[[Call, Tensor], None]
Note: TypeAlias = Callable[[Call, Any, Any, dict[str, Any]], Any]
Place: TypeAlias = tuple[BatchLayout | None, CellGrid | None]


@dataclass(frozen=True, kw_only=True)
class FullGrad(Explainer):
    """psi(x * df/dx) + sum over operations of psi(b * df/dy), each summed over the channels and enlarged bilinearly.

    b is the bias of an operation y = A x + b with A its derivative at x: that of a convolution, beta - gamma * mean / sigma
    of a batch normalisation, f(x) - f'(x) x of an activation, -x_1 x_2 of a product. x is what the network gets, behind its
    normalisation. psi is the absolute value, stretched to [0, 1]. Biases of operations whose result has no grid of cells,
    such as dense layers, add to the score but are not drawn. Never negative.

    Facts: x . df/dx and all b . df/dy add up to the score; `completeness_gap` is by how much they do not (operations that
    hide their derivative), `completeness_gap_relative` that as a share of the score, and `input_share` what x . df/dx is
    of it. Where all that is drawn adds up to less than the score's rounding, the map counts as zero: `largest` is the
    largest |term|, `floor` its share of the rounding.
    Srinivas, Fleuret: Full-gradient representation for neural network visualization, NeurIPS 2019.

    Args:
        rescale: Over what psi stretches: all channels of a `layer` (the authors' code), each `channel`, or `none`.
        tolerance: Relative gap, above 0, from which a map has a warning in the figure, the table and the terminal.
    """

    rescale: Annotated[str, OneOf(("layer", "channel", "none"))] = "layer"
    tolerance: Positive = 0.01

    looks_inside: ClassVar[str] = "operations"
    needs_float32: ClassVar[str] = "the biases of its layers are read as differences of their results"
    signed: ClassVar[bool] = False
    is_local: ClassVar[bool] = True
    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    unprinted: ClassVar[frozenset[str]] = Explainer.unprinted | {"tolerance"}

    def list_warnings(self, facts: Mapping[str, float]) -> list[str]:
        """List a completeness gap over the tolerance.

        Args:
            facts: Those of one map.

        Returns:
            At most one sentence.
        """
        gap = describe_completeness_gap(facts["completeness_gap_relative"], self.tolerance)
        return [f"{gap}: input and biases do not add up to the score"] if gap else []

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        classifier = evaluator.classifier

        def explain(rows: Tensor) -> tuple[Tensor, ...]:
            return self._explain(classifier, images[rows], targets[rows])

        maps, shares, total, score, rounding, sizes, largest = evaluator.run_passes(explain, len(images), gradient=True)
        facts = measure_gap(total, ScoreChange(score, rounding), maps.dtype)
        smallest = rounding.clamp_min(torch.finfo(torch.float64).tiny)
        facts["input_share"] = (shares / torch.where(score == 0, smallest, score)).to(maps)
        facts["largest"] = largest.to(maps)
        facts["floor"] = (rounding * torch.where(sizes > 0, largest / sizes, 1.0)).to(maps)
        return AttributionResult(maps.masked_fill((sizes <= rounding)[:, None, None], 0.0), facts)

    def _explain(self, classifier: Classifier, images: Images, targets: Targets) -> tuple[Tensor, ...]:
        """(maps, x . df/dx, sum of all terms, score, its rounding, sum and largest of all |terms| that are drawn)."""
        sums = _TermSums(self.rescale, len(images), images.device)

        def prepare(calls: Collection[Call]) -> Take:
            sums.places = find_places(classifier, (images.shape[2], images.shape[3]), calls)
            return sums.take

        source, logits = decompose(classifier, images, targets, prepare)
        input_share = source.double().sum((1, 2, 3))
        maps = sums.reduce(source.abs_()) + sums.enlarge()
        rounding = bound_score_differences(classifier, logits, targets, images)
        score = targets.score(logits).double()
        return maps, input_share, sums.total + input_share, score, rounding.double(), sums.sizes, sums.largest


class _TermSums:
    """What the terms of a batch add up to: each is added as the way back brings it, and none is kept.

    Attributes:
        places: Where each operation looks.
        total: Sum of all terms, float64 [n].
        sizes: Sum of all |terms| that are drawn, float64 [n].
        largest: The largest of these, float64 [n].

    Args:
        rescale: That of the explainer.
        count: Images of the batch.
        device: Where they lie.
    """

    def __init__(self, rescale: str, count: int, device: torch.device) -> None:
        self.rescale = rescale
        self.places: Mapping[Call, Place] = {}
        self.total, self.sizes, self.largest = torch.zeros(3, count, dtype=torch.float64, device=device).unbind()
        self._coarse: dict[tuple[GridAxis, GridAxis], tuple[CellGrid, Tensor]] = {}

    def take(self, call: Call, term: Tensor) -> None:
        """Add the term of an operation, which is written over."""
        layout, grid = self.places[call]
        if layout is None and len(term) != len(self.total):
            return  # nobody knows whose image's it is: the gap tells
        divided = term[:, None] if layout is None else layout.divide(term)
        partial = divided.sum(2) if divided.ndim > 2 else divided
        self.total += partial.double().flatten(1).sum(1)
        if grid is None or min(grid.cells) == 1:
            return
        reduced = self.reduce(grid.arrange(term).abs_())
        place = grid.rows, grid.columns
        self._coarse[place] = grid, self._coarse[place][1] + reduced if place in self._coarse else reduced

    def reduce(self, values: Tensor) -> Tensor:
        """Sum over the channels of psi, |terms| [n, channels, rows, columns] -> [n, rows, columns]; writes over them."""
        highest = values.amax((1, 2, 3), keepdim=True)
        sums = values.sum(1)
        self.sizes += sums.double().sum((1, 2))
        self.largest.copy_(torch.maximum(self.largest, highest.flatten().double()))
        if self.rescale == "none":
            return sums
        axes = (1, 2, 3) if self.rescale == "layer" else (2, 3)
        lowest = values.amin(axes, keepdim=True)
        highest = highest if self.rescale == "layer" else values.amax(axes, keepdim=True)
        spread = highest - lowest
        spread = torch.where(spread > 0, spread, 1.0)
        if bool(lowest.any()):
            sums = values.sub_(lowest).sum(1)
        return values.div_(spread).sum(1) if self.rescale == "channel" else sums / spread[:, 0]

    def enlarge(self) -> Tensor:
        """Enlarge what is drawn of all layers to the image [n, height, width]: once for each grid."""
        enlarged = [grid.enlarge(coarse) for grid, coarse in self._coarse.values()]
        return torch.stack(enlarged).sum(0) if enlarged else self.total.new_zeros(())


def decompose(
    classifier: Classifier, images: Images, targets: Targets, prepare: Callable[[Collection[Call]], Take]
) -> tuple[Tensor, Tensor]:
    """Decompose the score of each image into x * df/dx and b * df/dy of every operation.

    Args:
        classifier: The network, frozen; computed layer by layer.
        images: Float [n, channels, height, width] in [0, 1].
        targets: The target of each image.
        prepare: Called before the way back with the operations that have a bias; what it returns is called with each of
            them and its term, of the shape of its result, which belongs to it.

    Returns:
        (x * df/dx of the shape of the images, logits [n, classes]).
    """
    inputs: list[tuple[Tensor, GradientEdge]] = []
    biases: dict[Call, tuple[Tensor, GradientEdge]] = {}

    def note(call: Call, func: Any, args: Any, options: dict[str, Any]) -> Any:
        formula = find_formula(func, args, options)
        bias = compute_bias(func, args, options) if formula is None else None
        result = func(*args, **options)
        first = _take_first(result)
        if isinstance(first, Tensor) and first.grad_fn is not None:
            bias = bias if formula is None else formula(first.detach())
            if bias is not None:
                biases[call] = bias, get_gradient_edge(first)
        return result

    def enter(given: Tensor) -> None:
        inputs.append((given.detach().clone(), get_gradient_edge(given)))

    with torch.enable_grad(), classifier.folding.off(), _count_calls(classifier.network, note, enter):
        logits = widen(classifier(images.detach().requires_grad_()))
        score = targets.score(logits).sum()
    take = prepare(biases)
    for call, (bias, edge) in biases.items():
        _watch(edge, functools.partial(_hand_over, take, call, bias))
    (values, source) = inputs[0]
    (gradient,) = torch.autograd.grad(score, [source], allow_unused=True)
    return widen(torch.zeros_like(values) if gradient is None else values.mul_(gradient)), logits.detach()


def _watch(edge: GradientEdge, look: Callable[[Tensor], None]) -> None:
    """Call look(gradient of this result) on the way back."""
    node: Node = edge.node
    number = edge.output_nr  # not the edge: a node whose hook holds it would keep itself and the bias alive

    def before(gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[number]
        if gradient is not None:
            look(gradient)

    node.register_prehook(before)


def _hand_over(take: Take, call: Call, bias: Tensor, gradient: Tensor) -> None:
    take(call, widen(bias * gradient))


def find_formula(
    func: Any, args: tuple[Any, ...], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor | None] | None:
    """Find how the bias of an operation follows from its parameters and its result, without another calculation.

    Args:
        func: A function of torch.
        args: Its arguments.
        options: Further arguments by name.

    Returns:
        The bias for the result, broadcast to its shape, None for zero; None itself where `compute_bias` has to be asked.
    """
    name = getattr(func, "__name__", "")
    is_sum = name in SUMS and len(args) == 2 and all(map(depends, args))
    if name in WITHOUT_BIAS or is_sum or _pads_with_zeros(func, args, options):
        return lambda result: None
    layer = parse_affine(func, args, options)
    if layer is not None:
        bias, is_convolution = layer[0].bias, isinstance(layer[0], Convolution)
        return lambda result: _keep(bias.view(-1, 1, 1) if is_convolution and bias is not None else bias)
    normalisation = parse_batch_norm(func, args, options)
    if normalisation is not None:
        return lambda result: _keep(normalisation[1].view(-1, *[1] * (result.ndim - 2)))
    call = parse_elementwise(func, args, options) if func in SPELLINGS else None
    bounds = None if call is None or call.name not in ("relu6", "hardtanh") else call.find_clamp_bounds()
    return None if bounds is None else lambda result: _keep(_read_bounds(result, *bounds))


def _pads_with_zeros(func: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    return func is functional.pad and not (args[3] if len(args) > 3 else options.get("value"))


def _read_bounds(result: Tensor, low: float, high: float) -> Tensor:
    """The result of a rectifier where it is at one of its bounds, 0 between them."""
    if low == 0:
        below = torch.tensor(high, dtype=result.dtype).nextafter(torch.tensor(-math.inf, dtype=result.dtype))
        return functional.threshold(result, below.item(), 0.0)
    return result - torch.ops.aten.hardtanh_backward(result, result, low, high)


def _keep(bias: Tensor | None) -> Tensor | None:
    """The bias; None where it is zero."""
    return None if bias is None or not (bool(bias.amax()) or bool(bias.amin())) else bias


def compute_bias(func: Any, args: Any, options: Mapping[str, Any]) -> Tensor | None:
    """Compute y - J x of an operation y = func(x), by forward-mode differentiation along x itself.

    Args:
        func: A function of torch.
        args: Its arguments; x are those that need a gradient.
        options: Further arguments by name.

    Returns:
        The bias, of the shape of y (its first tensor); None where it is zero or the operation has no forward derivative.
    """
    name = getattr(func, "__name__", "")
    if name in WITHOUT_BIAS or options.get("out") is not None:
        return None
    _load_forward_rules()
    leaves, spec = tree_flatten((args, dict(options)))
    chosen = [isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves]
    if not any(chosen):
        return None
    with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        writes = name.endswith("_")  # add_, __iadd__, __setitem__: what is written over is a copy
        for place, leaf in enumerate(leaves):
            if chosen[place]:
                leaves[place] = forward_ad.make_dual(leaf.detach().clone(), leaf.detach().clone())
            elif writes and isinstance(leaf, Tensor):
                leaves[place] = leaf.clone()
        arguments, named = tree_unflatten(leaves, spec)
        try:
            result = _take_first(func(*arguments, **named))
        except (RuntimeError, NotImplementedError):
            return None
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return None
        value, change = forward_ad.unpack_dual(result)
        if change is None:
            return None
        bias = value - change
        noise = UNITS * torch.finfo(bias.dtype).eps * (value.abs() + change.abs())
        bias = bias.masked_fill(bias.abs() <= noise, 0.0)
    return bias if bool(bias.any()) else None


@functools.cache
def _load_forward_rules() -> None:
    """Load torch's rules of forward differentiation, whose import warns of a deprecated part of torch."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def find_places(classifier: Classifier, size: tuple[int, int], calls: Collection[Call]) -> dict[Call, Place]:
    """Find where in the image the results of operations look; measured once for a network, an operation and a size.

    Args:
        classifier: The classifier; its pass is not counted.
        size: (height, width) of the images in pixels.
        calls: The operations.

    Returns:
        (which elements belong to which image, the grid of cells) of each; None where there is none.
    """
    places: dict[Call, Place] = remember(classifier, ("operations", size), dict)
    missing = set(calls) - places.keys()
    if missing:
        images = draw_noise(classifier, size, IMAGES)
        trace = Trace(images)

        def note(call: Call, func: Any, args: Any, options: dict[str, Any]) -> Any:
            result = func(*args, **options)
            if call in missing:
                fields = trace.find_fields(_take_first(result))
                places[call] = (None, None) if fields is None else (find_layout(fields.image), find_grid(fields, size))
            return result

        with trace, _count_calls(classifier.network, note):
            run_uncounted(classifier, images)
        places.update(dict.fromkeys(missing - places.keys(), (None, None)))
    return places


@contextmanager
def _count_calls(network: nn.Module, note: Note, enter: Callable[[Tensor], None] | None = None) -> Iterator[None]:
    """Inside, note(call, function, arguments, options) runs each function of torch that the network calls, and behind it.

    enter(input) is called with what the network gets.
    """
    mode = _Calls(note)

    def begin(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if enter is not None:
            enter(arguments[0])
        mode.number = 0

    handle = network.register_forward_pre_hook(begin)
    try:
        with mode:
            yield
    finally:
        handle.remove()


class _Calls(TorchFunctionMode):
    """Numbers the calls of torch's functions once `number` is set."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self.note = note
        self.number: int | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        options = dict(kwargs or {})
        name = str(getattr(func, "__name__", ""))
        if self.number is None or name == "__get__":
            return func(*args, **options)
        self.number += 1
        return self.note((self.number, name), func, args, options)


def _take_first(result: Any) -> Any:
    """The result, or the first of several."""
    return result[0] if isinstance(result, tuple | list) and result else result
