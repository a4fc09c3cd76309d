"""Convolutions that compute the activation behind them: the same numbers, and only where nobody looks in between."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from timm.layers import create_conv2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from seewhy.models.classifier import Classifier
from seewhy.models.fusion.convolution import AVAILABLE, can_fuse, convolve_fused, read_activation
from seewhy.models.fusion.internals import is_fusion_supported
from tiny import classifier_of, images_beside_no_kink, random_images

pytestmark = pytest.mark.skipif(
    not (AVAILABLE and is_fusion_supported()), reason="fusion is off, or this torch has no oneDNN"
)
SIZE = 12
FUSED = "mkldnn::_convolution_pointwise"
GEOMETRIES = {
    "plain": {"kernel_size": 3},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2, "bias": False},
    "depthwise": {"kernel_size": 5, "groups": 6, "padding": 2},
    "oblong": {"kernel_size": (1, 3), "padding": (0, 1), "stride": (2, 1)},
    "same": {"kernel_size": 3, "stride": 2, "padding": "same"},
    "same, even": {"kernel_size": 5, "stride": 2, "padding": "same", "dilation": 1},
    "same, one side": {"kernel_size": (3, 2), "stride": (1, 2), "padding": "same"},
}


@contextmanager
def operations() -> Iterator[list[str]]:
    """The names of what torch computes inside the block."""
    found: list[str] = []
    with torch.profiler.profile() as profile:
        yield found
    found += [event.key for event in profile.key_averages()]


def spread_out(values: Tensor) -> Tensor:
    """Results of a convolution with values below, between and above all bounds, and on them."""
    values = values * 6
    values.view(-1)[::7] = 0
    return values


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 2), nn.Hardswish(), nn.SiLU()])
def test_it_is_the_convolution_and_then_the_activation(
    activation: nn.Module, name: str, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    options = dict(GEOMETRIES[name])
    layer = create_conv2d(6, 6, **options) if options.get("padding") == "same" else nn.Conv2d(6, 6, **options)  # type: ignore[arg-type]
    layer = layer.to(memory_format=order).requires_grad_(False)
    values = spread_out(torch.randn(3, 6, 11, 14)).to(memory_format=order)
    expected = activation(layer(values))
    found = convolve_fused(layer, dict(layer._parameters), values, read_activation(activation))  # type: ignore[arg-type]
    # 150 products of at most 20 in single precision: 150 x 6e-8 of the sum of their sizes, some 20
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-4)
    assert expected.is_contiguous(memory_format=order) == found.is_contiguous(memory_format=order)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 2), nn.ReLU(inplace=True)])
def test_its_gradient_is_that_of_both(activation: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    options = dict(GEOMETRIES[name])
    layer = create_conv2d(6, 6, **options) if options.get("padding") == "same" else nn.Conv2d(6, 6, **options)  # type: ignore[arg-type]
    layer.requires_grad_(False)
    leaves = (3 * torch.randn(3, 6, 11, 14)).requires_grad_()
    before = layer(leaves)
    expected = activation(before.clone())
    signal = torch.randn_like(expected)
    for kink in (-0.5, 0.0, 2.0, 6.0):  # where rounding decides which side of a jump of the derivative a number is on
        signal[(before - kink).abs() < 1e-3] = 0
    (gradient,) = torch.autograd.grad(expected, leaves, signal)
    with operations() as made:
        result = convolve_fused(layer, dict(layer._parameters), leaves, read_activation(activation))  # type: ignore[arg-type]
        (found,) = torch.autograd.grad(result, leaves, signal)
    assert FUSED in made
    torch.testing.assert_close(found, gradient, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 2)])
def test_at_a_bound_the_derivative_is_the_one_of_torch(activation: nn.Module) -> None:
    """A 1 x 1 convolution with weight 1 leaves the numbers as they are: exactly at, beside and between the bounds."""
    layer = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    layer.weight.data.fill_(1)
    bounds = [float(getattr(activation, name, 0)) for name in ("min_val", "max_val")]
    values = torch.tensor([-1.0, -0.0, 0.0, 1.0, 7.0, *bounds, *(bound + 1e-3 for bound in bounds)])
    leaves = values.view(1, 1, 1, -1).requires_grad_()
    (expected,) = torch.autograd.grad(activation(layer(leaves)).sum(), leaves)
    result = convolve_fused(layer, dict(layer._parameters), leaves, read_activation(activation))  # type: ignore[arg-type]
    (found,) = torch.autograd.grad(result.sum(), leaves)
    assert torch.equal(found, expected)


def test_other_activations_are_not_known() -> None:
    class Own(nn.ReLU):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    assert read_activation(Own()) is None
    assert read_activation(nn.GELU()) is None
    assert read_activation(None) is None


class Blocks(nn.Module):
    """Convolution, normalisation and activation, the activation used again behind a sum; then one without normalisation."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU, after: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.act = activation()
        self.third = nn.Conv2d(6, 6, 1)
        self.act3 = activation()
        self.head = nn.Linear(6, 4)
        self.after = after or (lambda values: values)

    def forward(self, values: Tensor) -> Tensor:
        values = self.after(self.act(self.norm(self.first(values))))
        values = self.act(self.second(values) + values)
        return self.head(self.act3(self.third(values)).mean((2, 3)))


def classifier_with(network: nn.Module) -> Classifier:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return classifier_of(network.eval(), SIZE, 4).float()


def both(classifier: Classifier) -> tuple[list[str], list[str]]:
    """The operations of a pass without and with gradients; logits and gradients are those outside of `frozen`."""
    images = images_beside_no_kink(classifier, 2, SIZE).requires_grad_()
    plain = classifier(images)
    (gradient,) = torch.autograd.grad(plain[:, 1].sum(), images)
    with classifier.frozen():
        with torch.no_grad(), operations() as without:
            logits = classifier(images)
        with operations() as with_gradients:
            folded = classifier(images)
            (found,) = torch.autograd.grad(folded[:, 1].sum(), images)
    for other in (logits, folded):
        torch.testing.assert_close(other, plain.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
    return without, with_gradients


def chains(classifier: Classifier) -> dict[str, bool]:
    """The convolutions that are run together with what follows, and whether that includes the activation."""
    with classifier.frozen():
        names = {module: name for name, module in classifier.network.named_modules()}
        found = classifier.folding.chains or ()
        return {names[chain.convolution]: chain.fused is not None for chain in found}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, lambda: nn.ReLU6(inplace=True), nn.Hardswish])
def test_an_activation_that_is_used_again_is_computed_where_it_stands_alone(
    activation: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    classifier = classifier_with(Blocks(activation))
    assert chains(classifier) == {"first": True, "third": True}
    without, with_gradients = both(classifier)
    assert FUSED in without
    assert (FUSED in with_gradients) == (activation is not nn.Hardswish)
    assert not any("forward" in vars(module) for module in classifier.modules())


def test_the_numbers_between_are_those_of_the_layers_where_someone_looks() -> None:
    torch.manual_seed(0)
    classifier, seen = classifier_with(Blocks()), []
    assert chains(classifier) == {"first": True, "third": True}
    handle = classifier.network.act.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))  # type: ignore[union-attr]
    images = random_images(2, SIZE).float()
    classifier(images)
    with classifier.frozen():
        classifier(images)
    assert len(seen) == 4 and float(seen[2].detach().min()) < 0
    torch.testing.assert_close(seen[2], seen[0])
    handle.remove()
    assert FUSED in both(classifier)[0]


def test_what_a_block_around_a_part_returns_is_what_its_layers_compute() -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * (SIZE - 2) ** 2, 4))
    classifier, seen = classifier_with(nn.Sequential(stem, nn.ReLU(), head)), []
    assert chains(classifier) == {"0.0": True}
    handle = stem.register_forward_hook(lambda module, given, output: seen.append(output.clone()))
    images = random_images(2, SIZE).float()
    classifier(images)
    with classifier.frozen():
        classifier(images)
    assert float(seen[1].detach().min()) < 0
    torch.testing.assert_close(seen[1], seen[0])
    handle.remove()
    assert FUSED in both(classifier)[0]


class Functions(TorchFunctionMode):
    """Watches every function."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    """Watches every operation."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Functions, Dispatched])
def test_whoever_watches_functions_sees_the_layers(mode: Callable[[], TorchFunctionMode]) -> None:
    torch.manual_seed(0)
    classifier = classifier_with(Blocks())
    images = random_images(2, SIZE).float()
    with classifier.frozen(), operations() as made, mode():
        classifier(images)
    assert FUSED not in made and "aten::relu" in made


def test_a_result_that_is_written_over_later_is_not_kept_for_the_gradient() -> None:
    torch.manual_seed(0)
    classifier = classifier_with(Blocks(nn.ReLU6, lambda values: values.mul_(2)))
    assert chains(classifier) == {"first": False, "third": True}
    both(classifier)


def test_double_precision_and_other_types_than_those_of_autocast_are_computed_by_the_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, activation = nn.Conv2d(3, 3, 1), read_activation(nn.ReLU())
    assert activation is not None
    values = torch.ones(1, 3, 4, 4)
    assert can_fuse(values, layer.weight, activation)
    assert not can_fuse(values.double(), layer.weight.double(), activation)
    assert not can_fuse(values[:0], layer.weight, activation)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_fuse(values, layer.weight, activation)
        assert not can_fuse(values.bfloat16(), layer.weight, activation)
    assert not can_fuse(values.bfloat16(), layer.weight.bfloat16(), activation)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not can_fuse(values, layer.weight, activation)
    monkeypatch.undo()
    assert (
        torch.func.vmap(lambda one: torch.tensor(float(can_fuse(one, layer.weight, activation))))(values[None]).sum()
        == 0
    )


def test_a_second_derivative_is_refused_not_wrong() -> None:
    torch.manual_seed(0)
    classifier = classifier_with(Blocks())
    images = random_images(1, SIZE).float().requires_grad_()
    with classifier.frozen():
        (first,) = torch.autograd.grad(classifier(images)[:, 0].square().sum(), images, create_graph=True)
        with pytest.raises(RuntimeError):
            torch.autograd.grad(first.sum(), images)


def test_where_torch_cannot_fuse_normalisations_are_still_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr("seewhy.models.fusion.convolution.convolve_activated", refuse)
    torch.manual_seed(0)
    classifier = classifier_with(Blocks())
    assert chains(classifier) == {"first": False}
    assert FUSED not in both(classifier)[0]


def test_a_module_that_is_called_by_name_is_left_alone() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 4)

        def forward(self, values: Tensor) -> Tensor:
            return self.head(self.act(input=self.conv(input=values)).mean((2, 3)))

    classifier = classifier_with(Named())
    assert chains(classifier) == {}
    both(classifier)


def test_a_classifier_that_was_looked_over_can_be_sent_to_another_process() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(400, 4)), SIZE, 4
    ).float()
    assert chains(classifier) == {"0": True}
    again = pickle.loads(pickle.dumps(classifier))
    assert chains(again) == {"0": True}
    both(again)


def test_under_autocast_convolutions_are_fused_in_bfloat16_and_float32_is_as_before() -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    torch.manual_seed(0)
    classifier = classifier_with(Blocks())
    images = images_beside_no_kink(classifier, 2, SIZE).requires_grad_()
    results = {}
    for narrow in (False, True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow), classifier.frozen(), operations() as made:
            logits = classifier(images)
            (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
        assert FUSED in made and logits.dtype == gradient.dtype == torch.float32
        if not narrow and False in results:
            assert torch.equal(results[False][0], logits) and torch.equal(results[False][1], gradient)
        results[narrow] = logits.detach(), gradient
    assert not torch.equal(results[True][0], results[False][0])
    for found, expected in zip(results[True], results[False], strict=True):
        # a few layers, each rounded to 8 bits, and a gate that may stand on the other side of its kink
        assert float((found - expected).norm() / expected.norm()) < 0.1


def test_parameters_that_were_folded_under_autocast_are_folded_in_float32() -> None:
    torch.manual_seed(0)
    classifier = classifier_with(Blocks())
    images = images_beside_no_kink(classifier, 2, SIZE)
    with torch.no_grad(), classifier.frozen():
        expected = classifier(images)
    torch.manual_seed(0)
    other = classifier_with(Blocks())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), other.frozen():
        other(images)
        with other.computing_in_full():
            found = other(images)
    assert torch.equal(found, expected) and chains(other) == chains(classifier)
