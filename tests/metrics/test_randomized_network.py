"""A randomised copy: its layers, its numbers, and parameters that come back."""

import gc
import weakref

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from seewhy.core.types import Targets
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.randomisation import randomized_network
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork, TwinCache, draw_normal, list_layers
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn

LAYERS = ["fc3", "fc2", "fc1", "conv2", "conv1"]


def test_layers_are_weights_with_what_follows_them_nearest_the_output_first() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.LayerNorm(5)
    )
    assert list_layers(network) == [("4", "5"), ("0", "1", "2")]
    assert list_layers(small_cnn().network) == [(name,) for name in LAYERS]


def test_random_parameters_keep_mean_and_spread_and_belong_to_the_seed() -> None:
    networks = [RandomizedNetwork(small_cnn(), seed) for seed in (1, 1, 2)]
    for network in networks:
        network.randomize(("fc1",))
    first, same, other = (network.copy.network.fc1.weight.detach() for network in networks)
    original = small_cnn().network.fc1.weight.detach()
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert abs(stats.pearsonr(first.flatten(), original.flatten()).statistic) < 0.05
    assert float(first.std()) == pytest.approx(float(original.std()), rel=0.02)
    assert torch.equal(networks[0].copy.network.fc2.weight, small_cnn().network.fc2.weight)
    networks[0].restore(("fc1",))
    assert torch.equal(networks[0].copy.network.fc1.weight, original)


def test_the_classifier_and_other_networks_are_never_touched() -> None:
    classifier = small_cnn()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    first, second = RandomizedNetwork(classifier, 1), RandomizedNetwork(classifier, 1)
    first.randomize(*first.layers)
    second.randomize(("fc1",))
    assert first.copy is second.copy is not classifier
    assert not torch.equal(first.copy.network.fc2.weight, before["network.fc2.weight"])
    assert torch.equal(second.copy.network.fc2.weight, before["network.fc2.weight"])
    assert torch.equal(second.copy.network.fc1.weight, first.copy.network.fc1.weight)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_a_copy_is_called_and_batched_like_the_classifier() -> None:
    classifier = small_cnn()
    copied = RandomizedNetwork(classifier, 1).copy
    assert copied.batch_sizes is classifier.batch_sizes, "what one of them measures holds for the other"
    for key in ("facts", "name", "origin", "weights_sha256", "cam_layer", "influence_layer", "channels_last"):
        assert getattr(copied, key) == getattr(classifier, key), key


def test_a_copy_follows_parameters_and_modules_that_change() -> None:
    classifier = small_cnn()
    network = RandomizedNetwork(classifier, 1)
    network.randomize(("fc1",))
    drawn = network.copy.network.fc1.weight.clone()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.data.mul_(2)
    torch.testing.assert_close(network.copy.network.fc1.weight, 2 * drawn)
    assert torch.equal(network.copy.network.fc2.weight, classifier.network.fc2.weight)
    classifier.network.fc2 = nn.Linear(classifier.network.fc2.in_features, classifier.network.fc2.out_features)
    assert torch.equal(network.copy.network.fc2.weight, classifier.network.fc2.weight)


def test_fixed_parameters_are_looked_at_once_and_drawn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, asked = small_cnn(), []
    drawn = TwinCache.draw
    monkeypatch.setattr(TwinCache, "draw", lambda kept, *given: asked.append(given[1]) or drawn(kept, *given))
    fixed, other = RandomizedNetwork(classifier, 1, fixed=True), RandomizedNetwork(classifier, 1)
    for layer in (("fc1",), ("conv2",)):
        for network in (fixed, other):
            network.randomize(layer)
        expected = [parameter.clone() for parameter in other.copy.parameters()]
        for found, wanted in zip(fixed.copy.parameters(), expected, strict=True):
            assert torch.equal(found, wanted)
    assert sorted(asked).count("fc1.weight") == 1 + 2
    fixed.restore(("fc1",))
    assert torch.equal(fixed.copy.network.fc1.weight, classifier.network.fc1.weight)


def test_a_classifier_is_not_kept_alive_by_its_copy() -> None:
    classifier = small_cnn()
    assert RandomizedNetwork(classifier, 1).copy is not classifier
    gone = weakref.ref(classifier)
    del classifier
    gc.collect()
    assert gone() is None


def test_tied_parameters_stay_tied() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False))
    network[2].weight = network[1].weight
    randomized = RandomizedNetwork(classifier_of(network.eval(), 2, 12), 1)
    randomized.randomize(("1",))
    twin = randomized.copy.network
    assert twin[1].weight is twin[2].weight
    assert not torch.equal(twin[1].weight, network[1].weight)


def test_parameters_beyond_the_cache_are_drawn_again_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomized_network, "CACHED", 10_000)
    cache, original = TwinCache(small_cnn()), torch.arange(6_000.0)
    first = cache.draw("stream", "first", original)
    assert cache.draw("stream", "first", original) is first
    second = cache.draw("stream", "second", original)
    again = cache.draw("stream", "second", original)
    assert again is not second
    assert torch.equal(again, second)
    assert not torch.equal(first, second)
    changed = cache.draw("stream", "first", 2 * original)
    torch.testing.assert_close(changed, 2 * first)
    assert cache.draw("stream", "first", 2 * original) is changed


def test_a_copy_and_its_classifier_have_the_same_measured_batch_sizes() -> None:
    classifier = small_cnn()
    RandomizedNetwork(classifier, 1).copy.batch_sizes["forward"] = 6
    assert classifier.batch_sizes == {"forward": 6}


def test_another_draw_of_one_object_is_that_of_an_object_of_its_own() -> None:
    classifier = small_cnn()
    network, others = (
        RandomizedNetwork(classifier, 1, fixed=True),
        [RandomizedNetwork(classifier, 1, n) for n in (0, 1)],
    )
    for number, other in enumerate(others):
        network.begin(number)
        for each in (network, other):
            each.randomize(*each.layers)
        expected = [parameter.clone() for parameter in other.copy.parameters()]
        assert all(map(torch.equal, network.copy.parameters(), expected))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128 + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_drawn_in_blocks_are_those_of_one_call(
    count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(randomized_network, "BLOCK", 64)
    drawn = draw_normal(torch.empty(count, dtype=dtype), np.random.default_rng(5), (0.3, 1.7))
    whole = torch.from_numpy(np.random.default_rng(5).standard_normal(count, dtype=np.float32)).to(dtype)
    assert torch.equal(drawn, whole * 1.7 + 0.3)


def test_a_large_parameter_is_drawn_block_by_block() -> None:
    sizes: list[int] = []

    class Counted(np.random.Generator):
        def standard_normal(self, size: int, **rest: object) -> object:  # type: ignore[override]
            sizes.append(size)
            return super().standard_normal(size, **rest)  # type: ignore[call-overload]

    drawn = draw_normal(torch.empty(3, 70_000), Counted(np.random.PCG64(5)), (2.0, 3.0))
    assert max(sizes) == randomized_network.BLOCK
    assert sum(sizes) == 210_000
    assert abs(float(drawn.mean()) - 2) < 6 * 3 / 210_000**0.5
    assert abs(float(drawn.std()) - 3) < 6 * 3 / (2 * 210_000) ** 0.5


def test_half_types_are_rounded_once() -> None:
    moments = (0.3, 1.7)
    wide, half = (
        draw_normal(torch.empty(500, dtype=dtype), np.random.default_rng(5), moments)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(half, wide.bfloat16())


def test_a_network_in_another_precision_is_given_parameters_of_its_own() -> None:
    classifier = small_cnn().float()
    network = RandomizedNetwork(classifier, seed=3)
    network.randomize(*network.layers)
    single = [parameter.dtype for parameter in network.copy.parameters()]
    classifier.double()
    assert set(single) == {torch.float32}
    assert {parameter.dtype for parameter in network.copy.parameters()} == {torch.float64}


@pytest.mark.parametrize("narrow", [True, False])
def test_a_copy_computes_in_the_precision_of_the_classifier(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    types = []
    forward = Classifier.forward

    def spy(self: Classifier, images: Tensor) -> Tensor:
        types.append((self is classifier, self.narrow))
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", spy)
    classifier, images = small_cnn().float(), random_images(2, 32).float()
    network = RandomizedNetwork(classifier, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow), classifier.frozen():
        network.explain(Saliency(probe_batch_size=2), images, Targets(torch.tensor([0, 1])))
    assert set(types) == {(False, torch.bfloat16 if narrow else None)}
