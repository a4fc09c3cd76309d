"""Which algorithms of captum can be asked for by name, what they take, and a call that leaves nothing behind."""

from __future__ import annotations

import functools
import inspect
import os
import random
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Len
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seewhy.core.errors import UserError, find_nearest
from seewhy.core.settings import Count, NonNegative, OneOf, Pixels, Positive, check_value
from seewhy.core.tensors import widen
from seewhy.core.types import Images, Targets
from seewhy.models.classifier import Classifier

GIVEN = frozenset(
    "self kwargs forward_func model layer device_ids inputs target additional_forward_args baselines feature_mask "
    "layer_baselines layer_mask internal_batch_size perturbations_per_eval show_progress return_convergence_delta "
    "return_input_shape verbose custom_attribution_func grad_kwargs interpretable_model similarity_func perturb_func "
    "perm_func attr_dim_summation".split()
)
"""Arguments of captum that are no option: they come from the images, the target and the other settings, or are code; or
they change no map, which is summed over the channels in any case."""
Sizes = Annotated[Sequence[Pixels], Len(3, 3)]
OPTIONS: dict[str, Any] = {
    "n_samples": Count,
    "n_steps": Count,
    "method": Annotated[
        str, OneOf(("gausslegendre", *(f"riemann_{side}" for side in ("left", "right", "middle", "trapezoid"))))
    ],
    "stdevs": NonNegative,
    "eps": Positive,
    "interpolate_mode": Annotated[str, OneOf(("nearest", "nearest-exact", "bilinear", "bicubic", "area"))],
    "sliding_window_shapes": Sizes,
    "strides": Pixels | Sizes,
}
"""What options take; of others it is what captum declares, such as true or false."""
UNFIT = {
    "NoiseTunnel": "wraps another method: use explainer=noise_tunnel",
    "LimeBase": "needs functions: use explainer.method=Lime",
    "FeaturePermutation": "exchanges features between the images of a batch, so that a map depends on its neighbours: use "
    "explainer.method=FeatureAblation",
    "LayerFeaturePermutation": "exchanges features between the images of a batch, so that a map depends on its neighbours: "
    "use explainer.method=LayerFeatureAblation",
    "DataLoaderAttribution": "explains a data set, not an image: use another method",
}
"""Why some of captum's methods are refused; those of neurons and of language models are too."""


@functools.cache
def load_methods() -> dict[str, type]:
    """Load captum's methods by name: its subclasses of `Attribution`, without the abstract ones.

    Returns:
        Class by name.
    """
    import captum.attr as library

    bases = ("Attribution", "GradientAttribution", "PerturbationAttribution", "NeuronAttribution", "LayerAttribution")
    classes = {name: getattr(library, name) for name in library.__all__ if name not in bases}
    return {
        name: each for name, each in classes.items() if inspect.isclass(each) and issubclass(each, library.Attribution)
    }


def check_method(name: str) -> None:
    """Check that a method can be asked for.

    Args:
        name: Of a class of captum.attr.

    Raises:
        UserError: There is no such class (the message names the nearest), or it explains no score of an image.
    """
    methods = load_methods()
    if name not in methods:
        near = find_nearest(name, methods, 1)
        hint = f"did you mean explainer.method={near[0]}?" if near else "such as ShapleyValueSampling or DeepLiftShap"
        raise UserError(f"explainer.method={name} is no method of captum.attr; {hint}")
    reason = UNFIT.get(name)
    if name.startswith("Neuron"):
        reason = "explains a neuron, not the score: use its counterpart without Neuron in its name"
    if "LLM" in name:
        reason = "explains language models: use another method"
    if reason is not None:
        raise UserError(f"explainer.method={name} {reason}")


def list_options(name: str) -> dict[str, str]:
    """List the options of a method.

    Args:
        name: Of a class of captum.attr.

    Returns:
        Where each is given, `__init__` or `attribute`.
    """
    kind = load_methods()[name]
    return {
        option: function
        for function in ("__init__", "attribute")
        for option in inspect.signature(getattr(kind, function)).parameters
        if option not in GIVEN
    }


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the names of options and their values.

    Args:
        name: Of a class of captum.attr.
        options: By name; None: captum's default.

    Raises:
        UserError: The method has no such option (the message names the nearest, or all that it has), it takes no such value,
            or a map could not be drawn with it.
    """
    possible = list_options(name)
    if options.get("attribute_to_layer_input"):
        raise UserError(
            "explainer.options.attribute_to_layer_input=true: it is measured where outputs of a layer look, not its inputs; "
            "set explainer.layer to the module before it"
        )
    for option, value in options.items():
        if value is None:
            continue
        if option in possible:
            declared = inspect.signature(getattr(load_methods()[name], possible[option])).parameters[option].annotation
            check_value(f"explainer.options.{option}", value, OPTIONS.get(option, declared))
        else:
            near = find_nearest(option, possible, 1)
            hint = f"did you mean explainer.options.{near[0]}?" if near else f"it has {', '.join(possible) or 'none'}"
            raise UserError(f"explainer.options.{option}={value} is no option of captum's {name}; {hint}")


def takes(name: str, argument: str, function: str = "attribute") -> bool:
    """Tell whether a method takes an argument.

    Args:
        name: Of a class of captum.attr.
        argument: Its name.
        function: `attribute` or `__init__`.

    Returns:
        True where it is one of its parameters.
    """
    return argument in inspect.signature(getattr(load_methods()[name], function)).parameters


class Score(nn.Module):
    """The score of one target as a network of its own: images [n, channels, height, width] -> [n].

    Args:
        classifier: The network.
        targets: One target.
        limit: More images than these are computed in pieces, whose activations are computed again on the way back; None:
            never, for methods that read activations.
    """

    def __init__(self, classifier: Classifier, targets: Targets, limit: int | None) -> None:
        super().__init__()
        self.classifier, self.targets, self.limit = classifier, targets, limit
        self.training = False

    def forward(self, images: Images) -> Tensor:
        """Compute the score of the target for each image."""
        if self.limit is None or len(images) <= self.limit:
            return self._score(images)
        pieces = images.split(self.limit)
        if not torch.is_grad_enabled() or not images.requires_grad:
            return torch.cat([self._score(piece) for piece in pieces])
        return torch.cat([checkpoint(self._score, piece, use_reentrant=False) for piece in pieces])

    def _score(self, images: Images) -> Tensor:
        return self.targets.repeat(len(images)).score(widen(self.classifier(images)))


class RegionScore(nn.Module):
    """The score of one image as a function of what it shows: switches [n, superpixels] -> [n].

    Methods that cover superpixels then compute with a number for each of them instead of an image.

    Args:
        score: Of images.
        image: [1, channels, height, width], shown where a switch is not 0.
        baseline: Shown elsewhere, of the shape of `image`.
        labels: Of the superpixel of each pixel from 0, int64 [1, height, width].
    """

    def __init__(self, score: nn.Module, image: Images, baseline: Images, labels: Tensor) -> None:
        super().__init__()
        self.score, self.image, self.baseline, self.labels = score, image, baseline, labels
        self.training = False

    def forward(self, switches: Tensor) -> Tensor:
        """Compute the score of what each row of switches shows."""
        shown = (switches != 0)[:, self.labels[0]]
        return self.score(torch.where(shown[:, None], self.image, self.baseline))


def is_of_network(error: Exception) -> bool:
    """Tell whether an error is the network's own, not captum's.

    Args:
        error: What a call of captum raised. A RuntimeError counts as captum's: its hooks have torch raise them.

    Returns:
        True where it was raised in a pass of the network, outside of captum's hooks.
    """
    frames = traceback.extract_tb(error.__traceback__)
    passes = [number for number, frame in enumerate(frames) if frame.filename == __file__ and frame.name == "_score"]
    if not passes or isinstance(error, RuntimeError):
        return False
    return not any(f"{os.sep}captum{os.sep}" in frame.filename for frame in frames[passes[-1] + 1 :])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators of torch, numpy and Python begin at a seed; after it they are as they were.

    Args:
        seed: From 0 to 2^31 - 1.

    Yields:
        Nothing.
    """
    numbers, pythons = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):  # those of accelerators are forked around every method
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(pythons)


@contextmanager
def leaving_nothing(network: nn.Module) -> Iterator[None]:
    """After the block, also one that raises, every module holds what it held before: hooks, attributes, modes, gradients.

    Args:
        network: The network that captum gets.

    Yields:
        Nothing.
    """
    modules = list(network.modules())
    before = [
        {key: value.copy() if isinstance(value, dict) else value for key, value in vars(module).items()}
        for module in modules
    ]
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum announces each hook that it sets
            yield
    finally:
        for module, kept in zip(modules, before, strict=True):
            own = vars(module)
            for key in own.keys() - kept.keys():
                del own[key]
            for key, value in kept.items():
                if isinstance(value, dict) and isinstance(own.get(key), dict):
                    own[key].clear()
                    own[key].update(value)
                else:
                    own[key] = value
        for parameter, gradient in gradients:
            parameter.grad = gradient


def is_of_layer(name: str) -> bool:
    """Tell whether the values of a method have the shape of a layer's output.

    Args:
        name: Of a class of captum.attr.

    Returns:
        True for captum's layer attributions; others that name a layer give values for the image.
    """
    return any(base.__name__ == "LayerAttribution" for base in load_methods()[name].__mro__)
