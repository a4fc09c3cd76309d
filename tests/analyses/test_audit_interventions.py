"""What images share is put in and taken out as its kind says, with controls of its size, and found where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from seewhy.analyses.audit.groups import compute_jaccard
from seewhy.analyses.audit.interventions import (
    Cast,
    Pattern,
    Place,
    Statistics,
    choose_place,
    compute_features,
    measure_deviation,
    measure_shared,
    measure_spread,
    refine_members,
)
from seewhy.analyses.audit.maps import average_cells
from seewhy.analyses.audit.pictures import Pictures
from seewhy.core.types import Batch
from seewhy.models.cell_grid import BatchLayout, CellGrid, GridAxis

MEANS = Statistics(torch.full((3, 8, 8), 0.9), torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), 0.4))
GREY = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4


def test_a_place_is_replaced_and_its_control_has_its_size_elsewhere() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[5:, 5:] = True
    place = Place(mask, MEANS, 0)
    inserted = place.insert(GREY)
    assert bool((inserted[:, :, mask] == 0.9).all())
    assert torch.equal(inserted[:, :, ~mask], GREY[:, :, ~mask])
    as_far = place.insert_rest(GREY)[:, :, mask]
    assert torch.allclose(as_far, torch.full_like(as_far, 0.9)), "0.4 + (0.5 - 0.4) * (0.9 - 0.4) / (0.5 - 0.4)"
    control = (place.insert(GREY, 0) != GREY).any(1)[0]
    assert int(control.sum()) == 9
    assert int((control & mask).sum()) <= 1
    imputed, given = place.remove(inserted, GREY.flip(0))
    assert float((imputed[:, :, mask] - 0.5).abs().max()) < 0.15, "what lies around it, not the mark"
    assert torch.equal(given[:, :, mask], GREY.flip(0)[:, :, mask])


def test_a_pattern_is_added_and_taken_away_and_its_control_has_its_spectrum() -> None:
    change = 0.1 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2))
    change -= change.mean((1, 2), keepdim=True)
    pattern = Pattern(change, -change, 0)
    assert torch.allclose(pattern.remove(pattern.insert(GREY), GREY)[0], GREY, atol=1e-6)
    assert torch.allclose(pattern.insert_rest(GREY), (GREY - change).clamp(0, 1))
    control = pattern.insert(torch.full((1, 3, 8, 8), 0.5), 0)[0] - 0.5
    spectra = [torch.fft.rfft2(each.double())[:, :, 1:4].abs() for each in (control, change)]
    assert torch.allclose(*spectra, atol=1e-5)
    assert float((control - change).abs().max()) > 0.05


def test_a_cast_is_put_on_and_taken_off_and_its_control_points_elsewhere() -> None:
    gains, shifts = torch.tensor([1.2, 1.0, 0.8]), torch.tensor([0.1, 0.0, -0.1])
    cast = Cast(gains, shifts, torch.ones(3), torch.tensor([0.0, 0.1, 0.0]), (8, 8), 0)
    given = cast.insert(GREY)
    assert torch.allclose(given.mean((2, 3)) - GREY.mean((2, 3)), shifts.expand(6, -1), atol=1e-6)
    assert torch.allclose(given.flatten(2).std(2) / GREY.flatten(2).std(2), gains.expand(6, -1), atol=1e-5)
    assert torch.allclose(cast.remove(given, GREY)[0], GREY, atol=1e-6)
    assert torch.equal(cast.remove(given, GREY, 0)[0], given), "held against the images as they are"
    moved = (cast.insert(GREY, 0) - GREY).mean((2, 3))[0]
    assert float(moved.norm()) == pytest.approx(float(shifts.norm()), abs=1e-5)
    assert abs(float(moved @ shifts)) < 0.7 * float(shifts.norm()) ** 2
    assert bool(cast.region.all())


def test_the_colour_of_the_rest_of_a_class_is_as_strong_as_it_is(tmp_path: Path) -> None:
    """Images of other classes, of the class, and of the class with a cast of its colour, ten times as strong."""
    images = 0.4 + 0.1 * torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    every = torch.cat([images, images + 0.02 * red, images + 0.22 * red])
    pictures, words = Pictures(tmp_path / "pixels.npy"), [""] * 30
    pictures.add(Batch(every, torch.zeros(30, dtype=torch.int64), words, words, words, []))
    others, rest, members = np.arange(10), np.arange(10, 20), np.arange(20, 30)
    cast = measure_shared("cast", None, pictures, members, rest, others, 0)
    moves = [(change(GREY) - GREY).mean((0, 2, 3)) for change in (cast.insert, cast.insert_rest)]
    assert torch.allclose(torch.stack(moves), torch.tensor([[0.2, 0.0, 0.0], [0.02, 0.0, 0.0]]), atol=1e-6)
    assert torch.allclose(pictures.average_spreads(rest), images.flatten(2).std(2).mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["place", "pattern", "cast"])
def test_members_are_found_from_a_part_of_them(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    small = 0.3 + 0.3 * torch.rand(80, 3, 16, 16, generator=generator)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[12:, 12:] = True
    if kind == "place":
        small[:40, :, mask] = 1.0
    elif kind == "pattern":
        small[:40] += 0.1 * (torch.arange(16) % 2)
    else:
        small[:40] += torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    start = np.r_[0:25, 45:50]  # two thirds of them, and a few that are none
    members, where = refine_members(kind, start, compute_features(kind, small, mask))
    assert members.tolist() == list(range(40))
    assert float(where[:40].mean()) == pytest.approx(1)
    assert float(where[40:].mean()) == pytest.approx(0, abs=1e-9)


def test_members_of_a_cast_are_told_from_images_of_another_colour() -> None:
    """Images differ in colour more than the cast changes them, but it moves their darkest and brightest values alike."""
    generator = torch.Generator().manual_seed(5)
    tints = 0.5 + 0.2 * torch.randn(200, 3, 1, 1, generator=generator)
    small = tints + 0.3 * torch.randn(200, 3, 16, 16, generator=generator)
    small = small.clamp(0, 1)
    shifts = torch.tensor([0.15, 0.0, -0.15])[:, None, None]
    small[:100] = (small[:100] + shifts).clamp(0, 1)
    start = np.r_[0:70, 100:130]
    members, _ = refine_members("cast", start, compute_features("cast", small, None))
    assert compute_jaccard(members, np.arange(100)) > 0.95


def test_the_place_is_where_the_mass_is_or_where_the_means_differ() -> None:
    values = torch.zeros(16, 16)
    values[0, :4], values[8, 8] = 1.0, 0.5
    place = choose_place(values, (32, 32))
    assert int(place.sum()) == 3 * 4, "three of 4.5 hold more than half; each cell has 2x2 pixels"
    assert bool(place[:2, :8].any())
    assert not bool(place[2:].any())
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:20, :, 0, 7] = 0.0
    deviation = measure_deviation(images, np.arange(20))
    assert deviation.argmax() == 7
    assert int(choose_place(torch.ones(16, 16), (32, 32)).sum()) == 256, "at most a quarter"


def test_maps_are_summed_over_the_cells_where_they_lie() -> None:
    axis = GridAxis(2, -2.0, 6.0, 8, (0, 8))
    grid = CellGrid(BatchLayout(), (2, 3), None, axis, GridAxis(2, 0.0, 4.0, 8, (0, 8)))
    maps = torch.zeros(1, 8, 8)
    maps[0, 3, 1] = maps[0, 4, 7] = 1.0
    assert average_cells(maps, grid)[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert float(average_cells(torch.ones(1, 8, 8), grid).sum()) == 64


def test_copies_of_one_picture_differ_less_than_images_with_one_thing_in_common() -> None:
    generator = torch.Generator().manual_seed(4)
    small = torch.rand(60, 3, 8, 8, generator=generator)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[6:, 6:] = True
    small[:20, :, mask] = 1.0
    small[40:] = small[40] + 0.02 * torch.rand(20, 3, 8, 8, generator=generator)
    assert measure_spread(small[:40], np.arange(20), mask) == pytest.approx(1, abs=0.1)
    assert measure_spread(small, np.arange(40, 60), None) < 0.1
