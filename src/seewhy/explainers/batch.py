"""From a batch and its outputs to explanations: what the command and the Python interface share."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor

from seewhy.core.errors import UserError, name_images
from seewhy.core.facts import Facts
from seewhy.core.outputs import list_labels
from seewhy.core.precision import find_narrow_type
from seewhy.core.target_choice import SEPARATOR, choose, name_suffix, parse_targets
from seewhy.core.targets import UNKNOWN
from seewhy.core.types import Attributions, Batch, Classes, Explanation, Images, Prediction, Skipped, Targets
from seewhy.explainers.base import Explainer
from seewhy.explainers.rounding import estimate_relative_rounding
from seewhy.models.classifier import Classifier

TOP = 5
"""Classes that a prediction lists."""
FLAT = 0.25
"""Share of an image from which on its flat parts are looked into."""
DECIDED = 0.05
"""Share of a map that rounding may decide."""
NORMALISED = 1e-5
"""A row of log-probabilities, the logarithm of whose sum is 0, is off by less in single precision."""
EVEN = 1e-5
"""A spread of up to this share of the largest value is rounding of single precision: the map is the same everywhere."""
NO_LABEL = "no label"
"""The words for a prediction in which no label is above the threshold."""


def build_predictions(classifier: Classifier, batch: Batch, logits: Tensor) -> list[Prediction]:
    """Build what the classifier says of each image.

    Args:
        classifier: Knows its classes and what its outputs mean.
        batch: Images with their true classes.
        logits: Outputs of the network, [batch, classes].

    Returns:
        A prediction for each image, with the probabilities of the five likeliest classes, or the five largest outputs of
        a network without probabilities.
    """
    facts = classifier.facts
    probabilities = facts.compute_probabilities(logits.float())
    values, order = probabilities.topk(min(TOP, len(facts.classes)), dim=1)
    labels = facts.mark_labels(batch.labels).tolist()
    rows = zip(probabilities, values.tolist(), order.tolist(), labels, batch.label_names, strict=True)
    predictions = []
    for row, top, indices, label, words in rows:
        ranked = tuple((facts.classes[index], value) for index, value in zip(indices, top, strict=True))
        likeliest = Prediction(
            index=indices[0],
            name=facts.classes[indices[0]],
            probability=top[0] if facts.has_probabilities else math.nan,
            top=ranked,
            label=words,
        )
        if facts.score == "sigmoid":
            predictions.append(_add_labels(likeliest, facts, row.tolist(), label))
        else:
            correct = None if label == UNKNOWN or not facts.has_probabilities else label == likeliest.index
            predictions.append(replace(likeliest, correct=correct))
    return predictions


def _add_labels(likeliest: Prediction, facts: Facts, probabilities: list[float], marks: list[int]) -> Prediction:
    """The prediction of several labels: those above the threshold, of which all must be the true ones to be correct."""
    predicted, classes = list_labels(probabilities, facts.threshold), facts.classes
    true = None if UNKNOWN in marks else [index for index, mark in enumerate(marks) if mark > 0]
    wrong = None if true is None else len(set(predicted) ^ set(true))
    names = tuple(classes[index] for index in predicted)
    return replace(
        likeliest,
        name=", ".join(names) or NO_LABEL,
        labels=names,
        true_labels=None if true is None else tuple(classes[index] for index in true),
        correct=None if wrong is None else not wrong,
        label_accuracy=None if wrong is None else 1 - wrong / len(classes),
    )


def explain_batch(
    classifier: Classifier, batch: Batch, logits: Tensor, explainer: Explainer, target: object
) -> tuple[list[Explanation], list[Skipped]]:
    """Explain the images of a batch.

    Args:
        classifier: The network to explain.
        batch: Images with their true classes.
        logits: Outputs of the network, [batch, classes].
        explainer: The method.
        target: What is explained, see `seewhy.core.target_choice.parse_targets`.

    Returns:
        (an explanation for each image and target, image by image; images without one of the targets).
    """
    choices = parse_targets(target, classifier.facts.classes)
    explainer = explainer.resolve(classifier, (batch.images.shape[2], batch.images.shape[3]))
    predictions = build_predictions(classifier, batch, logits)
    by_image: list[list[Explanation]] = [[] for _ in batch.names]
    skipped = []
    for choice in choices:
        chosen = choose(choice, logits, batch.labels, classifier.facts)
        skipped += [Skipped(batch.paths[row], reason) for row, reason in chosen.left_out]
        if not chosen.rows:
            continue
        images, gradients = batch.images[chosen.rows], classifier.passes.backward
        with name_images([batch.names[row] for row in chosen.rows]):
            result = explainer.attribute(classifier, images, chosen.targets)
            saturated = find_saturated(classifier.facts, logits[chosen.rows])
            if classifier.passes.backward == gradients:
                saturated = torch.zeros_like(saturated)
            ties = measure_ties(explainer, classifier, images, chosen.targets, result.maps)
            limits = measure_saturation(explainer, classifier, images, chosen.targets, result.maps, saturated)
        for position, (row, target_of_image) in enumerate(zip(chosen.rows, chosen.described, strict=True)):
            suffix = ""
            if len(choices) > 1 or not choice.terms:
                suffix = name_suffix(choice.words if choice.terms else f"labels {target_of_image.name}")
            attribution = result.maps[position].cpu()
            facts = {key: float(values[position]) for key, values in result.facts.items()}
            explanation = Explanation(
                name=f"{batch.names[row]}{SEPARATOR}{suffix}" if suffix else batch.names[row],
                path=batch.paths[row],
                image=batch.images[row].detach().cpu(),
                prediction=predictions[row],
                target=target_of_image,
                attribution=attribution,
                explainer=explainer.name,
                parameters=explainer.parameters,
                signed=explainer.signed,
                classifier=f"{classifier.name} ({classifier.origin})",
                facts=facts,
                warnings=find_warnings(explainer, attribution, facts, ties[position], limits[position]),
                display=classifier.facts.display,
                suffix=suffix,
            )
            by_image[row].append(explanation)
    return [explanation for explanations in by_image for explanation in explanations], skipped


def measure_ties(
    explainer: Explainer, classifier: Classifier, images: Images, targets: Targets | Classes, maps: Attributions
) -> list[float]:
    """Measure how much of a map of gradients is decided by rounding where an image is flat.

    Where a picture has one colour all values of a pooling window are equal, and units of a network without biases stand at
    their kinks: the gradient goes where rounding sends it. Images of which a part is flat are explained once more, off by
    as much as rounding can make of their values.

    Args:
        explainer: The method.
        classifier: The network.
        images: Float [batch, channels, height, width] in [0, 1].
        targets: A target for each image.
        maps: What the method gave, [batch, height, width].

    Returns:
        For each image the L2 distance of both maps as a share of the larger; 0 for images without flat parts, and where the
        method takes no gradient at the image.
    """
    shares = [0.0] * len(images)
    rows = find_flat(images).nonzero().flatten() if explainer.is_local else images.new_zeros(0, dtype=torch.int64)
    if len(rows):
        signs = torch.randint(2, images.shape[1:], generator=torch.Generator().manual_seed(0)) * 2 - 1
        narrow = find_narrow_type(images.device.type)
        size = estimate_relative_rounding(classifier, images) if narrow is None else torch.finfo(narrow).eps
        nudged = images[rows] + signs.to(images) * size
        twins = explainer.attribute(classifier, nudged, Targets.of(targets)[rows]).maps
        for row, first, twin in zip(rows.tolist(), maps[rows].double(), twins.double(), strict=True):
            largest = float(torch.maximum(first.norm(), twin.norm()))
            shares[row] = float((first - twin).norm()) / largest if largest else 0.0
    return shares


def find_flat(images: Images) -> Tensor:
    """Find the images of which at least the share `FLAT` of the pixels has the colour of both neighbours before it.

    Args:
        images: Float [batch, channels, height, width].

    Returns:
        Bool [batch].
    """
    same = (images[:, :, 1:, 1:] == images[:, :, :-1, 1:]) & (images[:, :, 1:, 1:] == images[:, :, 1:, :-1])
    return same.all(1).flatten(1).double().mean(1) >= FLAT


def find_saturated(facts: Facts, logits: Tensor) -> Tensor:
    """Find rows of probabilities, or of their logarithms, of which the largest is so near 1 that rounding decides the rest.

    Behind a softmax the gradient holds 1 - p, which is rounded to multiples of half a unit of 1.

    Args:
        facts: Of the classifier.
        logits: Its outputs [n, classes].

    Returns:
        Bool [n]: true where that rounding is more than the share `DECIDED` of 1 - p.
    """
    if facts.gives_probabilities:
        likeliest = logits.amax(1)
    elif facts.score == "softmax" and logits.shape[1] > 1:
        normalised = logits.float().logsumexp(1).abs() <= NORMALISED
        likeliest = logits.amax(1).exp() * normalised
    else:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    return 1 - likeliest <= torch.finfo(logits.dtype).eps / 2 / DECIDED


def measure_saturation(
    explainer: Explainer,
    classifier: Classifier,
    images: Images,
    targets: Targets | Classes,
    maps: Attributions,
    saturated: Tensor,
) -> list[float]:
    """Measure how much of a map of gradients the precision of the outputs decides, by computing it in double precision.

    Args:
        explainer: The method.
        classifier: The network.
        images: Float [batch, channels, height, width] in [0, 1].
        targets: A target for each image.
        maps: What the method gave, [batch, height, width].
        saturated: The images to look at, bool [batch].

    Returns:
        For each image the L2 distance of both maps as a share of the larger; 0 for all others.
    """
    shares, rows = [0.0] * len(images), saturated.nonzero().flatten()
    if not len(rows) or classifier.mean.dtype == torch.float64:
        return shares
    device = "cpu" if images.device.type == "mps" else images.device
    try:
        options = {"cam_layer": classifier.cam_layer, "influence_layer": classifier.influence_layer, "fold": False}
        with torch.inference_mode(False):
            network = copy.deepcopy(classifier.network).to(device, torch.float64)
            twin = Classifier(network, classifier.facts, name=classifier.name, **options)  # type: ignore[arg-type]
            twin = twin.to(device)
        chosen = Targets(Targets.of(targets).values[rows].to(device))
        twins = explainer.attribute(twin.eval(), images[rows].to(device), chosen).maps
    except (
        RuntimeError,
        TypeError,
        UserError,
    ):  # a network that cannot be copied, or has single precision written into it
        return [float(each) for each in saturated.tolist()]
    for row, first, precise in zip(rows.tolist(), maps[rows].double().to(device), twins.double(), strict=True):
        largest = float(torch.maximum(first.norm(), precise.norm()))
        shares[row] = float((first - precise).norm()) / largest if largest else 0.0
    return shares


def find_warnings(
    explainer: Explainer, attribution: Tensor, facts: dict[str, float], ties: float = 0.0, saturation: float = 0.0
) -> tuple[str, ...]:
    """Find what a reader must know before trusting a map.

    Args:
        explainer: The method.
        attribution: Float [height, width].
        facts: Numbers about the map.
        ties: The share of it that `measure_ties` gave.
        saturation: The share of it that `measure_saturation` gave.

    Returns:
        A sentence for each.
    """
    warnings = []
    if not bool(attribution.isfinite().all()):
        warnings.append(f"the map has {int((~attribution.isfinite()).sum())} values that are not finite")
    elif not bool(attribution.any()):
        warnings.append(_describe_zero(facts))
    elif attribution.numel() > 1 and _is_even(attribution):
        layer = getattr(explainer, "layer", None)
        earlier = f"; to layer {layer!r} every place may count the same: set explainer.layer to an earlier one"
        warnings.append("the map is the same everywhere: it says nothing about where" + (earlier if layer else ""))
    if ties > DECIDED:
        warnings.append(
            f"rounding decides {100 * min(ties, 1):.0f} % of the map: where the picture is flat the values that the network "
            "compares are equal; explainer=smooth_grad averages over noisy copies, in which they are not"
        )
    if saturation > DECIDED:
        warnings.append(
            f"rounding decides {100 * min(saturation, 1):.0f} % of the map: the probability is so near 1 that single "
            "precision does not tell what is left; give the network without its last softmax or sigmoid, or in double "
            "precision"
        )
    return (*warnings, *explainer.list_warnings(facts))


def _is_even(attribution: Tensor) -> bool:
    """Whether a map has one value everywhere, up to the rounding of what was averaged and enlarged."""
    return bool(attribution.max() - attribution.min() <= EVEN * attribution.abs().max())


def _describe_zero(facts: dict[str, float]) -> str:
    if not facts.get("largest"):
        return "the map is zero everywhere"
    return (
        f"the map counts as zero: its largest value {facts['largest']:.1g} lies below the floor of rounding "
        f"{facts['floor']:.1g}"
    )
