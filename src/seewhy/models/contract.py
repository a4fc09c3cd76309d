"""What a network must be to be explained, checked once by passes, and what its outputs turn out to be."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.core.outputs import settle_classes
from seewhy.core.tensors import is_out_of_memory
from seewhy.core.words import count_noun
from seewhy.models.read_outputs import read_outputs

if TYPE_CHECKING:
    from seewhy.models.classifier import Classifier

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far two passes of one image may differ, as a share of the largest output."""
SUM_TOLERANCE = 1e-3
"""How far probabilities may be from a sum of 1."""
DRAWS = "the network draws random numbers in evaluation mode"
INSTEAD = "give functional.dropout `training=self.training`, or take the noise out of its forward"
GATES = ("Sigmoid", "Softmax", "Hardsigmoid")
"""Functions whose results are probabilities, as the graph of a pass names them."""
LAYERS = ("Addmm", "Mm", "Add", "Convolution", "MkldnnConvolution")
"""Functions whose results are logits."""
FAR = 1000.0
RESHAPES = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Select",
    "Transpose",
    "T",
    "Clone",
    "ToCopy",
)
"""Functions that change no value."""


def unify_weights(network: nn.Module) -> tuple[nn.Module, str]:
    """Convert weights of half precision, or of several types, to one type that every processor computes with.

    Args:
        network: It is not changed.

    Returns:
        (the network, or a copy with float32 weights, or float64 where some are, and what was converted in words).

    Raises:
        UserError: Its weights must be converted, and it cannot be copied.
    """
    types = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    target = torch.float64 if torch.float64 in types else torch.float32
    others = sorted(str(each).removeprefix("torch.") for each in types - {target})
    if not others:
        return network, ""
    try:
        twin = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"the network has {', '.join(others)} weights and cannot be copied ({_first_line(error)}): convert it with "
            "network.float()"
        ) from error
    return twin.to(target), f"{', '.join(others)} weights computed in {str(target).removeprefix('torch.')}"


def check_contract(classifier: Classifier, score: str | None = None) -> Classifier:
    """Check a network by passes of two images, and settle what its outputs are.

    It must take a batch of images of its size, return finite class scores, one for each class name, the same ones for an
    image in every pass and beside any other image, and keep its buffers. Outputs that are probabilities already are
    noticed: they are used as they are, and the origin of the classifier says so.

    Args:
        classifier: Its facts and origin are completed.
        score: What the outputs mean where that was set; None: it may be settled from the outputs.

    Returns:
        The classifier.

    Raises:
        UserError: The network cannot be explained; the message names what it does and what to change.
    """
    images = _build_examples(classifier)
    devices = [images.device] if images.device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.random.fork_rng(devices=devices),
        classifier.evaluating(),
        _keep_buffers(classifier.network),
        torch.enable_grad(),
    ):
        state = _read_random_state(images)
        first = _run(classifier, images[:2].requires_grad_())
        last = _find_last_function(first)
        draws = not torch.equal(state, _read_random_state(images))
        with torch.no_grad():
            second = _run(classifier, images[[0, 2]])
            _check_rows(classifier, images, first.detach(), second)
            if draws:
                raise UserError(f"{DRAWS}, though two passes were alike; {INSTEAD}")
            outputs = torch.cat([first.detach(), second[1:]])
            _settle_outputs(classifier, outputs, _find_probabilities(classifier, images, outputs, last), score)
    return classifier


def _build_examples(classifier: Classifier) -> Tensor:
    """Two images of noise and a black one, normalised [3, channels, height, width]."""
    facts = classifier.facts
    noise = torch.rand(2, facts.channels, *facts.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.cat([noise, torch.zeros_like(noise[:1])]).to(classifier.mean)
    normalised = (images - classifier.mean) / classifier.std
    return normalised.contiguous(memory_format=torch.channels_last) if classifier.channels_last else normalised


def _run(classifier: Classifier, images: Tensor) -> Tensor:
    """The outputs [n, outputs] of a pass; one sentence where the network cannot take the images."""
    facts = classifier.facts
    try:
        returned = classifier.network(images.clone())  # some forwards change what they are given
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(_describe_failure(classifier, images, error)) from error
    return read_outputs(returned, len(images), facts.output_count, facts.output)


def _describe_failure(classifier: Classifier, images: Tensor, error: Exception) -> str:
    shape, dtype = list(images.shape), str(images.dtype).removeprefix("torch.")
    failure = f"{classifier.name} cannot take {len(images)} images {shape} ({dtype}): {_first_line(error)}"
    try:
        with torch.no_grad():
            classifier.network(images[:1].clone())
    except TypeError as reason:
        if "argument" in str(reason):
            return f"{failure}; its forward must take the images alone: wrap it in a module that gives it the rest"
        return failure
    except Exception:
        return f"{failure}; give the size and channels that it was made for: model.size, model.mean and model.std"
    return f"{failure}; it takes a single image: its forward must take a batch [n, channels, height, width]"


def _read_random_state(images: Tensor) -> Tensor:
    """The state of the generator that a network draws from where these images are."""
    return torch.cuda.get_rng_state(images.device) if images.is_cuda else torch.get_rng_state()


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def _keep_buffers(network: nn.Module) -> Iterator[None]:
    """Put back every buffer that a pass inside the block changes, and refuse the network."""
    before = {name: (buffer, buffer.detach().clone()) for name, buffer in network.named_buffers()}
    changed: list[str] = []
    try:
        yield
    finally:
        with torch.no_grad():
            for name, (buffer, values) in before.items():
                if not _are_equal(buffer, values):
                    buffer.copy_(values)
                    changed.append(name)
    if changed:
        raise UserError(_describe_statistics(changed))


def _describe_statistics(changed: list[str]) -> str:
    return (
        f"the network changes {', '.join(changed[:2])} when it is evaluated, as batch normalisation in training mode does: "
        "an image's outputs would depend on the images around it; take `train()` or `training=True` out of its forward"
    )


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first, second) or (
        first.is_floating_point() and torch.equal(first.nan_to_num(), second.nan_to_num())
    )


def _check_rows(classifier: Classifier, images: Tensor, first: Tensor, second: Tensor) -> None:
    """The first image must have the same finite outputs beside either other image."""
    values = torch.cat([first, second])
    if not bool(values.isfinite().all()):
        count = int((~values.isfinite()).any(0).sum())
        raise UserError(
            f"{count} of the {values.shape[1]} outputs are NaN or infinite for images of noise or for a black one: look at "
            "the weights, and at divisions and logarithms in the forward"
        )
    scale = TOLERANCE.get(values.dtype, TOLERANCE[torch.float32]) * float(values.abs().max())
    difference = float((first[0] - second[0]).abs().max())
    if difference <= scale:
        return
    again = _run(classifier, images[:2])
    if float((first - again).abs().max()) > scale:
        raise UserError(f"two passes of the same images differ by {difference:.2g}: {DRAWS}; {INSTEAD}")
    raise UserError(
        f"an image's outputs change by {difference:.2g} with the image beside it: the network computes with its whole "
        "batch, as batch normalisation in training mode does; its forward must treat each image alone"
    )


def _settle_outputs(classifier: Classifier, outputs: Tensor, kind: str | None, score: str | None) -> None:
    """Compare the outputs, and what kind of probabilities they are, with the names of the classes."""
    facts, count = classifier.facts, outputs.shape[1]
    if facts.score == "none" and not facts.classes:
        facts = facts.replace({"classes": [f"unit {index}" for index in range(count)]})
    if count == 1 and len(facts.classes) == 2 and score is None:
        facts = facts.replace({"score": "binary"})
    if count != facts.output_count:
        expected = f"model.classes names {len(facts.classes)} classes"
        if facts.score == "binary":
            expected = "model.score=binary, which a single class name means too, is for one"
        elif len(facts.classes) == 1:
            expected = "model.classes names 1 class"
        raise UserError(
            f"the network has {count_noun(count, 'output')}, but {expected}: name {count}, or set model.classes={count}"
        )
    if kind is None or facts.score == "none":
        classifier.facts = facts.replace({"gives_probabilities": False})
        return
    if kind == "softmax" and facts.score == "sigmoid":
        raise UserError(
            "model.score=sigmoid is for labels that do not exclude each other, but the outputs are probabilities whose sum "
            "is 1: set model.score=softmax"
        )
    if kind == "sigmoid" and facts.score == "softmax":
        if score is not None:
            raise UserError(
                "model.score=softmax is for classes that exclude each other, but the outputs are probabilities whose sum is "
                "not 1 (a sigmoid inside): set model.score=sigmoid"
            )
        facts = facts.replace({"score": "sigmoid"})
    classifier.facts = facts.replace({"gives_probabilities": True})
    meaning = " of single labels (model.score=sigmoid)" if facts.score == "sigmoid" else ""
    classifier.origin += f", its outputs are probabilities{meaning}"


def _find_probabilities(classifier: Classifier, images: Tensor, outputs: Tensor, last: str | None) -> str | None:
    """`softmax` where rows of numbers from 0 to 1 sum to 1; `sigmoid` where those of a gate do not; else None.

    Where the graph does not tell a gate from a layer, outputs that stay from 0 to 1 for images a thousand times too bright
    or too dark are those of a gate.
    """
    if not _are_shares(outputs):
        return None
    if outputs.shape[1] > 1 and float((outputs.sum(1) - 1).abs().max()) < SUM_TOLERANCE:
        return "softmax"
    if last in LAYERS:
        return None
    if last in GATES:
        return "sigmoid"
    far = torch.cat([outputs, _run(classifier, FAR * torch.cat([images, -images]))])
    varied = bool((far != far[:1]).any())  # outputs that are the same for every image say nothing
    return "sigmoid" if varied and _are_shares(far) else None


def _are_shares(outputs: Tensor) -> bool:
    return float(outputs.min()) >= 0 and float(outputs.max()) <= 1 + SUM_TOLERANCE


def _find_last_function(outputs: Tensor) -> str | None:
    """The name of the function behind the outputs, such as `Sigmoid`; None where there is no graph."""
    node: Any = outputs.grad_fn
    while node is not None:
        name = node.name().split("Backward")[0].lstrip("_")
        if name not in RESHAPES:
            return str(name)
        node = next((source for source, _ in node.next_functions if source is not None), None)
    return None


def settle_names(classes: tuple[str, ...] | None, score: str | None) -> tuple[tuple[str, ...], str]:
    """Settle class names and meaning of a given network; the units of an embedding are counted later.

    Args:
        classes: The names that were given.
        score: What the outputs mean, where that was given.

    Returns:
        (the names, none yet for unnamed units, and the meaning).
    """
    return ((), "none") if classes is None and score == "none" else settle_classes(classes or (), score)
