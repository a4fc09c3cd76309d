from __future__ import annotations

import csv
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, IMAGENET_MEAN, IMAGENET_STD, Facts
from seewhy.data.folder import SAMPLES, Samples
from seewhy.data.images import read_image
from seewhy.data.loading import read_ahead
from seewhy.models.architectures import read_imagenet_classes

IMAGENET = Facts(read_imagenet_classes(), 224, IMAGENET_MEAN, IMAGENET_STD, 0.875)
CIFAR10 = Facts(CIFAR10_CLASSES, 32, CIFAR10_MEAN, CIFAR10_STD)


def test_photographs_for_imagenet() -> None:
    data = Samples(facts=IMAGENET)
    data.setup("test")
    assert len(data.items) >= 8
    assert all(item.label >= 0 and IMAGENET.classes[item.label] == item.label_name for item in data.items)
    assert {item.name: item.label for item in data.items}["german_shepherd"] == 235
    batches = list(data.test_dataloader())
    assert sum(len(batch.images) for batch in batches) == len(data.items)
    assert not any(batch.skipped for batch in batches)
    assert batches[0].images.shape[1:] == (3, 224, 224)


def test_cifar10_pictures_for_its_classes() -> None:
    data = Samples(facts=CIFAR10)
    data.setup("test")
    assert Counter(item.label for item in data.items) == dict.fromkeys(range(10), 6)
    assert all(item.name.startswith(CIFAR10_CLASSES[item.label] + "_") for item in data.items)
    assert all(read_image(item.path).shape == (3, 32, 32) for item in data.items)
    # The first test image of CIFAR-10 is number 3 of its classes, a cat; its first red value is 158.
    cat = next(item for item in data.items if item.name == "cat_0000")
    assert cat.label == 3
    assert read_image(cat.path)[:, 0, 0].tolist() == [158, 112, 49]


def test_every_other_network_gets_the_photographs() -> None:
    data = Samples(facts=Facts(("a", "b"), 64, (0.5,) * 3, (0.5,) * 3), limit=2)
    data.setup("test")
    assert [item.label for item in data.items] == [-1, -1]
    assert [item.name for item in data.items] == ["alps", "cat"]


@pytest.mark.parametrize("part", ["photographs", "cifar10"])
def test_each_file_has_one_label_and_each_photograph_a_licence(part: str) -> None:
    with (SAMPLES / part / "labels.csv").open(newline="") as table:
        listed = [row["file"] for row in csv.DictReader(table)]
    present = sorted(path.name for path in (SAMPLES / part).iterdir() if path.name != "labels.csv")
    assert sorted(listed) == present
    if part == "photographs":
        rows = [line.split("|") for line in (SAMPLES / "README.md").read_text().splitlines() if ".jpg |" in line]
        assert sorted(row[1].strip() for row in rows) == present
        assert all(row[5].strip() and row[6].strip() for row in rows)
        assert sum(path.stat().st_size for path in (SAMPLES / part).iterdir()) < 1_500_000


def test_another_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        Samples(str(tmp_path), IMAGENET)


def test_batches_are_read_in_order_one_ahead_and_no_further() -> None:
    begun, second = list[tuple[int, bool]](), threading.Event()

    def read() -> Iterator[int]:
        for number in range(4):
            begun.append((number, threading.current_thread() is threading.main_thread()))
            if number == 1:
                second.set()
            yield number

    batches = read_ahead(read())  # type: ignore[arg-type]
    assert next(batches) == 0
    assert second.wait(60)
    assert begun == [(0, False), (1, False)]
    assert list(batches) == [1, 2, 3]
    assert list(read_ahead(iter(()))) == []


def test_an_error_of_reading_comes_where_its_batch_would() -> None:
    def read() -> Iterator[int]:
        yield 0
        raise ValueError("batch 1")

    threads, batches = threading.active_count(), read_ahead(read())  # type: ignore[arg-type]
    assert next(batches) == 0
    with pytest.raises(ValueError, match="batch 1"):
        next(batches)
    assert threading.active_count() == threads
    given = read_ahead(iter("abc"))  # type: ignore[arg-type]
    assert next(given) == "a"
    given.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
