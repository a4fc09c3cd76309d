"""Planted data: the recipes by hand, masks of what is true, and images that depend on seed, part and number alone."""

import numpy as np
import pytest
import torch

from seewhy.analyses.ground_truth.base import GroundTruth, PlantedImages
from seewhy.analyses.ground_truth.pictures import LOOKS, PATTERNS, Patch, PictureGrid, Tag, draw_patch
from seewhy.analyses.ground_truth.pool import Part, Pool, build_pool
from seewhy.analyses.ground_truth.tetrominoes import PLACES, Tetrominoes, draw_patterns
from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.data.folder import Samples

SHAPE = (3, 16, 16)


def pool(classes: int = 4) -> Pool:
    """Pictures of one grey level a class, with a little noise; no two of a part are equal."""
    labels = torch.arange(classes).repeat_interleave(3)
    noise = torch.rand(len(labels), 3, 20, 20, generator=torch.Generator().manual_seed(0))
    pictures = (20 + 50 * labels[:, None, None, None] + 20 * noise).to(torch.uint8)
    return Pool(Part(pictures, labels), Part(pictures.flip(0), labels.flip(0)), tuple("abcdef"[:classes]))


def list_kinds() -> dict[str, GroundTruth]:
    kinds: dict[str, GroundTruth] = {
        "suppressor": Tetrominoes(scenario="linear", background="correlated", alpha=0.2, smoothing=0.6, scale="all"),
        "multiplicative": Tetrominoes(scenario="multiplicative", alpha=0.7),
        "xor": Tetrominoes(scenario="xor", alpha=0.35),
        "patch": Patch(),
        "grid": PictureGrid(),
        "disconnected": PictureGrid(connected=False),
        **{f"tag {look}": Tag(shares=(0.5,), look=look) for look in LOOKS},
    }
    return {name: kind.fit_pool(pool()) for name, kind in kinds.items()}


@pytest.mark.parametrize("name", list_kinds())
def test_an_image_depends_on_seed_part_and_number_alone(name: str) -> None:
    kind = list_kinds()[name]
    whole = kind.plant("test", range(6), SHAPE, pool())
    assert whole.images.shape == (6, *SHAPE)
    assert whole.images.dtype == torch.float32
    assert 0 <= float(whole.images.min()) <= float(whole.images.max()) <= 1
    for first, again in zip(whole, kind.plant("test", [4, 2], SHAPE, pool()), strict=True):
        assert torch.equal(first[[4, 2]], again)
    other = kind.replace(seed=1).plant("test", range(6), SHAPE, pool())
    assert not torch.equal(whole.images, other.images)
    assert not torch.equal(whole.images, kind.plant("train", range(6), SHAPE, pool()).images)
    batch = PlantedImages(kind, "test", 6, SHAPE, pool()).__getitems__([4, 2])
    assert torch.equal(batch.images, whole.images[[4, 2]])
    assert batch.label_names == [kind.classes[int(label)] for label in whole.labels[[4, 2]]]


@pytest.mark.parametrize("name", list_kinds())
def test_the_probe_without_differs_on_the_mask_alone_and_others_on_their_own(name: str) -> None:
    """What is not masked is not touched; noise tasks are compared where no image has a scale of its own."""
    kind = list_kinds()[name]
    if isinstance(kind, Tetrominoes):
        kind = kind.replace(scale="all")
    probes = {probe.name: probe for probe in kind.build_probes(range(8), SHAPE, pool())}
    is_tag = name.startswith("tag")
    with_feature = probes["inserted" if is_tag else "with"].images
    changed = (with_feature != probes["without"].images).any(1)
    part = "explain" if is_tag else "test"
    masks = kind.plant(part, range(8), SHAPE, pool()).masks
    if name == "patch":  # the probes have a patch in every image
        assert changed.flatten(1).sum(1).max() <= 16
    else:
        assert not bool((changed & ~masks).any())
    assert bool(changed.flatten(1).any(1).all())
    assert list(probes)[:3] == ["with", "without", "inserted"]
    assert len(probes) > 3, "something else is tried in the place of the feature"


def test_the_patterns_stand_where_the_paper_has_them() -> None:
    first, second = draw_patterns(PLACES)
    assert np.argwhere(first).tolist() == [[1, 1], [2, 1], [2, 2], [3, 1]]
    assert np.argwhere(second).tolist() == [[4, 5], [5, 5], [6, 5], [6, 6]]


def test_each_scenario_is_its_formula() -> None:
    """Without noise the linear image is its pattern and XOR's signs are equal or unequal; a multiplied one is grey on it."""
    first, second = (torch.from_numpy(each > 0) for each in draw_patterns(PLACES))
    linear = Tetrominoes(scenario="linear", alpha=1.0).plant("test", range(4), (1, 8, 8))
    for image, label in zip(linear.images[:, 0], linear.labels.tolist(), strict=True):
        assert torch.equal(image == 1, (first, second)[label])
        assert torch.equal(image == 0.5, ~(first, second)[label])
    xor = Tetrominoes(scenario="xor", alpha=1.0).plant("test", range(16), (1, 8, 8))
    signs = {
        (float(image[first].mean()), float(image[second].mean()), label)
        for image, label in zip(xor.images[:, 0], xor.labels.tolist(), strict=True)
    }
    assert signs == {(1, 1, 0), (0, 0, 0), (0, 1, 1), (1, 0, 1)}
    times = Tetrominoes(scenario="multiplicative", alpha=1.0).plant("test", range(4), (1, 8, 8))
    for image, label in zip(times.images[:, 0], times.labels.tolist(), strict=True):
        assert torch.equal(image == 0.5, (first, second)[label])
    assert torch.equal(linear.masks[0], first | second)
    larger = Tetrominoes(scenario="linear", alpha=1.0).plant("test", range(1), (3, 32, 32))
    assert torch.equal(larger.masks[0], linear.masks[0].repeat_interleave(4, 0).repeat_interleave(4, 1))
    assert torch.equal(larger.images[0, 2], linear.images[0, 0].repeat_interleave(4, 0).repeat_interleave(4, 1))


def test_the_noise_has_the_covariance_of_its_filter() -> None:
    """4,000 images: every covariance lies within five of its standard errors."""
    kind = Tetrominoes(background="correlated", alpha=0.2, smoothing=0.6, scale="all")
    noise = kind._draw("test", range(4000))[0].reshape(4000, 64)
    expected = kind.filter_noise() @ kind.filter_noise().T
    assert np.trace(expected) == pytest.approx(1)
    variances = np.diag(expected)
    errors = np.sqrt((np.outer(variances, variances) + expected**2) / 4000)
    assert np.abs(noise.T @ noise / 4000 - expected).max() < 5 * errors.max()


def test_patches_are_pasted_into_pictures_and_none_has_no_mask() -> None:
    planted = Patch().plant("test", range(10), SHAPE, pool())
    for number, (image, mask, label) in enumerate(
        zip(planted.images, planted.masks, planted.labels.tolist(), strict=True)
    ):
        assert label == number % 5
        assert int(mask.sum()) == (16 if label else 0)
        if label:
            pattern = draw_patch(PATTERNS[label - 1], 4, np.random.default_rng())
            rows = mask.any(1).nonzero().flatten()
            columns = mask.any(0).nonzero().flatten()
            assert np.array_equal(image[0][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].numpy(), pattern)


def test_only_the_cell_of_a_grid_holds_its_class() -> None:
    """The classes are grey levels: a and b below 130, the others above."""
    kind = PictureGrid().fit_pool(pool())
    assert kind.classes == ("a", "b")
    planted = kind.plant("test", range(12), SHAPE, pool())
    levels = planted.images.mean(1) * 255
    assert [float(level[mask].mean()) < 60 for level, mask in zip(levels, planted.masks, strict=True)] == [
        True,
        False,
    ] * 6
    assert all(float(level[~mask].min()) > 115 for level, mask in zip(levels, planted.masks, strict=True))
    assert planted.masks.flatten(1).sum(1).tolist() == [64] * 12
    apart = PictureGrid(connected=False).fit_pool(pool()).plant("explain", range(4), SHAPE, pool())
    assert apart.masks[0, :8, :8].all(), "the first score comes from the first cell"
    assert apart.masks[1, 8:, 8:].all(), "the second from the last"
    assert float(apart.images.max()) * 255 < 115, "the other cells hold pictures of the same two classes"


def test_a_tag_is_on_its_share_of_one_class() -> None:
    for share in (0.0, 0.5, 1.0):
        kind = Tag(shares=(share,), tagged="b").fit_pool(pool())
        assert kind.classes == ("b", "a", "c", "d")
        train = kind.plant("train", range(400), SHAPE, pool())
        tagged = train.masks.flatten(1).any(1)
        assert not tagged[train.labels != 0].any()
        assert abs(float(tagged[train.labels == 0].float().mean()) - share) <= 0.15
    audited = kind.plant("audit", range(8), SHAPE, pool())
    assert audited.masks.flatten(1).any(1).tolist() == [True, False, False, False] * 2
    assert audited.labels.tolist() == [0, 1, 2, 3] * 2
    explained = kind.plant("explain", range(6), SHAPE, pool())
    assert explained.masks.flatten(1).any(1).all()
    assert explained.labels.tolist() == [0] * 6
    assert list(Tag().list_settings("tag")) == ["tag_0", "tag_20", "tag_50", "tag_80", "tag_100"]
    near = Tag(shares=(0.0, 0.004, 0.29, 0.3, 0.304)).list_settings("tag")
    shares = {"tag_0": 0.0, "tag_0.4": 0.004, "tag_29": 0.29, "tag_30": 0.3, "tag_30.4": 0.304}
    assert {name: vars(kind)["shares"] for name, kind in near.items()} == {
        name: (share,) for name, share in shares.items()
    }


def test_pictures_that_do_not_suffice_are_named() -> None:
    with pytest.raises(
        UserError, match=r"grid\.pair=\['a', 'b'\]: a grid needs two classes of data= and at least one more"
    ):
        PictureGrid().fit_pool(pool(2))
    with pytest.raises(UserError, match=r"grid\.pair=\['a', 'a'\]: a grid needs two classes"):
        PictureGrid(pair=("a", "a")).fit_pool(pool())
    with pytest.raises(UserError, match=r"tag\.names=\['a', 'b', 'b'\] has 'b' twice"):
        Tag(names=("a", "b", "b")).fit_pool(pool())
    with pytest.raises(UserError, match=r"tag\.tagged=z: needs two classes"):
        Tag(tagged="z").fit_pool(pool())
    with pytest.raises(UserError, match=r"model\.size=4 is too small for ground_truth=linear, which needs 8 pixels"):
        Tetrominoes().plant("test", [0], (3, 4, 4))
    with pytest.raises(UserError, match=r"ground_truth\.alpha=2"):
        Tetrominoes(alpha=2)


def test_sample_pictures_are_dealt_to_both_parts() -> None:
    from seewhy.core.facts import CIFAR10_CLASSES

    read = build_pool(Samples(facts=Facts(CIFAR10_CLASSES, 40, (0.5,) * 3, (0.5,) * 3)))
    assert len(read.digest) == 16
    assert build_pool(Samples(facts=Facts(CIFAR10_CLASSES, 40, (0.5,) * 3, (0.5,) * 3))).digest == read.digest
    assert build_pool(Samples(facts=Facts(CIFAR10_CLASSES, 36, (0.5,) * 3, (0.5,) * 3))).digest != read.digest
    assert read.names == tuple(sorted(CIFAR10_CLASSES))
    assert read.train.pictures.shape == read.test.pictures.shape == (30, 3, 40, 40)
    assert torch.bincount(read.train.labels).tolist() == [3] * 10
    same = (read.train.pictures[:, None] == read.test.pictures[None]).flatten(2).all(2)
    assert not bool(same.any())


def test_grids_that_are_cut_apart_are_trained_and_proved_as_whole_ones() -> None:
    cut = PictureGrid(connected=False).fit_pool(pool())
    assert cut.trained_as == PictureGrid().fit_pool(pool())
    for part in ("train", "test"):
        first, second = (kind.plant(part, range(8), SHAPE, pool()) for kind in (cut, cut.trained_as))
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    for one, other in zip(*(kind.build_probes(range(4), SHAPE, pool()) for kind in (cut, cut.trained_as)), strict=True):
        assert torch.equal(one.images, other.images)
    assert not torch.equal(*(kind.plant("explain", [0], SHAPE, pool()).images for kind in (cut, cut.trained_as)))
