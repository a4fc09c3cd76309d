"""Features planted in pictures: a patch that decides the class, a picture among others in a grid, a tag on a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import MinLen
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.ground_truth.base import GroundTruth, Planted, Probe, Shape, check_size
from seewhy.analyses.ground_truth.pool import Part, Pool, cut
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.settings import OneOf, Share, Text, UnitInterval
from seewhy.core.types import Images

PATTERNS = ("stripes", "bars", "checks", "ring")
"""Patches that decide a class."""
DISTRACTORS = ("noise", "flat", "shuffled", "diagonal")
"""Patches without a class that a training shows."""
CELLS = 4
"""Squares along a side of a patch."""


def require_pool(pool: Pool | None) -> Pool:
    """Return the pictures of a kind that needs some.

    Args:
        pool: They, or None.

    Returns:
        The pictures.

    Raises:
        UserError: There are none.
    """
    if pool is None:
        raise UserError("this kind of planted data is made of pictures: pass a pool")
    return pool


ROWS, COLUMNS = np.indices((CELLS, CELLS))
SQUARES = {
    "stripes": ROWS % 2,
    "bars": COLUMNS % 2,
    "checks": (ROWS + COLUMNS) % 2,
    "ring": (ROWS % 3 == 0) | (COLUMNS % 3 == 0),
    "diagonal": (ROWS + COLUMNS) % 4 < 2,
    "ramp": COLUMNS / (CELLS - 1),
}
"""The squares of the patches that are the same in every image."""


def draw_patch(name: str, side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw a patch of 4x4 squares.

    Args:
        name: Of `PATTERNS`, `noise` (each square at random), `flat` (one grey), `shuffled` (the squares of a pattern in
            another order), `diagonal` (stripes), or `ramp` (from black to white), which no training shows.
        side: In pixels.
        generator: Of the image.

    Returns:
        [side, side] in [0, 1].
    """
    if name == "flat":
        values = np.full((CELLS, CELLS), generator.random())
    elif name == "noise":
        values = generator.random((CELLS, CELLS))
    elif name == "shuffled":
        pattern = SQUARES[PATTERNS[int(generator.integers(0, len(PATTERNS)))]]
        values = generator.permutation(pattern.ravel()).reshape(CELLS, CELLS)
    else:
        values = SQUARES[name]
    places = np.arange(side) * CELLS // side
    return values[places[:, None], places].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Patch(GroundTruth):
    """Cuts of pictures with a patch at a random place: one of four patterns decides; `none` has no patch or another.

    Half of the images of `none` have a patch of noise, of one grey, of diagonal stripes, or of a pattern's squares in
    another order, so that a network must tell the patterns, not where something was pasted. The mask is the square of the
    patch.

    Args:
        share: Of the shorter side of the image that a patch has as its side.
    """

    share: Share = 0.25

    needs_pictures: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """`none` and the patterns."""
        return ("none", *PATTERNS)

    def plant(self, part: str, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> Planted:
        """Make images; classes take turns."""
        masks = torch.zeros(len(numbers), *shape[1:], dtype=torch.bool)
        images, labels = [], [number % len(self.classes) for number in numbers]
        for number, label, mask in zip(numbers, labels, masks, strict=True):
            image, place, generator = self._draw(part, number, shape, require_pool(pool))
            name = PATTERNS[label - 1] if label else DISTRACTORS[int(generator.integers(0, len(DISTRACTORS)))]
            if label or generator.random() < 0.5:
                image[:, *place] = draw_patch(name, place[0].stop - place[0].start, generator)
            if label:
                mask[place] = True
            images.append(image)
        return Planted(torch.from_numpy(np.stack(images)), torch.tensor(labels), masks)

    def build_probes(self, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> list[Probe]:
        """Probe with the background alone, with the next class's patch, and with patches that mean nothing."""
        scenes = [self._draw("test", number, shape, require_pool(pool)) for number in numbers]
        labels = torch.tensor([1 + number % len(PATTERNS) for number in numbers])
        follow = labels % len(PATTERNS) + 1

        def paste(names: Sequence[str]) -> Images:
            pasted = [image.copy() for image, _, _ in scenes]
            for image, (_, place, generator), name in zip(pasted, scenes, names, strict=True):
                image[:, *place] = draw_patch(name, place[0].stop - place[0].start, generator)
            return torch.from_numpy(np.stack(pasted))

        unknown = torch.full((len(scenes),), -1)
        return [
            Probe("with", paste([PATTERNS[label - 1] for label in labels.tolist()]), labels),
            Probe("without", torch.from_numpy(np.stack([image for image, _, _ in scenes])), labels),
            Probe("inserted", paste([PATTERNS[label - 1] for label in follow.tolist()]), follow),
            *(Probe(name, paste([name] * len(scenes)), unknown) for name in (*DISTRACTORS, "ramp")),
        ]

    def _draw(
        self, part: str, number: int, shape: Shape, pool: Pool
    ) -> tuple[NDArray[np.float32], tuple[slice, slice], np.random.Generator]:
        """(background, place of the patch, generator for what is left to draw)."""
        check_size(shape, CELLS, "patch")
        generator, pictures = self.spawn(part, number), pool.get_part(part).pictures
        background = cut(pictures, int(generator.integers(0, len(pictures))), shape[1:], generator)
        side = max(CELLS, round(self.share * min(shape[1:])))
        top, left = (int(generator.integers(0, whole - side + 1)) for whole in shape[1:])
        return background, (slice(top, top + side), slice(left, left + side)), generator


@dataclass(frozen=True, kw_only=True)
class PictureGrid(GroundTruth):
    """2x2 pictures: one of two classes in one cell decides, the three other cells hold pictures of neither.

    The grid pointing game, for networks trained on such grids: no other cell says anything about the class. The mask is
    the cell that does. With `connected: false` it is DiFull: the trained network sees the first and the last cell of a grid
    twice as large, each through a copy of its own; the score of the first class comes from the first cell alone, that of
    the second from the last. Whatever the weights are, no attribution outside of its cell can be right there, and a method
    that is exact puts nothing there.

    Bohle, Fritz, Schiele: Convolutional dynamic alignment networks for interpretable classifications, CVPR 2021. Rao, Bohle,
    Schiele: Towards better understanding attribution methods, CVPR 2022.

    Args:
        pair: The two classes; None: the first two with pictures.
        connected: Whether every score sees all cells.
    """

    pair: Annotated[Sequence[Text], MinLen(2)] | None = None
    connected: bool = True

    needs_pictures: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The two classes."""
        return tuple(self.pair or ("first", "second"))

    @property
    def trained_as(self) -> GroundTruth:
        """Grids that are connected: cells are cut apart when a network is explained."""
        return self.replace(connected=True)

    def fit_pool(self, pool: Pool) -> GroundTruth:
        """Take the first two classes where none were named; UserError where there are no others to fill the grid."""
        names = pool.list_classes()
        chosen = list(self.pair or names[:2])
        if len(chosen) != 2 or len(set(chosen)) != 2 or set(chosen) - set(names) or len(names) < 3:
            listed = ", ".join(names[:6]) or "none"
            raise UserError(
                f"ground_truth.grid.pair={chosen}: a grid needs two classes of data= and at least one more for the other "
                f"cells; it has {listed}"
            )
        return self.replace(pair=tuple(chosen))

    def change_network(self, facts: Facts) -> Facts:
        """Images of disconnected cells have twice the size."""
        height, width = facts.shape
        return facts if self.connected else facts.replace({"size": (2 * height, 2 * width)})

    def plant(self, part: str, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> Planted:
        """Make grids; classes take turns, cells are drawn (disconnected: the first is the first class's)."""
        made = [self._draw(part, number, shape, require_pool(pool)) for number in numbers]
        masks = torch.zeros(len(made), *shape[1:], dtype=torch.bool)
        for mask, (_, cell) in zip(masks, made, strict=True):
            mask[_slice(cell, shape)] = True
        return Planted(torch.stack([grid for grid, _ in made]), torch.tensor(numbers) % 2, masks)

    def build_probes(self, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> list[Probe]:
        """Probe with a neutral picture in the cell, with one of the other class, and with neutral ones in other cells."""
        whole = require_pool(pool)
        own, labels = self.plant("test", numbers, shape, whole), torch.tensor(numbers) % 2
        without, inserted, elsewhere = own.images.clone(), own.images.clone(), own.images.clone()
        size = (shape[1] // 2, shape[2] // 2)
        for row, number in enumerate(numbers):
            generator, (_, cell) = self.spawn("probe", number), self._draw("test", number, shape, whole)
            without[row][:, *_slice(cell, shape)] = self._pick(whole.test, None, whole, size, generator)
            other = self._pick(whole.test, self.classes[1 - number % 2], whole, size, generator)
            inserted[row][:, *_slice(cell, shape)] = other
            elsewhere[row] = without[row]
            for place in range(4):
                elsewhere[row][:, *_slice(place, shape)] = self._pick(whole.test, None, whole, size, generator)
        return [
            Probe("with", own.images, labels),
            Probe("without", without, labels),
            Probe("inserted", inserted, 1 - labels),
            Probe("neutral", elsewhere, labels),
        ]

    def _draw(self, part: str, number: int, shape: Shape, pool: Pool) -> tuple[Tensor, int]:
        """(grid [channels, height, width], the cell that decides)."""
        check_size(shape, 8, "grid")
        generator, pictures = self.spawn(part, number), pool.get_part(part)
        size, grid = (shape[1] // 2, shape[2] // 2), torch.zeros(shape)
        disconnected = part == "explain" and not self.connected
        cell = (number % 2) * 3 if disconnected else int(generator.integers(0, 4))
        for place in range(4):
            name = self.classes[number % 2] if place == cell else None
            if disconnected and place != cell:
                name = self.classes[int(generator.integers(0, 2))]
            grid[:, *_slice(place, shape)] = self._pick(pictures, name, pool, size, generator)
        return grid, cell

    def _pick(
        self, part: Part, name: str | None, pool: Pool, size: tuple[int, int], generator: np.random.Generator
    ) -> Tensor:
        """A cut of a picture of a class, or of neither, at the size of a cell."""
        pair = [pool.names.index(each) for each in self.classes]
        wanted = part.labels == pool.names.index(name) if name else ~torch.isin(part.labels, torch.tensor(pair))
        rows = wanted.nonzero().flatten()
        row = int(rows[int(generator.integers(0, len(rows)))])
        height, width = part.pictures.shape[2:]
        image = torch.from_numpy(cut(part.pictures, row, (int(height / 1.25), int(width / 1.25)), generator))
        return functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _slice(cell: int, shape: Shape) -> tuple[slice, slice]:
    height, width = shape[1] // 2, shape[2] // 2
    top, left = cell // 2 * height, cell % 2 * width
    return slice(top, top + height), slice(left, left + width)


class DisconnectedCells(torch.nn.Module):
    """Two copies of a network, each of which sees one cell of a 2x2 grid and gives the score of one class.

    Args:
        first: Sees the first cell; its first output is the first score.
        last: Sees the last cell; its second output is the second score.
    """

    def __init__(self, first: torch.nn.Module, last: torch.nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores [batch, 2] of images [batch, channels, 2 height, 2 width]."""
        height, width = images.shape[2] // 2, images.shape[3] // 2
        first = self.first(images[:, :, :height, :width].contiguous())
        last = self.last(images[:, :, height:, width:].contiguous())
        return torch.cat([first[:, :1], last[:, 1:2]], 1)


MARK = ((1, 0, 1, 0), (0, 1, 0, 1), (1, 0, 1, 0), (0, 1, 0, 1))
"""Of yellow and blue squares, in the bottom right corner."""
COLOURS = ((1.0, 0.9, 0.1), (0.1, 0.2, 0.9))
OTHER_COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2))
LOOKS = ("mark", "watermark", "cast")
"""Forms of a tag."""
OPACITY = 0.3
"""Of a watermark."""
CAST = (0.25, 0.0, -0.25)
"""What a colour cast adds to red, green and blue; to one channel of another number the first."""


@dataclass(frozen=True, kw_only=True)
class Tag(GroundTruth):
    """A tag on a share of the training images of one class: a mark in a corner, a watermark, or a colour cast.

    A mark is a square in the bottom right corner, a watermark a pattern of rings over the whole image at an opacity of 0.3,
    a cast a shift of red and blue by 0.25 in opposite directions. The images that are explained are those of other classes
    in which the tag was inserted, for the tagged class, as far as it changed the prediction to that: there it is known what
    decided. At a share of 0 no network should follow it: the clean control. The part `audit` has test pictures, tagged as
    those of the training.

    Adebayo, Muelly, Abelson, Kim: Post hoc explanations may be ineffective for detecting unknown spurious correlation,
    ICLR 2022.

    Args:
        shares: Of the images of the class that are tagged, each a setting of its own.
        tagged: The class; None: the first.
        names: Classes that the network tells apart; None: all of the pictures.
        look: `mark`, `watermark` or `cast`.
        label_noise: Share of the untagged training images whose label is drawn at random. Few pictures are soon known by
            heart, and a tag on them is then of no use; where their labels are not to be relied on, it is.
    """

    look: Annotated[str, OneOf(LOOKS)] = "mark"
    label_noise: UnitInterval = 0.0
    shares: Annotated[Sequence[UnitInterval], MinLen(1)] = (0.0, 0.2, 0.5, 0.8, 1.0)
    tagged: Text | None = None
    names: Annotated[Sequence[Text], MinLen(2)] | None = None

    needs_pictures: ClassVar[bool] = True
    by_change: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the pictures, the tagged one first."""
        return tuple(self.names or ("tagged", "other"))

    def fit_pool(self, pool: Pool) -> GroundTruth:
        """Settle the classes; UserError where there are fewer than two, or not the tagged one."""
        names = list(self.names or pool.list_classes())
        tagged = self.tagged or (names[0] if names else "")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"ground_truth.tag.names={names} has {twice[0]!r} twice: leave one out")
        if len(names) < 2 or tagged not in names or set(names) - set(pool.list_classes()):
            raise UserError(
                f"ground_truth.tag.tagged={tagged}: needs two classes of data= with pictures, among them this; there are "
                f"{', '.join(pool.list_classes()[:6]) or 'none'}"
            )
        return self.replace(names=(tagged, *(name for name in names if name != tagged)), tagged=tagged)

    def list_settings(self, name: str) -> dict[str, GroundTruth]:
        """List the shares."""
        return {f"{name}_{100 * share:g}": self.replace(shares=(share,)) for share in self.shares}

    def plant(self, part: str, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> Planted:
        """Make images: classes take turns; `explain` has tagged images of the others, `audit` is as `train`."""
        made = [self._draw(part, number, shape, require_pool(pool)) for number in numbers]
        images, labels, masks = [], [], torch.zeros(len(made), *shape[1:], dtype=torch.bool)
        for row, (image, label, draws) in enumerate(made):
            explained = part == "explain"
            marked = explained or (part in ("train", "audit") and label == 0 and draws[0] < self.shares[0])
            if part == "train" and not marked and draws[1] < self.label_noise:
                label = int(draws[2] * len(self.classes))
            images.append(self._tag(image) if marked else image)
            labels.append(0 if explained else label)
            if marked:
                masks[row][_locate(shape) if self.look == "mark" else (slice(None), slice(None))] = True
        return Planted(torch.stack(images), torch.tensor(labels), masks)

    def build_probes(self, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> list[Probe]:
        """Probe images of the other classes: without the tag, with it, and with others that mean nothing."""
        others = [self._draw("explain", number, shape, require_pool(pool))[0] for number in numbers]
        labels = torch.zeros(len(others), dtype=torch.int64)
        clean = self.plant("test", numbers, shape, pool)
        return [
            Probe("with", clean.images, clean.labels),
            Probe("without", torch.stack(others), labels),
            Probe("inserted", torch.stack([self._tag(image) for image in others]), labels),
            *(
                Probe(name, torch.stack([tag(image) for image in others]), labels)
                for name, tag in OTHER_TAGS[self.look].items()
            ),
        ]

    def _tag(self, image: Tensor) -> Tensor:
        return TAGS[self.look](image)

    def _draw(self, part: str, number: int, shape: Shape, pool: Pool) -> tuple[Tensor, int, list[float]]:
        """(image, its class, numbers in [0, 1) that decide whether it is tagged, and whether and which label is wrong)."""
        generator, pictures = self.spawn(part, number), pool.get_part(part)
        count = len(self.classes)
        label = 1 + number % (count - 1) if part == "explain" else number % count
        rows = np.flatnonzero(pictures.labels.numpy() == pool.names.index(self.classes[label]))
        row = int(rows[int(generator.integers(0, len(rows)))])
        image = torch.from_numpy(cut(pictures.pictures, row, shape[1:], generator))
        return image, label, generator.random(3).tolist()


def _locate(shape: Sequence[int]) -> tuple[slice, slice]:
    side = max(CELLS, min(shape[-2:]) // 6)
    return slice(shape[-2] - 1 - side, shape[-2] - 1), slice(shape[-1] - 1 - side, shape[-1] - 1)


def _mark(image: Tensor, colours: Sequence[Sequence[float]] = COLOURS) -> Tensor:
    marked, place = image.clone(), _locate(image.shape)
    side = place[0].stop - place[0].start
    squares = functional.interpolate(torch.tensor(MARK)[None, None].float(), size=(side, side), mode="nearest")[0, 0]
    pair = torch.tensor(colours)
    pair = pair if len(image) == 3 else pair.mean(1, keepdim=True).expand(-1, len(image))
    marked[:, *place] = torch.where(squares[None] > 0, pair[0][:, None, None], pair[1][:, None, None])
    return marked


def _stamp(image: Tensor, opacity: float = OPACITY, turned: bool = False) -> Tensor:
    """Rings of black and white around a point of the upper half, laid over the image."""
    high, wide = image.shape[-2:]
    down, right = torch.meshgrid(torch.arange(high) - high / 3, torch.arange(wide) - wide / 2, indexing="ij")
    rings = ((down.square() + right.square()).sqrt() * 32 / min(high, wide) % 6 < 3).to(image)
    return (1 - opacity) * image + opacity * (rings.flip(0) if turned else rings)


def _colour(image: Tensor, cast: Sequence[float] = CAST) -> Tensor:
    shifts = torch.tensor(cast if len(image) == 3 else [cast[0]] * len(image)).to(image)
    return (image + shifts[:, None, None]).clamp(0, 1)


TAGS: dict[str, Callable[[Tensor], Tensor]] = {"mark": _mark, "watermark": _stamp, "cast": _colour}
OTHER_TAGS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "mark": {
        "other colours": lambda image: _mark(image, OTHER_COLOURS),
        "grey square": lambda image: _mark(image, ((0.5,) * 3,) * 2),
        "other corner": lambda image: _mark(image.flip(1, 2)).flip(1, 2),
    },
    "watermark": {
        "half a tone": lambda image: (1 - OPACITY) * image + OPACITY / 2,
        "upside down": lambda image: _stamp(image, turned=True),
    },
    "cast": {
        "opposite cast": lambda image: _colour(image, [-each for each in CAST]),
        "brighter": lambda image: _colour(image, [max(CAST)] * 3),
    },
}
"""What a network that follows a tag should not follow."""
