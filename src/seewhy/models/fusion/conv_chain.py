"""A convolution with what follows it, run as one: normalisation with fixed statistics, then an activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from seewhy.models.fusion.fused_convolution import Activation, can_fuse, convolve_fused, is_fusible, read_activation

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Changed(Exception):
    """The network did not run as it did when it was looked over."""


class Chain:
    """A convolution, the normalisation and the activation that are each the only one to read what is before them.

    In evaluation mode BN(w * x + b) = (s w) * x + (s b + t) with s = gamma / sqrt(variance + eps), t = beta - s mean.
    `around` are the modules that hold a part of the chain but not its end: what they return lies inside of it.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        normalisation: nn.BatchNorm2d | None = None,
        activation: nn.Module | None = None,
        around: Sequence[nn.Module] = (),
    ) -> None:
        self.convolution = convolution
        self.normalisation = normalisation
        self.activation = activation
        self.around = around
        self.parameters: dict[str, Tensor | None] = {}
        self.seen: Tensor | None = None
        """The result of the last pass, where it was asked for with `remember`."""
        self.remember = False
        self.inner = inner_activation(normalisation) if activation is None else None
        self.fused: Activation | None = None
        if is_fusible(convolution) and (self.inner is None or type(normalisation.drop) is nn.Identity):  # type: ignore[union-attr]
            self.fused = read_activation(self.inner if activation is None else activation)
        self._output: Tensor | None = None
        self._version: int | None = None
        self._activated = False

    @property
    def modules(self) -> list[nn.Module]:
        """The convolution and what follows it."""
        return [each for each in (self.convolution, self.normalisation, self.activation) if each is not None]

    @property
    def is_useful(self) -> bool:
        """Whether it saves anything beside the modules one by one."""
        return self.normalisation is not None or self.fused is not None

    def is_watched(self) -> bool:
        """Whether someone looks at its modules: the values between them are then computed as they are."""
        return any(is_watched(each) for each in (*self.modules, *self.around, self.inner) if each is not None)

    def begin(self) -> None:
        """Run convolution and normalisation as one from now on, until `end`; the activation hands over to `activate`."""
        self._output = None
        self.convolution.__dict__["forward"] = self._convolve
        if self.normalisation is not None:
            self.normalisation.__dict__["forward"] = self._normalise

    def end(self) -> bool:
        """Run the modules as themselves again; whether each has read the one before."""
        for each in self.modules:
            each.__dict__.pop("forward", None)
        finished, self._output = self._output is None, None
        return finished

    def activate(self, values: Tensor) -> Tensor | None:
        """The activated values, where they are the ones that this chain has made; None for others."""
        if values is not self._output:
            return None
        self._read(values)
        assert self.activation is not None, "only chains that have one are asked"
        result: Tensor = values if self._activated else type(self.activation).forward(self.activation, values)
        return self._finished(result)

    def _convolve(self, values: Tensor) -> Tensor:
        if self._output is not None:
            raise Changed
        weight = self.parameters["weight"]
        self._activated = self.fused is not None and weight is not None and can_fuse(values, weight, self.fused)
        if self._activated:
            assert self.fused is not None
            output = convolve_fused(self.convolution, self.parameters, values, self.fused)
        else:
            output = self._plain(values)
        self._output, self._version = output, version(output)
        return output

    def _plain(self, values: Tensor) -> Tensor:
        module = self.convolution
        own = module._parameters
        module.__dict__["_parameters"] = self.parameters
        try:
            output: Tensor = type(module).forward(module, values)
        finally:
            module.__dict__["_parameters"] = own
        return output

    def _normalise(self, values: Tensor) -> Tensor:
        self._read(values)
        if self.activation is not None:
            self._output = values  # the activation is still to come
            return values
        if self.inner is None or self._activated:
            return self._finished(values)
        activated: Tensor = self.normalisation.act(self.normalisation.drop(values))  # type: ignore[union-attr,operator]
        return self._finished(activated)

    def _read(self, values: Tensor) -> None:
        if values is not self._output or version(values) != self._version:
            raise Changed
        self._output = None

    def _finished(self, result: Tensor) -> Tensor:
        if self.remember:
            self.seen, self._version = result, version(result)
        return result

    def was_written(self) -> bool:
        """Whether someone wrote into the result after it was made; only known after a pass with `remember`."""
        seen, self.seen = self.seen, None
        return seen is not None and version(seen) != self._version


def inner_activation(normalisation: Any) -> Any:
    """The activation inside of timm's normalisation, None for torch's."""
    return None if normalisation is None or type(normalisation) is nn.BatchNorm2d else normalisation.act


def is_watched(module: nn.Module) -> bool:
    """Whether a hook or another forward is set on a module."""
    own = vars(module)
    return "forward" in own or any(own[name] for name in HOOKS)


def version(values: Tensor) -> int | None:
    """How often the values were written into; None where torch does not count."""
    return None if values.is_inference() else values._version
