"""Pictures of one's own as a training set: classes, parts, batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.data.folder import Folder
from seewhy.data.labels import Label, join_labels
from seewhy.data.splits import find_part_folders, split_by_class


def draw(path: Path, colour: object = "red", size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)  # type: ignore[arg-type]
    return path


def draw_classes(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        for number in range(count):
            draw(root / name / f"{number}.png")
    return root


def load(root: Path, **options: object) -> Folder:
    classes = tuple(Folder(str(root), **options).list_classes())  # type: ignore[arg-type]
    data = Folder(str(root), Facts(classes, 8, (0.5,) * 3, (0.5,) * 3), **options)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def list_names(data: Folder, part: str) -> list[str]:
    return [item.name for item in data.parts[part]]


# Classes


def test_the_classes_of_a_tree_are_its_folders_in_alphabetical_order(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"dog": 1, "7": 1, "10": 1, "Cat": 1})
    draw(tmp_path / "loose.png")
    assert Folder(str(tmp_path)).list_classes() == ["10", "7", "Cat", "dog"]


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        (["file,label", "a.png,dog", "b.png,cat", "c.png,dog"], ["cat", "dog"]),
        (["path,class", "a.png,dog", "b.png,cat", "other.png,bird"], ["cat", "dog"]),
        (["image,label", "a.png,2", "b.png,0"], ["class 0", "class 1", "class 2"]),
        (["filename,label,class", "a.png,1,dog", "b.png,0,cat", "c.png,-1,"], ["cat", "dog"]),
        (["file_name,labels", "a.png,3.0", "b.png,1"], ["class 0", "class 1", "class 2", "class 3"]),
    ],
)
def test_the_classes_of_a_table_are_its_names_or_indices(tmp_path: Path, rows: list[str], classes: list[str]) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = Folder(str(tmp_path), Facts(tuple(classes), 8, (0.5,) * 3, (0.5,) * 3))
    assert data.list_classes() == classes
    data.setup("test")
    assert all(item.label_name in classes for item in data.items if item.label >= 0)
    assert sum(item.label >= 0 for item in data.items) >= 2


# Parts


def test_every_class_has_its_share_in_every_part(tmp_path: Path) -> None:
    data = load(draw_classes(tmp_path, {"a": 20, "b": 10, "c": 3, "d": 1}), validation=0.2, test=0.1)
    counts = {
        part: [sum(item.label == label for item in items) for label in range(4)] for part, items in data.parts.items()
    }
    assert counts == {"train": [14, 7, 2, 1], "val": [4, 2, 1, 0], "test": [2, 1, 0, 0]}
    names = [name for part in data.parts for name in list_names(data, part)]
    assert len(set(names)) == len(names) == 34
    assert data.describe_parts() == {"classes": 4, "train": 24, "val": 7, "test": 3}


def test_the_split_follows_from_seed_and_name_alone() -> None:
    names = [f"{number}" for number in range(40)]
    parts = dict(zip(names, split_by_class(names, ["a"] * 40, 0.25, 0.25), strict=True))
    turned = dict(zip(names[::-1], split_by_class(names[::-1], ["a"] * 40, 0.25, 0.25), strict=True))
    assert parts == turned
    beside = split_by_class([*names, *(f"x{name}" for name in names)], ["a"] * 40 + ["b"] * 40, 0.25, 0.25)
    assert dict(zip(names, beside, strict=False)) == parts
    other = dict(zip(names, split_by_class(names, ["a"] * 40, 0.25, 0.25, seed=1), strict=True))
    assert other != parts
    assert [list(parts.values()).count(part) for part in ("train", "val", "test")] == [20, 10, 10]


def test_the_part_that_was_tested_is_explained_again(tmp_path: Path) -> None:
    root = draw_classes(tmp_path, {"a": 9, "b": 8})
    trained = load(root)
    for part in ("train", "val", "test"):
        again = Folder(str(root), trained.facts, split=part)
        again.setup("test")
        assert sorted(item.name for item in again.items) == sorted(list_names(trained, part))
    tested = [name for batch in trained.test_dataloader() for name in batch.names]
    assert sorted(tested) == sorted(list_names(trained, "test"))
    assert {name[0] for name in tested[:2]} == {"a", "b"}, "the first images of a test are of different classes"


def test_the_folders_of_the_parts_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("valid", 3), ("Test", 2)):
        draw_classes(tmp_path / part, {"a": count, "b": count})
    data = load(tmp_path)
    assert data.facts.classes == ("a", "b")
    assert {part: len(items) for part, items in data.parts.items()} == {"train": 12, "val": 6, "test": 4}
    assert all(name.startswith("valid__") for name in list_names(data, "val"))
    explained = Folder(str(tmp_path), data.facts)
    explained.setup("test")
    assert len(explained.items) == 22
    assert {item.label_name for item in explained.items} == {"a", "b"}, "not the names of the parts"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        *((name, "val") for name in ("val", "valid", "VALIDATION", "dev")),
        *((name, "test") for name in ("test", "testing")),
    ],
)
def test_folders_of_every_usual_name_are_parts(tmp_path: Path, name: str, part: str) -> None:
    other = "test" if part == "train" else "train"
    for folder in (name, other, ".cache"):
        (tmp_path / folder).mkdir()
    assert find_part_folders(tmp_path) == {part: tmp_path / name, other: tmp_path / other}
    (tmp_path / "car").mkdir()
    assert find_part_folders(tmp_path) == {}, "these are classes"


def test_a_part_alone_or_twice_is_no_split(tmp_path: Path) -> None:
    (tmp_path / "one" / "train").mkdir(parents=True)
    for name in ("train", "val", "valid"):
        (tmp_path / "twice" / name).mkdir(parents=True)
    for name in ("val", "test"):
        (tmp_path / "untrained" / name).mkdir(parents=True)
    assert [find_part_folders(tmp_path / name) for name in ("one", "twice", "untrained", "nowhere")] == [{}] * 4


def test_a_part_without_a_folder_is_held_out_of_the_training_images(tmp_path: Path) -> None:
    draw_classes(tmp_path / "train", {"a": 10, "b": 10})
    draw_classes(tmp_path / "test", {"a": 2, "b": 2})
    data = load(tmp_path, validation=0.2)
    assert {part: len(items) for part, items in data.parts.items()} == {"train": 16, "val": 4, "test": 4}
    assert all(name.startswith("train__") for name in list_names(data, "val"))


def test_each_part_may_have_a_table_of_its_own(tmp_path: Path) -> None:
    for part in ("train", "validation", "test"):
        for number in range(4):
            draw(tmp_path / part / f"{number}.png")
        rows = [f"{number}.png,{'ant' if number % 2 == (part == 'test') else 'bee'}" for number in range(4)]
        (tmp_path / part / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    data = load(tmp_path)
    assert data.facts.classes == ("ant", "bee")
    assert [item.label for item in data.parts["val"]] == [0, 1, 0, 1]
    assert {item.name: item.label for item in data.parts["test"]} == {f"test__{n}": int(n % 2 == 0) for n in range(4)}


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"train": 1, "car": 1, "test": 1})
    assert find_part_folders(tmp_path) == {}
    assert Folder(str(tmp_path)).list_classes() == ["car", "test", "train"]
    (tmp_path / "x" / "train").mkdir(parents=True)
    assert find_part_folders(tmp_path / "x") == {}


def test_the_limit_is_spread_over_the_classes_before_the_split(tmp_path: Path) -> None:
    data = load(draw_classes(tmp_path, {"a": 30, "b": 30}), limit=20, validation=0.2, test=0.2)
    assert data.describe_parts() == {"classes": 2, "train": 12, "val": 4, "test": 4}


def test_masks_lie_under_the_same_path_as_the_images_of_a_part(tmp_path: Path) -> None:
    for part in ("train", "test"):
        draw_classes(tmp_path / "images" / part, {"a": 1, "b": 1})
    mask = draw(tmp_path / "masks" / "test" / "a" / "0.png", "white")
    data = Folder(str(tmp_path / "images"), Facts(("a", "b"), 8, (0.5,) * 3, (0.5,) * 3), masks=str(tmp_path / "masks"))
    data.setup("test")
    assert [item.mask for item in data.items if item.mask] == [mask]


# Batches


def test_training_batches_are_random_cuts_and_validation_batches_are_not(tmp_path: Path) -> None:
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64)[None] * 4
    for name in "ab":
        for number in range(8):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.png")
    data = load(tmp_path, training_batch_size=5)
    torch.manual_seed(0)
    images = torch.cat([batch.images for batch in data.train_dataloader()])
    assert images.shape == (10, 3, 8, 8), "12 training images, the last batch is left out"
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    flipped = images[:, 0, 0, 0] > images[:, 0, 0, -1]
    assert 0 < int(flipped.sum()) < 10
    spans = (images[:, 0, 0, -1] - images[:, 0, 0, 0]).abs() / (252 / 255)
    assert float(spans.min()) < 0.85, "some are cut to a part of the width"
    (batch,) = data.val_dataloader()
    assert torch.equal(batch.images, batch.images[:1].expand_as(batch.images))
    plain = load(tmp_path, augmentation=False)
    (batch,) = plain.train_dataloader()
    assert torch.equal(batch.images, batch.images[:1].expand_as(batch.images))


def test_what_cannot_be_read_is_left_out_of_a_batch(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"a": 5, "b": 5})
    data = load(tmp_path)
    broken = data.parts["train"][0].path
    broken.write_text("no picture")
    (batch,) = data.train_dataloader()
    assert len(batch.images) == len(data.parts["train"]) - 1
    assert [skipped.path for skipped in batch.skipped] == [str(broken)]


@pytest.mark.parametrize(
    ("counts", "options", "words"),
    [
        ({"a": 9}, {}, "has 1 class; training needs two"),
        ({"a": 2, "b": 2}, {}, r"none of the 4 images with a class is in the part val.* larger data\.validation"),
        ({"a": 4, "b": 4}, {"test": 0.05}, r"in the part test.* larger data\.test"),
        ({"a": 4, "b": 4}, {"validation": 0.5, "test": 0.5}, "leave no image to train on"),
        ({"a": 4, "b": 4}, {"validation": 0.0}, r"data\.validation=0\.0 must be a number above 0 and below 1"),
        ({"a": 4, "b": 4}, {"test": 1.5}, r"data\.test=1\.5 must be a number"),
        ({"a": 4, "b": 4}, {"split": "training"}, "data.split=training must be train, val, test or null"),
        ({"a": 4, "b": 4}, {"training_batch_size": 1}, r"training_batch_size=1 must be a whole number from 2"),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, counts: dict[str, int], options: dict[str, object], words: str
) -> None:
    draw_classes(tmp_path, counts)
    with pytest.raises(UserError, match=words):
        load(tmp_path, **options)


def test_images_of_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"a": 4, "b": 4})
    data = Folder(str(tmp_path), Facts(("x", "y"), 8, (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(UserError, match=r"no image has a class of the network \(x, y, \.\.\.\)"):
        data.setup("fit")


# Several labels an image


SEVERAL = Facts(("ant", "bee", "cat"), 8, (0.5,) * 3, (0.5,) * 3, score="sigmoid")


@pytest.mark.parametrize(
    "rows",
    [
        ["file,labels", "0.png,ant|cat", "1.png,", "2.png,bee", "3.png,-1", "4.png,cat | whale"],
        ["file;label", '0.png;"ant, cat"', "1.png;", "2.png;1", "3.png;-1", "4.png;2"],
        ["path,label", "0.png,0;2", "1.png,", "2.png,Bee", "3.png,-1", "4.png,2"],
        ["path,class", "0.png,Cat;ANT;cat", "1.png,", "2.png,bee", "3.png,-1", "4.png,whale;cat"],
    ],
)
def test_a_cell_may_hold_several_labels(tmp_path: Path, rows: list[str]) -> None:
    for number in range(6):
        draw(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = Folder(str(tmp_path), SEVERAL, batch_size=6)
    data.setup("test")
    (batch,) = data.test_dataloader()
    unknown = [-1] * 3
    assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], unknown, [0, 0, 1], unknown]
    assert batch.label_names[0].lower() in ("ant, cat", "cat, ant")


def test_labels_may_have_a_column_each(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("image,cat,ant\n0.png,1,1\n1.png,0,0\n2.png,1.0,0\n")
    data = Folder(str(tmp_path), SEVERAL)
    assert data.list_classes() == ["ant", "cat"]
    data.setup("test")
    assert [item.several for item in data.items] == [(0, 2), (), (2,)]
    (tmp_path / "labels.csv").write_text("image,cat,ant\n0.png,1,0.5\n")
    with pytest.raises(UserError, match=r"the column ant holds '0\.5'"):
        Folder(str(tmp_path), SEVERAL).setup("test")
    with pytest.raises(UserError, match="it needs `file`"):
        Folder(str(tmp_path), Facts(("ant", "cat"), 8, (0.5,) * 3, (0.5,) * 3)).setup("test")


def test_several_labels_are_listed_and_shared_out(tmp_path: Path) -> None:
    lines = ["file,label"]
    for number in range(20):
        draw(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ant|cat' if number % 2 else 'bee|ant|cat'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = Folder(str(tmp_path), SEVERAL, validation=0.2, test=0.2)
    assert data.list_classes() == ["ant", "bee", "cat"]
    data.setup("fit")
    assert data.describe_parts() == {"classes": 3, "train": 12, "val": 4, "test": 4}
    (batch,) = data.val_dataloader()
    assert batch.labels[:, 1].sum() == 2, "each part has its share of every first label"


def test_a_folder_names_the_one_label_of_its_images(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"cat": 1, "whale": 1})
    data = Folder(str(tmp_path), SEVERAL)
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert batch.labels.tolist() == [[0, 0, 1], [-1, -1, -1]]


def test_labels_of_an_image_have_the_names_of_the_network_where_it_knows_them() -> None:
    labels = [Label(1, "Dog"), Label(-1, "bird"), Label(0, "CAT"), Label(1, "dog")]
    assert join_labels(labels, ["cat", "dog"]) == Label(1, "dog, bird, cat", (0, 1))
    assert join_labels(labels[1:2], ["cat", "dog"]) == Label(-1, "bird", ())
    assert join_labels([], ["cat", "dog"]) == Label(-1, "", ())
