"""Maps in fewer bytes: what is lost, and that nothing else is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seewhy.core.errors import UserError
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


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UserError, match="dtype=float8 must be one of float32, float16"):
        AttributionFormat("float8")
