"""FullGrad against its closed form and a slow twin; completeness on networks of every kind."""

import gc
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer_checks import assert_same, state_of
from layer_twin import enlarged
from seewhy.core.types import Targets
from seewhy.explainers.full_grad import FullGrad, compute_bias, find_formula
from seewhy.models.classifier import Classifier
from shaped import shaped_vit
from tiny import classifier_of, random_images, small_cnn

B = {"probe_batch_size": 4}
TARGETS = torch.tensor([0, 2])


def stretch(values: Tensor) -> Tensor:
    spread = values.max() - values.min()
    return (values - values.min()) / (spread if spread else 1)


def build_normalised() -> Classifier:
    """A convolution with a bias, a normalisation with its own, a dense layer."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.uniform_(values, -1, 1)  # type: ignore[arg-type]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return classifier_of(network, 8, 3)


def twin(classifier: Classifier, image: Tensor, target: int, rescale: str) -> tuple[Tensor, float]:
    """Equations 3 and 8 of the paper, with the biases by hand: (map, sum of all terms)."""
    conv, norm, _, _, dense = list(classifier.network.children())
    given = ((image[None] - classifier.mean) / classifier.std).requires_grad_()
    with torch.enable_grad():
        first = conv(given)
        second = norm(first)
        score = dense(second.relu().flatten(1))[0, target]
        slopes = torch.autograd.grad(score, [given, first, second])
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    biases = [conv.bias, norm.bias - norm.running_mean * scale]
    terms = [slopes[0][0] * given[0]] + [
        slope[0] * bias[:, None, None] for slope, bias in zip(slopes[1:], biases, strict=True)
    ]
    total = float((sum(term.sum() for term in terms) + dense.bias[target]).detach())
    result = torch.zeros(8, 8, dtype=torch.float64)
    for term in terms:
        values = term.abs().detach()
        if rescale == "layer":
            values = stretch(values)
        elif rescale == "channel":
            values = torch.stack([stretch(channel) for channel in values])
        result += sum(channel if len(channel) == 8 else enlarged(channel, 8) for channel in values)
    return result, total - float(score.detach())


@pytest.mark.parametrize("rescale", ["layer", "channel", "none"])
def test_slow_twin(rescale: str) -> None:
    classifier, images = build_normalised(), random_images(2, 8)
    result = FullGrad(rescale=rescale, **B).attribute(classifier, images, TARGETS)
    for image, target, found in zip(images, TARGETS.tolist(), result.maps, strict=True):
        expected, gap = twin(classifier, image, target, rescale)
        assert abs(gap) < 1e-12
        torch.testing.assert_close(found, expected)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-10


def test_without_biases_the_map_is_that_of_the_input_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3, bias=False))
    classifier, images = classifier_of(network, 8, 3), random_images(2, 8)
    result = FullGrad(rescale="none", **B).attribute(classifier, images, TARGETS)
    given = ((images - classifier.mean) / classifier.std).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(network(given)[[0, 1], TARGETS].sum(), given)
    torch.testing.assert_close(result.maps, (given * slope).abs().sum(1).detach())
    torch.testing.assert_close(result.facts["input_share"], torch.ones(2).double())


class Everything(nn.Module):
    """Operations of every kind: functions, in place, products, constants, a softmax, normalisations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.gate, self.norm, self.head = nn.Linear(8, 8), nn.GroupNorm(2, 8), nn.Linear(8, 3)
        self.place = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = functional.hardswish(self.first(images))
        features += self.place
        summed = torch.full_like(features, 0.5)
        summed += features
        summed[:, :1] += 1
        features = summed
        features = functional.relu6(3 * self.second(features), inplace=True)
        features = features * self.gate(features.mean((2, 3))).sigmoid()[:, :, None, None]
        features = functional.gelu(self.norm(features)) / (1 + features.square())
        weights = features.flatten(2).sum(1).softmax(1)
        return self.head((features.flatten(2) * weights[:, None]).sum(2)).tanh()


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    if name == "cnn":
        return small_cnn()
    if name == "everything":
        return classifier_of(Everything(), 12, 3)
    if name == "shaped_vit":
        return shaped_vit()
    size = 32
    return classifier_of(timm.create_model(name, num_classes=3), size, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cnn", "everything", "shaped_vit", "test_efficientnet", "test_mambaout", "test_resnet"]
)
def test_input_and_biases_add_up_to_the_score(name: str) -> None:
    classifier = build(name)
    images = torch.rand(2, 3, *classifier.facts.shape, generator=torch.Generator().manual_seed(1)).double()
    before = state_of(classifier)
    result = FullGrad(**B).attribute(classifier, images, TARGETS)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-8
    assert_same(before, state_of(classifier))
    assert bool(result.maps.any()) and not FullGrad().list_warnings({k: float(v[0]) for k, v in result.facts.items()})


def test_folded_layers_count_one_by_one() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=3)
    images = random_images(2, 32)
    folded = classifier_of(network, 32, 3)
    with folded.frozen():
        assert folded.folding.chains, "this network has chains that are folded"
    plain = classifier_of(network, 32, 3, fold=False)
    torch.testing.assert_close(FullGrad(**B)(folded, images, TARGETS), FullGrad(**B)(plain, images, TARGETS))


class Hidden(torch.autograd.Function):
    """A function whose forward derivative nobody knows."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        context.save_for_backward(values)
        return values.exp()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient * context.saved_tensors[0].exp()


class Exponential(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return Hidden.apply(values)


def test_an_operation_that_hides_its_bias_leaves_a_gap_and_a_warning() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Exponential(), nn.Flatten(), nn.Linear(144, 3))
    result = FullGrad(**B).attribute(classifier_of(network, 8, 3), random_images(2, 8), TARGETS)
    facts = {key: float(values[0]) for key, values in result.facts.items()}
    assert "input and biases do not add up to the score" in FullGrad().list_warnings(facts)[0]


def test_batches_contrasts_and_passes() -> None:
    classifier, images = build("cnn"), random_images(3, 32)
    weights = torch.zeros(3, 10).double()
    weights[:, 3], weights[:, 7] = 1.0, -0.5
    whole = FullGrad(probe_batch_size=3).attribute(classifier, images, Targets(weights))
    assert (classifier.passes.forward, classifier.passes.backward) == (3, 3)
    torch.testing.assert_close(FullGrad(probe_batch_size=2)(classifier, images, Targets(weights)), whole.maps)
    assert float(whole.facts["completeness_gap_relative"].max()) < 1e-9


def build_calls() -> dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Calls whose bias follows from a formula, with values at, between and beyond the bounds of rectifiers."""
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    images, other = draw(2, 3, 6, 6).requires_grad_(), draw(2, 3, 6, 6).requires_grad_()
    wide = torch.tensor([-8.0, -1, 0, 0.5, 1, 2, 6, 7], dtype=torch.float64).requires_grad_()
    weight, bias, variance = draw(4, 3, 3, 3), draw(4), draw(3).square() + 0.1
    return {
        "conv2d": (functional.conv2d, (images, weight, bias), {"padding": 1}),
        "conv1d": (functional.conv1d, (images[:, :, 0], weight[:, :, 0], bias), {}),
        "conv2d without a bias": (functional.conv2d, (images, weight), {}),
        "linear": (functional.linear, (images, draw(5, 6), draw(5)), {}),
        "addmm": (torch.addmm, (draw(2, 5), images.flatten(1), draw(108, 5)), {"beta": 0.5}),
        "batch_norm": (functional.batch_norm, (images, draw(3), variance, draw(3), draw(3)), {"eps": 0.1}),
        "batch_norm of vectors": (functional.batch_norm, (images[:, :, 0, 0], draw(3), variance), {}),
        "relu6": (functional.relu6, (wide,), {}),
        "relu6 in place": (functional.relu6, (wide * 1, True), {}),
        "hardtanh": (functional.hardtanh, (wide,), {}),
        "hardtanh between others": (functional.hardtanh, (wide, -0.1, 0.7), {}),
        "hardtanh from 0": (functional.hardtanh, (wide, 0.0, 0.1), {}),
        "a sum": (torch.add, (images, other), {"alpha": 3}),
        "pad": (functional.pad, (images, (1, 2, 0, 1)), {}),
    }


@pytest.mark.parametrize("name", build_calls())
def test_formulas_agree_with_forward_differentiation(name: str) -> None:
    func, args, options = build_calls()[name]
    formula, expected = find_formula(func, args, options), compute_bias(func, args, options)
    assert formula is not None
    result = func(*args, **options).detach()
    found = formula(result)
    zeros = torch.zeros_like(result)
    torch.testing.assert_close(
        zeros if found is None else found.expand_as(result), zeros if expected is None else expected
    )


def test_what_no_formula_covers_is_differentiated() -> None:
    images, number = random_images(2, 8).requires_grad_(), torch.ones(3).double()
    weight = torch.ones(4, 3, 3, 3).double().requires_grad_()
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (functional.conv2d, (images, weight), {}),
        (functional.batch_norm, (images, number, number), {"training": True}),
        (functional.pad, (images, (1, 1), "constant", 0.5), {}),
        (torch.add, (images, 1.0), {}),
        (torch.clamp, (images, 0.0, 0.5), {}),
    ]
    assert [find_formula(*call) for call in calls] == [None] * len(calls)


def test_no_term_and_no_bias_outlives_a_call() -> None:
    classifier, images = build("everything"), random_images(2, 12)
    FullGrad(**B)(classifier, images, TARGETS)
    gc.collect()
    gc.disable()
    try:
        before = sum(issubclass(type(each), Tensor) for each in gc.get_objects())
        FullGrad(**B)(classifier, images, TARGETS)
        assert sum(issubclass(type(each), Tensor) for each in gc.get_objects()) == before
    finally:
        gc.enable()
