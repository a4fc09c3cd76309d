"""Batch normalisation with fixed statistics, computed by the convolution before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules import module as hooks

from seewhy.explainers.rules.graph import sources

CLOSE = 1e-4
"""Logits of the folded network may differ from the network's by this share of the largest one."""
CONVOLUTIONS = ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame")
NORMALISATIONS = ("torch.nn.modules.batchnorm.BatchNorm2d", "timm.layers.norm_act.BatchNormAct2d")
"""Exact types, whose forward is known: other subclasses may do more than their parent."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Changed(Exception):
    """The network did not run as it did when it was looked over."""


class Pair:
    """A convolution and the normalisation that is the only one to read it.

    In evaluation mode BN(w * x + b) = (s w) * x + (s b + t) with s = gamma / sqrt(variance + eps), t = beta - s mean.
    """

    def __init__(self, convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> None:
        self.convolution = convolution
        self.normalisation = normalisation
        self.parameters: dict[str, Tensor] = {}
        self._output: Tensor | None = None
        self._version: int | None = None

    def is_watched(self) -> bool:
        """Whether someone looks at either module: the values between the two are then computed as they are."""
        both = self.convolution, self.normalisation
        return any("forward" in vars(each) or any(getattr(each, name) for name in HOOKS) for each in both)

    def begin(self) -> None:
        """Run the two as one from now on, until `end`."""
        self._output = None
        self.convolution.__dict__["forward"] = self._convolve
        self.normalisation.__dict__["forward"] = self._normalise

    def end(self) -> bool:
        """Run the two as themselves again; whether the normalisation has read the convolution."""
        for each in (self.convolution, self.normalisation):
            each.__dict__.pop("forward", None)
        finished, self._output = self._output is None, None
        return finished

    def _convolve(self, values: Tensor) -> Tensor:
        if self._output is not None:
            raise Changed
        module = self.convolution
        own = module._parameters
        module.__dict__["_parameters"] = self.parameters
        try:
            output = type(module).forward(module, values)
        finally:
            module.__dict__["_parameters"] = own
        self._output, self._version = output, _version(output)
        return output

    def _normalise(self, values: Tensor) -> Tensor:
        if values is not self._output or _version(values) != self._version:
            raise Changed
        self._output = None
        if type(self.normalisation) is nn.BatchNorm2d:
            return values
        activated: Tensor = self.normalisation.act(self.normalisation.drop(values))  # type: ignore[operator]
        return activated


@torch.no_grad()
def fold(pairs: Sequence[Pair]) -> None:
    """Fold the parameters of the pairs as they are now."""
    if not pairs:
        return
    normalisations = [pair.normalisation for pair in pairs]
    scales = torch._foreach_add(
        [_own(each.running_var) for each in normalisations], [each.eps for each in normalisations]
    )
    torch._foreach_rsqrt_(scales)
    affine = [index for index, each in enumerate(normalisations) if each.affine]
    if affine:
        torch._foreach_mul_([scales[index] for index in affine], [normalisations[index].weight for index in affine])
    shifts = torch._foreach_mul([_own(each.running_mean) for each in normalisations], scales)
    torch._foreach_neg_(shifts)
    if affine:
        torch._foreach_add_([shifts[index] for index in affine], [normalisations[index].bias for index in affine])
    weights = [pair.convolution.weight for pair in pairs]
    folded = torch._foreach_mul(weights, [scale.view(-1, 1, 1, 1) for scale in scales])
    for pair, weight, scale, shift in zip(pairs, folded, scales, shifts, strict=True):
        bias = pair.convolution.bias
        pair.parameters = {"weight": weight, "bias": shift if bias is None else shift + bias * scale}


class Folding:
    """The pairs of a network; its modules and parameters are as they were outside of a pass.

    A pair is taken apart where a hook is set on one of its modules, and all of them where a pass does not run as the
    first one did. Nothing is folded where the folded logits are not those of the network.
    """

    def __init__(self, network: nn.Module, enabled: bool = True) -> None:
        self.network = network
        self.enabled = enabled
        self.pairs: list[Pair] | None = None

    def refresh(self, example: Callable[[], Tensor]) -> None:
        """Take the weights as they are now; the first time, find the pairs with a pass over an `example`."""
        if not self.enabled:
            return
        with torch.inference_mode(False):
            if self.pairs is None:
                self.pairs = []
                if any(_named(module) in NORMALISATIONS for module in self.network.modules()):
                    self._find(example())
            fold(self.pairs)

    def of_copy(self, network: nn.Module) -> Folding:
        """The same pairs in a copy of the network: it need not be looked over again."""
        made = Folding(network, self.enabled)
        if self.pairs is not None:
            names = {module: name for name, module in self.network.named_modules()}
            twins = dict(network.named_modules())
            both = ((twins[names[pair.convolution]], twins[names[pair.normalisation]]) for pair in self.pairs)
            made.pairs = [Pair(*pair) for pair in both]
        return made

    def run(self, values: Tensor) -> Tensor:
        """The network's result with its pairs folded."""
        try:
            with self._folded():
                result: Tensor = self.network(values)
        except Changed:
            self.pairs = []
            result = self.network(values)
        return result

    @contextmanager
    def off(self) -> Iterator[None]:
        """Nothing is folded inside the block."""
        enabled, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = enabled

    @contextmanager
    def _folded(self) -> Iterator[None]:
        pairs = [] if _all_watched() or not self.enabled else [one for one in self.pairs or () if not one.is_watched()]
        for pair in pairs:
            pair.begin()
        finished = False
        try:
            yield
            finished = True
        finally:
            read = [pair.end() for pair in pairs]
        if finished and not all(read):
            raise Changed

    def _find(self, example: Tensor) -> None:
        try:
            pairs, logits = _found(self.network, example)
            fold(pairs)
            self.pairs = pairs
            with torch.no_grad():
                folded = self.run(example)
        except RuntimeError:  # what the network refuses, it refuses again where it is used
            self.pairs = []
            return
        if not bool((folded - logits).abs().max() <= CLOSE * logits.abs().max()):
            self.pairs = []


def _found(network: nn.Module, example: Tensor) -> tuple[list[Pair], Tensor]:
    """(pairs, logits): seen in the graph of a pass, where the normalisation is all that hangs on the convolution."""
    made: dict[Node, nn.Module] = {}
    calls: dict[nn.Module, list[Node | None]] = {}

    def after(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        is_convolution = _named(module) in CONVOLUTIONS
        node = output.grad_fn if is_convolution else arguments[0].grad_fn
        calls.setdefault(module, []).append(node)
        if is_convolution and node is not None:
            made[node] = module

    handles = [
        module.register_forward_hook(after)
        for module in network.modules()
        if _named(module) in (*CONVOLUTIONS, *NORMALISATIONS)
    ]
    try:
        with torch.enable_grad():
            logits = network(example.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    readers = _readers(logits)
    pairs = []
    for module, nodes in calls.items():
        if _named(module) not in NORMALISATIONS or len(nodes) != 1 or nodes[0] is None or not _is_fixed(module):
            continue
        convolution = made.get(nodes[0])
        if convolution is not None and len(calls[convolution]) == 1 and readers[nodes[0]] == 1:
            pairs.append(Pair(convolution, module))  # type: ignore[arg-type]
    example.requires_grad_(False)
    return pairs, logits.detach()


def _readers(result: Tensor) -> Counter[Node]:
    """How many nodes of the result's graph read each node."""
    readers: Counter[Node] = Counter()
    waiting = [result.grad_fn] if result.grad_fn is not None else []
    while waiting:
        read = sources(waiting.pop())
        waiting += [source for source in set(read) if source not in readers]
        readers.update(read)
    return readers


def _is_fixed(module: Any) -> bool:
    """Whether a normalisation takes its own statistics, not those of the batch."""
    return not module.training and module.running_mean is not None and module.running_var is not None


def _own(statistic: Tensor | None) -> Tensor:
    assert statistic is not None, "only a normalisation with fixed statistics is folded"
    return statistic


def _all_watched() -> bool:
    """Whether a hook is set on every module there is."""
    return any(getattr(hooks, f"_global{name}") for name in HOOKS)


def _named(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _version(values: Tensor) -> int | None:
    return None if values.is_inference() else values._version
