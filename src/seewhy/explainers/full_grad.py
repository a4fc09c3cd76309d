"""FullGrad: the score as the sum of what the input and what every bias of the network add to it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from seewhy.core.settings import OneOf, Positive
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.cam import stretch
from seewhy.explainers.completeness import ScoreChange, describe_completeness_gap, measure_gap
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import BatchLayout, CellGrid
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import tree_flatten, tree_unflatten
from seewhy.models.grid_search import find_grid, find_layout
from seewhy.models.layers import remember
from seewhy.models.tracing import IMAGES, Trace, draw_noise, run_uncounted

UNITS = 32
"""A bias of up to so many units of rounding of the result is none."""
WITHOUT_BIAS = frozenset(
    "relu relu_ max_pool2d avg_pool2d adaptive_avg_pool2d dropout view reshape flatten permute transpose contiguous "
    "clone squeeze unsqueeze chunk split unbind size dim detach expand __get__ mean sum".split()
)
"""Functions f with f(x) = f'(x) x, by name: what is known not to be worth a calculation."""


Call: TypeAlias = tuple[int, str]
"""A call of a function of torch: its number in the order of execution, and the function's name."""
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
        decomposition = decompose(classifier, images, targets)
        source, terms = decomposition.input_term, decomposition.terms
        maps = self._process(source)
        input_share = source.double().sum((1, 2, 3))
        total = input_share.clone()
        sizes, largest = _measure_sizes(source)
        places = find_places(classifier, (images.shape[2], images.shape[3]), terms)
        for call, term in terms.items():
            layout, grid = places.get(call, (None, None))
            if layout is None and len(term) != len(images):
                continue  # nobody knows whose image's it is: the gap tells
            total += (term if layout is None else layout.divide(term)).double().flatten(1).sum(1)
            if grid is not None and min(grid.cells) > 1:
                maps = maps + grid.enlarge(self._process(grid.arrange(term)))
                size, peak = _measure_sizes(grid.arrange(term))
                sizes, largest = sizes + size, torch.maximum(largest, peak)
        rounding = bound_score_differences(classifier, decomposition.logits, targets, images)
        score = targets.score(decomposition.logits).double()
        return maps, input_share, total, score, rounding.double(), sizes, largest

    def _process(self, terms: Tensor) -> Tensor:
        """Sum over the channels of psi, [n, channels, rows, columns] -> [n, rows, columns]."""
        values = terms.abs()
        if self.rescale == "channel":
            values = stretch(values.flatten(0, 1)).view_as(values)
        elif self.rescale == "layer":
            values = stretch(values.flatten(1, 2)).view_as(values)
        return values.sum(1)


def _measure_sizes(terms: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and largest of the absolute values of each image, float64 [n]."""
    values = terms.double().abs().flatten(1)
    return values.sum(1), values.amax(1)


@dataclass(frozen=True)
class Decomposition:
    """A score as a sum.

    Args:
        input_term: x * df/dx, of the shape of the images.
        terms: b * df/dy of each operation with a bias.
        logits: Of the images [n, classes].
    """

    input_term: Tensor
    terms: dict[Call, Tensor]
    logits: Tensor


def decompose(classifier: Classifier, images: Images, targets: Targets) -> Decomposition:
    """Decompose the score of each image into x * df/dx and b * df/dy of every operation.

    Args:
        classifier: The network, frozen; computed layer by layer.
        images: Float [n, channels, height, width] in [0, 1].
        targets: The target of each image.

    Returns:
        The terms.
    """
    inputs: list[tuple[Tensor, GradientEdge]] = []
    biases: dict[Call, tuple[Tensor, GradientEdge]] = {}

    def note(call: Call, func: Any, args: Any, options: dict[str, Any]) -> Any:
        bias = compute_bias(func, args, options)
        result = func(*args, **options)
        first = _take_first(result)
        if bias is not None and isinstance(first, Tensor) and first.grad_fn is not None:
            biases[call] = bias, get_gradient_edge(first)
        return result

    def enter(given: Tensor) -> None:
        inputs.append((given.detach().clone(), get_gradient_edge(given)))

    with torch.enable_grad(), classifier.folding.off(), _count_calls(classifier.network, note, enter):
        logits = widen(classifier(images.detach().requires_grad_()))
        score = targets.score(logits).sum()
    (values, source) = inputs[0]
    edges = [source, *(edge for _, edge in biases.values())]
    gradients = torch.autograd.grad(score, edges, allow_unused=True)
    given = torch.zeros_like(values) if gradients[0] is None else values * gradients[0]
    terms = {
        call: widen(bias * gradient)
        for (call, (bias, _)), gradient in zip(biases.items(), gradients[1:], strict=True)
        if gradient is not None
    }
    return Decomposition(widen(given), terms, logits.detach())


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


def find_places(classifier: Classifier, size: tuple[int, int], calls: Iterable[Call]) -> dict[Call, Place]:
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
