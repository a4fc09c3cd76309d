"""What the images of a group share, how it is taken out of them, and how it is put into others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.analyses.audit.groups import FEWEST, LARGEST_SHARE, describe_colours
from seewhy.analyses.audit.maps import impute
from seewhy.analyses.audit.pictures import Pictures, Rows, split_evenly
from seewhy.core.types import Images

LARGEST_REGION = 0.25
"""Share of the image that a place may have."""
MASS = 0.5
"""Share of the mean map, or of the largest deviation, that a place must hold."""
GRID = 16
"""Cells along a side from which a place is made."""
AVERAGED = 200
"""Images whose pixels are averaged."""
ROUNDS = 4
"""How often members and what they share are found from each other."""
PRESENT = 0.5
"""From which on what a group shares counts as present: 0 is the mean of the other images, 1 that of the group."""
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Mean images of a group and of those around it.

    Attributes:
        members: Mean of the group [channels, height, width].
        rest: Mean of the images of its class outside of it; of images of other classes where there are too few.
        others: Mean of images of other classes.
    """

    members: Tensor
    rest: Tensor
    others: Tensor


class Shared(ABC):
    """What the images of a group share."""

    kind: str

    @abstractmethod
    def insert(self, images: Images, draw: int | None = None) -> Images:
        """Put what is shared into images.

        Args:
            images: float32 [n, channels, height, width] in [0, 1].
            draw: Number of a control: the same at a random place, or in another form of the same size; None: no control.

        Returns:
            The changed images.
        """

    @abstractmethod
    def insert_rest(self, images: Images) -> Images:
        """Put what the rest of the class shares into images, in the same way and at the same size."""

    @abstractmethod
    def remove(self, images: Images, donors: Images, draw: int | None = None) -> list[Images]:
        """Take what is shared out of images, in each way that there is.

        Args:
            images: float32 [n, channels, height, width] in [0, 1].
            donors: As many images of other classes.
            draw: As in `insert`.

        Returns:
            The changed images of each way.
        """

    @property
    @abstractmethod
    def region(self) -> Tensor:
        """Where it is, bool [height, width]."""


@dataclass(frozen=True)
class Place(Shared):
    """The same pixels at one place: the mean of the group's images there.

    Args:
        mask: bool [height, width].
        means: Mean images.
        seed: Of random places.
    """

    mask: Tensor
    means: Statistics
    seed: int

    kind = "place"

    def insert(self, images: Images, draw: int | None = None) -> Images:
        """Replace the place, or another of the same form, by the mean of the group's images there."""
        return torch.where(self._move(draw), self.means.members, images)

    def insert_rest(self, images: Images) -> Images:
        """Replace the place by the mean of the rest of the class, as far from that of other classes as the group's."""
        rest, others = self.means.rest, self.means.others
        distances = [float((each - others)[:, self.mask].norm()) for each in (self.means.members, rest)]
        factor = max(1.0, distances[0] / max(distances[1], 1e-12))
        return torch.where(self.mask, (others + factor * (rest - others)).clamp(0, 1), images)

    def remove(self, images: Images, donors: Images, draw: int | None = None) -> list[Images]:
        """Impute the place from what lies around it, and replace it by that of the donors."""
        mask = self._move(draw)
        filled = impute(images, mask.expand(len(images), -1, -1), self.seed)
        return [filled, torch.where(mask, donors, images)]

    @property
    def region(self) -> Tensor:
        """The place."""
        return self.mask

    def _move(self, draw: int | None) -> Tensor:
        """The place, or of sixteen drawn ones that which overlaps it least."""
        if draw is None:
            return self.mask
        generator = torch.Generator().manual_seed(self.seed + 1 + draw)
        high, wide = self.mask.shape
        moved = [
            self.mask.roll((int(down), int(right)), (0, 1))
            for down, right in torch.stack(
                [torch.randint(side, (16,), generator=generator) for side in (high, wide)], 1
            ).tolist()
        ]
        return min(moved, key=lambda each: int((each & self.mask).sum()))


@dataclass(frozen=True)
class Pattern(Shared):
    """The same change of all pixels, without a change of the mean colour: a watermark.

    Args:
        change: float32 [channels, height, width].
        rest: What the rest of the class shares, beside other classes, at the same size.
        seed: Of the controls, which have the same spectrum with random phases.
    """

    change: Tensor
    rest: Tensor
    seed: int

    kind = "pattern"

    def insert(self, images: Images, draw: int | None = None) -> Images:
        """Add the change, or one of the same spectrum."""
        return (images + self._scramble(draw)).clamp(0, 1)

    def insert_rest(self, images: Images) -> Images:
        """Add what the rest of the class shares."""
        return (images + self.rest).clamp(0, 1)

    def remove(self, images: Images, donors: Images, draw: int | None = None) -> list[Images]:
        """Subtract the change, or one of the same spectrum."""
        return [(images - self._scramble(draw)).clamp(0, 1)]

    @cached_property
    def region(self) -> Tensor:
        """Where the change is at least half as large as at its largest."""
        size = self.change.square().sum(0)
        return size >= size.max() / 4

    def _scramble(self, draw: int | None) -> Tensor:
        if draw is None:
            return self.change
        generator = torch.Generator().manual_seed(self.seed + 1 + draw)
        noise = torch.randn(self.change.shape[1:], generator=generator)
        phases = torch.exp(1j * torch.angle(torch.fft.rfft2(noise)))
        return torch.fft.irfft2(torch.fft.rfft2(self.change) * phases, s=self.change.shape[1:]).float()


@dataclass(frozen=True)
class Cast(Shared):
    """The same shift of the mean of each channel, and the same change of its spread: a colour cast.

    Args:
        gains: Of the spread of each channel [channels].
        shifts: Of the mean of each channel [channels].
        rest_gains: Those of the rest of the class beside other classes.
        rest_shifts: Those of the rest of the class, as large as they are: a class has a colour too, and made as strong as a
            cast of that colour it would be that cast.
        size: (height, width) of the images.
        seed: Of the controls: shifts of the same size in other directions.
    """

    gains: Tensor
    shifts: Tensor
    rest_gains: Tensor
    rest_shifts: Tensor
    size: tuple[int, int]
    seed: int

    kind = "cast"

    def insert(self, images: Images, draw: int | None = None) -> Images:
        """Shift each channel's mean and change its spread."""
        return _recolour(images, *self._turn(draw))

    def insert_rest(self, images: Images) -> Images:
        """The same with those of the rest of the class, at their own size."""
        return _recolour(images, self.rest_gains, self.rest_shifts)

    def remove(self, images: Images, donors: Images, draw: int | None = None) -> list[Images]:
        """Shift each channel back, to what the rest of the class has; the control leaves the images as they are.

        A shift in any other direction would take images further away from what the network has seen, and cost more.
        """
        return [images if draw is not None else _recolour(images, 1 / self.gains, -self.shifts)]

    @property
    def region(self) -> Tensor:
        """All of the image."""
        return torch.ones(self.size, dtype=torch.bool)

    def _turn(self, draw: int | None) -> tuple[Tensor, Tensor]:
        if draw is None:
            return self.gains, self.shifts
        generator = torch.Generator().manual_seed(self.seed + 1 + draw)
        drawn = [torch.randn(len(self.shifts), generator=generator) for _ in range(16)]
        shift = min(drawn, key=lambda each: float(functional.cosine_similarity(each, self.shifts, dim=0).abs()))
        if len(shift) == 1:
            return self.gains, -self.shifts
        order = torch.randperm(len(self.gains), generator=generator)
        return self.gains[order], shift * self.shifts.norm() / shift.norm().clamp_min(1e-12)


def _recolour(images: Images, gains: Tensor, shifts: Tensor) -> Images:
    means = images.mean((2, 3), keepdim=True)
    return ((images - means) * gains[:, None, None] + means + shifts[:, None, None]).clamp(0, 1)


KINDS = ("place", "pattern", "cast")


def refine_members(kind: str, members: Rows, features: Tensor) -> tuple[Rows, Tensor]:
    """Find the members of a group and what they share from each other, until both stay.

    An image is a member where its coordinate between the mean of the other images (0) and that of the group (1) is above a
    half: along the difference of the means, inside the mask for a place; for a cast along Fisher's linear discriminant of
    the mean, the spread and the extremes of each channel.

    Args:
        kind: `place`, `pattern` or `cast`.
        members: Positions in the images.
        features: Of the images of the class, by `compute_features` [n, features].

    Returns:
        (positions of the members, the coordinate of each image [n]). Where the members become too few or too many, those
        that were given.
    """
    start = members
    for _ in range(ROUNDS):
        coordinates = locate(features, members, kind == "cast")
        found = (coordinates > PRESENT).nonzero().flatten().numpy()
        if not FEWEST <= len(found) <= LARGEST_SHARE * len(features):
            return start, locate(features, start, kind == "cast")
        if len(found) == len(members) and bool((found == members).all()):
            break
        members = found
    return members, locate(features, members, kind == "cast")


def compute_features(kind: str, small: Tensor, mask: Tensor | None) -> Tensor:
    """Compute what tells a group of a kind from other images.

    Args:
        kind: `place`, `pattern` or `cast`.
        small: Images in small [n, channels, rows, columns].
        mask: Of a place, bool [rows, columns].

    Returns:
        float64 [n, features].
    """
    pixels = small.double()
    if kind == "cast":
        return describe_colours(pixels)
    if kind == "pattern":
        return (pixels - pixels.mean((2, 3), keepdim=True)).flatten(1)
    assert mask is not None
    return pixels[:, :, mask].flatten(1)


def locate(features: Tensor, members: Rows, whitened: bool) -> Tensor:
    """Locate images between the mean of the others, which is 0, and that of the members, which is 1.

    Args:
        features: [n, features].
        members: Positions; some images must be none.
        whitened: Whether along Fisher's linear discriminant instead of the difference of the means.

    Returns:
        float64 [n].
    """
    inside = torch.zeros(len(features), dtype=torch.float64)
    inside[torch.from_numpy(members)] = 1
    first, second = (each @ features / each.sum() for each in (inside, 1 - inside))
    weights = direction = first - second
    if whitened:
        centred = features - torch.where(inside[:, None] > 0, first, second)
        covariance = centred.T @ centred / len(centred)
        weights = torch.linalg.solve(covariance + 1e-4 * torch.eye(len(covariance), dtype=covariance.dtype), direction)
    return (features @ weights - second @ weights) / (direction @ weights).clamp_min(1e-12)


def choose_place(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Choose the cells that hold half of some values, at most a quarter of the image.

    Args:
        values: Float [rows, columns], not negative.
        size: (height, width) of the images.

    Returns:
        bool [height, width].
    """
    grid = min(GRID, values.shape[0]), min(GRID, values.shape[1])
    cells = functional.adaptive_avg_pool2d(values[None, None].double(), grid)[0, 0].flatten()
    order = cells.argsort(descending=True, stable=True)
    held = cells[order].cumsum(0) / cells.sum().clamp_min(1e-12)
    count = min(int((held < MASS).sum()) + 1, max(1, int(LARGEST_REGION * len(cells))))
    chosen = torch.zeros(len(cells))
    chosen[order[:count]] = 1
    return functional.interpolate(chosen.view(1, 1, *grid), size, mode="nearest-exact")[0, 0] > 0


def measure_deviation(small: Tensor, members: Rows) -> Tensor:
    """Measure where the mean of a group stands out from that of the other images, in units of their variance.

    Args:
        small: Images in small [n, channels, rows, columns].
        members: Positions.

    Returns:
        Squared difference of the means by the mean of both variances, the largest of the channels [rows, columns].
    """
    (first, spread), (second, other) = _describe_sides(small, members)
    values = ((first - second).square() / ((spread + other) / 2 + 1e-4)).amax(0)
    return torch.where(values >= values.max() / 4, values, 0.0)


def measure_spread(small: Tensor, members: Rows, mask: Tensor | None) -> float:
    """Measure how far the images of a group differ from each other beside what they share.

    Args:
        small: Images in small [n, channels, rows, columns].
        members: Positions; some images must be none.
        mask: Of a place, which is left out, bool [rows, columns].

    Returns:
        Their standard deviation, the root of the mean over pixels, as a share of that of the other images.
    """
    left = torch.ones(small.shape[2:], dtype=torch.bool) if mask is None or bool(mask.all()) else ~mask
    sides = [variance[:, left].mean().sqrt() for _, variance in _describe_sides(small, members)]
    own, other = (
        each if count > 1 else torch.ones(())
        for each, count in zip(sides, (len(members), len(small) - len(members)), strict=True)
    )
    return float(own / other.clamp_min(1e-12))


def _describe_sides(small: Tensor, members: Rows) -> list[tuple[Tensor, Tensor]]:
    """(mean, variance) of each pixel over the images of a group, and over the others, float64."""
    pixels = small.double().flatten(1)
    inside = torch.zeros(len(small), dtype=torch.float64)
    inside[torch.from_numpy(members)] = 1
    sides, squares = [], pixels.square()
    for side in (inside, 1 - inside):
        count = float(side.sum())
        mean = side @ pixels / max(count, 1)
        variance = (side @ squares - count * mean.square()).clamp_min(0) / max(count - 1, 1)
        sides.append((mean.view(small.shape[1:]), variance.view(small.shape[1:])))
    return sides


def measure_shared(
    kind: str, mask: Tensor | None, pictures: Pictures, members: Rows, rest: Rows, others: Rows, seed: int
) -> Shared:
    """Measure what a group shares, on the pixels of its images.

    Args:
        kind: `place`, `pattern` or `cast`.
        mask: Of a place, bool [height, width].
        pictures: All images.
        members: Rows of the group.
        rest: Rows of the class outside of it; those of other classes where there are too few.
        others: Rows of other classes.
        seed: Of the controls.

    Returns:
        What is shared.
    """
    members, rest, others = (split_evenly(rows, AVERAGED) for rows in (members, rest, others))
    means = Statistics(*(pictures.average(rows) for rows in (members, rest, others)))
    if kind == "place":
        assert mask is not None
        return Place(mask, means, seed)
    if kind == "pattern":
        change, usual = (
            _centre(first - second) for first, second in ((means.members, means.rest), (means.rest, means.others))
        )
        return Pattern(change, usual * change.norm() / usual.norm().clamp_min(1e-12), seed)
    spreads = [pictures.average_spreads(rows).clamp_min(1e-3) for rows in (members, rest, others)]
    shifts = (means.members - means.rest).mean((1, 2))
    usual = (means.rest - means.others).mean((1, 2))
    return Cast(spreads[0] / spreads[1], shifts, spreads[1] / spreads[2], usual, pictures.shape[1:], seed)  # type: ignore[arg-type]


def _centre(change: Tensor) -> Tensor:
    return change - change.mean((1, 2), keepdim=True)
