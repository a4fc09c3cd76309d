"""What the metrics that read perturbation curves do not depend on; empty maps; settings."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from curve_twin import (
    METRICS,
    RANKING,
    TARGETS,
    curved_classifier,
    make_context,
    measured,
    signed_maps,
)
from seewhy.core.errors import UserError
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.faithfulness.necessity_sufficiency import NecessityOrdering, SufficiencyOrdering, Tpn, Tps
from seewhy.metrics.faithfulness.pixel_flipping import CurveMetric, Deletion, Insertion
from seewhy.metrics.faithfulness.road import Road
from seewhy.metrics.perturbation_curves import rank_pixels
from tiny import random_images


@pytest.mark.slow
@pytest.mark.parametrize("kind", METRICS)
def test_neither_probe_size_nor_batch_split_matters(kind: type[ImageMetric]) -> None:
    classifier, images = curved_classifier(), random_images(3, 8)
    together = measured(kind(), make_context(classifier, images, TARGETS, signed_maps(), probe_batch_size=64))
    split = kind()
    for rows in (slice(0, 1), slice(1, 3)):
        measured(split, make_context(classifier, images[rows], TARGETS[rows], signed_maps()[rows], probe_batch_size=1))
    torch.testing.assert_close(split.compute(), together, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", METRICS)
def test_what_a_change_of_the_values_changes(kind: type[ImageMetric]) -> None:
    """A monotone map that keeps signs keeps all rankings; proportions survive a factor only."""
    classifier, images = curved_classifier(), random_images(3, 8)

    def scores(changed: Tensor) -> Tensor:
        return measured(kind(), make_context(classifier, images, TARGETS, changed))[kind().name]

    known = scores(signed_maps())
    torch.testing.assert_close(scores(4 * signed_maps()), known, equal_nan=True, rtol=1e-5, atol=1e-6)
    cubed = scores(signed_maps() ** 3)
    if kind in (Tpn, Tps):
        assert float((cubed - known).abs().nan_to_num().max()) > 0.01
    else:
        assert torch.equal(cubed.nan_to_num(7), known.nan_to_num(7))
    if kind in RANKING:
        assert torch.equal(scores(signed_maps().exp()), known)
        assert not torch.equal(scores(-signed_maps()), known)


@pytest.mark.parametrize("kind", METRICS)
def test_maps_that_say_little_have_a_stated_value(kind: type[ImageMetric]) -> None:
    classifier, images, target = curved_classifier(), random_images(3, 8)[:1], TARGETS[:1]

    def score(attribution: Tensor) -> dict[str, float]:
        got = measured(kind(), make_context(classifier, images, target, attribution))
        return {column.removeprefix(kind().name).lstrip("_"): float(value) for column, value in got.items()}

    for bad in (float("nan"), float("inf"), float("-inf")):
        broken = signed_maps(1)
        broken[0, 2, 2] = bad
        assert all(math.isnan(value) for value in score(broken).values())
    constant = torch.ones(1, 8, 8)
    order = rank_pixels(make_context(classifier, images, target, constant)).ranks.view(1, 8, 8)
    spelled_out = 1 - 1e-5 * order  # the same order without ties
    assert score(constant)[""] == pytest.approx(score(spelled_out)[""], abs=1e-3)
    empty = {NecessityOrdering: 1.0, SufficiencyOrdering: 0.0, Tpn: math.nan, Tps: math.nan}
    for nothing in (torch.zeros(1, 8, 8), -signed_maps(1).abs()):
        got = score(nothing)
        if kind in empty:
            assert got[""] == pytest.approx(empty[kind], nan_ok=True)
            assert got["coverage"] == 0
        else:
            assert math.isfinite(got[""])
    if kind in empty:
        assert score(constant)["coverage"] == 1


@pytest.mark.parametrize("kind", METRICS)
def test_the_yaml_builds_the_metric_with_its_defaults(kind: type[ImageMetric]) -> None:
    path = Path(__file__).parents[2] / "configs" / "metric" / f"{kind().name}.yaml"
    config = OmegaConf.load(path)
    assert list(config) == [kind().name]
    built = instantiate(config[kind().name], _convert_="object")
    assert type(built) is kind
    assert built.variant == kind().variant
    assert (built.space in built.variant) and (getattr(built, "baseline", "linear") in built.variant)
    assert path.read_text().split("\n")[0].startswith("# ")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"metric.deletion.baseline=blak must be black"):
        Deletion("blak")
    with pytest.raises(UserError, match=r"metric.tpn.n_steps=0"):
        Tpn(n_steps=0)
    with pytest.raises(UserError, match=r"metric.insertion.space=odds must be logit or probability"):
        Insertion(space="odds")
    for shares in ([], [0.0, 0.5], [1.0]):
        with pytest.raises(UserError, match=r"metric.road.shares"):
            Road(shares)
    assert issubclass(Tps, CurveMetric)
