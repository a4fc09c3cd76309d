"""Images as a caller holds them: every form of the same picture gives the same image, with its label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.types import Batch
from seewhy.data.in_memory import iterate_batches, read_label, refuse_shuffling

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
SMALL = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
FACTS = Facts(("ant", "bee", "cat"), 8, (0.5,) * 3, (0.5,) * 3)


def read(images: Any, facts: Facts = FACTS, **options: Any) -> list[Batch]:
    return list(iterate_batches(images, facts, options.pop("batch_size", 2), **options))


def stack(images: Any, facts: Facts = FACTS, **options: Any) -> torch.Tensor:
    return torch.cat([batch.images for batch in read(images, facts, **options)])


def list_labels(images: Any, **options: Any) -> list[tuple[int, str]]:
    batches = read(images, **options)
    labels = [label for batch in batches for label in batch.labels.tolist()]
    return list(zip(labels, [name for batch in batches for name in batch.label_names], strict=True))


class Numbered(Dataset[Any]):
    """A map-style data set over a list."""

    def __init__(self, items: list[Any], **fields: Any) -> None:
        self.items = items
        vars(self).update(fields)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        return self.items[position]


FORMS: dict[str, Callable[[Path], Any]] = {
    "path": lambda file: file,
    "text": str,
    "list of paths and pictures": lambda file: [file],
    "Pillow": lambda file: Image.fromarray(PICTURE),
    "array": lambda file: PICTURE,
    "array, channels first": lambda file: PICTURE.transpose(2, 0, 1),
    "array of images": lambda file: PICTURE[None],
    "array with alpha": lambda file: np.dstack([PICTURE, np.full((20, 30), 255, np.uint8)]),
    "tensor": lambda file: torch.from_numpy(PICTURE).permute(2, 0, 1),
    "tensor of images": lambda file: torch.from_numpy(PICTURE).permute(2, 0, 1)[None],
    "data set": lambda file: Numbered([Image.fromarray(PICTURE)]),
    "data set of pairs": lambda file: Numbered([(PICTURE, 1)]),
    "data set of mappings": lambda file: Numbered([{"label": 1, "image": Image.fromarray(PICTURE)}]),
    "subset": lambda file: Subset(Numbered([SMALL, PICTURE]), [1]),
    "loader": lambda file: DataLoader(TensorDataset(torch.from_numpy(PICTURE).permute(2, 0, 1)[None])),
    "loader of pairs": lambda file: DataLoader(Numbered([(torch.from_numpy(PICTURE).permute(2, 0, 1), 1)])),
    "loader of mappings": lambda file: DataLoader(
        Numbered([{"pixel_values": torch.from_numpy(PICTURE).permute(2, 0, 1), "labels": 1}])
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_is_the_image_of_its_file(form: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(file)
    expected = stack(Image.fromarray(PICTURE))
    assert expected.shape == (1, 3, 8, 8) and expected.dtype == torch.float32
    assert torch.equal(stack(FORMS[form](file)), expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_of_the_right_size_are_taken_as_they_are(kind: type) -> None:
    values = (SMALL / 255).astype(kind)
    expected = torch.from_numpy(values.transpose(2, 0, 1).copy()).float()
    for images in (
        values,
        values.transpose(2, 0, 1),
        torch.from_numpy(values).permute(2, 0, 1),
        [values],
        values[None],
    ):
        assert torch.equal(stack(images)[0], expected)
    assert torch.equal(stack(SMALL)[0], torch.from_numpy(SMALL).permute(2, 0, 1) / 255)


def test_words_of_16_bits_are_divided_by_the_largest() -> None:
    values = RNG.integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    expected = torch.from_numpy((values.transpose(2, 0, 1) / 65535).astype(np.float32))
    assert torch.equal(stack(values)[0], expected)


def test_grey_images_need_no_axis_for_their_channel() -> None:
    facts = Facts(("a", "b"), (4, 6), (0.5,), (0.5,))
    grey = RNG.random((5, 4, 6)).astype(np.float32)
    for images in (grey, torch.from_numpy(grey), grey[..., None], torch.from_numpy(grey)[:, None], list(grey)):
        assert torch.equal(stack(images, facts)[:, 0], torch.from_numpy(grey))
    assert stack(grey[0], facts).shape == (1, 1, 4, 6)


def test_lists_mix_everything_and_keep_the_order(tmp_path: Path) -> None:
    for name in ("x/ant/1.png", "x/cat/2.png", "y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(SMALL).save(tmp_path / name)
    mixed = [Image.fromarray(SMALL), tmp_path / "y.png", str(tmp_path / "x"), SMALL, (PICTURE, "bee")]
    batches = read(mixed, batch_size=4)
    names = ["image_000", "y", "x__ant__1", "x__cat__2", "image_004", "image_005"]
    assert [name for batch in batches for name in batch.names] == names
    assert list_labels(mixed) == [(-1, ""), (-1, ""), (0, "ant"), (2, "cat"), (-1, ""), (1, "bee")]
    images = torch.cat([batch.images for batch in batches])
    assert torch.equal(images[:5], images[:1].expand(5, -1, -1, -1))


def test_a_file_that_cannot_be_read_is_skipped_among_others(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    (batch,) = read([SMALL, tmp_path / "bad.png"])
    assert batch.names == ["image_000"]
    assert [skipped.path for skipped in batch.skipped] == [str(tmp_path / "bad.png")]


# Labels


def test_labels_are_indices_or_names() -> None:
    images = np.stack([SMALL] * 4)
    expected = [(2, "cat"), (0, "ant"), (-1, ""), (-1, "whale")]
    assert list_labels(images, labels=["Cat", 0, None, "whale"]) == expected
    assert list_labels(images, labels=torch.tensor([2, 0, -1, 1])) == [(2, "cat"), (0, "ant"), (-1, ""), (1, "bee")]
    assert list_labels(images, labels=np.array([2, 0, 1, 1]))[0] == (2, "cat")
    assert list_labels(SMALL, labels="bee") == [(1, "bee")]
    assert list_labels(Numbered([(SMALL, 0)]), labels=[2]) == [(2, "cat")], "what is stated counts"


@pytest.mark.parametrize(
    "labels",
    [
        [["ant", "cat"], [], None],
        [[0, 2], (), None],
        ["cat|ant", [], -1],
        [np.array([1, 0, 1]), torch.zeros(3, dtype=torch.int64), None],
    ],
)
def test_an_image_may_have_several_labels(labels: Any) -> None:
    facts = Facts(FACTS.classes, 8, FACTS.mean, FACTS.std, score="sigmoid")
    (batch,) = read(np.stack([SMALL] * 3), facts, labels=labels, batch_size=3)
    assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [-1, -1, -1]]
    loader = DataLoader(TensorDataset(torch.rand(2, 3, 8, 8), torch.tensor([[1, 0, 1], [0, 1, 0]])))
    assert torch.cat([each.labels for each in read(loader, facts)]).tolist() == [[1, 0, 1], [0, 1, 0]]
    for wrong in (np.array([1, 0]), np.array([2, 0, 0])):
        with pytest.raises(UserError, match="give 0 or 1 for each of the 3 labels"):
            read(SMALL, facts, labels=[wrong])


def test_labels_of_data_sets_mean_their_own_classes() -> None:
    items = [(SMALL, 0), (SMALL, torch.tensor(1))]
    assert list_labels(Numbered(items)) == [(0, "ant"), (1, "bee")]
    assert list_labels(Numbered(items, classes=["cat", "ant"])) == [(2, "cat"), (0, "ant")]
    assert list_labels(Subset(Numbered(items, classes=["cat", "ant"]), [1])) == [(0, "ant")]
    assert list_labels(DataLoader(Numbered(items, classes=["cat", "fly"]), collate_fn=list_pairs)) == [
        (2, "cat"),
        (-1, "fly"),
    ]
    assert list_labels(Numbered(items, classes=["tom", "tim"])) == [(0, "ant"), (1, "bee")], "no name is shared"


def list_pairs(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return [item[0] for item in items], [item[1] for item in items]


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (SMALL, {"labels": [0, 1]}, "labels has 2 values for 1 images"),
        (np.stack([SMALL] * 3), {"labels": [0]}, "labels has 1 values for 3 images"),
        (SMALL, {"labels": [3]}, "the label 3 must be from 0 to 2: the network has 3 classes"),
        (SMALL, {"labels": [-2]}, "the label -2 must be from 0"),
        (SMALL, {"labels": [1.5]}, r"the label 1\.5 is no index and no class name"),
        (SMALL, {"labels": {0}}, "labels=set: give a list"),
        (DataLoader(TensorDataset(torch.rand(3, 3, 8, 8))), {"labels": [0]}, "there are more images"),
        (DataLoader(TensorDataset(torch.rand(1, 3, 8, 8))), {"labels": [0, 1]}, "labels has 2 values for 1 images"),
        ((SMALL / 255.0)[:4], {}, "4 x 8 pixels, the network sees 8 x 8"),
        (SMALL.astype(np.float32), {}, r"reach from 0 to 255: give \[0, 1\]"),
        (SMALL.astype(np.int64), {}, "int64: give 8 bits"),
        (np.zeros((8, 8, 5), np.uint8), {}, "8 x 8 x 5 values is not"),
        (np.zeros((3, 9, 3), np.uint8), {}, "3 at both ends: which are the channels"),
        (torch.zeros(8, 8, 3), {}, r"8 x 8 x 3 values, not \[3, height, width\]"),
        ("https://example.org/cat.jpg", {}, "nothing is fetched from the network; download it"),
        (["s3://bucket/cat.jpg", SMALL], {}, "nothing is fetched from the network"),
        ((SMALL for _ in range(2)), {}, r"images=generator: give .*list\(images\) gives its items numbers"),
        ({"a": SMALL}, {}, "images=dict: give"),
        (3, {}, "images=int: give paths"),
        ([SMALL, None], {}, "images=NoneType: give paths"),
        (Numbered([{"a": 1}]), {}, "an item has the keys a: the image is looked for in"),
        (Numbered([]), {}, "at least one image"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(images: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(images, **options)


def test_errors_of_a_data_set_name_the_item() -> None:
    class Broken(Numbered):
        def __getitem__(self, position: int) -> Any:
            raise OSError("disk gone")

    with pytest.raises(UserError, match="item 0 of the data set cannot be read: OSError: disk gone"):
        read(Broken([1]))

    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([])

    with pytest.raises(UserError, match="images=Endless: give"):
        read(Endless())


def test_a_loader_that_shuffles_serves_one_network_alone() -> None:
    data = TensorDataset(torch.rand(2, 3, 8, 8))
    refuse_shuffling(DataLoader(data))
    refuse_shuffling(data)
    with pytest.raises(UserError, match="shuffle=False"):
        refuse_shuffling(DataLoader(data, shuffle=True))


def test_a_label_of_one_number_in_any_type() -> None:
    for value in (1, np.int64(1), np.array(1), torch.tensor(1), "bee"):
        assert read_label(value, FACTS.classes)[:2] == (1, "bee")
