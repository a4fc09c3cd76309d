"""Networks trained on planted data, and the proof that they use the planted feature and nothing like it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from scipy import stats
from torch import Tensor

from seewhy.analyses.ground_truth.base import GroundTruth, Planted, PlantedImages, Probe, Shape
from seewhy.analyses.ground_truth.pictures import DisconnectedCells
from seewhy.analyses.ground_truth.pool import Pool
from seewhy.core.settings import LARGEST_SEED
from seewhy.core.types import Images
from seewhy.models.classifier import Classifier
from seewhy.models.weights import hash_weights

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

BATCH = 50
"""Test images in the network at once."""
LEVEL = 0.95
APART = 1_000_003
"""Seeds of the training images of two networks lie so far apart."""


@dataclass(frozen=True)
class Proof:
    """What a trained network does with the feature, without it, and with others in its place.

    Attributes:
        n: Test images of each probe.
        chance: Share of right answers without any knowledge.
        shares: For each probe the share of images that get the class which the feature would mean; where no class was
            meant, that of the most frequent class but the first.
        reason: Why the network does not count; empty where it uses the feature.
        seconds: That training and proof took.
    """

    n: int
    chance: float
    shares: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0

    @property
    def used(self) -> bool:
        """Whether the network uses the feature, and nothing else that was tried."""
        return not self.reason


def train_network(
    classifier: Classifier, trainer: Trainer, kind: GroundTruth, seed: int, pool: Pool | None = None
) -> Classifier:
    """Train a classifier on planted images, every batch of which is new.

    Args:
        classifier: With random weights and its optimisation; it is trained in place.
        trainer: For one epoch.
        kind: Of the data.
        seed: Of what the network draws while it is trained, and of the training images.
        pool: The pictures, where the kind needs some.

    Returns:
        The classifier in evaluation mode.
    """
    own = kind.replace(seed=(kind.seed + APART * seed) % LARGEST_SEED)
    images = PlantedImages(own, "train", kind.steps * kind.batch_size, get_shape(classifier), pool)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no `val_dataloader`")  # networks are proved, not validated
        torch.manual_seed(seed)
        classifier.train()
        trainer.fit(classifier, images.load(kind.batch_size))
    classifier.cpu().eval()
    classifier.origin = "trained on planted data"
    classifier.weights_sha256 = hash_weights(classifier.network)
    return classifier


def get_shape(classifier: Classifier) -> Shape:
    """Get the shape of a classifier's images.

    Args:
        classifier: Any.

    Returns:
        (channels, height, width).
    """
    return (classifier.facts.channels, *classifier.facts.shape)


def prove_use(classifier: Classifier, kind: GroundTruth, n: int, pool: Pool | None = None) -> Proof:
    """Measure whether a network uses the planted feature.

    It does where all of these hold: it reaches the accuracy of the kind; without the feature the share of its class falls
    to chance (the lower end of the 95 % interval is not above it); inserted into other images, the prediction follows in
    the share of the kind, and more than by chance; and no other thing in its place is followed by more than half of that,
    counted from chance.

    Args:
        classifier: The trained network.
        kind: Of the data.
        n: Test images of each probe.
        pool: The pictures, where the kind needs some.

    Returns:
        The proof.
    """
    shares: dict[str, float] = {}
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for numbers in split(range(n)):
        for probe in kind.build_probes(numbers, get_shape(classifier), pool):
            predicted = predict(classifier, probe.images).argmax(1)
            right, votes = _count(probe, predicted, len(kind.classes))
            sums[probe.name] = sums.get(probe.name, torch.zeros(())) + right
            counts[probe.name] = counts.get(probe.name, torch.zeros(len(kind.classes))) + votes
            shares[probe.name] = float(sums[probe.name]) / n
            if bool((probe.labels < 0).all()):
                shares[probe.name] = float(counts[probe.name][1:].max()) / n
    chance = 1 / len(kind.classes)
    return Proof(n, chance, shares, find_fault(shares, kind, chance, n))


def _count(probe: Probe, predicted: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return (predicted == probe.labels).sum(), torch.bincount(predicted, minlength=classes)


def find_fault(shares: dict[str, float], kind: GroundTruth, chance: float, n: int) -> str:
    """Find why a network does not count.

    Args:
        shares: Of the probes, see `Proof`.
        kind: Of the data, with what it demands.
        chance: Share of right answers without any knowledge.
        n: Test images of each probe.

    Returns:
        The reason; empty where it counts.
    """
    whole, without, follow = shares["with"], shares["without"], shares["inserted"]
    if whole < kind.accuracy:
        return (
            f"accuracy {_percent(whole)} is below {_percent(kind.accuracy)}: it did not learn the task (more steps=?)"
        )
    if _find_low(without, n) > chance:
        return f"without the feature {_percent(without)} still get its class, chance is {_percent(chance)}"
    if follow < kind.follow:
        return f"inserted into others it is followed in {_percent(follow)}, less than {_percent(kind.follow)}"
    if _find_low(follow, n) <= chance:
        words = f"which is not told from chance, {_percent(chance)}"
        return f"inserted into others it is followed in {_percent(follow)}, {words}"
    limit = chance + (follow - chance) / 2
    firing = [f"{name} ({_percent(share)})" for name, share in shares.items() if share > limit]
    firing = [words for words in firing if words.rpartition(" (")[0] not in ("with", "without", "inserted")]
    return f"it follows other things in the place of the feature too: {', '.join(firing)}" if firing else ""


def _find_low(share: float, n: int) -> float:
    """The lower end of the 95 % interval of a share of n images."""
    return float(stats.binomtest(round(share * n), n).proportion_ci(LEVEL, method="wilson").low)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def predict(classifier: Classifier, images: Images) -> Tensor:
    """Compute class scores without a graph.

    Args:
        classifier: Any.
        images: float32 [n, channels, height, width] in [0, 1].

    Returns:
        [n, classes].
    """
    with torch.no_grad(), classifier.frozen():
        return torch.cat([classifier(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def split(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Split numbers into batches.

    Args:
        numbers: Any.

    Yields:
        At most 50 of them.
    """
    for start in range(0, len(numbers), BATCH):
        yield list(numbers[start : start + BATCH])


def prepare_explained(classifier: Classifier, kind: GroundTruth) -> Classifier:
    """Prepare the network that is explained, which sees disconnected cells where the kind has some.

    Args:
        classifier: The trained network.
        kind: Of the data.

    Returns:
        The same classifier, or one of two copies of it.
    """
    facts = kind.change_network(classifier.facts)
    if facts is classifier.facts:
        return classifier
    cells = DisconnectedCells(classifier.network, copy.deepcopy(classifier.network)).eval()
    layer = None if classifier.cam_layer is None else f"first.{classifier.cam_layer}"
    return Classifier(
        cells,
        facts,
        name=classifier.name,
        origin=classifier.origin,
        weights_sha256=classifier.weights_sha256,
        cam_layer=layer,
        channels_last=classifier.channels_last,
    )


def select_explained(
    classifier: Classifier, kind: GroundTruth, count: int, pool: Pool | None = None
) -> tuple[list[int], Planted]:
    """Select the images that are explained: those with a feature whose class is predicted, of four times as many.

    Args:
        classifier: The network that is explained.
        kind: Of the data.
        count: Most images.
        pool: The pictures, where the kind needs some.

    Returns:
        (their numbers, the images).
    """
    shape = get_shape(classifier)
    chosen: list[int] = []
    kept: list[Planted] = []
    for numbers in split(range(4 * count)):
        planted = kind.plant("explain", numbers, shape, pool)
        right = (predict(classifier, planted.images).argmax(1) == planted.labels) & planted.masks.flatten(1).any(1)
        if kind.by_change:
            before = next(each for each in kind.build_probes(numbers, shape, pool) if each.name == "without")
            right &= predict(classifier, before.images).argmax(1) != planted.labels
        rows = right.nonzero().flatten()[: count - len(chosen)]
        chosen += [numbers[row] for row in rows.tolist()]
        kept.append(Planted(*(values[rows] for values in planted)))
        if len(chosen) >= count:
            break
    return chosen, Planted(*(torch.cat(values) for values in zip(*kept, strict=True)))


def describe_shares(proof: Proof) -> dict[str, Any]:
    """Describe a proof as JSON holds it.

    Args:
        proof: Of a network.

    Returns:
        Its fields; shares rounded to six digits.
    """
    shares = {name: round(share, 6) for name, share in proof.shares.items() if not math.isnan(share)}
    rest = {"reason": proof.reason, "used": proof.used, "seconds": proof.seconds}
    return {"n": proof.n, "chance": proof.chance, "shares": shares, **rest}
