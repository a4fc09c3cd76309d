"""Maps of moved images come back to where their pixels came from."""

import albumentations
import numpy as np
import pytest
import torch

from corruption_checks import built, scene
from seewhy.analyses.robustness.stability import map_back, sample_bilinear
from seewhy.core.facts import Facts
from seewhy.data.corruptions.base import Corruption
from seewhy.data.corruptions.corrupter import Corrupter

FACTS = Facts((), 64, (0.5,) * 3, (0.5,) * 3)


def smooth_map(size: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, size), torch.linspace(0, 5, size), indexing="ij")
    return (torch.sin(x) * torch.cos(y))[None]


def sources(corruption: Corruption, level: int) -> torch.Tensor:
    found = torch.from_numpy(corruption.trace_sources((64, 64, 3), level, 7))
    return found.permute(2, 0, 1)[None]


def carried(maps: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """The map as it would look on the moved image."""
    return sample_bilinear(maps[:, None], field.nan_to_num(-1e4))[:, 0]


def test_without_motion_a_map_stays_as_it_is() -> None:
    maps = torch.randn(1, 64, 64)
    back, valid = map_back(maps, sources(Corruption([albumentations.NoOp()]), 1))
    assert valid.all()
    torch.testing.assert_close(back, maps, atol=1e-4, rtol=0)


def test_a_flipped_map_is_flipped_back() -> None:
    maps = torch.randn(1, 64, 64)
    back, valid = map_back(maps.flip(2), sources(Corruption([albumentations.HorizontalFlip()]), 1))
    assert valid.float().mean() > 0.9
    torch.testing.assert_close(back[valid], maps[valid], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "share", "tolerance"), [("rotation", 0.7, 0.02), ("elastic", 0.6, 0.05)])
@pytest.mark.parametrize("level", [1, 3, 5])
def test_back_and_forth_keeps_the_map(name: str, share: float, tolerance: float, level: int) -> None:
    maps = smooth_map()
    field = sources(built(name), level)
    back, valid = map_back(carried(maps, field), field)
    assert valid.float().mean() > share
    assert float((back - maps).abs()[valid].max()) < tolerance
    assert (back[~valid] == 0).all()


def test_a_turned_picture_comes_back_as_itself() -> None:
    """The map is a channel of the picture: the whole way through Albumentations, not only through our own field."""
    picture = scene(64, 64)
    rotation = built("rotation")
    turned = torch.from_numpy(rotation.corrupt(picture, 4, 7)[..., 0].astype(np.float32))[None]
    back, valid = map_back(turned, sources(rotation, 4))
    difference = (back - torch.from_numpy(picture[..., 0].astype(np.float32))).abs()[valid]
    unmoved = (turned - torch.from_numpy(picture[..., 0].astype(np.float32))).abs()[valid]
    assert float(difference.mean()) < 0.15 * float(unmoved.mean())


def test_pixels_that_were_turned_out_of_sight_are_not_valid() -> None:
    _, valid = map_back(torch.ones(1, 64, 64), sources(built("rotation"), 5))
    assert not valid[0, 0, 0]
    assert valid[0, 32, 32]


def test_nothing_is_known_where_everything_came_from_outside() -> None:
    back, valid = map_back(torch.ones(1, 8, 8), torch.full((1, 2, 8, 8), torch.nan))
    assert not valid.any() and (back == 0).all()


def test_the_way_leads_through_resizing_and_cutting() -> None:
    facts = Facts((), 48, (0.5,) * 3, (0.5,) * 3, crop=0.8)
    picture = torch.from_numpy(scene(120, 90)).permute(2, 0, 1)
    rotation = built("rotation")
    moved = Corrupter({"rotation": rotation}, facts, 3)(picture)
    still = Corrupter({"none": Corruption([albumentations.NoOp()])}, facts, 3)(picture).pictures[0, 0].float()
    back, valid = map_back(moved.pictures[2:3, 0].float(), moved.sources[2:3])
    assert float((back[0] - still).abs()[valid[0]].mean()) < 0.3 * float((moved.pictures[2, 0] - still).abs().mean())
