"""Representer points of the images of a run, with their tables and figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from seewhy.analyses.representers.points import RepresenterPoints, RunningTop, compute_representer_points
from seewhy.core.errors import UserError
from seewhy.core.facts import select_display
from seewhy.core.files import RunFolder
from seewhy.core.targets import UNKNOWN, choose_targets
from seewhy.core.types import Batch, Classes, Prediction
from seewhy.data.loading import TrainingSet
from seewhy.explainers.batch import build_predictions
from seewhy.models.classifier import Classifier
from seewhy.plots import heatmaps
from seewhy.plots.canvas import Drawing, Page
from seewhy.plots.explanation import Lines, describe_verdict
from seewhy.plots.heatmaps import FRAME, INK, MUTED, RIGHT, WRONG
from seewhy.plots.text import LEADING, format_number, format_probability, shorten, wrap

COLOURS = ("#8a8a8a", "#0072b2", "#d55e00", "#009e73")
BAR_MARGIN, HEIGHT, BAR, BAR_GAP, AXIS = 44, 420, 42, 40, 110


def draw_share_bars(title: str, note: str, groups: Sequence[str], kinds: Mapping[str, Sequence[float]]) -> Drawing:
    """One group of bars for each name in `groups`, a bar for each kind with its value on top; NaN leaves a gap."""
    side = len(kinds) * BAR + BAR_GAP
    page = Page(max(900, 2 * BAR_MARGIN + AXIS + len(groups) * side))
    room = page.points(page.width - 2 * BAR_MARGIN)
    y = page.lines(BAR_MARGIN, BAR_MARGIN * 0.6, wrap(title, room, TITLE, True), TITLE, weight="bold")
    y = page.lines(BAR_MARGIN, y, wrap(note, room, BODY), BODY, MUTED)
    x = float(BAR_MARGIN)
    for kind, colour in zip(kinds, COLOURS, strict=False):
        page.box(x, y + 10, 24, 24, colour)
        page.lines(x + 34, y + 2, [kind], BODY)
        x += 34 + page.pixels(6.2 * len(kind)) + BAR_GAP
    top = y + 90
    for tick in (0, 0.25, 0.5, 0.75, 1):
        level = top + HEIGHT * (1 - tick)
        page.box(BAR_MARGIN + AXIS - 20, level, page.width - 2 * BAR_MARGIN - AXIS + 20, 2 if not tick else 1, FRAME)
        page.text(BAR_MARGIN + AXIS - 30, level + page.pixels(0.36 * SMALL), f"{tick:g}", SMALL, MUTED, ha="right")
    for position, name in enumerate(groups):
        left = BAR_MARGIN + AXIS + position * side
        for bar, (values, colour) in enumerate(zip(kinds.values(), COLOURS, strict=False)):
            _bar(page, left + bar * BAR, top, values[position], colour)
        words = shorten(name, page.points(side - 6), SMALL)
        page.text(left + len(kinds) * BAR / 2, top + HEIGHT + 34, words, SMALL, INK, ha="center")
    return page.finish(top + HEIGHT + 34 + BAR_MARGIN)


def _bar(page: Page, left: float, top: float, value: float, colour: str) -> None:
    if value == value:
        page.box(left + 2, top + HEIGHT * (1 - value), BAR - 4, HEIGHT * value, colour)
        label = f"{value:.2f}".removeprefix("0")
        page.text(left + BAR / 2, top + HEIGHT * (1 - value) - 6, label, SMALL, MUTED, ha="center")


SIDE, GAP, MARGIN = 192, 22, 44
TITLE, BODY, SMALL = 11.0, 8.5, 7.0


class Tile(NamedTuple):
    """A training image under its class (in `ink`) and over a note, such as its representer value."""

    image: Tensor
    heading: str
    note: str
    ink: str = INK


def make_thumbnail(image: Tensor, side: int) -> NDArray[np.float32]:
    """[3, height, width] as RGB of at most `side` pixels: averaged down, or as it is where it is smaller."""
    longest = max(image.shape[1:])
    if longest > side:
        size = [max(1, round(length * side / longest)) for length in image.shape[1:]]
        image = functional.resize(image, size, antialias=True)
    return heatmaps.to_rgb(image)


def _paint(page: Page, x: float, y: float, side: int, image: Tensor) -> None:
    """The image in the middle of a square of `side` pixels, with its proportions."""
    longest = max(image.shape[1:])
    height, width = (max(1, round(length * side / longest)) for length in image.shape[1:])
    page.picture(x + (side - width) / 2, y + (side - height) / 2, width, height, make_thumbnail(image, side))


def _tile(page: Page, x: float, y: float, tile: Tile) -> None:
    room, step = page.points(SIDE), page.pixels(LEADING * SMALL)
    page.lines(x, y, [shorten(tile.heading, room, SMALL)], SMALL, tile.ink)
    _paint(page, x, y + step, SIDE, tile.image)
    page.lines(x, y + step + SIDE + 4, [shorten(tile.note, room, SMALL)], SMALL, MUTED)


def _tile_height(page: Page) -> float:
    return SIDE + 2 * page.pixels(LEADING * SMALL) + 4


def draw_representer_gallery(
    image: Tensor, titles: Lines, excitatory: Sequence[Tile], inhibitory: Sequence[Tile], note: str
) -> Drawing:
    """The test image [3, height, width] under `titles`, and a row of tiles for each sign, strongest first."""
    columns = max(len(excitatory), len(inhibitory), 1)
    large = 2 * SIDE
    page = Page(2 * MARGIN + large + GAP + columns * (SIDE + GAP))
    room, y = page.points(page.width - 2 * MARGIN), MARGIN * 0.6
    for position, (text, ink) in enumerate(titles):
        size, weight = (TITLE, "bold") if not position else (BODY, "normal")
        y = page.lines(MARGIN, y, wrap(text, room, size, not position), size, ink, weight=weight)
    y += GAP / 2
    top, step = y, page.pixels(LEADING * BODY)
    rows = (("for the target: excitatory", excitatory, RIGHT), ("against it: inhibitory", inhibitory, WRONG))
    for heading, tiles, ink in rows:
        left = MARGIN + large + GAP
        page.lines(left, y, [heading], BODY, ink, weight="bold")
        for column, tile in enumerate(tiles):
            _tile(page, left + column * (SIDE + GAP), y + step, tile)
        y += step + _tile_height(page) + GAP
    _paint(page, MARGIN, top + (y - GAP - top - large) / 2, large, image)
    y = page.lines(MARGIN, y, wrap(note, room, SMALL), SMALL, MUTED)
    return page.finish(y + MARGIN * 0.6)


def draw_importance_gallery(tiles: Sequence[Tile], title: str, note: str, columns: int = 5) -> Drawing:
    """The tiles in rows, largest first."""
    page = Page(2 * MARGIN + columns * (SIDE + GAP) - GAP)
    room = page.points(page.width - 2 * MARGIN)
    y = page.lines(MARGIN, MARGIN * 0.6, wrap(title, room, TITLE, True), TITLE, weight="bold")
    y = page.lines(MARGIN, y, wrap(note, room, BODY), BODY, MUTED) + GAP / 2
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        _tile(page, MARGIN + column * (SIDE + GAP), y + row * (_tile_height(page) + GAP), tile)
    return page.finish(y + -(-len(tiles) // columns) * (_tile_height(page) + GAP) + MARGIN * 0.4)


def format_signed(value: float) -> str:
    """Three significant digits with their sign."""
    return ("+" if value > 0 else "") + format_number(value)


def draw_point_figure(
    points: RepresenterPoints,
    data: TrainingSet,
    row: int,
    image: Tensor,
    name: str,
    prediction: Prediction,
    target: str,
    classes: Sequence[str],
    display: Sequence[int] = (),
) -> Drawing:
    """The test image with the training images that speak most for and most against its target."""
    prediction_text, truth = (
        f"predicted: {prediction.name} {format_probability(prediction.probability)}",
        describe_verdict(prediction),
    )
    titles = [(f"representer points for {target}", INK), (f"image: {name}  ·  {prediction_text}", INK)]
    titles += [truth] if truth[0] else []
    note = (
        f"value = alpha x (features of the training image . features of this image); the values of all "
        f"{len(points.training.names):,} training images add up to {format_signed(float(points.strongest.total[row]))}, the "
        f"logit of {target} in the last layer, refitted with L2 to {points.fit_to} (Pearson "
        f"{points.rebuilt['test'].pearson:.4f} with the network's own probabilities)"
    )
    top = points.strongest
    excitatory = _tiles(data, top.excitatory, row, 1, target, classes, display)
    inhibitory = _tiles(data, top.inhibitory, row, -1, target, classes, display)
    return draw_representer_gallery(select_display(image, display), titles, excitatory, inhibitory, note)


def _tiles(
    data: TrainingSet, top: RunningTop, row: int, turn: int, target: str, classes: Sequence[str], display: Sequence[int]
) -> list[Tile]:
    pairs = zip(top.columns[row].tolist(), top.values[row].tolist(), strict=True)
    entries = [(position, turn * value) for position, value in pairs if value > 0]
    if not entries:
        return []
    batch = data.training_batch([position for position, _ in entries])
    words = [classes[label] for label in batch.labels.tolist()]
    return [
        Tile(picture, word, format_signed(value), INK if word == target else MUTED)
        for picture, word, (_, value) in zip(select_display(batch.images, display), words, entries, strict=True)
    ]


def draw_importance_figure(
    points: RepresenterPoints, data: TrainingSet, classes: Sequence[str], count: int = 20, display: Sequence[int] = ()
) -> Drawing:
    """The training images whose label fits the features least."""
    order = points.importance.argsort(descending=True, stable=True)[:count].tolist()
    batch = data.training_batch(order)
    probability, predicted = points.training.probabilities[order].max(1)
    tiles = [
        Tile(picture, f"label: {classes[label]}", f"{classes[index]} {format_probability(p)}")
        for picture, label, index, p in zip(
            select_display(batch.images, display),
            batch.labels.tolist(),
            predicted.tolist(),
            probability.tolist(),
            strict=True,
        )
    ]
    title = f"The {len(tiles)} most influential of {len(points.training.names):,} training images"
    note = (
        "largest |alpha| for their own label in the last layer fitted to the labels: mislabelled and unusual images come "
        "first; below each picture what the network says"
    )
    return draw_importance_gallery(tiles, title, note)


def draw_consistency_figure(points: RepresenterPoints, labels: Tensor, classes: Sequence[str]) -> Drawing:
    """Bars of the class consistency in both spaces, over all test images and (up to 20 classes) for each class."""
    present = [index for index in range(len(classes)) if bool((labels == index).any())]
    present = present if len(present) <= 20 else []
    kinds = {
        f"{space} space": [float(values.nanmean()), *(float(values[labels == index].mean()) for index in present)]
        for space, values in points.consistency.items()
    }
    labelled = int((labels >= 0).sum())
    title = "Class consistency of the nearest training images"
    note = (
        f"share of the {points.training.nearest.top.count} training images with the largest cosine that are of the "
        f"test image's own class; {labelled:,} test images"
    )
    return draw_share_bars(title, note, ["all", *(classes[index] for index in present)], kinds)


@dataclass(frozen=True)
class RepresenterReport:
    """Representer points of the test images that have a target, in the order of the loop.

    Attributes:
        points: Representer values, fits and consistency.
        data: The training set, whose pictures the figures show.
        images: Test images, float32 [m, channels, height, width] in [0, 1].
        names: Names of the test images.
        targets: Target class of each, int64 [m].
        labels: True class of each, int64 [m], -1 where it is unknown.
        predictions: What the classifier says of each.
        classes: Names of the classes.
        seconds: Time that the computation took.
        display: The channels that figures show, as in `Facts`.
    """

    points: RepresenterPoints
    data: TrainingSet
    images: Tensor
    names: list[str]
    targets: Tensor
    labels: Tensor
    predictions: list[Prediction]
    classes: Sequence[str]
    seconds: float
    display: tuple[int, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Summarise the points for the run's record.

        Returns:
            Numbers by name: correlations, consistency, counts and seconds.
        """
        return self.points.facts() | {"test_images": len(self.names), "seconds": round(self.seconds, 3)}

    def write(self, folder: RunFolder) -> None:
        """Write representers.csv, importance.csv and consistency.csv.

        Args:
            folder: The run folder.
        """
        rows = build_point_rows(self.points, self.names, self.targets, self.classes)
        folder.write_csv("representers.csv", POINTS, rows)
        folder.write_csv("importance.csv", IMPORTANCE, build_importance_rows(self.points, self.classes))
        folder.write_csv("consistency.csv", CONSISTENCY, build_consistency_rows(self.points, self.names))

    def figures(self, pictures: int) -> Iterator[tuple[str, Drawing]]:
        """Draw the most influential training images, the class consistency and the points of the first test images.

        Args:
            pictures: How many test images get a figure.

        Yields:
            Pairs of name and figure, drawn one at a time.
        """
        yield "importance", draw_importance_figure(self.points, self.data, self.classes, display=self.display)
        if bool((self.labels != UNKNOWN).any()):
            yield "consistency", draw_consistency_figure(self.points, self.labels, self.classes)
        for row, name in enumerate(self.names[:pictures]):
            target = self.classes[int(self.targets[row])]
            arguments = self.points, self.data, row, self.images[row], name, self.predictions[row], target, self.classes
            yield f"points_{name}", draw_point_figure(*arguments, display=self.display)


def build_report(
    classifier: Classifier,
    data: TrainingSet,
    batches: Sequence[Batch],
    logits: Sequence[Tensor],
    policy: str | int,
    **options: Any,
) -> RepresenterReport:
    """Compute the representer points of the images of all batches.

    Args:
        classifier: The network that is explained; it is left as it was.
        data: Its training set.
        batches: The test images.
        logits: Outputs [n, classes] of each batch.
        policy: Which class of each image is explained, as in `target=`.
        **options: Further arguments of `compute_representer_points`.

    Returns:
        The report of the images that have a target.

    Raises:
        UserError: No image has a target, or the refitted layer does not stand for the network.
    """
    start, classes = time.perf_counter(), classifier.facts.classes
    images, labels = torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])
    targets = choose_targets(policy, torch.cat(list(logits)), labels, classes)
    targeted = (targets != UNKNOWN).nonzero().flatten()
    if not len(targeted):
        raise UserError(f"target={policy}: the true class of every test image is unknown; set target=predicted")
    predictions = [
        prediction
        for batch, batch_logits in zip(batches, logits, strict=True)
        for prediction in build_predictions(classifier, batch, batch_logits)
    ]
    names = [name for batch in batches for name in batch.names]
    images, targets, labels = images[targeted], targets[targeted], labels[targeted]
    points = compute_representer_points(classifier, data, images, targets, labels, **options)
    rows = targeted.tolist()
    selected = [names[row] for row in rows], targets.cpu(), labels.cpu(), [predictions[row] for row in rows]
    seconds, display = time.perf_counter() - start, classifier.facts.display
    return RepresenterReport(points, data, images, *selected, classes, seconds, display)


POINTS = ("image", "target", "sign", "rank", "training_image", "training_class", "value", "coefficient")
IMPORTANCE = ("rank", "training_image", "class", "importance", "loss", "predicted", "probability")
CONSISTENCY = ("image", "input", "feature")


def build_point_rows(
    points: RepresenterPoints, names: Sequence[str], targets: Classes, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Each test image's strongest training images, excitatory ones first."""
    training, alpha = points.training, points.fit.coefficients
    for row, (name, target) in enumerate(zip(names, targets.tolist(), strict=True)):
        for sign, top, turn in (
            ("excitatory", points.strongest.excitatory, 1),
            ("inhibitory", points.strongest.inhibitory, -1),
        ):
            pairs = zip(top.columns[row].tolist(), top.values[row].tolist(), strict=True)
            for rank, (position, value) in enumerate(pairs, 1):
                cells = name, classes[target], sign, rank, training.names[position]
                label = classes[int(training.labels[position])]
                numbers = f"{turn * value:.8g}", f"{float(alpha[position, target]):.8g}"
                yield dict(zip(POINTS, (*cells, label, *numbers), strict=True))


def build_importance_rows(points: RepresenterPoints, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All training images, the one whose label fits least first, with the network's own loss of the label beside."""
    training, losses = points.training, points.training.compute_loss()
    probability, predicted = training.probabilities.max(1)
    for rank, position in enumerate(points.importance.argsort(descending=True, stable=True).tolist(), 1):
        cells = rank, training.names[position], classes[int(training.labels[position])]
        sizes = f"{float(points.importance[position]):.8g}", f"{float(losses[position]):.8g}"
        numbers = *sizes, classes[int(predicted[position])]
        yield dict(zip(IMPORTANCE, (*cells, *numbers, f"{float(probability[position]):.4f}"), strict=True))


def build_consistency_rows(points: RepresenterPoints, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The class consistency of each test image in both spaces; empty where its class is unknown."""
    for row, name in enumerate(names):
        shares = [float(points.consistency[space][row]) for space in ("input", "feature")]
        yield dict(zip(CONSISTENCY, (name, *("" if share != share else f"{share:g}" for share in shares)), strict=True))
