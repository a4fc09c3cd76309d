"""Folded batch normalisation: the same network, and never where it would be another one."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from seewhy.explainers.gradient import Saliency
from seewhy.models.classifier import Classifier
from seewhy.models.fusion.internals import is_fusion_supported
from tiny import classifier_of, images_beside_no_kink, random_images

pytestmark = pytest.mark.skipif(not is_fusion_supported(), reason="fusion is off")
SIZE = 12


class Small(nn.Module):
    """Two convolutions with normalisations, put together by `between`."""

    def __init__(self, between: Callable[["Small", Tensor], Tensor] | None = None, **options: bool) -> None:
        super().__init__()
        self.between = between or Small.plainly
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6, **options)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(6, **options)
        self.head = nn.Linear(6, 4)
        self.reads = True

    def plainly(self, values: Tensor) -> Tensor:
        return self.bn1(self.first(values)).relu()

    def forward(self, values: Tensor) -> Tensor:
        values = self.between(self, values)
        return self.head(self.bn2(self.second(values)).relu().mean((2, 3)))


def scattered(network: nn.Module) -> nn.Module:
    """With statistics as after a training."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.weight, module.bias):
                if values is not None:
                    values.data.copy_(torch.randn(6, generator=generator))
            if module.running_var is not None:
                module.running_var.copy_(0.2 + torch.rand(6, generator=generator))
    return network.eval()


def classifier_with(between: Callable[[Small, Tensor], Tensor] | None = None, **options: bool) -> Classifier:
    torch.manual_seed(0)
    return classifier_of(scattered(Small(between, **options)), SIZE, 4).float()


def pairs(classifier: Classifier) -> list[str]:
    """The names of the folded convolutions."""
    with classifier.frozen():
        names = {module: name for name, module in classifier.network.named_modules()}
        return sorted(names[chain.convolution] for chain in classifier.folding.chains or ())


def assert_same(classifier: Classifier, count: int = 2) -> None:
    """Logits and gradients inside of `frozen` are those outside."""
    images = images_beside_no_kink(classifier, count, SIZE).requires_grad_()
    plain = classifier(images)
    (gradient,) = torch.autograd.grad(plain[:, 1].sum(), images)
    with classifier.frozen():
        folded = classifier(images)
        (other,) = torch.autograd.grad(folded[:, 1].sum(), images)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"affine": False}])
def test_a_folded_network_is_the_same_function(options: dict[str, bool]) -> None:
    classifier = classifier_with(**options)
    assert pairs(classifier) == ["first", "second"]
    assert_same(classifier)


def test_normalisations_are_not_computed() -> None:
    classifier = classifier_with()
    images = random_images(1, SIZE).float()
    with classifier.frozen(), torch.profiler.profile() as profile:
        classifier(images)
    assert not [event.key for event in profile.key_averages() if "batch_norm" in event.key]
    with torch.profiler.profile() as profile:
        classifier(images)
    assert [event.key for event in profile.key_averages() if "batch_norm" in event.key]


def test_the_network_is_as_it_was() -> None:
    classifier = classifier_with()
    before = copy.deepcopy(classifier.network.state_dict())
    with classifier.frozen():
        classifier(random_images(1, SIZE).float())
        inside = classifier.network.state_dict()
        assert not any("forward" in vars(module) for module in classifier.modules())
    for name, values in before.items():
        assert torch.equal(inside[name], values), name


def test_weights_that_changed_are_folded_anew() -> None:
    classifier = classifier_with()
    assert_same(classifier)
    classifier.network.first.weight.data.mul_(-2)  # type: ignore[union-attr,operator]
    classifier.network.bn2.running_mean.data.add_(1)  # type: ignore[union-attr,operator]
    assert_same(classifier)
    classifier.double()
    images = random_images(2, SIZE).float().double()
    expected = classifier(images)
    with classifier.frozen():
        torch.testing.assert_close(classifier(images), expected)


@pytest.mark.parametrize("options", [{}, {"affine": False}])
def test_without_operations_on_lists_each_layer_is_folded_alone(
    options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifier_with(**options)
    assert pairs(classifier) == ["first", "second"]
    at_once = [dict(chain.parameters) for chain in classifier.folding.chains or ()]
    monkeypatch.setattr("seewhy.models.fusion.chain.FOREACH", False)
    assert_same(classifier)
    for chain, expected in zip(classifier.folding.chains or (), at_once, strict=True):
        assert chain.parameters["weight"] is not expected["weight"]
        torch.testing.assert_close(chain.parameters, expected)


def test_a_copy_has_its_own() -> None:
    classifier = classifier_with()
    assert_same(classifier)
    twin = copy.deepcopy(classifier)
    twin.network.first.weight.data.mul_(3)  # type: ignore[union-attr,operator]
    assert_same(twin)
    assert_same(classifier)
    assert not torch.allclose(twin(random_images(1, SIZE).float()), classifier(random_images(1, SIZE).float()))


def test_the_pairs_of_a_copied_network_are_known() -> None:
    classifier = classifier_with()
    assert pairs(classifier) == ["first", "second"]
    twin = classifier_of(copy.deepcopy(classifier.network), SIZE, 4).float()
    twin.folding = classifier.folding.copy_to(twin.network)
    assert [chain.convolution for chain in twin.folding.chains or ()] == [twin.network.first, twin.network.second]
    twin.network.second.bias.data.add_(1)  # type: ignore[union-attr,operator]
    assert_same(twin)
    assert_same(classifier)


def test_what_hooks_see_is_what_the_layers_compute() -> None:
    classifier, seen = classifier_with(), []
    classifier.network.first.register_forward_hook(lambda module, given, output: seen.append(output))  # type: ignore[union-attr]
    images = random_images(1, SIZE).float()
    classifier(images)
    with classifier.frozen():
        classifier(images)
    assert torch.equal(seen[0], seen[-1])


def twice_read(network: Small, values: Tensor) -> Tensor:
    made = network.first(values)
    return network.bn1(made).relu() + made


def used_twice(network: Small, values: Tensor) -> Tensor:
    network.bn1(network.first(values.flip(3)))
    return network.bn1(network.first(values)).relu()


def shifted_in_between(network: Small, values: Tensor) -> Tensor:
    return network.bn1(network.first(values) + 1).relu()


def in_place(network: Small, values: Tensor) -> Tensor:
    return network.bn1(network.first(values).mul_(2)).relu()


@pytest.mark.parametrize("between", [twice_read, used_twice, shifted_in_between, in_place])
def test_a_convolution_that_others_read_is_left_alone(between: Callable[[Small, Tensor], Tensor]) -> None:
    classifier = classifier_with(between)
    assert pairs(classifier) == ["second"]
    assert_same(classifier)


def sometimes(network: Small, values: Tensor) -> Tensor:
    made = network.first(values)
    return network.bn1(made).relu() if len(values) < 3 else made.relu()


def sometimes_shifted(network: Small, values: Tensor) -> Tensor:
    made = network.first(values)
    return network.bn1(made if len(values) < 3 else made.add_(1)).relu()


@pytest.mark.parametrize("between", [sometimes, sometimes_shifted])
def test_a_network_that_runs_otherwise_is_not_folded_from_then_on(between: Callable[[Small, Tensor], Tensor]) -> None:
    classifier = classifier_with(between)
    assert pairs(classifier) == ["first", "second"]
    assert_same(classifier, 2)
    assert_same(classifier, 5)
    assert pairs(classifier) == []
    assert not any("forward" in vars(module) for module in classifier.modules())


def test_statistics_of_the_batch_are_not_folded() -> None:
    classifier = classifier_with(track_running_stats=False)
    assert pairs(classifier) == []
    assert_same(classifier)


def test_training_goes_on_with_its_own_layers() -> None:
    classifier = classifier_with()
    assert_same(classifier)
    classifier.train()
    before = classifier.network.bn1.running_mean.clone()  # type: ignore[union-attr,operator]
    classifier(random_images(4, SIZE).float()).sum().backward()
    assert not torch.equal(before, classifier.network.bn1.running_mean)  # type: ignore[union-attr,arg-type]
    assert classifier.network.first.weight.grad is not None  # type: ignore[union-attr]


def test_looking_the_network_over_counts_no_pass() -> None:
    classifier = classifier_with()
    Saliency()(classifier, random_images(2, SIZE).float(), torch.tensor([0, 1]))
    assert (classifier.passes.forward, classifier.passes.backward) == (2, 2)


def test_it_can_be_switched_off() -> None:
    classifier = classifier_with()
    off = classifier_of(classifier.network, SIZE, 4, fold=False).float()
    assert pairs(off) == []
    images = random_images(1, SIZE).float()
    expected = off(images)
    with off.frozen():
        assert torch.equal(off(images), expected)


def test_an_error_in_the_network_leaves_it_as_it_was() -> None:
    classifier = classifier_with()
    with classifier.frozen(), pytest.raises(RuntimeError):
        classifier(torch.zeros(1, 5, SIZE, SIZE))
    with classifier.frozen(), pytest.raises(RuntimeError):
        classifier.folding.run(torch.zeros(1, 5, SIZE, SIZE))
    assert not any("forward" in vars(module) for module in classifier.modules())
    assert_same(classifier)


def test_inference_mode() -> None:
    classifier = classifier_with()
    images = random_images(2, SIZE).float()
    expected = classifier(images)
    with torch.inference_mode(), classifier.frozen():
        torch.testing.assert_close(classifier(images), expected.detach(), rtol=1e-4, atol=1e-5)
    assert_same(classifier)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv2_050", "resnet18", "regnetx_002", "densenet121"])
def test_networks_of_timm(name: str) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    classifier = classifier_of(network.eval(), 32, 4, channels_last=True).float()
    assert len(pairs(classifier)) > 15
    images = random_images(2, 32).float()
    with torch.no_grad():
        plain = classifier(images)
        with classifier.frozen():
            torch.testing.assert_close(classifier(images), plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
