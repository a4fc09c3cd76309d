"""Masks travel with their images through resize and crop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.core.errors import UnreadableImage, UserError
from seewhy.core.facts import Facts
from seewhy.data.folder import Folder
from seewhy.data.images import find_masks, fit_mask, read_mask

FACTS = Facts(("a", "b"), 8, (0.5,) * 3, (0.5,) * 3)


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def object_in(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width))
    mask[: height // 2, width // 2 :] = 255
    return mask


def test_whatever_is_not_black_is_the_object(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 128], [255, 0, 0]])
    assert read_mask(saved(tmp_path / "m.png", mask), (2, 3)).tolist() == [[False, True, True], [True, False, False]]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="it has 3x2 pixels and the image 4x4"):
        read_mask(saved(tmp_path / "m.png", np.zeros((2, 3))), (4, 4))


def test_a_mask_is_cut_out_as_its_image() -> None:
    mask = torch.from_numpy(object_in(16, 32) > 0)
    fitted = fit_mask(mask, FACTS)
    assert fitted.tolist() == [[False] * 4 + [True] * 4] * 4 + [[False] * 8] * 4


def test_masks_are_found_by_path_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat/1.jpg", "cat/2.jpg", "3.png"):
        saved(tmp_path / "images" / name, rng.integers(0, 255, (16, 16, 3)))
    saved(tmp_path / "masks/cat/1.png", object_in(16, 16))
    saved(tmp_path / "masks/3.bmp", 255 - object_in(16, 16))
    data = Folder(tmp_path / "images", FACTS, masks=str(tmp_path / "masks"))
    data.setup()
    (batch,) = data.test_dataloader()
    assert batch.names == ["3", "cat__1", "cat__2"]
    assert batch.masks is not None
    assert batch.masks.sum((1, 2)).tolist() == [48, 16, 0]
    assert batch.first(2).masks is not None
    assert torch.equal(batch.to("cpu").masks, batch.masks)


def test_an_image_whose_mask_does_not_fit_is_skipped(tmp_path: Path) -> None:
    for name, side in (("1", 16), ("2", 20)):
        saved(tmp_path / f"images/{name}.png", np.zeros((16, 16, 3)))
        saved(tmp_path / f"masks/{name}.png", np.ones((side, side)))
    data = Folder(tmp_path / "images", FACTS, masks=str(tmp_path / "masks"))
    data.setup()
    (batch,) = data.test_dataloader()
    assert batch.names == ["1"]
    assert "20x20 pixels and the image 16x16" in batch.skipped[0].reason


def test_without_masks_there_are_none(tmp_path: Path) -> None:
    saved(tmp_path / "1.png", np.zeros((16, 16, 3)))
    data = Folder(tmp_path, FACTS)
    data.setup()
    assert next(iter(data.test_dataloader())).masks is None


@pytest.mark.parametrize(
    ("folder", "words"), [("nowhere", "is not a folder"), ("empty", "the one of 1.jpg would be 1.png")]
)
def test_a_folder_without_masks_is_refused(tmp_path: Path, folder: str, words: str) -> None:
    for name in ("1", "2"):
        saved(tmp_path / f"images/{name}.jpg", np.zeros((16, 16, 3)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        Folder(tmp_path / "images", FACTS, masks=str(tmp_path / folder)).setup()
    with pytest.raises(UserError, match=r"data\.masks=https://a\.org/masks: nothing is fetched"):
        Folder(tmp_path / "images", FACTS, masks="https://a.org/masks").setup()


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "tif", "tiff", "webp", "jpg", "jpeg"])
def test_a_mask_may_be_of_any_format_and_is_dark_or_bright_in_a_jpeg(tmp_path: Path, suffix: str) -> None:
    """Compression leaves grey around an object: in a JPEG only what is brighter than half belongs to it."""
    saved(tmp_path / "images/1.png", np.zeros((16, 16, 3)))
    grey = object_in(16, 16)
    grey[8:] = 100
    saved(tmp_path / f"masks/1.{suffix}", grey)
    (path,) = find_masks([tmp_path / "images/1.png"], [tmp_path / "images"], str(tmp_path / "masks"))
    assert path is not None
    mask = read_mask(path, (16, 16))
    assert (int(mask[:8].sum()), int(mask[8:].sum())) == (64, 0 if suffix in ("jpg", "jpeg") else 128)
