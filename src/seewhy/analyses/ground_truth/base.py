"""What a kind of planted data is: images whose truth is known by construction, and the probes that prove its use."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seewhy.analyses.ground_truth.pool import Pool
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.settings import BatchSize, Count, Seed, UnitInterval, check_fields
from seewhy.core.types import Batch, Images

Shape = tuple[int, int, int]
"""(channels, height, width) of the network's images."""


class Planted(NamedTuple):
    """Images with what is true of them by construction.

    Attributes:
        images: float32 [n, channels, height, width] in [0, 1].
        labels: int64 [n], the class that the planted feature decides.
        masks: bool [n, height, width], true where that feature is; all false where there is none.
    """

    images: Images
    labels: Tensor
    masks: Tensor


class Probe(NamedTuple):
    """Images that ask a network one question about the feature.

    Attributes:
        name: `with`, `without` and `inserted`, or what was inserted in its place.
        images: float32 [n, channels, height, width] in [0, 1].
        labels: int64 [n], the class that the feature would mean; -1: any one class but the first.
    """

    name: str
    images: Images
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class GroundTruth(ABC):
    """Planted data of one kind: every image depends on (seed, part, number) alone and is made when it is asked for.

    Args:
        seed: Of the data.
        steps: Of the training; every batch is new.
        batch_size: Images of a training batch.
        accuracy: That a network must reach on images with the feature.
        follow: Share of images into which another feature is inserted that the prediction must follow.
    """

    seed: Seed = 0
    steps: Count = 400
    batch_size: BatchSize = 64
    accuracy: UnitInterval = 0.8
    follow: UnitInterval = 0.8

    needs_pictures: ClassVar[bool] = False
    """Whether it is planted in the pictures of `data=`."""
    magnitude: ClassVar[bool] = False
    """Whether evidence of either sign lies on the feature, so that |map| is compared with the mask."""
    by_change: ClassVar[bool] = False
    """Whether only images count whose prediction the feature has changed."""
    baseline: ClassVar[str | None] = None
    """What stands for nothing in these images, for explainers with a baseline; None: what they take."""
    statistics: ClassVar[tuple[float, float] | None] = None
    """Mean and standard deviation of the images; None: those of the network."""

    def __post_init__(self) -> None:
        check_fields(self, "ground_truth")

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that decide the images and the training."""
        return dict(vars(self))

    @property
    def trained_as(self) -> GroundTruth:
        """The kind whose networks are the same, where this one differs in what is explained alone."""
        return self

    def fit_pool(self, pool: Pool) -> GroundTruth:
        """Settle what depends on the pictures, such as the classes.

        Args:
            pool: The pictures.

        Returns:
            The kind with its choices among its parameters.

        Raises:
            UserError: The pictures do not suffice.
        """
        return self

    def list_settings(self, name: str) -> dict[str, GroundTruth]:
        """List the settings that are judged apart.

        Args:
            name: Of the kind in the config.

        Returns:
            {name: the kind with one setting}.
        """
        return {name: self}

    @abstractmethod
    def plant(self, part: str, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> Planted:
        """Make images.

        Args:
            part: `train`, `test`, or `explain`: the images that are explained.
            numbers: From 0.
            shape: (channels, height, width).
            pool: The pictures, where the kind needs some.

        Returns:
            The images with labels and masks.
        """

    @abstractmethod
    def build_probes(self, numbers: Sequence[int], shape: Shape, pool: Pool | None = None) -> list[Probe]:
        """Make the probes of the proof.

        Args:
            numbers: Of test images.
            shape: (channels, height, width).
            pool: The pictures, where the kind needs some.

        Returns:
            `with`, `without` and `inserted`, then what nothing should follow from.
        """

    def spawn(self, part: str, number: int) -> np.random.Generator:
        """Seed the random numbers of one image.

        Args:
            part: Of the data.
            number: Of the image.

        Returns:
            A generator that depends on (seed, part, number) alone.
        """
        return np.random.default_rng((self.seed, zlib.crc32(part.encode()), number))

    def change_network(self, facts: Facts) -> Facts:
        """The facts of the network that is explained, where it is not the one that was trained.

        Args:
            facts: Of the trained network.

        Returns:
            Facts, with another size where the images that are explained have one.
        """
        return facts

    def replace(self, **changes: Any) -> GroundTruth:
        """Replace parameters.

        Args:
            **changes: New values.

        Returns:
            The changed kind.
        """
        return replace(self, **changes)


def check_size(shape: Shape, least: int, name: str) -> None:
    """Check that images are large enough for a kind.

    Args:
        shape: (channels, height, width).
        least: Pixels of the shorter side.
        name: Of the kind.

    Raises:
        UserError: They are smaller.
    """
    if min(shape[1:]) < least:
        raise UserError(
            f"model.size={min(shape[1:])} is too small for ground_truth={name}, which needs {least} pixels: set model.size"
        )


class PlantedImages(Dataset[Batch]):
    """Planted images as a data set, made batch by batch.

    Args:
        kind: Of the data.
        part: `train` or `test`.
        count: Number of images.
        shape: (channels, height, width).
        pool: The pictures, where the kind needs some.
    """

    def __init__(self, kind: GroundTruth, part: str, count: int, shape: Shape, pool: Pool | None = None) -> None:
        self.kind, self.part, self.count, self.shape, self.pool = kind, part, count, shape, pool

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, numbers: list[int]) -> Batch:
        """Make the images of one batch."""
        planted = self.kind.plant(self.part, numbers, self.shape, self.pool)
        names = [f"{self.part}_{number:06d}" for number in numbers]
        words = [self.kind.classes[label] for label in planted.labels.tolist()]
        return Batch(planted.images, planted.labels, names, names, words, [], planted.masks)

    def __getitem__(self, number: int) -> Batch:
        return self.__getitems__([number])

    def load(self, batch_size: int) -> DataLoader[Batch]:
        """Load the images in order.

        Args:
            batch_size: Images of a batch.

        Returns:
            The loader.
        """
        return DataLoader(self, batch_size, collate_fn=_pass_batch)


def _pass_batch(batch: Any) -> Any:
    """The data set already made a whole batch."""
    return batch
