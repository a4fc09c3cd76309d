from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Batch, Corrupted, Skipped
from seewhy.data.caltech101 import Caltech101
from seewhy.data.dataset import ImageFiles, Item, Record, collate
from seewhy.data.folder import Folder
from seewhy.data.labels import ClassCell, find_images, match_class, read_class_cells
from seewhy.data.names import name_images

FACTS = Facts(("house cat", "Dog", "sea lion"), 8, (0.5,) * 3, (0.5,) * 3)


def draw(path: Path, colour: object = "red", size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)  # type: ignore[arg-type]
    return path


def folder(root: object, **options: object) -> Folder:
    data = Folder(root, FACTS, **options)  # type: ignore[arg-type]
    data.setup("test")
    return data


def names(data: Folder) -> list[str]:
    return [item.name for item in data.items]


# Names


def test_names_are_readable_and_safe() -> None:
    paths = [Path("r/cat/a b.jpg"), Path("r/cat/ünï-1.png"), Path("r/x.tar.png"), Path("r/..png"), Path("r/a:b*?.gif")]
    assert name_images(paths, Path("r")) == ["cat__a_b", "cat__ünï-1", "x.tar", "_", "a_b__"]


def test_names_that_collide_get_their_suffix_and_then_a_hash() -> None:
    paths = [Path("r/a.png"), Path("r/a.jpg"), Path("r/B.png"), Path("r/b.png"), Path("r/c.png")]
    first, second, third, fourth, fifth = name_images(paths, Path("r"))
    assert (first, second, fifth) == ("a_png", "a_jpg", "c")
    assert third.startswith("B_png_") and fourth.startswith("b_png_") and third[6:] != fourth[6:]


def test_a_suffixed_name_may_not_hit_another_file() -> None:
    found = name_images([Path("r/a.png"), Path("r/a.jpg"), Path("r/a_png.gif")], Path("r"))
    assert found == ["a_png", "a_jpg", "a_png_gif"]


def test_long_names_are_cut() -> None:
    long, longer = name_images([Path("r") / ("x" * 101 + ".png"), Path("r") / ("漢" * 99 + ".png")], Path("r"))
    assert len(long) == 100
    assert len(longer.encode()) <= 180


parts = st.text(st.sampled_from("aAb._ -é/:"), min_size=1, max_size=6).filter(lambda text: text.strip("/.") != "")
some_paths = st.lists(parts.map(lambda text: Path("r") / f"{text.strip('/')}.png"), unique=True, max_size=6)


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(some_paths, st.randoms())
def test_names_are_unique_safe_and_do_not_depend_on_order(paths: list[Path], random: object) -> None:
    found = dict(zip(paths, name_images(paths, Path("r")), strict=True))
    assert len({name.casefold() for name in found.values()}) == len(paths)
    assert all(name and not name.startswith(".") and "/" not in name and len(name) <= 100 for name in found.values())
    random.shuffle(paths)  # type: ignore[attr-defined]
    assert dict(zip(paths, name_images(paths, Path("r")), strict=True)) == found


# The data set


def test_items_are_read_fitted_and_collated(tmp_path: Path) -> None:
    items = [
        Item(draw(tmp_path / "a.png", (255, 51, 0), (16, 8)), "a", 2, "sea lion"),
        Item(tmp_path / "none.png", "none"),
        Item(draw(tmp_path / "b.png", (0, 0, 255)), "b", -1, "whale"),
    ]
    data = pickle.loads(pickle.dumps(ImageFiles(items, FACTS)))
    batch = collate([data[position] for position in range(3)], size=8)
    assert isinstance(batch, Batch)
    assert batch.images.shape == (2, 3, 8, 8) and batch.images.dtype == torch.float32
    assert torch.allclose(batch.images[0, :, 4, 4], torch.tensor([1.0, 0.2, 0.0]))
    assert batch.labels.tolist() == [2, -1] and batch.labels.dtype == torch.int64
    assert (batch.names, batch.label_names) == (["a", "b"], ["sea lion", "whale"])
    assert batch.paths == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert batch.skipped == [Skipped(str(tmp_path / "none.png"), "there is no such file")]


def test_a_batch_without_images_keeps_its_shape() -> None:
    batch = collate([Skipped("a", "why"), Skipped("b", "why")], size=8)
    assert batch.images.shape == (0, 3, 8, 8) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (0,) and batch.labels.dtype == torch.int64
    assert len(batch.skipped) == 2


def test_corruption_sees_the_full_uint8_picture_once_and_leaves_the_image(tmp_path: Path) -> None:
    seen = []

    def corrupt(picture: torch.Tensor) -> Corrupted:
        seen.append((picture.dtype, tuple(picture.shape)))
        return Corrupted(torch.full((2, 3, 8, 8), 7, dtype=torch.uint8), torch.zeros(0, 2, 8, 8), torch.tensor(0.5))

    data = ImageFiles([Item(draw(tmp_path / "a.png", "black", (16, 12)), "a")], FACTS, corrupt)
    record = data[0]
    assert seen == [(torch.uint8, (3, 12, 16))]
    assert isinstance(record, Record) and record.image.max() == 0
    batch = collate([record, Skipped("b", "why"), record], size=8)
    assert batch.corrupted is not None and batch.corrupted.pictures.shape == (2, 2, 3, 8, 8)
    first = batch.first(1).corrupted
    assert first is not None and first.pictures.shape == (1, 2, 3, 8, 8)


def test_other_errors_are_raised(tmp_path: Path) -> None:
    def corrupt(picture: torch.Tensor) -> Corrupted:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        ImageFiles([Item(draw(tmp_path / "a.png"), "a")], FACTS, corrupt)[0]


# Finding files


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for file in ("b.PNG", "a.JpEg", ".hidden.png", "c.txt"):
        draw(tmp_path / "x.png").rename(tmp_path / file)
    draw(tmp_path / ".cache" / "d.png")
    data = folder(str(tmp_path))
    assert names(data) == ["a", "b"]
    assert {(item.label, item.label_name) for item in data.items} == {(-1, "")}
    assert data.describe() == f"2 images in {tmp_path}"


def test_class_tree_gives_labels_from_the_first_level(tmp_path: Path) -> None:
    for file in ("House_Cat/1.png", "dog/deep/deeper/2.png", "sea-lion/3.png", "unicorn/4.png", "5.png"):
        draw(tmp_path / file)
    data = folder(str(tmp_path))
    labels = {item.name: (item.label, item.label_name) for item in data.items}
    assert labels == {
        "5": (-1, ""),
        "House_Cat__1": (0, "house cat"),
        "dog__deep__deeper__2": (1, "Dog"),
        "sea-lion__3": (2, "sea lion"),
        "unicorn__4": (-1, "unicorn"),
    }
    assert data.describe() == f"5 images of 4 classes in {tmp_path}"


def test_names_that_differ_in_case_only_need_the_exact_word() -> None:
    classes = ("cardigan", "Cardigan", "tabby")
    assert [match_class(name, classes) for name in ("Cardigan", "cardigan", "CARDIGAN", "TABBY", "")] == [
        1,
        0,
        -1,
        2,
        -1,
    ]


def test_wordnet_ids_are_the_classes_of_imagenet() -> None:
    classes = tuple(f"class {index}" for index in range(1000))
    assert [match_class(name, classes) for name in ("n01440764", "n15075141", "n00000000")] == [0, 999, -1]
    assert match_class("n01440764", classes[:10]) == -1


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6])
def test_limit_takes_turns_between_classes(tmp_path: Path, number: int) -> None:
    for file in ("a/1.png", "a/2.png", "a/3.png", "a/4.png", "b/1.png", "c/1.png"):
        draw(tmp_path / file)
    expected = {
        1: ["a__1"],
        2: ["a__1", "b__1"],
        3: ["a__1", "b__1", "c__1"],
        4: ["a__1", "a__2", "b__1", "c__1"],
        6: ["a__1", "a__2", "a__3", "a__4", "b__1", "c__1"],
    }
    assert names(folder(str(tmp_path), limit=number)) == expected[number]


def test_limit_of_a_flat_folder_takes_the_first(tmp_path: Path) -> None:
    for file in ("c.png", "a.png", "b.png"):
        draw(tmp_path / file)
    assert names(folder(str(tmp_path), limit=2)) == ["a", "b"]
    with pytest.raises(UserError, match=r"data\.limit=0"):
        Folder(str(tmp_path), FACTS, limit=0)


def test_a_file_a_pattern_and_a_list(tmp_path: Path) -> None:
    one, two, three = draw(tmp_path / "x/1.png"), draw(tmp_path / "y/2.jpg"), draw(tmp_path / "y/3.png")
    assert names(folder(str(one))) == ["1"]
    assert folder(str(one)).items[0].label_name == ""
    assert names(folder(str(tmp_path / "*" / "*.png"))) == ["x__1", "y__3"]
    assert [item.label_name for item in folder(str(tmp_path / "*" / "*.png")).items] == ["x", "y"]
    assert names(folder(str(tmp_path / "**"))) == ["x__1", "y__2", "y__3"]
    assert names(folder([str(three), str(tmp_path / "x"), str(three)])) == ["x__1", "y__3"]
    assert names(folder(str(tmp_path / "y" / "*"))) == ["2", "3"]
    odd = two.rename(tmp_path / "photo.dat")
    assert [item.path for item in folder(odd).items] == [odd]


def test_links_do_not_hang_and_the_unusable_is_reported(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "good.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "self.png").symlink_to(tmp_path / "cat" / "self.png")
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / "cat" / "empty.jpg").touch()
    data = folder(str(tmp_path))
    batches = list(data.test_dataloader())
    assert [name for batch in batches for name in batch.names] == ["cat__good"]
    assert [Path(each.path).name for batch in batches for each in batch.skipped] == [
        "empty.jpg",
        "folder.png",
        "self.png",
    ]


@pytest.mark.parametrize(("root", "words"), [(None, "is not set"), ([], "is not set"), (0, "=0 does not exist")])
def test_no_folder_is_told_from_one_that_is_called_0(root: int | list[str] | None, words: str) -> None:
    with pytest.raises(UserError, match=rf"data\.root.*{words}"):
        Folder(root).setup()


def test_what_cannot_be_found_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=\S+nowhere does not exist"):
        folder(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no images in data\.root=\S+: looked for the extensions jpg, jpeg"):
        folder(str(tmp_path))
    with pytest.raises(UserError, match="matches no file"):
        folder(str(tmp_path / "*.png"))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        folder(None)


# labels.csv


def test_labels_csv_by_name_and_by_index(tmp_path: Path) -> None:
    for file in ("a.png", "b.png", "c.png", "d.png", "sub/e.png", "f.png"):
        draw(tmp_path / file)
    rows = [
        "file,label,class",
        "a.png,1,",
        "b.png,,HOUSE-CAT",
        "c.png,7,dog",
        "d.png,0,sea lion",
        "sub/e.png,2,sea lion",
    ]
    (tmp_path / "labels.csv").write_text("\ufeff" + "\n".join(rows))
    labels = {item.name: (item.label, item.label_name) for item in folder(str(tmp_path)).items}
    assert labels == {
        "a": (1, "Dog"),
        "b": (0, "house cat"),
        "c": (1, "Dog"),
        "d": (2, "sea lion"),
        "f": (-1, ""),
        "sub__e": (2, "sea lion"),
    }


def test_labels_csv_elsewhere_and_an_unknown_class(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "a.png")
    (tmp_path / "truth.csv").write_text("file,class\nimages/a.png,unicorn\n")
    data = folder(str(tmp_path / "images"), labels=str(tmp_path / "truth.csv"))
    assert (data.items[0].label, data.items[0].label_name) == (-1, "unicorn")


@pytest.mark.parametrize("file", ["file", "path", "file_name", "filename", "image", "Image"])
@pytest.mark.parametrize("label", ["label", "labels", "class", "Label"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_usual_columns_with_names_or_indices(tmp_path: Path, file: str, label: str, delimiter: str) -> None:
    rows = [(file, label), ("a.png", "Sea-Lion"), ("b.png", "1"), ("sub/c.png", "2.0"), ("d.png", "9"), ("e.png", "-1")]
    for name, _ in rows[1:]:
        draw(tmp_path / name)
    (tmp_path / "labels.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    labels = {item.name: (item.label, item.label_name) for item in folder(str(tmp_path)).items}
    assert labels == {
        "a": (2, "sea lion"),
        "b": (1, "Dog"),
        "sub__c": (2, "sea lion"),
        "d": (-1, "9"),
        "e": (-1, ""),
    }


def test_a_class_whose_name_is_a_number_is_meant_by_that_name(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,class\na.png,1\n")
    data = Folder(str(tmp_path), Facts(("1", "0"), 8, (0.5,) * 3, (0.5,) * 3))
    data.setup("test")
    assert (data.items[0].label, data.items[0].label_name) == (0, "1")


def test_metadata_csv_of_an_image_folder(tmp_path: Path) -> None:
    draw(tmp_path / "cats" / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ncats/a.png,a caption\n")
    assert folder(str(tmp_path)).items[0].label_name == "cats", "a file of captions alone has no labels"
    (tmp_path / "metadata.csv").write_text("file_name,text,label\ncats/a.png,a caption,1\n")
    assert folder(str(tmp_path)).items[0].label_name == "Dog"
    (tmp_path / "labels.csv").write_text("file,class\ncats/a.png,house cat\n")
    assert folder(str(tmp_path)).items[0].label_name == "house cat"


def test_paths_in_a_table_elsewhere_may_be_relative_to_the_images(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "sub" / "a.png")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "truth.csv").write_text("path,label\n./sub/a.png,dog\n")
    data = folder(str(tmp_path / "images"), labels=str(tmp_path / "tables" / "truth.csv"))
    assert data.items[0].label == 1


@pytest.mark.parametrize("by", ["index", "name", "unknown name", "unknown index"])
def test_limit_takes_turns_between_classes_of_a_flat_folder(tmp_path: Path, by: str) -> None:
    classes = {"index": "012", "name": ("house cat", "Dog", "sea lion"), "unknown name": "xyz", "unknown index": "789"}[
        by
    ]
    rows = [f"{number}.png,{classes[0 if number < 4 else number - 3]}" for number in range(6)]
    for number in range(6):
        draw(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *reversed(rows)]))
    assert names(folder(str(tmp_path), limit=3)) == ["0", "4", "5"]
    assert names(folder(str(tmp_path), limit=4)) == ["0", "1", "4", "5"]
    assert names(folder(str(tmp_path))) == [str(number) for number in range(6)]


def test_the_index_is_trusted_for_imagenet(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label,class\na.png,5,another word\n")
    facts = Facts(tuple(f"class {index}" for index in range(1000)), 8, (0.5,) * 3, (0.5,) * 3)
    data = Folder(str(tmp_path), facts)
    data.setup("test")
    assert (data.items[0].label, data.items[0].label_name) == (5, "class 5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("picture,class\na.png,dog\n", "it needs `file`"),
        ("file,caption\na.png,dog\n", "it needs `file`.*`label`"),
        ("file,label\n" + "x" * 200_000 + ",1\n", "line 2: field larger"),
        ("x" * 200_000 + ",label\n", "line 1: field larger"),
        ("file,class\nother.png,dog\n", "names none of the 1 images"),
        ("", "it needs `file`"),
    ],
)
def test_faulty_labels_csv(tmp_path: Path, content: str, message: str) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        folder(str(tmp_path))
    with pytest.raises(UserError, match=r"data\.labels=nowhere\.csv"):
        folder(str(tmp_path), labels="nowhere.csv")


# Loading


def test_workers_give_the_same_batches(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (10, 12, 3), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("broken")
    alone = list(folder(str(tmp_path), batch_size=2).test_dataloader())
    helped = list(folder(str(tmp_path), batch_size=2, num_workers=1).test_dataloader())
    assert [batch.names for batch in alone] == [["0", "1"], ["3"], ["4"]]
    assert [len(batch.skipped) for batch in alone] == [0, 1, 0]
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images) and one[2:] == other[2:]


def test_caltech101_layouts(tmp_path: Path) -> None:
    pictures = tmp_path / "caltech101" / "101_ObjectCategories"
    for file in ("accordion/image_0001.jpg", "dog/image_0001.jpg", "BACKGROUND_Google/image_0001.jpg"):
        draw(pictures / file)
    for root in (tmp_path, tmp_path / "caltech101", pictures):
        data = Caltech101(str(root), FACTS)
        data.prepare_data()
        data.setup("test")
        assert [(item.name, item.label, item.label_name) for item in data.items] == [
            ("accordion__image_0001", -1, "accordion"),
            ("dog__image_0001", 1, "Dog"),
        ]
    with pytest.raises(UserError, match=r"no Caltech-101 under data\.root=\S+/nowhere"):
        Caltech101(str(tmp_path / "nowhere"), FACTS).setup("test")


def test_two_rows_of_an_image_say_the_same_or_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    images, table = find_images([tmp_path]), tmp_path / "labels.csv"
    table.write_text("path,label\na.png,cat\na.png,cat\n")
    assert read_class_cells(images, table) == [ClassCell("cat", "")]
    table.write_text("path,label\na.png,cat\na.png,dog\n")
    with pytest.raises(
        UserError, match=r"says of a\.png both 'cat' and 'dog': keep one row, or set model\.score=sigmoid"
    ):
        read_class_cells(images, table)
    (cell,) = read_class_cells(images, table, several=True)
    assert cell is not None and cell.match_several(["dog", "cat", "owl"]).several == (0, 1)
