"""CIFAR-10, held in memory as one tensor, of which batches are gathered and augmented as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.core.settings import BatchSize, ImageCount, PathText, Processes, Seed, check_when_made
from seewhy.core.types import Batch
from seewhy.data.corruptions.corrupter import Corrupter, limit_batch_size
from seewhy.data.dataset import Corrupt, stack_versions
from seewhy.data.loading import resize_and_crop, to_grey, to_unit_range

TRAINING_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
"""MD5 of the six files of the binary version."""


class TensorImages(Dataset[Batch]):
    """uint8 pictures [n, channels, height, width] with labels [n]; `indices` are their positions in the original data set.

    `corrupt` adds the corrupted versions of each picture.
    """

    corrupt: Corrupt | None = None

    def __init__(
        self, pictures: Tensor, labels: Tensor, indices: Tensor, prefix: str, class_names: Sequence[str]
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.indices = indices
        self.prefix = prefix
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> dict[str, str]:
        """Digests of the names and classes, and of the pixels: what tells data apart."""
        names = repr((self.prefix, self.indices.tolist(), self.labels.tolist(), list(self.class_names))).encode()
        contents = {"names": names, "pixels": self.pictures.contiguous().numpy().tobytes()}
        return {key: hashlib.blake2b(content, digest_size=8).hexdigest() for key, content in contents.items()}

    def __getitems__(self, positions: list[int]) -> Batch:
        """One batch, gathered with one index operation; its images are still uint8."""
        rows = torch.as_tensor(positions, dtype=torch.int64)
        labels = self.labels[rows]
        names = [f"{self.prefix}_{index:05d}" for index in self.indices[rows].tolist()]
        words = [self.class_names[label] for label in labels.tolist()]
        pictures = self.pictures[rows]
        corrupted = None if self.corrupt is None else stack_versions([self.corrupt(picture) for picture in pictures])
        return Batch(pictures, labels, names, names, words, [], corrupted=corrupted)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])


def augment(pictures: Tensor, shift: int) -> Tensor:
    """Each picture of [batch, channels, height, width] flipped with probability 1/2 and moved by up to `shift` pixels.

    The border that a move uncovers is filled by reflection. Drawn from torch's global generator.
    """
    batch, _, height, width = pictures.shape
    padded = functional.pad(pictures.float(), (shift,) * 4, mode="reflect").to(pictures.dtype)
    top, left = torch.randint(0, 2 * shift + 1, (2, batch, 1), device=pictures.device)
    rows = top + torch.arange(height, device=pictures.device)
    columns = left + torch.arange(width, device=pictures.device)
    flipped = torch.rand(batch, 1, device=pictures.device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    item = torch.arange(batch, device=pictures.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@check_when_made("data")
class CIFAR10(LightningDataModule):
    """Training and validation images from the official training part (seeded split), test images from the test part.

    Pictures stay uint8 in memory; a batch is gathered, augmented and enlarged to the classifier's size as one tensor.

    Args:
        root: Holds `cifar-10-batches-bin` (the binary version, MD5-checked) or what torchvision downloads.
        facts: What the classifier asks of images (classes, size, normalisation).
        batch_size: Training images of a batch; other batches have at least 250.
        validation: Images held out of the official training part, 1 to 49,999.
        limit: Test images to use; None: all 10,000.
        split_seed: Decides which images are held out, and which labels are wrong.
        shift: Augmentation moves a training image by up to this many pixels.
        augmentation: Whether training images are flipped and moved.
        download: Whether to download the data where there are none yet.
        num_workers: Processes that corrupt the test images.
        label_noise: Share of the training images, 0 to less than 1, whose label is replaced by a random other class: to
            measure what finds wrong labels.
    """

    class_names = CIFAR10_CLASSES
    corrupt: Corrupter | None = None
    """Makes the corrupted versions of each test image where they are asked for."""
    wrong_labels: Tensor | None = None
    """Whether `label_noise` replaced the label of each training image, bool [n]; None without it or before `setup`."""

    def __init__(
        self,
        root: PathText = "data",
        facts: Facts | None = None,
        batch_size: BatchSize = 64,
        validation: Annotated[int, Ge(1), Le(49_999)] = 5000,
        limit: ImageCount | None = None,
        split_seed: Seed = 0,
        shift: Annotated[int, Ge(0), Le(31)] = 4,
        augmentation: bool = True,
        download: bool = False,
        num_workers: Processes = 0,
        label_noise: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.facts = facts or Facts(CIFAR10_CLASSES, 32, (0.5,) * 3, (0.5,) * 3)
        self.batch_size = batch_size
        self.validation = validation
        self.limit = limit
        self.split_seed = split_seed
        self.shift = shift
        self.augmentation = augmentation
        self.download = download
        self.num_workers = num_workers
        self.label_noise = label_noise
        self.training_size = self.facts.size
        if not augmentation and shift != 4:
            raise UserError(f"data.shift={shift} is not read with data.augmentation=false: leave it at 4")

    def prepare_data(self) -> None:
        """Download with torchvision where that was asked for."""
        if self.download and not (self.root / "cifar-10-batches-bin").is_dir():
            from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

            TorchvisionCIFAR10(str(self.root), download=True)

    def setup(self, stage: str) -> None:
        """Read the parts that the stage needs."""
        if stage == "fit" and not hasattr(self, "training_part"):
            pictures, labels = read_part(self.root, train=True)
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.split_seed))
            held_out, training = order[: self.validation], order[self.validation :]
            self.training_part = self._build_part(pictures, labels, training, "train")
            if self.label_noise:
                self._replace_labels(self.training_part)
            self.validation_part = self._build_part(pictures, labels, held_out, "train")
        if stage in ("test", "validate") and not hasattr(self, "test_part"):
            pictures, labels = read_part(self.root, train=False)
            self.test_part = self._build_part(pictures, labels, torch.arange(len(labels))[: self.limit], "test")

    def _replace_labels(self, part: TensorImages) -> None:
        generator = torch.Generator().manual_seed(self.split_seed + 1)
        count = len(part)
        self.wrong_labels = torch.zeros(count, dtype=torch.bool)
        self.wrong_labels[torch.randperm(count, generator=generator)[: round(self.label_noise * count)]] = True
        steps = torch.randint(1, len(self.class_names), (count,), generator=generator)
        part.labels = torch.where(self.wrong_labels, (part.labels + steps) % len(self.class_names), part.labels)

    def _build_part(self, pictures: Tensor, labels: Tensor, indices: Tensor, split: str) -> TensorImages:
        channels = self.facts.channels
        if channels not in (1, 3):
            raise UserError(
                f"data=cifar10 holds RGB pictures, and the network takes {channels} channels; take data=folder"
            )
        pictures = to_grey(pictures[indices]) if channels == 1 else pictures[indices]
        return TensorImages(pictures, labels[indices], indices, f"cifar10_{split}", self.class_names)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 32x32 -> [0, 1] at the classifier's size; augmented while training."""
        pictures = batch.images
        training = self.trainer is not None and self.trainer.training
        if training and self.augmentation:
            pictures = augment(pictures, self.shift)
        if not training:
            return batch._replace(images=to_unit_range(resize_and_crop(pictures, self.facts)))
        if isinstance(self.training_size, tuple):
            return batch._replace(images=to_unit_range(resize_and_crop(pictures, self.facts)))
        images = to_unit_range(pictures)
        if images.shape[-1] != self.training_size:
            images = functional.interpolate(images, size=self.training_size, mode="bilinear", align_corners=False)
        return batch._replace(images=images)

    def training_count(self) -> int:
        """Count the images of the training part.

        Returns:
            Their number.
        """
        self.setup("fit")
        return len(self.training_part)

    def training_batch(self, positions: list[int]) -> Batch:
        """Read images of the training part, not augmented.

        Args:
            positions: Positions from 0 to the count less 1.

        Returns:
            Those images, float32 in [0, 1] at the classifier's size, with labels and names.
        """
        self.setup("fit")
        batch = self.training_part.__getitems__(positions)
        return batch._replace(images=to_unit_range(resize_and_crop(batch.images, self.facts)))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled; the last incomplete batch is left out."""
        return DataLoader(self.training_part, self.batch_size, shuffle=True, drop_last=True, collate_fn=_pass_batch)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation images in order."""
        return DataLoader(self.validation_part, max(self.batch_size, 250), collate_fn=_pass_batch)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The official test images in order; only where they are corrupted do worker processes help."""
        self.test_part.corrupt = self.corrupt
        size = limit_batch_size(max(self.batch_size, 250), self.corrupt)
        return DataLoader(self.test_part, size, num_workers=self.num_workers, collate_fn=_pass_batch)


def _pass_batch(batch: Any) -> Any:
    """The data set already gathered a whole batch."""
    return batch


def read_part(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    """(pictures uint8 [n, 3, 32, 32], labels int64 [n]) of the official training or test part under `root`."""
    binary = root if root.name == "cifar-10-batches-bin" else root / "cifar-10-batches-bin"
    if binary.is_dir():
        rows = np.concatenate([_read_binary(binary, name) for name in (TRAINING_FILES if train else ("test_batch",))])
        return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(int))
    if (root / "cifar-10-batches-py").is_dir():
        from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

        data = TorchvisionCIFAR10(str(root), train=train)
        pictures = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
        return torch.from_numpy(pictures), torch.tensor(data.targets)
    raise UserError(
        f"no CIFAR-10 under data.root={root}: it needs a folder cifar-10-batches-bin or cifar-10-batches-py there; "
        "set data.root to the folder that holds it, or data.download=true where there is a network"
    )


def _read_binary(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.bin"
    if not path.is_file():
        raise UserError(f"{path} is missing: data.root needs all six files of the binary version of CIFAR-10")
    content = path.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != MD5[name]:
        raise UserError(f"{path} is damaged: MD5 {digest} is not the published {MD5[name]}; fetch the file again")
    return np.frombuffer(content, np.uint8).reshape(10_000, 3073)
