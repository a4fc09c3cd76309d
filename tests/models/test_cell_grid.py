"""Where the cells of a layer look: closed forms of layouts, strides and padding, and maps that peak at the right pixel."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import Incompatible
from seewhy.explainers.cam import EigenCam, GradCam, LayerCam
from seewhy.models.band_responses import FINEST, Bands, _group_cells, cut_bands
from seewhy.models.cell_grid import BatchLayout
from seewhy.models.grid_search import _search, find_layout
from seewhy.models.layers import find_cam_layer, measure_grid
from seewhy.models.receptive_fields import ReceptiveFields, join
from tiny import classifier_of, random_images

PATCH, CHANNELS = 4, 6


Arrange = Callable[[Tensor], Tensor]
Collect = Callable[[Tensor, int], Tensor]


class Patches(nn.Module):
    """Patches of 4x4 pixels, arranged in some way in front of `layer`; outputs come from their mean over each image."""

    def __init__(self, arrange: Arrange, collect: Collect) -> None:
        super().__init__()
        self.embed, self.layer = nn.Conv2d(3, CHANNELS, PATCH, stride=PATCH), nn.Identity()
        self.arrange, self.collect, self.head = arrange, collect, nn.Linear(CHANNELS, 3, bias=False)
        for values in self.parameters():
            nn.init.uniform_(values, 0.1, 1.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.collect(self.layer(self.arrange(self.embed(images).relu())), len(images)))


def as_tokens(cells: Tensor) -> Tensor:
    return cells.flatten(2).transpose(1, 2)


def shuffle(tokens: int) -> Tensor:
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(0))


def permute_by_index(cells: Tensor) -> Tensor:
    tokens = as_tokens(cells)
    return tokens[:, shuffle(tokens.shape[1])]


def permute_by_product(cells: Tensor) -> Tensor:
    tokens = as_tokens(cells)
    return torch.eye(tokens.shape[1]).to(tokens)[shuffle(tokens.shape[1])] @ tokens


def mirror_by_product(cells: Tensor) -> Tensor:
    return torch.eye(cells.shape[2]).to(cells).flip(0) @ cells @ torch.eye(cells.shape[3]).to(cells).flip(0)


def cut_windows(cells: Tensor) -> Tensor:
    """[batch, windows, tokens of a window, channels] with windows of 2x2 cells."""
    windows = cells.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def write_by_rows(cells: Tensor) -> Tensor:
    """Rows from the bottom to the top, written one by one."""
    written = torch.zeros_like(cells)
    for row in range(cells.shape[2]):
        written[:, :, row] = cells[:, :, cells.shape[2] - 1 - row]
    return written


def with_tokens(cells: Tensor, front: int = 0, behind: int = 0) -> Tensor:
    tokens = as_tokens(cells)
    ends = [tokens.new_full((len(tokens), count, CHANNELS), 0.5) for count in (front, behind)]
    return torch.cat([ends[0], tokens, ends[1]], 1)


def average(*axes: int) -> Collect:
    return lambda values, count: values.mean(axes)


LAYOUTS: dict[str, tuple[Arrange, Collect]] = {
    "channels first": (lambda cells: cells, average(2, 3)),
    "channels last": (lambda cells: cells.permute(0, 2, 3, 1), average(1, 2)),
    "transposed": (lambda cells: cells.transpose(2, 3), average(2, 3)),
    "mirrored": (lambda cells: cells.flip(2, 3), average(2, 3)),
    "mirrored by a product": (mirror_by_product, average(2, 3)),
    "rolled": (lambda cells: cells.roll((1, 2), (2, 3)), average(2, 3)),
    "written by rows": (write_by_rows, average(2, 3)),
    "tokens": (as_tokens, average(1)),
    "tokens behind two others": (lambda cells: with_tokens(cells, front=2), average(1)),
    "tokens before another": (lambda cells: with_tokens(cells, behind=1), average(1)),
    "tokens behind their mean": (
        lambda cells: torch.cat([as_tokens(cells).mean(1, keepdim=True), as_tokens(cells)], 1),
        average(1),
    ),
    "tokens permuted": (permute_by_index, average(1)),
    "tokens permuted by a product": (permute_by_product, average(1)),
    "tokens before images": (lambda cells: as_tokens(cells).transpose(0, 1), average(0)),
    "heads and tokens": (
        lambda cells: as_tokens(cells).unflatten(2, (2, 3)).transpose(1, 2),
        lambda values, count: values.mean(2).flatten(1),
    ),
    "windows": (
        lambda cells: cut_windows(cells).flatten(0, 1),
        lambda values, count: values.mean(1).unflatten(0, (count, -1)).mean(1),
    ),
    "windows before images": (
        lambda cells: cut_windows(cells).transpose(0, 1).flatten(0, 1),
        lambda values, count: values.mean(1).unflatten(0, (-1, count)).mean(0),
    ),
}
SIZES = [(24, 24), (24, 32), (35, 26)]
"""Square, wide, and no multiple of the patches."""


def patches(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Patches(*LAYOUTS[name])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_maps_peak_at_the_patch_that_is_bright(name: str, size: tuple[int, int]) -> None:
    classifier = classifier_of(patches(name), 24, 3)
    places = [(0, 0), (1, 3), (size[0] // PATCH - 1, 1), (2, size[1] // PATCH - 1)]
    images = torch.zeros(len(places), 3, *size).double()
    for image, (row, column) in zip(images, places, strict=True):
        image[:, PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)] = 1
    for method in (GradCam, LayerCam, EigenCam):
        maps = method(layer="layer")(classifier, images, torch.zeros(len(places), dtype=torch.int64))
        assert maps.shape == images[:, 0].shape
        for values, (row, column) in zip(maps, places, strict=True):
            top, left = divmod(int(values.argmax()), size[1])
            assert (top // PATCH, left // PATCH) == (row, column)
        covered = [side // PATCH * PATCH for side in size]
        assert not bool(maps[:, covered[0] :].any()) and not bool(maps[:, :, covered[1] :].any())


def test_a_grid_of_any_layout_arranges_the_cells_alike() -> None:
    images = random_images(2, 24)
    for name in LAYOUTS:
        network = patches(name)
        grid = measure_grid(classifier_of(network, 24, 3), "layer", (24, 24))
        assert grid is not None and grid.cells == (6, 6) and (grid.rows.start, grid.columns.stride) == (0, 4)
        cells = network.embed(images).relu()
        arranged = grid.arrange(network.arrange(cells))
        if name != "rolled":
            torch.testing.assert_close(arranged, cells)
        torch.testing.assert_close(
            grid.keep_channels(network.arrange(cells), torch.tensor([1, 4])).shape, network.arrange(cells).shape
        )


@pytest.mark.parametrize(
    ("layers", "size", "start", "stride", "seen"),
    [
        ([nn.Conv2d(3, 4, 8, stride=8)], 31, 0, 8, (0, 24)),
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1)], 32, 0, 2, (0, 32)),
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)], 32, 0, 4, (0, 32)),
        ([nn.Conv2d(3, 4, 1, stride=4)], 32, 0, 4, (0, 32)),
        ([nn.Conv2d(3, 4, 3, stride=4, padding=1)], 33, -1.5, 4, (0, 33)),
        ([nn.Conv2d(3, 4, 5), nn.MaxPool2d(2), nn.Conv2d(4, 4, 5)], 32, 6, 2, (0, 32)),
        ([nn.Conv2d(3, 4, 3, dilation=3), nn.AvgPool2d(2)], 32, 3, 2, (0, 32)),
        ([nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2)], 32, 0, 2, (0, 32)),
        ([nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(4)], 32, 0, 8, (0, 32)),
        ([nn.Conv2d(3, 4, 4, stride=4), nn.Upsample(scale_factor=2)], 30, 0, 2, (0, 28)),
        ([nn.Conv2d(3, 4, 4, stride=4), nn.ConvTranspose2d(4, 4, 2, stride=2)], 32, 0, 2, (0, 32)),
        ([nn.PixelUnshuffle(4), nn.Conv2d(48, 4, 1)], 32, 0, 4, (0, 32)),
    ],
)
def test_strides_and_padding_by_hand(
    layers: list[nn.Module], size: int, start: float, stride: float, seen: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.LazyLinear(3))
    network(torch.zeros(1, 3, size, size))
    grid = measure_grid(classifier_of(network, size, 3), "0", (size, size))
    assert grid is not None
    assert (grid.rows.start, grid.rows.stride) == pytest.approx((start, stride), abs=1e-4)
    assert grid.rows.seen == seen and grid.rows == grid.columns


def test_a_kernel_that_looks_beside_its_centre_moves_the_cells() -> None:
    """Nine weights of eleven are 0: the cells look five pixels up and to the left of the kernel's centre."""
    network = nn.Sequential(nn.Conv2d(3, 1, 11, padding=5, bias=False), nn.Flatten(), nn.Linear(32 * 32, 3))
    with torch.no_grad():
        network[0].weight.zero_()[..., 0, 0] = 1
    grid = measure_grid(classifier_of(network, 32, 3), "0", (32, 32))
    assert grid is None, "cells of the first rows and columns look beyond the image"
    inner = nn.Sequential(nn.Conv2d(3, 1, 11, bias=False), nn.Flatten(), nn.Linear(22 * 22, 3))
    inner[0].weight = network[0].weight
    grid = measure_grid(classifier_of(inner, 32, 3), "0", (32, 32))
    assert grid is not None and (grid.rows.start, grid.rows.stride, grid.cells) == (0, 1, (22, 22))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("enlarge", "stride"),
    [
        (nn.ConvTranspose2d(8, 8, 4, 2, 1), 8),
        (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 8, 3, padding=1)), 8),
    ],
)
def test_cells_of_an_enlargement_may_see_one_of_their_neighbours_alone(
    enlarge: nn.Module, stride: int, seed: int
) -> None:
    """Of the two cells that one is computed from, random weights may leave one: that moves no grid."""
    torch.manual_seed(seed)
    for module in enlarge.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4, 1), nn.ReLU(), enlarge, nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 64, 3)),
    )
    classifier = classifier_of(network, 64, 3)
    grid = measure_grid(classifier, "5", (64, 64))
    assert grid is not None
    assert (grid.cells, grid.rows.start, grid.rows.stride) == ((8, 8), 0, stride)
    assert find_cam_layer(classifier, (64, 64)) == "5"


def test_what_mixes_all_cells_has_no_grid() -> None:
    torch.manual_seed(0)
    mixer = nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2), nn.Linear(16, 16), nn.Flatten(), nn.Linear(64, 3)
    )
    classifier = classifier_of(mixer, 16, 3)
    assert find_cam_layer(classifier, (16, 16)) == "1"
    with pytest.raises(Incompatible, match=r"'2'.*explainer.layer=1 "):
        GradCam(layer="2")(classifier, random_images(1, 16), torch.tensor([0]))


class Sorted(nn.Module):
    """Tokens in the order of their brightness: what a cell looks at depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.sort, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Identity(), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = as_tokens(self.embed(images))
        order = tokens.sum(2).argsort(1)[:, :, None].expand_as(tokens)
        return self.head(self.sort(tokens.gather(1, order)).mean(1))


def test_cells_whose_order_depends_on_the_image_have_no_grid() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(Sorted(), 16, 3)
    with pytest.raises(Incompatible, match=r"'sort'.*explainer.layer=embed "):
        GradCam(layer="sort")(classifier, random_images(1, 16), torch.tensor([0]))


def test_nothing_is_left_behind_and_nothing_is_repeated() -> None:
    network = patches("tokens permuted by a product")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classifier = classifier_of(network.train(), 24, 3)
    assert measure_grid(classifier, "layer", (24, 24)) is measure_grid(classifier, "layer", (24, 24))
    assert (classifier.passes.forward, classifier.passes.backward) == (0, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in classifier.modules())


def test_bands_lie_side_by_side_and_have_their_centres_between_pixels() -> None:
    bands = Bands(1, size=8, count=4)
    assert bands.compute_centres().tolist() == [0.5, 2.5, 4.5, 6.5]
    assert Bands(1, size=3, count=3).compute_centres().tolist() == [0, 1, 2]
    changed = [each[0].tolist() for each in Bands(2, size=4, count=2).change(torch.zeros(1, 2, 4), torch.ones(1, 2, 4))]
    assert changed == [[[1, 1, 0, 0]] * 2, [[0, 0, 1, 1]] * 2]


def test_fields_of_a_sum_lie_between_those_of_its_terms() -> None:
    """Equal extents: the mean of both places, wider by half of what lies between them, along the longer side."""

    def field(row: float, column: float, extent: float) -> ReceptiveFields:
        return ReceptiveFields(*(torch.full((1, 1), value) for value in (row, column, extent, 0.0)))

    level = join([field(2.0, 10.0, 4.0), field(4.0, 10.0, 4.0)], (1, 1))
    assert [float(plane) for plane in level.planes] == [3.0, 10.0, 5.0, 0.0]
    level = join([field(10.0, 2.0, 4.0), field(10.0, 8.0, 4.0)], (1, 1))
    assert [float(plane) for plane in level.planes] == [10.0, 5.0, 7.0, 0.0]
    nearer = join([field(2.0, 10.0, 4.0), field(4.0, 12.0, 1.0)], (1, 1))
    assert [float(plane) for plane in nearer.planes] == [4.0, 12.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("owners", "layout"),
    [
        ([[0, 0], [1, 1]], BatchLayout(0, 1, True)),
        ([[0, 1], [0, 1], [0, 1]], BatchLayout(1, 1, True)),
        ([[0], [0], [1], [1]], BatchLayout(0, 2, True)),
        ([[0], [1], [0], [1]], BatchLayout(0, 2, False)),
        ([[-1], [1], [float("nan")], [1]], BatchLayout(0, 2, False)),
        ([[0], [1], [0]], None),
        ([[0, 0, 1, 1]] * 3, None),
        ([[0], [1], [1], [0]], None),
        ([[-1, float("nan")]] * 2, None),
    ],
)
def test_the_elements_of_two_images_by_hand(owners: list[list[float]], layout: BatchLayout | None) -> None:
    assert find_layout(torch.tensor(owners)) == layout


@pytest.mark.parametrize(("apart", "cells"), [(0.0, (3, 4)), (0.05, (3, 4)), (2.0, None)])
def test_channels_may_look_at_slightly_different_points(apart: float, cells: tuple[int, int] | None) -> None:
    shift = apart * torch.arange(2.0)[:, None, None]
    rows, columns = torch.meshgrid(4 * torch.arange(3.0) + 1.5, 4 * torch.arange(4.0) + 1.5, indexing="ij")
    rows, columns = ((values + shift)[None] for values in (rows, columns))
    grid = _search(rows, columns, torch.ones_like(rows, dtype=torch.bool), (12, 16), BatchLayout())
    assert (grid and (grid.cells, grid.cell_axes)) == (cells and (cells, (2, 3)))
    assert grid is None or grid.rows.stride == pytest.approx(4)


def test_elements_that_answer_to_all_of_the_image_are_no_cells() -> None:
    sides = cut_bands((16, 16), FINEST)
    by_row = torch.eye(4).double().repeat_interleave(4, 0).repeat_interleave(4, 1)
    by_column = torch.eye(4).double().repeat_interleave(4, 0).repeat(1, 4)
    responses = [torch.cat([torch.full((16, 1), 0.25).double(), each], 1) for each in (by_row, by_column)]
    grid = _group_cells(responses, sides, (1,), BatchLayout())
    assert grid is not None
    assert (grid.cells, grid.order, grid.rows.stride) == ((4, 4), tuple(range(1, 17)), 4.0)
