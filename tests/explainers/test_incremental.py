"""Incremental occlusion: spans by brute force, every layer and whole networks against full passes."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers._incremental.drops import (
    Windows,
    build_incremental_network,
    find_clean_keys,
    run_clean,
    run_patches,
)
from seewhy.explainers._incremental.nodes import build_nodes
from seewhy.explainers._incremental.plan import (
    MOVE_COST,
    SPARSE_COST,
    Plan,
    _estimate_cost,
    _estimate_whole_cost,
    build_plan,
    find_cheapest_runs,
)
from seewhy.explainers._incremental.recording import ReceptiveField, Region, Side, Span, Unrecordable, record
from seewhy.explainers.occlusion import Occlusion, compute_positions
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Passes
from tiny import classifier_of, random_images, small_cnn

FIELDS = st.builds(ReceptiveField, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3))


@given(FIELDS, st.integers(13, 20), st.integers(0, 12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_spans_hold_what_changes_and_little_else(field: ReceptiveField, length: int, start: int, size: int) -> None:
    """Tight up to gaps: an output in a span is seen by a window that reaches over the change."""
    assume(length + 2 * field.padding > field.dilation * (field.kernel - 1))  # the window fits at least once
    weight = torch.ones(1, 1, field.kernel)
    stop = min(start + size, length)
    change = torch.zeros(1, 1, length)
    change[..., start:stop] = 1
    moved = functional.conv1d(change, weight, None, field.stride, field.padding, field.dilation)[0, 0].nonzero()[:, 0]
    outputs = (length + 2 * field.padding - field.dilation * (field.kernel - 1) - 1) // field.stride + 1
    span = Span(torch.tensor([start]), torch.tensor([stop]), length).propagate(field, outputs)
    first, last = int(span.starts[0]), int(span.stops[0])
    assert 0 <= first < last <= outputs
    for output in moved.tolist():
        assert first <= output < last
    if len(moved):
        gaps = field.dilation // field.stride + 1 if field.dilation > 1 else 0
        assert int(moved[0]) - first <= gaps
        assert last - 1 - int(moved[-1]) <= gaps


def test_reach_counts_what_outputs_see() -> None:
    field = ReceptiveField(kernel=3, stride=2, padding=1, dilation=2)
    assert field.count_inputs(1) == 5
    assert field.count_inputs(4) == 11
    assert field.find_first_input(torch.tensor([0, 3])).tolist() == [-1, 5]


def test_runs_are_the_cheapest_cut() -> None:
    cost = torch.rand(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for parts, runs in enumerate(find_cheapest_runs(cost, 4), start=1):
        assert torch.equal(torch.cat(runs), torch.arange(7))
        best = min(
            sum(float(cost[first, last - 1]) for first, last in itertools.pairwise((0, *cuts, 7)))
            for cuts in itertools.combinations(range(1, 7), parts - 1)
        )
        assert len(runs) == parts
        assert sum(float(cost[run[0], run[-1]]) for run in runs) == pytest.approx(best)


class Residual(nn.Module):
    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.conv2(functional.relu(self.norm(self.conv1(maps)), inplace=True)))


class Inverted(nn.Module):
    """Expansion, depthwise convolution and projection; with squeeze and excitation where asked."""

    def __init__(self, channels: int, stride: int = 1, squeeze: bool = False) -> None:
        super().__init__()
        wide = channels * 3
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(True))
        self.depth = nn.Sequential(
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.squeeze = nn.Conv2d(wide, wide, 1) if squeeze else None
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        wide = self.depth(self.expand(maps))
        if self.squeeze is not None:
            wide = wide * self.squeeze(wide.mean((2, 3), keepdim=True)).sigmoid()
        made = self.project(wide)
        return maps + made if made.shape == maps.shape else made


class Padded(nn.Module):
    """A strided convolution with a border that is wider at the bottom and at the right."""

    def forward(self, maps: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(maps, (0, 1, 0, 2)), 3, 2)


class Branches(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small = nn.Conv2d(channels, channels, 1)
        self.large = nn.Conv2d(channels, channels, 3, padding="same", dilation=2)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([self.small(maps), self.large(maps), maps * 2 - 1], 1)


class Functional(nn.Module):
    """A convolution by function, whose numbers are no pairs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / 9)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.conv2d(
            functional.conv2d(maps, self.weight, padding="same", dilation=2), self.weight, stride=2
        )


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


def conv(**options: object) -> list[nn.Module]:
    return [nn.Conv2d(3, 6, bias=False, **options), nn.BatchNorm2d(6)]  # type: ignore[arg-type]


NETWORKS = {
    "strided": lambda: [*conv(kernel_size=3, stride=2, padding=1), nn.SiLU(), *head(6)],
    "dilated": lambda: [*conv(kernel_size=3, padding=2, dilation=2), nn.Tanh(), *head(6)],
    "one by one": lambda: [*conv(kernel_size=3), nn.ReLU(), nn.Conv2d(6, 5, 1, stride=2), nn.GELU(), *head(5)],
    "uneven kernel": lambda: [*conv(kernel_size=(1, 5), stride=(2, 1), padding=(0, 2)), nn.ELU(), *head(6)],
    "same": lambda: [*conv(kernel_size=3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 5, padding="same"), *head(6)],
    "max pool": lambda: [*conv(kernel_size=5, padding=2), nn.MaxPool2d(3, 2, 1), nn.ReLU(True), *head(6)],
    "ceiling": lambda: [*conv(kernel_size=3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True), *head(6)],
    "average pool": lambda: [*conv(kernel_size=3), nn.AvgPool2d(3, 2, 1), nn.LeakyReLU(), *head(6)],
    "other average pools": lambda: [
        *conv(kernel_size=3, padding=1), nn.AvgPool2d(2, 2, 1, count_include_pad=False), nn.AvgPool2d(2, ceil_mode=True),
        *head(6)
    ],
    "residual": lambda: [*conv(kernel_size=3, padding=1), Residual(6), nn.MaxPool2d(2), Residual(6, 5), *head(6)],
    "inverted": lambda: [*conv(kernel_size=3, stride=2, padding=1), Inverted(6), Inverted(6, 2), Inverted(6), *head(6)],
    "squeezed": lambda: [*conv(kernel_size=3, padding=1), Inverted(6), Inverted(6, 2, True), Inverted(6), *head(6)],
    "padded": lambda: [*conv(kernel_size=3), Padded(), nn.ReLU(), Padded(), *head(6)],
    "functional": lambda: [*conv(kernel_size=3, padding=1), Functional(6), nn.ReLU(), *head(6)],
    "branches": lambda: [*conv(kernel_size=3, padding=1), Branches(6), nn.Dropout(), nn.Conv2d(18, 5, 3), *head(5)],
    "transposed": lambda: [*conv(kernel_size=3, stride=2), nn.ConvTranspose2d(6, 6, 2, 2), nn.Conv2d(6, 6, 3), *head(6)],
    "shuffled": lambda: [*conv(kernel_size=3, padding=1), nn.ChannelShuffle(2), nn.Conv2d(6, 6, 3, groups=2), *head(6)],
    "group norm": lambda: [*conv(kernel_size=3, padding=1), nn.ReLU(), nn.GroupNorm(2, 6), nn.ReLU(), *head(6)],
}  # fmt: skip


def network_of(name: str) -> nn.Module:
    torch.manual_seed(3)
    network = nn.Sequential(*NETWORKS[name]())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in (
                (module.weight, -1),
                (module.bias, -1),
                (module.running_mean, -1),
                (module.running_var, 0.2),
            ):
                nn.init.uniform_(values, low, 1)  # type: ignore[arg-type]
    return network.eval()


def planned(network: nn.Module, images: Tensor, window: int, stride: int) -> tuple[list[Tensor], Plan]:
    """(outputs for each row and column of windows of noise, incrementally and in full, the plan)."""
    height, width = images.shape[2:]
    recorded, _ = record(network, images[:1].expand(5, -1, -1, -1).clone())
    nodes = build_nodes(recorded)
    tops, lefts = (torch.tensor(compute_positions(side, window, stride)) for side in (height, width))
    plan = build_plan(nodes, Span(tops, tops + window, height), Span(lefts, lefts + window, width), len(images))
    clean = run_clean(nodes, recorded.result, images, find_clean_keys(nodes, plan.groups))
    found, expected = [clean.output], [network(images)]
    generator = torch.Generator().manual_seed(5)
    for group in plan.groups:
        every = torch.cartesian_prod(torch.arange(len(images)), group.rows, group.columns)
        pixels = torch.rand(len(every), 3, window, window, generator=generator, dtype=images.dtype)
        covered = images[every[:, 0]]
        for image, (_, row, column), new in zip(covered, every.tolist(), pixels, strict=True):
            image[:, tops[row] : tops[row] + window, lefts[column] : lefts[column] + window] = new
        found.append(run_patches(nodes, recorded.result, group, clean, Windows(*every.unbind(1)), pixels))
        expected.append(network(covered))
    assert sum(group.windows for group in plan.groups) == len(tops) * len(lefts)
    return [torch.cat(found), torch.cat(expected)], plan


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("height", "width", "window", "stride"), [(32, 32, 4, 3), (29, 35, 6, 5), (23, 24, 1, 1)])
@torch.no_grad()
def test_every_network_gives_what_full_passes_give(
    name: str, height: int, width: int, window: int, stride: int
) -> None:
    stride = 7 if window == 1 else stride
    images = random_images(2, 40)[:, :, :height, :width].double()
    (found, expected), plan = planned(network_of(name).double(), images, window, stride)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    assert 0 < plan.share <= 1.0


@pytest.mark.parametrize("name", ["strided", "max pool", "residual", "inverted", "padded", "branches"])
@torch.no_grad()
def test_less_is_computed_where_layers_are_local(name: str) -> None:
    images = random_images(1, 64).float()
    (found, expected), plan = planned(network_of(name), images, 4, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert plan.share < 0.4
    assert plan.estimate_gain(1000) > 1.5
    assert plan.estimate_gain(1) < 0.8 * plan.estimate_gain(1000)  # preparing is paid for once


@pytest.mark.slow
@pytest.mark.parametrize("probe_batch_size", [1, 3, 50])
@pytest.mark.parametrize("baseline", ["black", "noise"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_equal_those_of_full_passes(probe_batch_size: int, baseline: str, channels_last: bool) -> None:
    classifier = classifier_of(network_of("inverted"), 32, 4, channels_last=channels_last)
    images, targets = random_images(3, 32), torch.tensor([3, 0, 3])
    options = {"window": 6, "stride": 5, "baseline": baseline, "probe_batch_size": probe_batch_size}
    full = Occlusion(**options, incremental=False)(classifier, images, targets)  # type: ignore[arg-type]
    found = Occlusion(**options, incremental=True)(classifier, images, targets)  # type: ignore[arg-type]
    logits = float(classifier(images).detach().abs().max())  # a drop is a difference of two of them
    torch.testing.assert_close(found, full, rtol=0, atol=2e-6 * logits)
    assert float(full.abs().max()) > 5e-4 * logits


def test_passes_are_the_share_of_the_multiplications() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    classifier = classifier_of(network, 32, 4)
    Occlusion(window=4, stride=4, incremental=True, probe_batch_size=8)(
        classifier, random_images(2, 32), torch.tensor([0, 1])
    )
    least = sum(rows * columns for rows in [5, *[6] * 6, 5] for columns in [5, *[6] * 6, 5])
    assert math.ceil(2 * least / 32**2) == math.ceil(2 * 64 * 6**2 / 32**2) == 5
    assert classifier.passes.forward == 2 + 5
    assert classifier.passes.backward == 0


def test_windows_that_change_nothing_cost_nothing_and_score_zero() -> None:
    images = random_images(1, 32)
    images[..., 16:] = 0
    classifier = small_cnn()
    found = Occlusion(window=8, stride=8, incremental=True, probe_batch_size=8)(classifier, images, torch.tensor([3]))
    assert torch.equal(found[..., 16:], torch.zeros(1, 32, 16))
    assert bool((found[..., :16] != 0).all())
    black = small_cnn()
    Occlusion(incremental=True, probe_batch_size=8)(black, torch.zeros(1, 3, 32, 32), torch.tensor([3]))
    assert black.passes == Passes(1, 0)


class Deciding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        pooled = images.mean((2, 3))
        return pooled if float(pooled.sum()) > 0 else -pooled


class Attending(nn.Module):
    """Patches as tokens, one round of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1)


class Drawing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return functional.dropout(images, 0.5, training=True).mean((2, 3))


class Overwriting(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        maps = images * 2
        maps[:, :1].relu_()
        return maps.mean((2, 3))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Deciding(), "depend on the values of the images"),
        (Drawing(), "draws random numbers"),
        (Overwriting(), "writes to a part of another tensor"),
    ],
)
def test_networks_that_cannot_be_replayed_are_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(Unrecordable, match=words), torch.no_grad():
        record(network, random_images(5, 32))
    classifier, images, targets = classifier_of(network, 32, 3), random_images(1, 32), torch.tensor([1])
    with pytest.raises(Incompatible, match=rf"{words}.*set explainer.incremental=auto"):
        Occlusion(incremental=True, probe_batch_size=8)(classifier, images, targets)
    assert Occlusion(probe_batch_size=8)(classifier, images, targets).shape == (1, 32, 32)
    assert classifier.passes.forward == Occlusion().passes_per_image(size=32)[0]


def test_attention_falls_back_to_full_passes() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(Attending(), 32, 8)
    images, targets = random_images(2, 32), torch.tensor([1, 7])
    auto = Occlusion(probe_batch_size=16)(classifier, images, targets)
    passes = classifier.passes.forward
    assert passes == 2 * Occlusion().passes_per_image(size=32)[0]
    assert torch.equal(auto, Occlusion(incremental=False, probe_batch_size=16)(classifier, images, targets))
    forced = Occlusion(incremental=True, probe_batch_size=16)(classifier, images, targets)
    torch.testing.assert_close(forced, auto, rtol=0, atol=1e-5 * float(auto.abs().max()))


def test_a_record_that_no_longer_holds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seewhy.explainers._incremental.nodes.Convolution.fold", lambda self, scale, shift: self)
    classifier = classifier_of(network_of("residual"), 32, 4, fold=False)
    with pytest.raises(Incompatible, match="does not give the same logits"):
        Occlusion(incremental=True, probe_batch_size=8)(classifier, random_images(1, 32), torch.tensor([1]))


def test_changed_weights_are_seen() -> None:
    classifier, images, targets = classifier_of(network_of("residual"), 32, 4), random_images(1, 32), torch.tensor([1])
    explainer = Occlusion(incremental=True, probe_batch_size=8)
    before = explainer(classifier, images, targets)
    with torch.no_grad():
        classifier.network[0].weight.mul_(2)
    full = Occlusion(incremental=False, probe_batch_size=8)(classifier, images, targets)
    torch.testing.assert_close(
        explainer(classifier, images, targets), full, rtol=0, atol=1e-5 * float(full.abs().max())
    )
    assert not torch.allclose(before, full)


def test_patches_need_no_more_memory_than_images() -> None:
    classifier, images = classifier_of(network_of("inverted"), 32, 4), random_images(2, 32)
    places = compute_positions(32, 6, 5)
    with torch.no_grad():
        network = build_incremental_network(
            BatchedEvaluator(classifier, images[0], 4), images, images * 0, places, places, 6
        )
    assert classifier.passes == Passes()
    for group in network.plan.groups:
        windows = network.count_windows(group, 4)
        assert windows > 4
        assert windows * group.peak <= 4 * network.plan.peak < (windows + 1) * group.peak
    assert network.count_images(1) == 1
    assert network.count_images(1000) > 100


@pytest.mark.slow
def test_auto_takes_the_incremental_way_where_it_pays_and_falls_back_without_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    classifier = classifier_of(nn.Sequential(*layers, *head(32)), 48, 4)
    images, targets = random_images(2, 48), torch.tensor([1, 2])
    explainer = Occlusion(window=4, stride=4, probe_batch_size=16)
    found = explainer(classifier, images, targets)
    assert classifier.passes.forward < 40
    full = Occlusion(window=4, stride=4, probe_batch_size=16, incremental=False)(classifier, images, targets)
    torch.testing.assert_close(found, full, rtol=0, atol=1e-6)

    def crowded(*given: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("seewhy.explainers._incremental.drops.run_clean", crowded)
    assert torch.equal(explainer(classifier, images, targets), full)


@pytest.mark.parametrize("value", ["yes", None, 2])
def test_other_choices_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"explainer.incremental=.* must be true or false or auto"):
        Occlusion(incremental=value)  # type: ignore[arg-type]


def test_the_costs_of_nodes_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 4 * 6, 5))
    nodes = build_nodes(record(network.eval(), torch.rand(1, 3, 8, 12).expand(5, -1, -1, -1).clone())[0])
    number, pool = next((number, node) for number, node in enumerate(nodes) if node and node.shape == (6, 4, 6))
    convolution = next(node for node in nodes if node and node.shape == (6, 8, 12))
    values, head = 6 * 4 * 6, nodes[-1]
    assert _estimate_whole_cost(pool, (6, 8, 12)) == values * (4 * SPARSE_COST + MOVE_COST)
    assert _estimate_whole_cost(convolution, (3, 8, 12)) == 6 * 8 * 12 * (27 * SPARSE_COST + MOVE_COST)
    assert head and _estimate_whole_cost(head, (values,)) == 5 * values + 5 * MOVE_COST
    region = Region(Side(torch.tensor([0]), 2, 4), Side(torch.tensor([0]), 3, 6))
    read = 2 * MOVE_COST * 6 * (4 * 6)  # of each channel the 4 x 6 values that 2 x 3 windows see
    assert _estimate_cost(nodes, number, region, 7) == 6 * (2 * 3) * (4 * SPARSE_COST + MOVE_COST) + read
    assert _estimate_cost(nodes, number, region.extend(), 7) == 7
