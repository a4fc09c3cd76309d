"""CIFAR-10 in memory: parts, split, augmentation."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.data import cifar10
from seewhy.data.cifar10 import CIFAR10, TensorImages, augment, read_part


def binary(folder: Path, name: str, first: int) -> bytes:
    """10,000 rows whose label is the row's number modulo ten and whose first pixel tells the file apart."""
    rows = np.zeros((10_000, 3073), np.uint8)
    rows[:, 0] = np.arange(10_000) % 10
    rows[:, 1] = first
    content = rows.tobytes()
    (folder / f"{name}.bin").write_bytes(content)
    return content


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """(the folder with the files, their sums)."""
    folder = tmp_path_factory.mktemp("cifar10") / "cifar-10-batches-bin"
    folder.mkdir()
    sums = {name: hashlib.md5(binary(folder, name, number)).hexdigest() for number, name in enumerate(cifar10.MD5)}
    return folder.parent, sums


@pytest.fixture
def root(files: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cifar10, "MD5", files[1])
    return files[0]


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 150 MB of the training part are read once for a test that sets it up several times."""
    monkeypatch.setattr(cifar10, "read_part", functools.cache(read_part))


@pytest.mark.slow
def test_the_official_parts_never_mix(root: Path) -> None:
    data = CIFAR10(str(root), validation=5000)
    data.setup("fit")
    data.setup("test")
    assert (len(data.training_part), len(data.validation_part), len(data.test_part)) == (45_000, 5_000, 10_000)
    training, held_out = set(data.training_part.indices.tolist()), set(data.validation_part.indices.tolist())
    assert not training & held_out
    assert training | held_out == set(range(50_000))
    assert set(data.test_part.pictures[:, 0, 0, 0].tolist()) == {5}
    assert 5 not in set(data.training_part.pictures[:, 0, 0, 0].tolist())


@pytest.mark.slow
@pytest.mark.usefixtures("read_once")
def test_the_split_follows_its_seed(root: Path) -> None:
    parts = []
    for seed in (0, 0, 1):
        data = CIFAR10(str(root), split_seed=seed)
        data.setup("fit")
        parts.append(data.validation_part.indices.tolist())
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.slow
@pytest.mark.usefixtures("read_once")
def test_label_noise_gives_a_share_of_the_training_images_another_class(root: Path) -> None:
    clean, noisy, again = (CIFAR10(str(root), label_noise=share) for share in (0.0, 0.05, 0.05))
    for data in (clean, noisy, again):
        data.setup("fit")
    assert clean.wrong_labels is None
    assert noisy.wrong_labels is not None
    assert torch.equal(noisy.wrong_labels, clean.training_part.labels != noisy.training_part.labels)
    assert int(noisy.wrong_labels.sum()) == 2250
    assert torch.equal(noisy.training_part.labels, again.training_part.labels)
    steps = (noisy.training_part.labels - clean.training_part.labels)[noisy.wrong_labels] % 10
    assert sorted(steps.unique().tolist()) == [*range(1, 10)]
    assert torch.equal(clean.validation_part.labels, noisy.validation_part.labels)
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match=f"data.label_noise={share} must be a number from 0 to below 1"):
            CIFAR10(label_noise=share)


def test_a_damaged_file_is_named(root: Path, tmp_path: Path) -> None:
    whole = (root / "cifar-10-batches-bin" / "test_batch.bin").read_bytes()
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match=r"test_batch.bin is damaged: MD5"):
        read_part(tmp_path, train=False)
    with pytest.raises(UserError, match=r"data.root=.*nowhere"):
        read_part(root / "nowhere", train=False)


def test_a_batch_is_what_single_images_are() -> None:
    pictures = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)
    images = TensorImages(pictures, torch.tensor([0, 1, 0, 1]), torch.tensor([7, 5, 3, 1]), "part", ("a", "b"))
    batch = images.__getitems__([3, 0])
    assert torch.equal(batch.images, pictures[[3, 0]])
    assert batch.labels.tolist() == [1, 0]
    assert batch.names == ["part_00001", "part_00007"]
    assert batch.label_names == ["b", "a"]


def test_augmentation_moves_and_flips_whole_pictures() -> None:
    torch.manual_seed(0)
    picture = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(400, 3, 8, 8)
    moved = augment(picture, shift=2)
    padded = torch.nn.functional.pad(picture[:1].float(), (2,) * 4, mode="reflect").byte()[0, 0]
    windows = {}
    for top in range(5):
        for left in range(5):
            window = padded[top : top + 8, left : left + 8]
            windows[window.numpy().tobytes()] = (top, left, False)
            windows[window.flip(1).numpy().tobytes()] = (top, left, True)
    seen = {windows[one[0].contiguous().numpy().tobytes()] for one in moved}
    assert all(torch.equal(one[0], one[2]) for one in moved)
    assert len(seen) == 50


def test_no_shift_only_flips() -> None:
    torch.manual_seed(0)
    picture = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(50, 3, 8, 8)
    kept = [torch.equal(one, picture[0]) for one in augment(picture, shift=0)]
    flipped = [torch.equal(one, picture[0].flip(2)) for one in augment(picture, shift=0)]
    assert 10 < sum(kept) < 40
    assert 10 < sum(flipped) < 40


@pytest.mark.slow
def test_grey_networks_see_the_luminance_and_others_are_refused(root: Path) -> None:
    def data_of(channels: int) -> CIFAR10:
        facts = Facts(CIFAR10_CLASSES, (16, 24), (0.5,) * channels, (0.5,) * channels)
        return CIFAR10(str(root), facts, limit=3)

    grey = data_of(1)
    grey.setup("test")
    assert grey.test_part.pictures.shape == (3, 1, 32, 32)
    batch = grey.on_after_batch_transfer(grey.test_part.__getitems__([0, 2]), 0)
    assert batch.images.shape == (2, 1, 16, 24)
    with pytest.raises(UserError, match="data=cifar10 holds RGB pictures, and the network takes 4 channels"):
        data_of(4).setup("test")
