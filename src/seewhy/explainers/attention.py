"""Attention of a transformer as an explanation, read while it runs: weighted by its gradient, or rolled out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, NoReturn

import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.core.errors import Incompatible
from seewhy.core.tensors import widen
from seewhy.core.types import Attributions, Images, Targets
from seewhy.explainers._backward_rules.transformer_calls import SOFTMAXES, attend_explicitly
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.cell_grid import CellGrid
from seewhy.models.classifier import Classifier
from seewhy.models.grid_search import find_grid
from seewhy.models.layers import limit_to_seen, remember
from seewhy.models.receptive_fields import PLACELESS
from seewhy.models.tracing import IMAGES, Trace, draw_noise, run_uncounted


class AttentionRecorder(TorchFunctionMode):
    """Inside the block, hands over every attention matrix [batch, heads, queries, keys] in the order of execution.

    Fused attention (`scaled_dot_product_attention`) is computed in explicit steps, which gives the same values;
    `multi_head_attention_forward` is asked for its weights; attention that a network spells out itself is recognised by a
    softmax over the last of four axes.

    Args:
        receive: Called as receive(matrix, edge); `edge` is what `torch.autograd.grad` takes for the gradient with respect
            to the matrix (of the same number of elements).
    """

    def __init__(self, receive: Callable[[Tensor, Tensor | GradientEdge], None]) -> None:
        super().__init__()
        self.receive = receive

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        options = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            return attend_explicitly(*args, **options, receive=lambda weights: self.receive(weights, weights))
        if func is functional.multi_head_attention_forward:
            return self._attend_with_weights(*args, **options)
        result = func(*args, **options)
        if func in SOFTMAXES and result.ndim == 4 and (args[1] if len(args) > 1 else options.get("dim")) in (-1, 3):
            self.receive(result, result)
        return result

    def _attend_with_weights(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights where the network asked for them."""
        asked = options | {"need_weights": True, "average_attn_weights": False}
        output, weights = functional.multi_head_attention_forward(*args, **asked)
        assert weights is not None, "they were asked for"
        self.receive(weights, _find_edge(weights))
        if not options.get("need_weights", True):
            return output, None
        return output, weights.mean(1) if options.get("average_attn_weights", True) else weights


def _find_edge(weights: Tensor) -> Tensor | GradientEdge:
    """The softmax behind weights [batch, heads, queries, keys] in the graph: they are only a view of it."""
    if weights.grad_fn is None:
        return weights
    node, number = weights.grad_fn.next_functions[0]
    assert node is not None, "a view has a base"
    return GradientEdge(node, number)


INSTEAD = "use explainer=grad_cam, which reads the tokens of any layer"


@dataclass(frozen=True, kw_only=True)
class AttentionGradient(Explainer):
    """The class token's row of R: R = I, then R += mean over heads of ReLU(d score / d A * A) R for each layer.

    A is the attention of a layer, in the order of execution. Without a class token the mean of the patches' rows.
    Enlarged bilinearly; never negative, not normalised. Incompatible for networks without attention or with attention
    in windows.
    Chefer, Gur, Wolf: Generic attention-model explainability, ICCV 2021.
    """

    looks_inside: ClassVar[str] = "operations"
    signed: ClassVar[bool] = False
    rectified: ClassVar[bool] = True
    passes: ClassVar[tuple[int, int] | None] = (1, 1)
    is_local: ClassVar[bool] = True

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        tokens = measure_tokens(evaluator.classifier, (images.shape[2], images.shape[3]))

        def attribute(rows: Tensor) -> tuple[Tensor]:
            steps = self._compute_steps(evaluator, images[rows], targets[rows])
            return (read_out(steps, tokens, self.name),)

        return AttributionResult(evaluator.run_passes(attribute, len(images), gradient=True)[0])

    def _compute_steps(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> list[Tensor]:
        """I + mean over heads of ReLU(d score / d A * A) [batch, tokens, tokens] of every layer: R is their product."""
        matrices: list[Tensor] = []
        edges: list[Tensor | GradientEdge] = []

        def receive(attention: Tensor, edge: Tensor | GradientEdge) -> None:
            check_global_attention(attention, len(images), matrices[0].shape[-1] if matrices else None, self.name)
            matrices.append(attention.detach())
            edges.append(edge)

        with torch.enable_grad(), AttentionRecorder(receive):
            score = targets.score(widen(evaluator.classifier(images.detach().requires_grad_()))).sum()
        gradients = torch.autograd.grad(score, edges, allow_unused=True) if edges else ()  # type: ignore[arg-type]
        steps = []
        for attention, gradient in zip(matrices, gradients, strict=True):
            if gradient is not None:
                step = (widen(gradient.view_as(attention)) * widen(attention)).relu().mean(1)
                step.diagonal(dim1=1, dim2=2).add_(1.0)
                steps.append(step)
        return steps


@dataclass(frozen=True, kw_only=True)
class AttentionRollout(Explainer):
    """The class token's row of R = B_L ... B_1, B = (mean over heads of A + I), rows scaled to sum 1; enlarged.

    Does not depend on the target: it shows where the network looks, not what for. Without a class token the mean of
    the patches' rows. In [0, 1]. Incompatible for networks without attention or with attention in windows.
    Abnar, Zuidema: Quantifying attention flow in transformers, ACL 2020.

    Args:
        discard_ratio: Share of each layer's mean attention, its smallest values, that counts as 0; in [0, 1).
    """

    discard_ratio: Annotated[float, Ge(0), Lt(1)] = 0.0

    looks_inside: ClassVar[str] = "operations"
    signed: ClassVar[bool] = False
    passes: ClassVar[tuple[int, int] | None] = (1, 0)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        tokens = measure_tokens(evaluator.classifier, (images.shape[2], images.shape[3]))

        def attribute(rows: Tensor) -> tuple[Tensor]:
            steps = self._compute_steps(evaluator, images[rows])
            return (read_out(steps, tokens, self.name),)

        return AttributionResult(evaluator.run_passes(attribute, len(images), gradient=False)[0])

    def _compute_steps(self, evaluator: BatchedEvaluator, images: Images) -> list[Tensor]:
        """B_1 ... B_L [batch, tokens, tokens]."""
        steps: list[Tensor] = []

        def receive(attention: Tensor, edge: object) -> None:
            check_global_attention(attention, len(images), steps[0].shape[-1] if steps else None, self.name)
            steps.append(self._compute_step(widen(attention).mean(1)))

        with torch.no_grad(), AttentionRecorder(receive):
            evaluator.classifier(images)
        return steps

    def _compute_step(self, attention: Tensor) -> Tensor:
        """B of one layer from its attention [batch, tokens, tokens], averaged over the heads."""
        discarded = int(self.discard_ratio * attention[0].numel())
        if discarded:
            smallest = attention.flatten(1).topk(discarded, dim=1, largest=False).indices
            attention = attention.flatten(1).scatter(1, smallest, 0.0).view_as(attention)
        attention.diagonal(dim1=1, dim2=2).add_(1.0)
        return attention / attention.sum(2, keepdim=True)


def check_global_attention(attention: Tensor, images: int, tokens: int | None, explainer: str) -> None:
    """Raise Incompatible where an attention matrix is not [images, heads, tokens, tokens] (any number where None)."""
    batch, queries, keys = attention.shape[0], attention.shape[-2], attention.shape[-1]
    if attention.ndim != 4 or batch != images or queries != keys or tokens not in (None, keys):
        raise Incompatible(
            f"{explainer} follows attention among all tokens from layer to layer, but a layer of this network has "
            f"attention {list(attention.shape)} for {images} images (windows, pooling or a decoder); {INSTEAD}"
        )


@dataclass(frozen=True)
class TokenGrid:
    """The tokens among which a transformer attends.

    Args:
        grid: Where they look, arranged from attention [batch, heads, queries, keys]; class and register tokens are left out.
        read: Int64, the tokens that the outputs take from the last attention.
    """

    grid: CellGrid
    read: Tensor


def measure_tokens(classifier: Classifier, size: tuple[int, int]) -> TokenGrid | None:
    """Measure where in the image the tokens look, and which of them the outputs are computed from.

    Two images of noise are followed through the network, as in `seewhy.models.layers.measure_grid`; which tokens are read
    is told by the gradient of the outputs by the last attention. Not counted, and done once for a network and size.

    Args:
        classifier: The classifier.
        size: (height, width) of the images in pixels.

    Returns:
        The tokens; None where there is no attention, its tokens are no grid, or layers differ.
    """

    def measure() -> TokenGrid | None:
        grids: list[CellGrid | None] = []
        images = draw_noise(classifier, size, IMAGES)
        trace = Trace(images)

        def receive(attention: Tensor, edge: object) -> None:
            fields = trace.find_fields(attention)
            grids.append(None if fields is None else find_grid(fields, size, PLACELESS))

        with trace, AttentionRecorder(receive):
            run_uncounted(classifier, images)
        grid = grids[0] if grids else None
        if grid is None or any(grid != other for other in grids[1:]):
            return None

        def read_queries(versions: Images) -> Tensor:
            matrices: list[Tensor] = []
            with AttentionRecorder(lambda attention, edge: matrices.append(attention)):
                run_uncounted(classifier, versions)
            return grid.arrange(matrices[0])

        return TokenGrid(limit_to_seen(classifier, size, grid, read_queries), _find_read_tokens(classifier, size))

    return remember(classifier, ("tokens", size), measure)


def _find_read_tokens(classifier: Classifier, size: tuple[int, int]) -> Tensor:
    """The queries of the last attention on which the outputs depend; all, where the weights let none count."""
    last: list[tuple[Tensor, Tensor | GradientEdge]] = []
    counted = replace(classifier.passes)
    with (
        torch.inference_mode(False),
        classifier.frozen(),
        torch.enable_grad(),
        AttentionRecorder(lambda attention, edge: last.append((attention, edge))),
    ):
        outputs = classifier(draw_noise(classifier, size, 1).requires_grad_())
        attention, edge = last[-1]
        weights = torch.linspace(1, 2, outputs.shape[1]).to(outputs)  # a sum alone could cancel
        (gradient,) = torch.autograd.grad((outputs * weights).sum(), edge, allow_unused=True)
    classifier.passes = counted
    rows = attention.new_zeros(attention.shape[2])
    if gradient is not None:
        rows = gradient.view_as(attention).abs().sum((0, 1, 3))
    return rows.nonzero().flatten() if bool(rows.any()) else torch.arange(len(rows), device=rows.device)


def read_out(steps: list[Tensor], tokens: TokenGrid | None, explainer: str) -> Attributions:
    """Read from S_L ... S_1 what the output takes from each patch: the row of the tokens that it is computed from.

    The row is that of the class token, the mean of both in a distilled network, or, where the network averages its
    patches, the mean of theirs; multiplied from the left, so that no two matrices are.

    Args:
        steps: S_1 ... S_L, [batch, tokens, tokens] each.
        tokens: Where the tokens look; None where they are no grid.
        explainer: Name of the method, for errors.

    Returns:
        [batch, height, width]: the values of the patches, enlarged bilinearly.

    Raises:
        Incompatible: If there is no step, or the tokens are no grid.
    """
    if not steps:
        raise_without_attention(explainer)
    tokens = require_patches(tokens, steps[-1].shape[-1], explainer)
    read = steps[-1].index_select(1, tokens.read.to(steps[-1].device)).mean(1, keepdim=True)
    for step in reversed(steps[:-1]):
        read = read @ step
    return enlarge_patches(read[:, 0], tokens.grid)


def raise_without_attention(explainer: str) -> NoReturn:
    """Raise Incompatible: the network computes no attention."""
    raise Incompatible(f"{explainer} needs a transformer, and this network computes no attention; {INSTEAD}")


def require_patches(tokens: TokenGrid | None, count: int, explainer: str) -> TokenGrid:
    """Raise Incompatible where `count` tokens are no grid of at least 2x2 patches."""
    if tokens is None or min(tokens.grid.cells) < 2:
        raise Incompatible(
            f"{explainer}: {count} tokens are no grid of patches that each look at a point of their own; {INSTEAD}"
        )
    return tokens


def enlarge_patches(values: Tensor, grid: CellGrid) -> Attributions:
    """Enlarge values of tokens [batch, tokens] to the image, bilinearly; class and register tokens are left out."""
    patches = range(values.shape[1]) if grid.order is None else grid.order
    return grid.enlarge(values[:, list(patches)].unflatten(1, grid.cells))
