"""DeepLift is exact: closed forms, a peer, and a gap of nothing on every kind of network that it accepts."""

import warnings

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.explainers._backward_rules.deep_lift import MaxPoolOp, build_indexed_pool
from seewhy.explainers.base import AttributionResult
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn

EXACT = 1e-3


class Functional(nn.Module):
    """Every nonlinearity as a function or a method, one of them twice, in place where that is possible."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.again = nn.Conv2d(6, 6, 3)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(functional.relu6(self.conv(images)))
        gate = torch.sigmoid(features.mean((2, 3), keepdim=True))
        features = self.act(self.again(features * gate) + 0.1)
        features = functional.max_pool2d(functional.hardswish(features), 3, 2)
        return self.head(functional.gelu(features).mean((2, 3)))


def test_on_a_linear_network_it_is_weight_times_difference() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(3, 8), torch.tensor([0, 1, 2])
    expected = (weights[targets] * (images - 0.5)).sum(1)
    maps = DeepLift(baseline="grey", probe_batch_size=2)(classifier, images, targets)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_on_one_rectifier_it_is_the_rescale_rule() -> None:
    """relu(w.x - 1) with x from black: the whole change, shared in proportion to w x."""
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 1.0, -1.0]]))
        layer.bias.fill_(-1.0)
    classifier = classifier_of(nn.Sequential(nn.Flatten(), layer, nn.ReLU()), 1, 1, normalised=False)
    image = torch.tensor([0.9, 0.8, 0.1]).view(1, 3, 1, 1)
    contributions = torch.tensor([1.8, 0.8, -0.1])
    change = contributions.sum() - 1
    per_unit = change / contributions.sum()
    maps = DeepLift(probe_batch_size=1)(classifier, image, torch.tensor([0]))
    assert float(maps) == pytest.approx(float((contributions * per_unit).sum()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_050"])
def test_it_is_exact_or_refused_on_timm_networks(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=5).eval()
    classifier = classifier_of(network, 64, 5)
    images, targets = random_images(2, 64), torch.tensor([1, 4])
    try:
        result = DeepLift(probe_batch_size=4).attribute(classifier, images, targets)
    except Incompatible as refused:
        assert name == "test_convnext", refused
        return
    assert float(result.facts["completeness_gap_relative"].max()) < EXACT


def test_functions_methods_reuse_and_in_place_are_seen() -> None:
    torch.manual_seed(1)
    classifier = classifier_of(Functional().eval(), 16, 4)
    result = DeepLift(probe_batch_size=3).attribute(classifier, random_images(4, 16), torch.tensor([0, 1, 2, 3]))
    assert float(result.facts["completeness_gap_relative"].max()) < EXACT


def test_it_differs_from_the_gradient_and_agrees_with_it_where_the_network_is_linear() -> None:
    classifier = small_cnn()
    images, targets = random_images(2, 32), torch.tensor([3, 7])
    found = DeepLift(probe_batch_size=4)(classifier, images, targets)
    path = IntegratedGradients(n_steps=200, probe_batch_size=64)(classifier, images, targets)
    torch.testing.assert_close(found.sum((1, 2)), path.sum((1, 2)), rtol=5e-2, atol=1e-3)


class Fixed(DeepLift):
    """With the same baseline, but as if it belonged to each image."""

    def _attribute(self, evaluator: BatchedEvaluator, images: Tensor, targets: Tensor) -> AttributionResult:
        return self._explain(evaluator, images, self.build_baselines(images), targets)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "test_resnet", "mobilenetv3_small_050", "squeezenet1_1", "cnn"])
@pytest.mark.parametrize("last", [False, True])
def test_a_shared_baseline_is_what_one_beside_each_image_is(name: str, last: bool) -> None:
    torch.manual_seed(0)
    if name == "functional":
        network, size = Functional().eval(), 16
    elif name == "cnn":
        network, size = nn.Sequential(*list(small_cnn().network.children())[:6], nn.Flatten(), nn.Linear(400, 10)), 32
    elif name == "squeezenet1_1":
        network, size = torchvision.models.squeezenet1_1(num_classes=10).eval(), 64
    else:
        network, size = timm.create_model(name, pretrained=False, num_classes=10).eval(), 64
    classifier = classifier_of(network, size, 4 if name == "functional" else 10, channels_last=last).double()
    images, targets = random_images(5, size).double(), torch.tensor([0, 1, 3, 2, 1])
    images[1, :, : size // 2] = 1
    images[2] = 1
    for limit, passes in ((2, 6), (8, 6)):
        explainer = DeepLift(baseline="white", probe_batch_size=limit)
        classifier.passes = Passes()
        found = explainer.attribute(classifier, images, targets)
        assert classifier.passes == Passes(passes, 5)
        expected = Fixed(baseline="white", probe_batch_size=limit).attribute(classifier, images, targets)
        torch.testing.assert_close(found.maps, expected.maps, rtol=0, atol=1e-9 * float(expected.maps.abs().max()))
        assert float(found.maps[2].abs().max()) == 0, "the image is its baseline"
        assert float(found.facts["completeness_gap_relative"][[0, 1, 3, 4]].max()) < EXACT


class Merged(nn.Module):
    """Images as channels of one: a baseline alone has another number of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.conv(images).flatten(0, 1)[None]).unflatten(1, (-1, 4))
        return self.head(functional.relu(features[0]).mean((2, 3)))


def test_a_network_that_merges_a_batch_gets_a_baseline_beside_each_image() -> None:
    classifier, images = classifier_of(Merged().eval(), 8, 4), random_images(3, 8)
    targets = torch.tensor([0, 1, 3])
    together = DeepLift(probe_batch_size=4).attribute(classifier, images, targets)
    alone = torch.cat([DeepLift(probe_batch_size=1)(classifier, images[[i]], targets[[i]]) for i in range(3)])
    torch.testing.assert_close(together.maps, alone, rtol=1e-4, atol=1e-6)
    assert float(together.facts["completeness_gap_relative"].max()) < EXACT


@pytest.mark.parametrize(("baseline", "passes"), [("grey", 1), ("blurred", 0), ("mean", 0), ("noise", 0)])
def test_a_baseline_that_depends_on_the_image_is_counted_for_each(baseline: str, passes: int) -> None:
    explainer, classifier = DeepLift(baseline=baseline, probe_batch_size=2), small_cnn()
    explainer(classifier, random_images(3, 32), torch.arange(3))
    assert explainer.passes_per_call() == passes
    assert explainer.passes_per_image() == (2 - passes, 1)
    assert classifier.passes == Passes(4 if passes else 6, 3)


class Choosing(nn.Module):
    """One more rectifier where the images are bright, or where they are dark."""

    def __init__(self, bright: bool) -> None:
        super().__init__()
        self.head, self.bright, self.calls = nn.Linear(12, 3), bright, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        features = images.flatten(1).relu()
        return self.head(features.relu() if (self.calls == 2) == self.bright else features)


@pytest.mark.parametrize("bright", [False, True])
def test_other_calls_for_images_than_for_baselines_are_refused(bright: bool) -> None:
    classifier = classifier_of(Choosing(bright).eval(), 2, 3, normalised=False, fold=False)
    with pytest.raises(Incompatible, match="called for some images and not for others"):
        DeepLift(probe_batch_size=2)(classifier, random_images(1, 2), torch.tensor([0]))


class Divided(nn.Module):
    """Weights that are normalised by their own sum, as in linear attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(48, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        weights = functional.relu(self.first(images.flatten(1))) + 0.1
        return self.head(weights / weights.sum(1, keepdim=True))


def test_a_quotient_is_refused_with_an_alternative() -> None:
    with pytest.raises(Incompatible, match=r"`div` in the network \(Divided\); use integrated_gradients"):
        DeepLift(probe_batch_size=2)(classifier_of(Divided(), 4, 3), random_images(1, 4), torch.tensor([0]))


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(UserError, match=r"explainer.baseline=pink must be black"):
        DeepLift(baseline="pink")


def pool_multiplier(image: Tensor, baseline: Tensor, signal: Tensor) -> Tensor:
    """The slow twin for a 2x2 maximum: its change goes to the image's or the baseline's largest position.

    Of positions of the baseline that are equally large it is the one where the image is largest, if that is among them,
    and otherwise the first.
    """
    found = torch.zeros_like(image)
    for channel, row, column in torch.cartesian_prod(*(torch.arange(side) for side in signal.shape)).tolist():
        window = (channel, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        one, other = image[window].flatten(), baseline[window].flatten()
        first = int(one.argmax())
        second = first if bool(other[first] >= other.max() - 1e-12) else int((other * 1e9).round().argmax())
        change = one[first] - other[second]
        place = first if change > 0 else second
        share = 1.0 if first == second else change / (one[place] - other[place]) if change else 0.0
        found[channel, 2 * row + place // 2, 2 * column + place % 2] += share * signal[channel, row, column]
    return found


def rescale(image: Tensor, baseline: Tensor, signal: Tensor) -> Tensor:
    """The slow twin of the rescale rule for max(x, 0)."""
    distance = image - baseline
    return signal * torch.where(distance == 0, (image > 0).float(), (image.relu() - baseline.relu()) / distance)


@pytest.mark.parametrize("pool_first", [False, True])
def test_pools_and_rectifiers_equal_the_slow_twin(pool_first: bool) -> None:
    torch.manual_seed(0)
    conv, head, pool = nn.Conv2d(3, 4, 3), nn.Linear(36, 10), nn.MaxPool2d(2)
    between = [pool, nn.ReLU()] if pool_first else [nn.ReLU(), pool]
    classifier = classifier_of(nn.Sequential(conv, *between, nn.Flatten(), head).eval(), 8, 10).double()
    image = random_images(1, 8).double()
    with torch.no_grad():
        one, other = (conv((each - classifier.mean) / classifier.std)[0] for each in (image, torch.zeros_like(image)))
        signal = head.weight[3].view(4, 3, 3)
        if pool_first:
            signal = pool_multiplier(one, other, rescale(pool(one), pool(other), signal))
        else:
            signal = rescale(one, other, pool_multiplier(one.relu(), other.relu(), signal))
        expected = (functional.conv_transpose2d(signal[None], conv.weight) / classifier.std * image).sum(1)
    maps = DeepLift(probe_batch_size=4)(classifier, image, torch.tensor([3]))
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("border", [0.0, 0.3])
def test_rounding_does_not_decide_the_largest_position_of_a_flat_baseline(border: float) -> None:
    """Sums in another order make the values of a flat map differ by units of rounding.

    A flat image whose borders differ has windows where some positions are largest and others are not.
    """
    image = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) - 1
    flat = torch.ones(1, 3, 9, 9)
    flat[..., ::2, :] -= border
    rounded = flat + 1e-6 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(1))
    multipliers = []
    for baseline in (flat, rounded):
        step = MaxPoolOp((baseline,), build_indexed_pool(functional.max_pool2d, (image, 3, 2), {}))
        step.forward(image)
        multipliers.append(step.backward(torch.ones(2, 3, 4, 4))[0])
    torch.testing.assert_close(*multipliers, rtol=0, atol=1e-5)
    assert float(multipliers[0].max()) > 1, "windows overlap"


@pytest.mark.parametrize("between", [nn.ReLU(), nn.MaxPool2d(2), nn.Sigmoid()])
def test_captum_agrees_where_it_has_one_kind_of_nonlinearity(between: nn.Module) -> None:
    """Where a pool follows a rectifier captum 0.9 loses its rule for pools; mended, it agrees: oracles/table.py."""
    from captum import attr

    torch.manual_seed(0)
    features, curved = 36 if isinstance(between, nn.MaxPool2d) else 144, isinstance(between, nn.Sigmoid)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), between, nn.Flatten(), nn.Linear(features, 10))
    classifier = classifier_of(network.eval(), 8, 10).double()
    images, targets = random_images(2, 8).double(), torch.tensor([3, 7])
    baselines = DeepLift(baseline="noise").build_baselines(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = attr.DeepLift(classifier.network).attribute(
            (images - classifier.mean) / classifier.std,
            baselines=(baselines - classifier.mean) / classifier.std,
            target=targets,
        )
    ours = DeepLift(baseline="noise", probe_batch_size=4)(classifier, images, targets)
    # differences below 1e-2 take the derivative in their middle: off by a 24th of the third derivative times their square
    torch.testing.assert_close(ours, theirs.sum(1).detach(), rtol=0, atol=1e-6 if curved else 1e-9)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Tanh, nn.Softplus])
def test_a_smooth_function_near_the_baseline_is_as_exact_as_far_from_it(activation: type[nn.Module]) -> None:
    """A quotient of two numbers that are nearly the same would be off by whole per cents."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Conv2d(4, 4, 3), activation(), nn.Flatten())
    classifier = classifier_of(nn.Sequential(network, nn.LazyLinear(3)), 8, 3)
    images = random_images(2, 8) * torch.tensor([1e-5, 3e-3])[:, None, None, None]
    with torch.no_grad():
        classifier(images)
    found = DeepLift()(classifier, images, torch.tensor([0, 1]))
    exact = DeepLift()(classifier.double(), images.double(), torch.tensor([0, 1]))
    small = 1e-5 * float(exact.abs().amax((1, 2)).min())
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=small)


def test_a_network_without_nonlinearities_shares_its_baseline_too() -> None:
    (classifier, _), images, targets = linear_classifier(), random_images(3, 8), torch.tensor([0, 1, 0])
    DeepLift(probe_batch_size=2)(classifier, images, targets)
    assert classifier.passes == Passes(3 + 1, 3)
