"""Guided backpropagation and deconvolution: the rule at each rectifier, and the networks that have none."""

import pytest
import timm
import torch
from timm.layers import create_conv2d
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.explainers._backward_rules.rule_mode import SavedTensors
from seewhy.explainers.base import Explainer
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop
from seewhy.explainers.lrp import Lrp
from tiny import classifier_of, random_images, small_cnn


class Guided(torch.autograd.Function):
    """The slow twin: a ReLU whose backward pass is the published rule."""

    @staticmethod
    def forward(ctx, features: Tensor, guided: bool) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features)
        ctx.guided = guided
        return features.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (features,) = ctx.saved_tensors
        kept = gradient.clamp_min(0)
        return (kept * (features > 0) if ctx.guided else kept), None


def twin(images: Tensor, targets: Tensor, guided: bool) -> Tensor:
    """The tutorial network written out with the twin in place of each ReLU."""
    classifier = small_cnn()
    net = classifier.network
    leaves = images.clone().requires_grad_()
    features = (leaves - classifier.mean) / classifier.std
    features = net.pool1(Guided.apply(net.conv1(features), guided))  # type: ignore[operator, union-attr]
    features = net.pool2(Guided.apply(net.conv2(features), guided)).flatten(1)  # type: ignore[operator, union-attr]
    features = Guided.apply(net.fc1(features), guided)  # type: ignore[operator, union-attr]
    logits = net.fc3(Guided.apply(net.fc2(features), guided))  # type: ignore[operator, union-attr]
    logits.gather(1, targets[:, None]).sum().backward()
    assert leaves.grad is not None
    return leaves.grad.sum(1)


@pytest.mark.parametrize(("method", "guided"), [(GuidedBackprop, True), (Deconvolution, False)])
def test_equal_to_the_slow_twin(method: type, guided: bool) -> None:
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    maps = method(probe_batch_size=4)(small_cnn(), images, targets)
    torch.testing.assert_close(maps, twin(images, targets, guided), rtol=1e-4, atol=1e-7)


class Written(nn.Module):
    """One small network, its rectifier written in five ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.way = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), way
        self.relu, self.relu_in_place, self.relu6 = nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images)
        ways = {"module": self.relu, "in place": self.relu_in_place, "function": functional.relu}
        ways |= {"method": torch.Tensor.relu, "six": self.relu6, "clamp": lambda values: values.clamp(min=0)}
        return self.head(ways[self.way](features).mean((2, 3)))


@pytest.mark.parametrize("way", ["in place", "function", "method", "six", "clamp"])
@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_every_way_to_write_a_rectifier_is_guided(method: type, way: str) -> None:
    images, targets = random_images(2, 12), torch.tensor([1, 2])
    module = method(probe_batch_size=4)(classifier_of(Written("module").eval(), 12, 4), images, targets)
    other = method(probe_batch_size=4)(classifier_of(Written(way).eval(), 12, 4), images, targets)
    torch.testing.assert_close(other, module, rtol=1e-4, atol=1e-7)


class Overwritten(nn.Module):
    """Rectifiers whose results are written into later, or that write into a part of a tensor; or neither."""

    def __init__(self, activation: nn.Module, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.activation, self.in_place = activation, in_place

    def forward(self, images: Tensor) -> Tensor:
        features = self.activation(4 * self.conv(images))
        other = features.roll(1, 1)
        if self.in_place:
            features -= other
            features[:, :3].relu_()
            features[:, 5:].mul_(2)
        else:
            features = features - other
            features = torch.cat([features[:, :3].relu(), features[:, 3:5], 2 * features[:, 5:]], 1)
        return self.head(features.mean((2, 3)))


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
@pytest.mark.parametrize("activation", [nn.ReLU6(inplace=True), nn.ReLU6(), nn.ReLU(inplace=True)])
def test_what_is_written_into_a_result_later_does_not_matter(method: type, activation: nn.Module) -> None:
    images, targets = random_images(2, 12), torch.tensor([1, 2])
    found, expected = (
        method(probe_batch_size=4)(classifier_of(Overwritten(activation, in_place), 12, 4), images, targets)
        for in_place in (True, False)
    )
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class Gated(nn.Module):
    """Squeeze-and-excitation whose gate is a hard sigmoid, by name or written as ReLU6; or a Swish written that way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.squeeze, self.head, self.way = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 4), way

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.conv(images))
        if self.way == "swish":
            features = features * (functional.relu6(features + 3) / 6)
        else:
            squeezed = self.squeeze(features.mean((2, 3), keepdim=True))
            written = functional.relu6(squeezed + 3) / 6
            features = features * (functional.hardsigmoid(squeezed) if self.way == "named" else written)
        return self.head(features.mean((2, 3)))


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_a_relu6_that_is_a_gate_keeps_its_derivative(method: type) -> None:
    images, targets = random_images(2, 12), torch.tensor([1, 2])
    found, expected = (
        method(probe_batch_size=4)(classifier_of(Gated(way), 12, 4), images, targets) for way in ("written", "named")
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_a_hard_swish_written_as_relu6_is_refused(method: type) -> None:
    with pytest.raises(Incompatible, match=r"`x \* hardtanh\(x\)`, an activation like Swish, in the network"):
        method(probe_batch_size=4)(classifier_of(Gated("swish"), 12, 4), random_images(1, 12), torch.tensor([0]))


def test_an_activation_that_is_overwritten_unseen_is_an_error() -> None:
    values = torch.ones(3)
    seen, unseen = SavedTensors().save(values), SavedTensors().save(values)
    unseen.lock()
    values += 1
    assert torch.equal(seen.take(), torch.full((3,), 2.0)), "not locked: nothing is promised"
    with pytest.raises(RuntimeError, match="overwritten"):
        unseen.take()


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_vit"])
def test_networks_without_rectifiers_are_refused(method: type, name: str) -> None:
    network = timm.create_model(name, pretrained=False, num_classes=4).eval()
    size = 32 if name.startswith("mobile") else network.patch_embed.img_size[0]
    with pytest.raises(Incompatible, match=r"module '.*use smooth_grad or integrated_gradients"):
        method(probe_batch_size=2)(classifier_of(network, size, 4), random_images(1, size), torch.tensor([0]))


def test_the_gradient_follows_the_weights_and_guided_backprop_hardly() -> None:
    """The direction of the sanity checks of Adebayo et al., 2018, with the last layer randomised."""
    images, targets = random_images(6, 32), torch.full((6,), 3)

    def correlation(explainer: Saliency | GuidedBackprop) -> float:
        maps = []
        for seed in (0, 5):
            classifier = small_cnn()
            torch.manual_seed(seed)
            nn.init.normal_(classifier.network.fc3.weight, std=0.3)  # type: ignore[union-attr, arg-type]
            maps.append(explainer(classifier, images, targets).flatten(1))
        return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*maps, strict=True)]).mean())

    guided = correlation(GuidedBackprop(reduction="max", probe_batch_size=8))
    assert guided > correlation(Saliency(probe_batch_size=8)) + 0.02


def test_captum_agrees_on_the_tutorial_network() -> None:
    import warnings

    from captum import attr

    classifier = small_cnn()
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    for ours, theirs in ((GuidedBackprop, attr.GuidedBackprop), (Deconvolution, attr.Deconvolution)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(classifier).attribute(images.clone().requires_grad_(), target=targets).sum(1)
        torch.testing.assert_close(
            ours(probe_batch_size=4)(classifier, images, targets), expected, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(
    "explainer", [GuidedBackprop(), Deconvolution(), Lrp(), DeepLift()], ids=lambda each: type(each).__name__
)
def test_strided_convolutions_with_more_border_behind_than_before_have_their_rules(explainer: Explainer) -> None:
    """Their surplus is cut off the fused result, which rules must follow: EfficientNet-Lite0 and its like."""
    torch.manual_seed(0)
    network = nn.Sequential(
        create_conv2d(3, 8, 3, stride=2, padding="same"),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        create_conv2d(8, 8, 3, stride=2, padding="same", depthwise=True),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()
    classifier = classifier_of(network, 32, 3).float()  # in double precision nothing is fused
    maps = explainer(classifier, random_images(2, 32).float(), torch.tensor([0, 1]))
    assert maps.abs().sum() > 0
