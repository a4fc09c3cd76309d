"""Convolutions that compute the normalisation and the activation behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules import module as hooks

from seewhy.models.fusion.autograd_graph import list_sources
from seewhy.models.fusion.conv_chain import HOOKS, Chain, Changed
from seewhy.models.fusion.fused_convolution import read_activation

CLOSE = 1e-4
"""Logits of the folded network may differ from the network's by this share of the largest one."""
CONVOLUTIONS = ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame")
NORMALISATIONS = ("torch.nn.modules.batchnorm.BatchNorm2d", "timm.layers.norm_act.BatchNormAct2d")
"""Exact types, whose forward is known: other subclasses may do more than their parent."""


@torch.no_grad()
def fold_parameters(chains: Sequence[Chain]) -> None:
    """Fold the parameters of the chains as they are now."""
    for chain in chains:
        chain.parameters = dict(chain.convolution._parameters)
    folded = [chain for chain in chains if chain.normalisation is not None]
    if folded:
        _fold([_own(chain.normalisation) for chain in folded], folded)


def _fold(normalisations: list[nn.BatchNorm2d], chains: Sequence[Chain]) -> None:
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
    weights = [chain.convolution.weight for chain in chains]
    folded = torch._foreach_mul(weights, [scale.view(-1, 1, 1, 1) for scale in scales])
    for chain, weight, scale, shift in zip(chains, folded, scales, shifts, strict=True):
        bias = chain.convolution.bias
        chain.parameters = {"weight": weight, "bias": shift if bias is None else shift + bias * scale}


class Folding:
    """The chains of a network; its modules and parameters are as they were outside of a pass.

    A chain is taken apart where a hook is set on one of its modules, and all of them where a pass does not run as the
    first one did. Nothing is folded where the folded logits are not those of the network.
    """

    def __init__(self, network: nn.Module, enabled: bool = True) -> None:
        self.network = network
        self.enabled = enabled
        self.chains: list[Chain] | None = None

    def refresh(self, example: Callable[[], Tensor]) -> None:
        """Take the weights as they are now; the first time, find the chains with a pass over an `example`."""
        if not self.enabled:
            return
        with torch.inference_mode(False):
            if self.chains is None:
                self.chains = []
                if any(_follows(module) for module in self.network.modules()):
                    self._find(example())
            fold_parameters(self.chains)

    def of_copy(self, network: nn.Module) -> Folding:
        """The same chains in a copy of the network: it need not be looked over again."""
        made = Folding(network, self.enabled)
        if self.chains is not None:
            names = {module: name for name, module in self.network.named_modules()}
            twins: dict[str, Any] = dict(network.named_modules())
            made.chains = []
            for chain in self.chains:
                parts = (chain.convolution, chain.normalisation, chain.activation, *chain.around)
                own: list[Any] = [None if each is None else twins[names[each]] for each in parts]
                twin = Chain(own[0], own[1], own[2], own[3:])
                twin.fused = chain.fused
                made.chains.append(twin)
        return made

    def run(self, values: Tensor) -> Tensor:
        """The network's result with its chains folded."""
        try:
            with self._folded():
                result: Tensor = self.network(values)
        except Changed:
            self.chains = []
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
        usable = self.enabled and not _all_watched()
        chains = [chain for chain in self.chains or () if not chain.is_watched()] if usable else []
        for chain in chains:
            chain.begin()
        for module in {chain.activation for chain in chains if chain.activation is not None}:
            waiting = [chain for chain in chains if chain.activation is module]
            module.__dict__["forward"] = partial(_activate, module, waiting)
        finished = False
        try:
            yield
            finished = True
        finally:
            read = [chain.end() for chain in chains]
        if finished and not all(read):
            raise Changed

    def _find(self, example: Tensor) -> None:
        try:
            chains, logits = _found(self.network, example)
        except RuntimeError:  # what the network refuses, it refuses again where it is used
            return
        if not self._keep_if_same(chains, example, logits):
            for chain in chains:
                chain.fused = None
            self._keep_if_same(chains, example, logits)

    def _keep_if_same(self, chains: Sequence[Chain], example: Tensor, logits: Tensor) -> bool:
        """Take these chains if the network's logits stay what they are; whether they do."""
        self.chains = [chain for chain in chains if chain.is_useful]
        fold_parameters(self.chains)
        try:
            with torch.no_grad(), _remembered(self.chains):
                folded = self.run(example)
            same = bool((folded - logits).abs().max() <= CLOSE * logits.abs().max())
        except RuntimeError:  # this build of torch does not fuse what others do
            same = False
        self.chains = [chain for chain in self.chains if chain.is_useful] if same else []
        return same


@contextmanager
def _remembered(chains: Sequence[Chain]) -> Iterator[None]:
    """A pass inside which shows the chains whose result is written over later: it must not be kept for a gradient."""
    for chain in chains:
        chain.remember = True
    try:
        yield
    finally:
        for chain in chains:
            chain.remember = False
            if chain.was_written():
                chain.fused = None


def _activate(module: nn.Module, chains: Sequence[Chain], values: Tensor) -> Tensor:
    """What an activation computes, unless a chain has done so."""
    for chain in chains:
        done = chain.activate(values)
        if done is not None:
            return done
    result: Tensor = type(module).forward(module, values)
    return result


class _Calls:
    """What each module reads and makes in one pass, as nodes of its graph.

    None for what does not depend on the image, and for a module that is called with its argument by name.
    """

    def __init__(self) -> None:
        self.read: dict[nn.Module, list[Node | None]] = {}
        self.made: dict[nn.Module, list[Node | None]] = {}

    def before(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """A module is about to run; it may write over its argument."""
        self.read.setdefault(module, []).append(arguments[0].grad_fn if arguments else None)

    def after(self, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        """A module has run."""
        self.made.setdefault(module, []).append(output.grad_fn if arguments else None)

    def only(self, module: nn.Module) -> Node | None:
        """What a module made that ran once; None for any other."""
        made = self.made.get(module, [])
        return made[0] if len(made) == 1 else None


def _found(network: nn.Module, example: Tensor) -> tuple[list[Chain], Tensor]:
    """(chains, logits): seen in the graph of a pass, where nothing else hangs on what is inside of a chain."""
    calls, handles = _Calls(), []
    for module in network.modules():
        if _named(module) in CONVOLUTIONS or _follows(module):
            handles += [module.register_forward_pre_hook(calls.before), module.register_forward_hook(calls.after)]
    try:
        with torch.enable_grad():
            logits = network(example.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    readers = _readers(logits)
    reader = {node: module for module, nodes in calls.read.items() if _follows(module) for node in nodes if node}

    def behind(node: Node | None) -> nn.Module | None:
        """The module that alone reads a result."""
        return reader.get(node) if node is not None and readers[node] == 1 else None

    chains, holders = [], _holders(network)
    for module in calls.made:
        if _named(module) not in CONVOLUTIONS:
            continue
        normalisation: Any = behind(calls.only(module))
        activation: nn.Module | None = None
        if normalisation is not None and _named(normalisation) not in NORMALISATIONS:
            normalisation, activation = None, normalisation
        elif normalisation is not None and not (_is_fixed(normalisation) and calls.only(normalisation) is not None):
            continue
        elif type(normalisation) is nn.BatchNorm2d:
            activation = behind(calls.only(normalisation))
            activation = activation if read_activation(activation) is not None else None
        if normalisation is not None or activation is not None:
            parts = [each for each in (module, normalisation, activation) if each is not None]
            around = set.union(*(holders[each] for each in parts[:-1])) - holders[parts[-1]]
            chains.append(Chain(module, normalisation, activation, list(around)))  # type: ignore[arg-type]
    example.requires_grad_(False)
    return chains, logits.detach()


def _holders(network: nn.Module) -> dict[nn.Module, set[nn.Module]]:
    """The modules that each module is a part of."""
    holders: dict[nn.Module, set[nn.Module]] = {}
    for holder in network.modules():
        for part in holder.modules():
            if part is not holder:
                holders.setdefault(part, set()).add(holder)
    return holders


def _readers(result: Tensor) -> Counter[Node]:
    """How many nodes of the result's graph read each node."""
    readers: Counter[Node] = Counter()
    waiting = [result.grad_fn] if result.grad_fn is not None else []
    while waiting:
        read = list_sources(waiting.pop())
        waiting += [source for source in set(read) if source not in readers]
        readers.update(read)
    return readers


def _is_fixed(module: Any) -> bool:
    """Whether a normalisation takes its own statistics, not those of the batch."""
    return not module.training and module.running_mean is not None and module.running_var is not None


def _own(part: Any) -> Any:
    assert part is not None, "only a normalisation with fixed statistics is folded"
    return part


def _all_watched() -> bool:
    """Whether a hook is set on every module there is."""
    return any(getattr(hooks, f"_global{name}") for name in HOOKS)


def _named(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _follows(module: nn.Module) -> bool:
    """Whether a module can be computed by the convolution before it."""
    return _named(module) in NORMALISATIONS or read_activation(module) is not None
