"""What a network must be: every breach is one sentence before anything is explained, and nothing is left behind."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer_checks import assert_same, state_of
from seewhy import explain
from seewhy.api import load_classifier
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import Facts
from seewhy.explainers.base import Explainer
from seewhy.explainers.cam import GradCam
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.occlusion import Occlusion
from seewhy.explainers.rise import Rise
from seewhy.models.classifier import Classifier
from seewhy.models.contract import check_contract, unify_weights

SIZE, CLASSES = 8, 5
SETTINGS: dict[str, Any] = {"classes": CLASSES, "size": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}


class Network(nn.Module):
    """A convolution and a head, with functions before and behind them."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda outputs: outputs, before: Any = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.before = before
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(16, CLASSES)
        self.after = after

    def forward(self, images: Tensor) -> Any:
        images = images if self.before is None else self.before(images)
        return self.after(5 * self.head(self.features(images)))


class TrainingNorm(nn.Module):
    """Batch normalisation that is set to training mode in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        normed: Tensor = self.norm.train()(images)
        return normed


class Counter(nn.Module):
    """Counts its passes in a buffer that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return images


BREACHES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "more names": (Network, {"classes": 7}, r"5 outputs, but model\.classes names 7 classes: name 5"),
    "fewer names": (Network, {"classes": list("abc")}, r"5 outputs, but model\.classes names 3 classes"),
    "one name": (Network, {"classes": ["a"]}, r"5 outputs, but model\.score=binary, which a single class name means"),
    "one output": (lambda: Network(lambda z: z[:, 0]), {}, r"1 output, but model\.classes names 5"),
    "a map": (lambda: Network(lambda z: z[..., None, None].expand(-1, -1, 4, 4)), {}, "a value for each position"),
    "class indices": (lambda: Network(lambda z: z.argmax(1)), {}, "int64 .* not class indices"),
    "two tensors": (lambda: Network(lambda z: {"a": z, "b": z}), {}, r"a \[2, 5\], b \[2, 5\]: set model\.output"),
    "nothing": (lambda: Network(lambda z: None), {}, "NoneType"),
    "not finite": (lambda: Network(lambda z: z.log()), {}, "NaN or infinite"),
    "no key": (lambda: Network(lambda z: {}["x"]), {}, "KeyError: 'x'"),
    "other size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 5)), {}, r"\[2, 3, 8, 8\] .*model\.size"),
    "other channels": (lambda: nn.Conv2d(1, 5, 8), {}, r"1 channels, but got 3 .*model\.mean"),
    "one image": (lambda: Network(lambda z: z.view(1, 5)), {}, r"takes a single image: its forward must take a batch"),
    "no forward": (nn.Module, {}, "NotImplementedError"),
    "dropout": (lambda: Network(functional.dropout), {}, "two passes of the same images differ .*self.training"),
    "rare dropout": (
        lambda: Network(lambda z: functional.dropout(z, 1e-9)),
        {},
        "draws random numbers in evaluation mode, though two passes were alike; .*self.training",
    ),
    "two arguments": (lambda: nn.Bilinear(3, 3, 5), {}, "missing 1 required .*must take the images alone: wrap it"),
    "batch norm": (lambda: Network(before=TrainingNorm()), {}, "an image's outputs change .* beside it"),
    "batch statistics": (
        lambda: Network(before=lambda x: functional.batch_norm(x, None, None, training=True)),
        {},
        "an image's outputs change .* beside it",
    ),
    "a changed buffer": (lambda: Network(before=Counter()), {}, r"changes before\.passes when it is evaluated"),
    "sigmoid for softmax": (lambda: Network(torch.sigmoid), {"score": "softmax"}, r"set model\.score=sigmoid"),
    "softmax for sigmoid": (lambda: Network(lambda z: z.softmax(1)), {"score": "sigmoid"}, r"set model\.score=softmax"),
    "no such meaning": (Network, {"score": "logits"}, r"model\.score=logits must be softmax"),
    "no such output": (Network, {"output": "logits"}, r"model\.output=logits: the network returns \[2, 5\]"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "settings", "words"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_one_sentence_and_leaves_nothing_behind(
    build: Callable[[], nn.Module], settings: dict[str, Any], words: str
) -> None:
    network, images = build().train(), torch.rand(1, 3, SIZE, SIZE)
    before = state_of(network)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words) as error:
        explain(network, images, "saliency", **SETTINGS | settings)
    assert "\n" not in str(error.value)
    assert_same(before, state_of(network))  # type: ignore[arg-type]


def test_a_network_in_order_is_left_as_it_was() -> None:
    network = Network(before=nn.BatchNorm2d(3)).train()
    before = state_of(network)  # type: ignore[arg-type]
    classifier = load_classifier(network, **SETTINGS)
    assert_same(before, state_of(network))  # type: ignore[arg-type]
    assert (classifier.facts.score, classifier.facts.gives_probabilities, classifier.origin) == (
        "softmax",
        False,
        "given",
    )
    assert classifier.passes.forward == 0


@pytest.mark.parametrize(
    ("after", "settings", "score", "expected"),
    [
        (lambda z: z.softmax(1), {}, "softmax", lambda z: z.softmax(1)),
        (lambda z: z.softmax(1)[:, :, None, None], {"score": "softmax"}, "softmax", lambda z: z.softmax(1)),
        (lambda z: z.log_softmax(1), {}, "softmax", lambda z: z.softmax(1)),
        (torch.sigmoid, {}, "sigmoid", torch.sigmoid),
        (lambda z: 1 / (1 + (-z).exp()), {}, "sigmoid", torch.sigmoid),
        (lambda z: z, {"score": "sigmoid"}, "sigmoid", torch.sigmoid),
        (lambda z: z[:, :1], {"classes": ["yes"]}, "binary", lambda z: torch.cat([-z, z], 1)[:, [0, 5]].sigmoid()),
        (lambda z: z[:, 0], {"classes": ["no", "yes"]}, "binary", lambda z: torch.cat([-z, z], 1)[:, [0, 5]].sigmoid()),
        (lambda z: z[:, 0].sigmoid(), {"classes": 1}, "binary", lambda z: torch.cat([-z, z], 1)[:, [0, 5]].sigmoid()),
    ],
)
def test_probabilities_are_right_whatever_is_inside(
    after: Any, settings: dict[str, Any], score: str, expected: Callable[[Tensor], Tensor]
) -> None:
    classifier = load_classifier(Network(after).double(), **SETTINGS | settings)
    assert classifier.facts.score == score
    images = torch.rand(3, 3, SIZE, SIZE, dtype=torch.float64)
    with torch.no_grad():
        logits = Network().double()((images - 0.5) / 0.25)
        torch.testing.assert_close(classifier.facts.compute_probabilities(classifier(images)), expected(logits))
    assert ("its outputs are probabilities" in classifier.origin) == classifier.facts.gives_probabilities


def test_small_logits_of_one_output_are_no_probabilities() -> None:
    """A head may give 0.2 for all images: only what is bounded by a gate is a probability."""
    network = Network(lambda z: z[:, :1])
    with torch.no_grad():
        network.head.weight.mul_(1e-3)
        network.head.bias.fill_(0.05)
    classifier = load_classifier(network, **SETTINGS | {"classes": ["yes"]})
    assert (classifier.facts.score, classifier.facts.gives_probabilities) == ("binary", False)


def test_outputs_that_are_always_zero_are_no_probabilities() -> None:
    classifier = load_classifier(Network(lambda z: 0 * z), **SETTINGS)
    assert (classifier.facts.score, classifier.facts.gives_probabilities) == ("softmax", False)


@pytest.mark.parametrize(
    "explainer", [Saliency(), Occlusion(window=3, stride=2), GradCam(), IntegratedGradients(n_steps=3), Rise(n_masks=9)]
)
def test_a_forward_may_change_its_input_in_place(explainer: Explainer) -> None:
    changing, twin = (
        load_classifier(Network(before=before).double(), **SETTINGS)
        for before in (lambda x: x.mul_(2).sub_(0.1), lambda x: 2 * x - 0.1)
    )
    images, targets = torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64), torch.tensor([1, 2])
    kept = images.clone()
    torch.testing.assert_close(explainer(changing, images, targets), explainer(twin, images, targets))
    assert torch.equal(images, kept)


@pytest.mark.parametrize("bounded", [True, False])
def test_without_a_graph_probabilities_are_told_by_images_far_outside(bounded: bool) -> None:
    network = Network(lambda z: (z.sigmoid() if bounded else 0.1 * z + 0.5).detach())
    classifier = load_classifier(network, **SETTINGS)
    assert classifier.facts.score == ("sigmoid" if bounded else "softmax")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_computed_in_single_precision(dtype: torch.dtype) -> None:
    network, images = Network().to(dtype), torch.rand(2, 3, SIZE, SIZE)
    before = copy.deepcopy(network.state_dict())
    classifier = load_classifier(network, **SETTINGS)
    name = str(dtype).removeprefix("torch.")
    assert classifier.origin == f"given, {name} weights computed in float32"
    widened = load_classifier(copy.deepcopy(network).float(), **SETTINGS)
    torch.testing.assert_close(classifier(images), widened(images))
    assert all(torch.equal(before[key], values) for key, values in network.state_dict().items()), (
        "the user's own is kept"
    )


def test_weights_of_several_types_are_computed_in_the_widest() -> None:
    network = Network()
    network.head.double()
    twin, words = unify_weights(network)
    assert words == "float32 weights computed in float64"
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.float64}
    same, words = unify_weights(Network().double())
    assert (words, next(same.parameters()).dtype) == ("", torch.float64)


def test_units_of_an_embedding_are_explained_where_that_is_asked_for() -> None:
    explanations = explain(
        Network(), torch.rand(1, 3, SIZE, SIZE), "saliency", **SETTINGS | {"classes": None, "score": "none"}
    )
    assert explanations[0].target.name in {f"unit {index}" for index in range(CLASSES)}
    assert explanations[0].target.probability != explanations[0].target.probability


def test_a_network_without_gradient_is_explained_by_perturbations_alone() -> None:
    classifier = load_classifier(Network(lambda z: z.detach()), **SETTINGS)
    images, targets = torch.rand(1, 3, SIZE, SIZE), torch.tensor([1])
    with pytest.raises(Incompatible, match="no gradient of its outputs by the image"):
        Saliency()(classifier, images, targets)
    full = load_classifier(Network(), **SETTINGS)
    occlusion = Occlusion(window=3, stride=2)
    torch.testing.assert_close(occlusion(classifier, images, targets), occlusion(full, images, targets))


def test_other_channels_and_shapes_are_checked_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 7, 3))
    facts = Facts(("a", "b", "c"), (6, 9), (0.0,) * 4, (1.0,) * 4)
    assert check_contract(Classifier(network, facts, name="four")).facts == facts
    wrong = Classifier(network, Facts(("a", "b", "c"), (9, 6), (0.0,) * 4, (1.0,) * 4), name="four")
    assert check_contract(wrong).facts.size == (9, 6), "as many positions"
    with pytest.raises(UserError, match=r"four cannot take 2 images \[2, 3, 6, 9\]"):
        check_contract(Classifier(network, Facts(("a", "b", "c"), (6, 9), (0.0,) * 3, (1.0,) * 3), name="four"))
