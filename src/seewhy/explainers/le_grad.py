"""LeGrad: how much the tokens that each block of a transformer forms depend on its attention to every patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from seewhy.core.errors import Incompatible
from seewhy.core.settings import OneOf
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.explainers.attention import (
    INSTEAD,
    AttentionRecorder,
    check_global_attention,
    enlarge_patches,
    measure_tokens,
    raise_without_attention,
    require_patches,
)
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.rounding import bound_score_differences
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Classifier
from seewhy.models.layers import remember
from seewhy.models.tracing import draw_noise, run_uncounted
from seewhy.models.unwrapping import find_hidden_names

SLACK = 1000
"""Scores of the last block may differ from the network's by so many times their rounding: they are computed once more."""


@dataclass(frozen=True, kw_only=True)
class LeGrad(Explainer):
    """Mean over blocks l, heads and queries of ReLU(d s_l / d A_l), for each patch as a key; enlarged bilinearly.

    A_l is the attention of block l and s_l the score that the network's own head gives to the tokens behind that block, as
    if it were the last. Never negative, not normalised. Incompatible for networks without attention, with attention in
    windows, or without blocks of one attention each that hand tokens on.
    Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: LeGrad, an explainability method for vision transformers via feature
    formation sensitivity, ICCV 2025.

    Args:
        pooling: What the head reads of the tokens behind a block: their `mean`, as published, or what the network reads
            (`own`: the class token, or the mean of the patches).
    """

    pooling: Annotated[str, OneOf(("mean", "own"))] = "mean"

    looks_inside: ClassVar[str] = "operations"
    signed: ClassVar[bool] = False
    rectified: ClassVar[bool] = True
    is_local: ClassVar[bool] = True
    passes: ClassVar[tuple[int, int] | None] = (1, 1)

    def _attribute(self, evaluator: BatchedEvaluator, images: Images, targets: Targets) -> AttributionResult:
        classifier, size = evaluator.classifier, (images.shape[2], images.shape[3])
        tokens = measure_tokens(classifier, size)
        blocks = remember(classifier, ("blocks", size), lambda: find_blocks(classifier, size))

        def attribute(rows: Tensor) -> tuple[Tensor]:
            values = self._average_gradients(classifier, blocks, images[rows], targets[rows])
            return (enlarge_patches(values, require_patches(tokens, values.shape[1], self.name).grid),)

        return AttributionResult(evaluator.run_passes(attribute, len(images), gradient=True)[0])

    def _average_gradients(
        self, classifier: Classifier, blocks: Sequence[str], images: Images, targets: Targets
    ) -> Tensor:
        """The value of each token as a key, [batch, tokens]."""
        shapes: list[torch.Size] = []
        edges: list[Tensor | GradientEdge] = []

        def receive(attention: Tensor, edge: Tensor | GradientEdge) -> None:
            check_global_attention(attention, len(images), shapes[0][-1] if shapes else None, self.name)
            shapes.append(attention.shape)
            edges.append(edge)

        named = dict(classifier.network.named_modules())
        modules = [named[name] for name in blocks]
        with torch.enable_grad(), AttentionRecorder(receive), _record_outputs(modules) as outputs:
            logits = widen(classifier(images.detach().requires_grad_()))
        if not edges:
            raise_without_attention(self.name)
        self._check_blocks(classifier, images, targets, modules, outputs, logits.detach(), len(edges))
        counted = replace(classifier.passes)
        total = logits.new_zeros(len(images), shapes[0][-1])
        for output, edge, shape in zip(outputs, edges, shapes, strict=True):
            with torch.enable_grad():
                tokens = _take_tokens(output)
                read = tokens.mean(1, keepdim=True).expand_as(tokens) if self.pooling == "mean" else tokens
                score = targets.score(_score_tokens(classifier, images, modules, _put_tokens(output, read))).sum()
                (gradient,) = torch.autograd.grad(score, edge, retain_graph=True, allow_unused=True)
            if gradient is not None:
                total = total + widen(gradient.view(shape)).relu().mean((1, 2)) / len(edges)
        classifier.passes = replace(counted, backward=counted.backward + len(images))
        return total

    def _check_blocks(
        self,
        classifier: Classifier,
        images: Images,
        targets: Targets,
        modules: Sequence[nn.Module],
        outputs: Sequence[Any],
        logits: Tensor,
        attentions: int,
    ) -> None:
        """Raise Incompatible unless the tokens behind the last block are all that the scores are computed from."""
        fits = bool(modules) and len(outputs) == len(modules) == attentions
        if fits:
            counted = replace(classifier.passes)
            with torch.no_grad():
                again = _score_tokens(classifier, images, modules, outputs[-1])
            classifier.passes = counted
            rounding = bound_score_differences(classifier, logits, targets, images)
            fits = bool(((again - logits).abs().amax(1) <= SLACK * rounding).all())
        if not fits:
            raise Incompatible(
                f"{self.name} needs blocks of one attention each that hand their tokens to the next and the last to the "
                f"outputs, and this network is not built so; {INSTEAD}"
            )


def find_blocks(classifier: Classifier, size: tuple[int, int]) -> list[str]:
    """Find the blocks of a transformer: for each attention, the outermost module that holds it alone and keeps the shape.

    Args:
        classifier: The classifier; its pass is not counted.
        size: (height, width) of the images in pixels.

    Returns:
        Names of modules in the order of execution, one for each attention; fewer where one lies in no such module.
    """
    inside: list[str] = []
    attentions: list[list[str]] = []
    kept: set[str] = set()

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: inside.append(name)

    def leave(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, options: Any, output: Any) -> None:
            inside.remove(name)
            first, result = _take_tokens((*arguments, *options.values())), _take_tokens(output)
            if all(isinstance(each, Tensor) and each.ndim == 3 for each in (first, result)):
                kept.update([name] if first.shape == result.shape else [])

        return note

    handles, hidden = [], {"", *find_hidden_names(classifier.network)}
    for name, module in classifier.network.named_modules():
        if name not in hidden:
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave(name), with_kwargs=True))
    try:
        with AttentionRecorder(lambda attention, edge: attentions.append(list(inside))):
            run_uncounted(classifier, draw_noise(classifier, size, 1))
    finally:
        for handle in handles:
            handle.remove()
    holders = [name for names in attentions for name in names]
    blocks = [[name for name in names if name in kept and holders.count(name) == 1] for names in attentions]
    return [names[0] for names in blocks if names]


def _take_tokens(value: Any) -> Any:
    """The tokens among the arguments of a block, or in what it returns: itself, or the first of a tuple."""
    return value[0] if isinstance(value, tuple | list) and value else value


def _put_tokens(output: Any, tokens: Tensor) -> Any:
    """Other tokens in the place of those that a block returned."""
    return (tokens, *output[1:]) if isinstance(output, tuple | list) else tokens


@contextmanager
def _record_outputs(modules: Sequence[nn.Module]) -> Iterator[list[Any]]:
    """What each block returns, with its graph; the network goes on with a copy, which it may change in place."""
    outputs: list[Any] = []

    def record(module: nn.Module, arguments: Any, output: Any) -> Any:
        outputs.append(output)
        return _put_tokens(output, _take_tokens(output).clone())

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _score_tokens(classifier: Classifier, images: Images, modules: Sequence[nn.Module], output: Any) -> Tensor:
    """Logits of the network's head for what a block returned: the last block returns it, none is computed."""
    try:
        for module in modules:
            module.__dict__["forward"] = lambda *arguments, **options: _put_tokens(
                output, _take_tokens((*arguments, *options.values()))
            )
        modules[-1].__dict__["forward"] = lambda *arguments, **options: output
        return widen(classifier(images))
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)
