"""What must be the same to the bit, and what to float rounding."""

from pathlib import Path

import numpy as np
import pytest

from commands import rows
from resuming import explain, images, products

TEMPERATE = ["explainer=integrated_gradients", "explainer.n_steps=4", "callbacks=[attribution,faithfulness,tables]"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("determinism")
    images(folder / "data", 5)
    explain(folder / "first", folder / "data", *TEMPERATE)
    return folder


def values(folder: Path, names: dict[str, str] | None = None) -> dict[tuple[str, str], float]:
    """{(image, metric): value}, with the images renamed."""
    known = names or {}
    return {
        (known.get(row["image"], row["image"]), row["metric"]): float(row["value"])
        for row in rows(folder / "metrics.csv")
    }


@pytest.mark.slow
@pytest.mark.parametrize("other", [[], ["data.num_workers=2"]], ids=["again", "two workers"])
def test_to_the_bit(base: Path, tmp_path: Path, other: list[str]) -> None:
    explain(tmp_path, base / "data", *TEMPERATE, *other)
    assert products(tmp_path) == products(base / "first")


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", [["probe_batch_size=1"], ["probe_batch_size=5"], ["data.batch_size=5"]], ids=lambda other: other[0]
)
def test_to_rounding(base: Path, tmp_path: Path, other: list[str]) -> None:
    explain(tmp_path, base / "data", *TEMPERATE, *other)
    assert_alike(values(base / "first"), values(tmp_path))


@pytest.mark.slow
def test_images_in_another_order_keep_their_values(base: Path, tmp_path: Path) -> None:
    listed = sorted((base / "data").rglob("*_*.png"))
    turned = {}
    for number, path in enumerate(reversed(listed)):
        place = tmp_path / "data" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(path.read_bytes())
        turned[str(number)] = f"{path.parent.name}__{path.stem}"
    explain(tmp_path / "run", tmp_path / "data", *TEMPERATE)
    assert_alike(values(base / "first"), values(tmp_path / "run", turned))


def assert_alike(one: dict[tuple[str, str], float], other: dict[tuple[str, str], float]) -> None:
    assert set(one) == set(other)
    assert len(one) == 5 * 7
    # rounding may turn two pixels of nearly the same attribution round, one of which a step of a curve then takes earlier
    np.testing.assert_allclose([one[key] for key in one], [other[key] for key in one], rtol=1e-3, atol=1e-4)
