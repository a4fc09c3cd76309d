"""Corruptions are functions of (seed, picture, level) that grow with the level."""

from itertools import pairwise
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch

from commands import CONFIGS, composed
from corruption_checks import built, scene
from seewhy.core.errors import UserError
from seewhy.core.facts import CIFAR10_CLASSES, Facts
from seewhy.data.cifar10 import TensorImages
from seewhy.data.corruptions.attacks import Attack
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.corrupter import Corrupter, CorruptionStep, count_workers, limit_batch_size
from seewhy.data.corruptions.patterns import build_streak, draw_cloud
from seewhy.data.dataset import ImageFiles, Item, collate
from seewhy.data.loading import resize_and_crop

GROUPS = ("all", "study")
YAMLS = sorted(path.stem for path in (CONFIGS / "corruption").glob("*.yaml") if path.stem not in GROUPS)
FACTS = Facts(CIFAR10_CLASSES, 32, (0.5,) * 3, (0.5,) * 3, crop=0.875, interpolation="bicubic")


PIXELS = [name for name in YAMLS if not isinstance(built(name), Attack)]


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (33, 47), (90, 131)])
def test_every_yaml_changes_pictures_of_any_size_and_keeps_their_shape(name: str, shape: tuple[int, int]) -> None:
    corruption = built(name)
    assert len(corruption.levels) == len(corruption.small) == 5
    grey = np.repeat(scene(*shape)[..., :1], 3, axis=2)
    for picture in (scene(*shape), grey, np.zeros_like(grey), np.full_like(grey, 255)):
        for level in range(1, 6):
            before = picture.copy()
            made = corruption.corrupt(picture, level, 3)
            assert made.shape == picture.shape and made.dtype == np.uint8
            assert np.array_equal(picture, before), "the picture itself was changed"


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("size", [32, 96])
def test_severity_grows_with_the_level(name: str, size: int) -> None:
    corruption = built(name)
    pictures = [scene(size, size, seed) for seed in range(6)]
    change = [
        np.mean(
            [np.abs(corruption.corrupt(one, level, seed).astype(int) - one).mean() for seed, one in enumerate(pictures)]
        )
        for level in range(6)
    ]
    assert change[0] == 0
    if name == "pixelate":  # blocks that fit the pixels change less than those that do not
        change[1:] = sorted(change[1:3]) + change[3:] if size > 64 else sorted(change[1:4]) + change[4:]
    if name == "frost":  # from level 3 to 4 there is less of the picture and as much ice
        change.pop(4)
        change = change[:3] + change[4:] if size <= 64 else change
    if name == "motion_blur" and size <= 64:  # levels 3 and 4 differ in the tail of their Gaussian alone
        assert change.pop(4) == pytest.approx(change[3], rel=0.01)
    assert all(later > earlier for earlier, later in pairwise(change)), np.round(change, 2)


@pytest.mark.parametrize("name", PIXELS)
def test_same_seed_same_bytes_and_another_seed_others(name: str) -> None:
    corruption, again = built(name), built(name)
    one, other = scene(96, 96), scene(96, 96, seed=1)
    first = corruption.corrupt(one, 3, 11)
    corruption.corrupt(other, 5, 12)
    assert np.array_equal(corruption.corrupt(one, 3, 11), first)
    assert np.array_equal(again.corrupt(one, 3, 11), first)
    fixed = {"contrast", "defocus_blur", "zoom_blur", "pixelate", "jpeg"}
    drawn = {corruption.corrupt(one, 3, seed).tobytes() for seed in range(8)}
    assert (len(drawn) == 1) == (name in fixed)


@pytest.mark.parametrize("name", PIXELS)
def test_only_the_marked_corruptions_move_pixels(name: str) -> None:
    """Away from its frame a constant picture stays as it is (up to rounding) where pixels only move or are averaged."""
    corruption = built(name)
    flat = np.full((96, 96, 3), 120, np.uint8)
    changed = np.abs(corruption.corrupt(flat, 4, 0)[20:76, 20:76].astype(int) - 120).max() > 2
    blurs = {"defocus_blur", "motion_blur", "zoom_blur", "pixelate", "jpeg", "contrast"}
    assert changed == (name not in blurs and not corruption.moves_pixels)


def test_level_0_is_the_picture_to_the_bit() -> None:
    picture = scene(40, 40)
    assert built("snow").corrupt(picture, 0, 1) is picture


@pytest.mark.parametrize("shape", [(40, 61), (32, 32), (36, 36), (20, 33), (300, 200), (37, 36)])
def test_an_empty_corruption_gives_the_clean_image_to_the_bit(shape: tuple[int, int]) -> None:
    picture = torch.from_numpy(scene(*shape)).permute(2, 0, 1)
    corrupted = Corrupter({"none": Corruption([albumentations.NoOp()])}, FACTS, 0)(picture)
    assert torch.equal(corrupted.pictures[0], resize_and_crop(picture, FACTS))


def test_sources_of_a_picture_that_is_resized_and_cut_are_its_own_pixels() -> None:
    still = Corruption([albumentations.NoOp()], moves_pixels=True)
    grid = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy"))
    for shape in ((40, 61), (32, 32), (300, 200), (18, 25)):
        picture = torch.from_numpy(scene(*shape)).permute(2, 0, 1)
        sources = Corrupter({"none": still}, FACTS, 0)(picture).sources[0]
        middle = np.s_[:, 2:30, 2:30] if min(shape) < 36 else np.s_[:]
        torch.testing.assert_close(sources[middle], grid[middle], atol=1e-3, rtol=0)


def test_sources_say_where_a_flipped_pixel_came_from() -> None:
    flip = Corruption([albumentations.HorizontalFlip()], moves_pixels=True)
    sources = flip.trace_sources((7, 11, 3), 1, 0)
    assert np.allclose(sources[..., 0], np.arange(10, -1, -1)[None, :], atol=1e-4)
    assert np.allclose(sources[..., 1], np.arange(7)[:, None], atol=1e-4)


def test_corners_of_a_turned_picture_come_from_nowhere() -> None:
    sources = built("rotation").trace_sources((96, 96, 3), 5, 0)
    assert np.isnan(sources[0, 0]).all()
    assert np.isfinite(sources[48, 48]).all()
    assert np.abs(sources[48, 48] - 48).max() < 1


def test_pixel_dropout_turns_that_share_black_and_keeps_it_at_the_next_level() -> None:
    picture = np.full((200, 200, 3), 90, np.uint8)
    dropped = [(built("pixel_dropout").corrupt(picture, level, 5) == 0).all(2) for level in range(1, 6)]
    for found, share in zip(dropped, (0.01, 0.02, 0.05, 0.1, 0.2), strict=True):
        assert found.mean() == pytest.approx(share, rel=0.15)


def test_noise_has_the_standard_deviation_of_its_level() -> None:
    picture = np.full((200, 200, 3), 127, np.uint8)
    noisy = built("gaussian_noise").corrupt(picture, 2, 5).astype(float) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.03)
    weakest = built("gaussian_noise").corrupt(picture, 1, 5).astype(float)
    assert 10**0.5 - 0.1 < weakest.std() < 50**0.5 + 0.1


def test_shot_noise_keeps_the_mean_and_has_the_variance_of_its_photons() -> None:
    noisy = built("shot_noise").corrupt(np.full((300, 300, 3), 102, np.uint8), 1, 5) / 255
    assert noisy.mean() == pytest.approx(0.4, rel=0.01)
    assert noisy.var() == pytest.approx(0.4 / 60, rel=0.03)


def test_small_pictures_take_the_small_levels() -> None:
    weak, strong = albumentations.GaussNoise(std_range=(0.01, 0.01)), albumentations.GaussNoise(std_range=(0.3, 0.3))
    corruption = Corruption([strong], small=[weak])
    assert corruption.corrupt(np.full((64, 80, 3), 127, np.uint8), 1, 0).std() < 5
    assert corruption.corrupt(np.full((65, 80, 3), 127, np.uint8), 1, 0).std() > 50


def test_clouds_and_streaks() -> None:
    veil = draw_cloud(40, 31, 2.0, np.random.default_rng(0))
    assert veil.shape == (40, 31) and (veil.min(), veil.max()) == (0, 1)
    rough, smooth = (draw_cloud(64, 64, decay, np.random.default_rng(0)) for decay in (1.4, 3.0))
    assert np.abs(np.diff(rough, axis=0)).mean() > 2 * np.abs(np.diff(smooth, axis=0)).mean()
    assert draw_cloud(1, 1, 2.0, np.random.default_rng(0)) == 0
    streak = build_streak(4, 4.0, 0.0)
    assert streak.shape == (17, 17) and streak.sum() == pytest.approx(1)
    assert (streak[9:] == 0).all() and (streak[:8] == 0).all() and (streak[:, :8] == 0).all()
    assert streak[8, 12] / streak[8, 8] == pytest.approx(np.exp(-0.5))


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"corruption\.levels=\[\] must be a list that is not empty"):
        Corruption([])
    with pytest.raises(UserError, match="2 levels and 1 small ones: give a list of equal length"):
        Corruption([albumentations.NoOp()] * 2, small=[albumentations.NoOp()])
    with pytest.raises(UserError, match="levels 0 to 1"):
        Corruption([albumentations.NoOp()]).corrupt(scene(8, 8), 2, 0)
    with pytest.raises(UserError, match="workers=-1"):
        count_workers(-1)
    assert count_workers(3) == 3
    assert 1 <= count_workers("auto") <= 8


# in the data sets


def corrupter(*names: str, seed: int = 0) -> Corrupter:
    return Corrupter({name: built(name) for name in names}, FACTS, seed)


def test_steps_and_moving_steps_are_listed() -> None:
    made = corrupter("jpeg", "rotation")
    assert made.steps[:2] == [CorruptionStep("jpeg", 1), CorruptionStep("jpeg", 2)]
    assert made.moving == [5, 6, 7, 8, 9]
    versions = made(torch.from_numpy(scene(50, 60)).permute(2, 0, 1))
    assert versions.pictures.shape == (10, 3, 32, 32)
    assert versions.sources.shape == (5, 2, 32, 32)


def test_batches_are_smaller_where_versions_are_many() -> None:
    assert limit_batch_size(8, None) == 8
    assert limit_batch_size(8, corrupter("jpeg")) == 8
    large = Corrupter({name: built(name) for name in PIXELS}, Facts((), 224, (0.5,) * 3, (0.5,) * 3), 0)
    assert limit_batch_size(8, large) == 1
    huge = Corrupter({"jpeg": built("jpeg")}, Facts((), 4000, (0.5,) * 3, (0.5,) * 3), 0)
    assert limit_batch_size(8, huge) == 1
    middle = Corrupter(
        {name: built(name) for name in ("jpeg", "fog", "snow")}, Facts((), 224, (0.5,) * 3, (0.5,) * 3), 0
    )
    assert limit_batch_size(100, middle) == 2**25 // (15 * 3 * 224**2)


def test_versions_do_not_depend_on_workers_or_order(tmp_path: Path) -> None:
    from PIL import Image

    items = []
    for number in range(3):
        Image.fromarray(scene(48, 60, number)).save(tmp_path / f"{number}.png")
        items.append(Item(tmp_path / f"{number}.png", f"image {number}"))

    def versions(listed: list[Item], workers: int) -> dict[str, torch.Tensor]:
        data = ImageFiles(listed, FACTS, corrupter("gaussian_noise", "snow", "elastic"))
        loader = torch.utils.data.DataLoader(data, 2, num_workers=workers, collate_fn=lambda read: collate(read, 32))  # type: ignore[arg-type]
        return {name: batch.corrupted.pictures[row] for batch in loader for row, name in enumerate(batch.names)}

    here, there, turned = versions(items, 0), versions(items, 2), versions(items[::-1], 0)
    for name, pictures in here.items():
        assert torch.equal(pictures, there[name]) and torch.equal(pictures, turned[name])
    assert not torch.equal(here["image 0"], here["image 1"])


def test_pictures_in_memory_are_corrupted_as_files_are(tmp_path: Path) -> None:
    from PIL import Image

    array = scene(32, 32)
    Image.fromarray(array).save(tmp_path / "a.png")
    file = ImageFiles([Item(tmp_path / "a.png", "a")], FACTS, corrupter("fog"))[0]
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None].clone()
    memory = TensorImages(tensor, torch.tensor([1]), torch.tensor([7]), "x", CIFAR10_CLASSES)
    assert memory.__getitems__([0]).corrupted is None
    memory.corrupt = corrupter("fog")
    assert torch.equal(memory.__getitems__([0]).corrupted.pictures[0], file.corrupted.pictures)  # type: ignore[union-attr]


# configs


@pytest.mark.slow
@pytest.mark.parametrize("picked", ["all", "study", "[gaussian_noise,jpeg,pgd]", *YAMLS])
def test_every_choice_composes(picked: str) -> None:
    cfg = composed("robustness", [f"corruption={picked}", "hydra.mode=RUN"])
    names = {"all": set(PIXELS) | {"fgsm", "pgd"}, "study": {"pixel_dropout", "gaussian_noise", "brightness"}}
    expected = names.get(picked, set(picked.strip("[]").split(",")))
    assert set(cfg.corruption) == expected
    assert cfg.callbacks.robustness.corruptions == cfg.corruption


@pytest.mark.slow
def test_the_default_is_the_study_and_the_callback_joins_other_commands() -> None:
    assert set(composed("robustness", ["hydra.mode=RUN"]).corruption) == {
        "pixel_dropout",
        "gaussian_noise",
        "brightness",
    }
    for task in ("train", "explain"):
        cfg = composed(task, [f"callbacks=[{task},robustness]", "corruption=jpeg", "hydra.mode=RUN"])
        assert list(cfg.corruption) == ["jpeg"]
        assert cfg.callbacks.robustness.also is None


@pytest.mark.parametrize("name", [*YAMLS, *GROUPS])
def test_every_yaml_starts_with_a_sentence(name: str) -> None:
    assert len((CONFIGS / "corruption" / f"{name}.yaml").read_text().split("\n")[0]) > 20
