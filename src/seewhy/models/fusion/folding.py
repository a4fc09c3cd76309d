"""A network whose convolutions compute the normalisations and the activations behind them, while it is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from seewhy.core.precision import compute_in_full
from seewhy.models.fusion.attention import find_attentions, tokens_in_order
from seewhy.models.fusion.chain import Chain, NetworkChanged, count_readers, fold_parameters
from seewhy.models.fusion.compiled import CompiledNetwork
from seewhy.models.fusion.convolution import read_activation
from seewhy.models.fusion.internals import has_global_hooks, is_fusion_supported

CLOSE = 1e-4
"""Logits of the folded network may differ from the network's by this share of the largest one."""
CONVOLUTIONS = ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame")
NORMALISATIONS = ("torch.nn.modules.batchnorm.BatchNorm2d", "timm.layers.norm_act.BatchNormAct2d")
"""Exact types, whose forward is established: other subclasses may do more than their parent."""

Read: TypeAlias = Callable[[Any, int], Tensor]


class Folding:
    """The chains of a network; its modules and parameters are as they were outside of a pass.

    A chain is taken apart where a hook is set on one of its modules, and all of them where a pass does not run as the
    first one did. Nothing is folded where the folded logits are not those of the network.

    Attributes:
        chains: Its chains; None until `refresh` has looked for them.
        compiled: The network under torch.compile, which computes in place of the chains where nobody looks at a layer.

    Args:
        network: The network.
        enabled: False computes layer by layer, as does a process in which fusion is off, see `is_fusion_supported`.
        read: Reads the outputs from what the network returns, given that and the number of images.
        compiled: Whether torch.compile computes the passes in which nobody looks at a layer.
    """

    def __init__(self, network: nn.Module, enabled: bool, read: Read, compiled: bool = False) -> None:
        self.network = network
        self.read = read
        self.enabled = enabled and is_fusion_supported()
        self.chains: list[Chain] | None = None
        self.compiled = CompiledNetwork(network) if compiled else None
        self._attentions: list[nn.MultiheadAttention] = []

    def refresh(self, example: Callable[[], Tensor]) -> None:
        """Take the weights as they are now; the first time, find the chains with a pass over an example.

        Args:
            example: Called for a normalised image [1, channels, height, width] where the chains are not known yet.
        """
        if not self.enabled:
            return
        with torch.inference_mode(False):
            if self.chains is None:
                self.chains = []
                self._attentions = find_attentions(self.network)
                if any(_follows(module) for module in self.network.modules()):
                    image = example()
                    with compute_in_full(image.device.type):
                        self._find(image)
            fold_parameters(self.chains)

    def copy_to(self, network: nn.Module) -> Folding:
        """Build the folding of a copied network with the same chains, without a pass to find them.

        Args:
            network: A copy of this network, whose modules have the same names.

        Returns:
            The folding of the copy.
        """
        folding = Folding(network, self.enabled, self.read)
        if self.chains is not None:
            copies = dict(network.named_modules())
            twins = {module: copies[name] for name, module in self.network.named_modules()}
            folding.chains = [chain.copy_to(twins) for chain in self.chains]
            folding._attentions = [twins[each] for each in self._attentions]
        return folding

    def run(self, values: Tensor, rows: int | None = None) -> Tensor:
        """Compute the network's result with its chains folded, or compiled where that is wanted and nobody looks at a layer.

        Args:
            values: Normalised images [n, channels, height, width].
            rows: Of the result, where a hook changes their number; None: n.

        Returns:
            The logits [rows, classes].
        """
        count = len(values) if rows is None else rows
        if self.compiled is not None and self.compiled.is_usable():
            return self.compiled.run(values, lambda returned: self.read(returned, count))
        return self._run_folded(values, count)

    def _run_folded(self, values: Tensor, rows: int) -> Tensor:
        try:
            with self._folded(), tokens_in_order(self._attentions if self.enabled else ()):
                result = self.network(values)
        except NetworkChanged:
            self.chains = []
            result = self.network(values)
        return self.read(result, rows)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Compute layer by layer inside the block."""
        before = self.enabled, self.compiled
        self.enabled, self.compiled = False, None
        try:
            yield
        finally:
            self.enabled, self.compiled = before

    @contextmanager
    def _folded(self) -> Iterator[None]:
        usable = self.enabled and not has_global_hooks()
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
            raise NetworkChanged

    def _find(self, example: Tensor) -> None:
        try:
            chains, logits = find_chains(self.network, example, self.read)
        except RuntimeError:  # what the network refuses, it refuses again where it is used
            return
        if not self._keep_if_same(chains, example, logits):
            for chain in chains:
                chain.fused = None
            self._keep_if_same(chains, example, logits)

    def _keep_if_same(self, chains: Sequence[Chain], example: Tensor, logits: Tensor) -> bool:
        """Take these chains if the network's logits stay what they are; return whether they do."""
        self.chains = [chain for chain in chains if chain.is_useful]
        fold_parameters(self.chains)
        try:
            with torch.no_grad(), _results_remembered(self.chains):
                folded = self._run_folded(example, len(example))
            same = bool((folded - logits).abs().max() <= CLOSE * logits.abs().max())
        except RuntimeError:  # this build of torch does not fuse what others do
            same = False
        self.chains = [chain for chain in self.chains if chain.is_useful] if same else []
        return same


@contextmanager
def _results_remembered(chains: Sequence[Chain]) -> Iterator[None]:
    """Inside, a pass is made that shows which results are written over later: those are not kept for a gradient."""
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
    """Compute an activation, unless a chain has done so."""
    for chain in chains:
        activated = chain.activate(values)
        if activated is not None:
            return activated
    result: Tensor = type(module).forward(module, values)
    return result


class _Calls:
    """The arguments and results of each module in one pass, as nodes of its graph.

    None for what does not depend on the image, and for a module that is called with its argument by name.
    """

    def __init__(self) -> None:
        self.arguments: dict[nn.Module, list[Node | None]] = {}
        self.results: dict[nn.Module, list[Node | None]] = {}

    def before(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """A module is about to run; it may write over its argument."""
        self.arguments.setdefault(module, []).append(arguments[0].grad_fn if arguments else None)

    def after(self, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        """A module has run."""
        self.results.setdefault(module, []).append(output.grad_fn if arguments else None)

    def find_result(self, module: nn.Module) -> Node | None:
        """The result of a module that ran once; None for any other."""
        results = self.results.get(module, [])
        return results[0] if len(results) == 1 else None


def find_chains(network: nn.Module, example: Tensor, read: Read) -> tuple[list[Chain], Tensor]:
    """Find the chains of a network in the graph of a pass: nothing else reads what is inside of a chain.

    Args:
        network: The network.
        example: A normalised image [1, channels, height, width].
        read: Reads the outputs from what the network returns.

    Returns:
        The chains, and the logits [1, classes] of the example.
    """
    calls, returned = _record_calls(network, example)
    logits = read(returned, 1)
    readers = count_readers(logits)
    reader = {node: module for module, nodes in calls.arguments.items() if _follows(module) for node in nodes if node}

    def find_only_reader(node: Node | None) -> nn.Module | None:
        return reader.get(node) if node is not None and readers[node] == 1 else None

    chains, holders = [], _find_holders(network)
    for module in calls.results:
        if _name_type(module) not in CONVOLUTIONS:
            continue
        normalisation: Any = find_only_reader(calls.find_result(module))
        activation: nn.Module | None = None
        if normalisation is not None and _name_type(normalisation) not in NORMALISATIONS:
            normalisation, activation = None, normalisation
        elif normalisation is not None and (not _is_fixed(normalisation) or calls.find_result(normalisation) is None):
            continue
        elif type(normalisation) is nn.BatchNorm2d:
            activation = find_only_reader(calls.find_result(normalisation))
            activation = activation if read_activation(activation) is not None else None
        if normalisation is not None or activation is not None:
            members = [each for each in (module, normalisation, activation) if each is not None]
            around = set.union(*(holders[each] for each in members[:-1])) - holders[members[-1]]
            chains.append(Chain(module, normalisation, activation, list(around)))  # type: ignore[arg-type]
    return chains, logits.detach()


def _record_calls(network: nn.Module, example: Tensor) -> tuple[_Calls, Any]:
    """(calls of convolutions and of what can follow them, what the network returns) of one pass."""
    calls, handles = _Calls(), []
    for module in network.modules():
        if _name_type(module) in CONVOLUTIONS or _follows(module):
            handles += [module.register_forward_pre_hook(calls.before), module.register_forward_hook(calls.after)]
    try:
        with torch.enable_grad():
            returned = network(example.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
        example.requires_grad_(False)
    return calls, returned


def _find_holders(network: nn.Module) -> dict[nn.Module, set[nn.Module]]:
    """The modules that hold each module, at any depth."""
    holders: dict[nn.Module, set[nn.Module]] = {}
    for holder in network.modules():
        for member in holder.modules():
            if member is not holder:
                holders.setdefault(member, set()).add(holder)
    return holders


def _is_fixed(module: Any) -> bool:
    """Whether a normalisation takes its own statistics, not those of the batch."""
    return not module.training and module.running_mean is not None and module.running_var is not None


def _name_type(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _follows(module: nn.Module) -> bool:
    """Whether a module can be computed by the convolution before it."""
    return _name_type(module) in NORMALISATIONS or read_activation(module) is not None
