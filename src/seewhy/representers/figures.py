"""Representer points -> the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seewhy.colours import INK, MUTED
from seewhy.data.training_set import TrainingSet
from seewhy.drawing import Drawing
from seewhy.explanation import Prediction
from seewhy.representers.bars import share_bars
from seewhy.representers.gallery import Tile, importance_gallery, representer_gallery, signed
from seewhy.representers.points import RepresenterPoints
from seewhy.representers.running_top import RunningTop
from seewhy.views import share, verdict


def point_figure(
    points: RepresenterPoints,
    data: TrainingSet,
    row: int,
    image: Tensor,
    name: str,
    prediction: Prediction,
    target: str,
    classes: Sequence[str],
) -> Drawing:
    """The test image with the training images that speak most for and most against its target."""
    said, truth = f"predicted: {prediction.name} {share(prediction.probability)}", verdict(prediction)
    titles = [(f"representer points for {target}", INK), (f"image: {name}  ·  {said}", INK)]
    titles += [truth] if truth[0] else []
    note = (
        f"value = alpha x (features of the training image . features of this image); the values of all "
        f"{len(points.training.names):,} training images add up to {signed(float(points.strongest.total[row]))}, the "
        f"logit of {target} in the last layer, refitted with L2 to {points.fit_to} (Pearson "
        f"{points.rebuilt['test'].pearson:.4f} with the network's own probabilities)"
    )
    top = points.strongest
    excitatory = _tiles(data, top.excitatory, row, 1, target, classes)
    inhibitory = _tiles(data, top.inhibitory, row, -1, target, classes)
    return representer_gallery(image, titles, excitatory, inhibitory, note)


def _tiles(data: TrainingSet, top: RunningTop, row: int, turn: int, target: str, classes: Sequence[str]) -> list[Tile]:
    pairs = zip(top.columns[row].tolist(), top.values[row].tolist(), strict=True)
    kept = [(position, turn * value) for position, value in pairs if value > 0]
    if not kept:
        return []
    batch = data.training_batch([position for position, _ in kept])
    words = [classes[label] for label in batch.labels.tolist()]
    return [
        Tile(picture, word, signed(value), INK if word == target else MUTED)
        for picture, word, (_, value) in zip(batch.images, words, kept, strict=True)
    ]


def importance_figure(points: RepresenterPoints, data: TrainingSet, classes: Sequence[str], count: int = 20) -> Drawing:
    """The training images whose label fits the features least."""
    order = points.importance.argsort(descending=True, stable=True)[:count].tolist()
    batch = data.training_batch(order)
    probability, predicted = points.training.probabilities[order].max(1)
    tiles = [
        Tile(picture, f"label: {classes[label]}", f"{classes[said]} {share(p)}")
        for picture, label, said, p in zip(
            batch.images, batch.labels.tolist(), predicted.tolist(), probability.tolist(), strict=True
        )
    ]
    title = f"The {len(tiles)} most influential of {len(points.training.names):,} training images"
    note = (
        "largest |alpha| for their own label in the last layer fitted to the labels: mislabelled and unusual images come "
        "first; below each picture what the network says"
    )
    return importance_gallery(tiles, title, note)


def consistency_figure(points: RepresenterPoints, labels: Tensor, classes: Sequence[str]) -> Drawing:
    """Bars of the class consistency in both spaces, over all test images and (up to 20 classes) for each class."""
    present = [index for index in range(len(classes)) if bool((labels == index).any())]
    present = present if len(present) <= 20 else []
    kinds = {
        f"{space} space": [float(values.nanmean()), *(float(values[labels == index].mean()) for index in present)]
        for space, values in points.consistency.items()
    }
    known = int((labels >= 0).sum())
    title = "Class consistency of the nearest training images"
    note = (
        f"share of the {points.training.nearest.top.count} training images with the largest cosine that are of the "
        f"test image's own class; {known:,} test images"
    )
    return share_bars(title, note, ["all", *(classes[index] for index in present)], kinds)
