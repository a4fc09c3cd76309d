"""Maps in fewer bytes and fewer files: what is lost, and that nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from seewhy.core.errors import UserError
from seewhy.core.files import RunFolder
from seewhy.runs.attribution_files import AttributionFormat, read_attribution

MAP = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))


def through(form: AttributionFormat, attribution: torch.Tensor, folder: Path) -> torch.Tensor:
    (folder / "attributions").mkdir(exist_ok=True)
    (folder / "attributions" / f"one{form.suffix}").write_bytes(form.encode(attribution))
    return read_attribution(folder, "one")


@pytest.mark.parametrize("compressed", [False, True])
def test_float32_loses_nothing(tmp_path: Path, compressed: bool) -> None:
    odd = MAP.clone()
    odd[0, :3] = torch.tensor([torch.nan, torch.inf, 1e-30])
    assert torch.equal(through(AttributionFormat(compressed=compressed), odd, tmp_path).nan_to_num(), odd.nan_to_num())


@pytest.mark.parametrize("scale", [1e-20, 1.0, 3e7])
@pytest.mark.parametrize("compressed", [False, True])
def test_float16_keeps_three_digits_at_every_scale(tmp_path: Path, scale: float, compressed: bool) -> None:
    attribution = MAP * scale
    found = through(AttributionFormat("float16", compressed), attribution, tmp_path)
    largest = attribution.abs().max()
    assert found.dtype == torch.float32
    large = attribution.abs() > 2 * 6.2e-5 * largest
    assert large.float().mean() > 0.99
    assert ((found - attribution).abs() <= attribution.abs() * 2.0**-11)[large].all()
    assert ((found - attribution).abs() <= 2 * 3e-8 * largest)[~large].all()
    assert not torch.equal(found, attribution)


def test_float16_keeps_zero_maps_and_what_is_not_finite(tmp_path: Path) -> None:
    form = AttributionFormat("float16")
    assert torch.equal(through(form, torch.zeros(4, 4), tmp_path), torch.zeros(4, 4))
    odd = torch.tensor([[torch.nan, torch.inf], [-torch.inf, 0.5]])
    np.testing.assert_array_equal(through(form, odd, tmp_path), odd)


def test_the_same_map_gives_the_same_bytes_and_fewer_in_half_precision() -> None:
    sizes = []
    for form in (AttributionFormat(), AttributionFormat("float16"), AttributionFormat("float16", True)):
        assert form.encode(MAP) == form.encode(MAP.clone())
        sizes.append(len(form.encode(MAP)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.6 * sizes[0]


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UserError, match="dtype=float8 must be one of float32, float16"):
        AttributionFormat("float8")
    with pytest.raises(UserError, match="store=folders must be one of images, batches, none"):
        AttributionFormat(store="folders")
    with pytest.raises(UserError, match="compressed=true needs store=images"):
        AttributionFormat(compressed=True, store="batches")


def write_maps(folder: Path, form: AttributionFormat, number: int, maps: dict[str, torch.Tensor]) -> list[str]:
    """The names of the files of a batch, which are written."""
    files = {name: encode() for name, encode in form.list_files(number, maps)}
    for name, content in files.items():
        RunFolder(folder).write_bytes(name, content)
    return list(files)


BATCH = {"b": MAP * 3e7, "a@dog": -MAP[:5, :7].T, "c": torch.tensor([[torch.nan, torch.inf], [-torch.inf, 0.5]])}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_of_a_batch_holds_what_files_of_images_hold(tmp_path: Path, dtype: str) -> None:
    by_image, by_batch = tmp_path / "images", tmp_path / "batches"
    write_maps(by_image, AttributionFormat(dtype), 7, BATCH)
    assert write_maps(by_batch, AttributionFormat(dtype, store="batches"), 7, BATCH) == [
        "attributions/00000007.safetensors"
    ]
    for name in BATCH:
        np.testing.assert_array_equal(read_attribution(by_batch, name), read_attribution(by_image, name))
    with pytest.raises(FileNotFoundError):
        read_attribution(by_batch, "a")
    with safe_open(by_batch / "attributions" / "00000007.safetensors", "pt") as file:
        scales = json.loads((file.metadata() or {}).get("scales", "{}"))
        for name in BATCH:
            values = file.get_tensor(name).float() * scales.get(name, 1.0)
            np.testing.assert_array_equal(values, read_attribution(by_batch, name))


def test_files_of_batches_are_the_same_bytes_and_are_found_as_they_come(tmp_path: Path) -> None:
    form = AttributionFormat("float16", store="batches")
    (_, encode), (_, again) = *form.list_files(0, BATCH), *form.list_files(0, dict(reversed(BATCH.items())))
    assert encode() == again()
    for number in range(4):
        write_maps(tmp_path, AttributionFormat(store="batches"), number, {f"image_{number}": MAP + number})
        assert torch.equal(read_attribution(tmp_path, f"image_{number}"), MAP + number)
    write_maps(tmp_path, AttributionFormat(store="batches"), 0, {"image_0": MAP - 1})
    assert torch.equal(read_attribution(tmp_path, "image_0"), MAP - 1)


def test_a_damaged_file_of_a_batch_takes_no_other_with_it(tmp_path: Path) -> None:
    for number in range(2):
        write_maps(tmp_path, AttributionFormat(store="batches"), number, {f"image_{number}": MAP})
    file = tmp_path / "attributions" / "00000001.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(read_attribution(tmp_path, "image_0"), MAP)
    with pytest.raises(UserError, match=r"00000001.safetensors is not the map of a run: it is shorter"):
        read_attribution(tmp_path, "image_1")


def test_without_a_store_and_without_maps_there_is_no_file(tmp_path: Path) -> None:
    assert write_maps(tmp_path, AttributionFormat(store="none"), 0, BATCH) == []
    assert write_maps(tmp_path, AttributionFormat(store="batches"), 0, {}) == []
    with pytest.raises(FileNotFoundError):
        read_attribution(tmp_path, "b")
