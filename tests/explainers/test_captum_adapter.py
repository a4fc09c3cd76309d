"""Captum by name: closed forms, exact Shapley values, what is bounded, seeded, measured, refused and left behind."""

import itertools
import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer_checks import assert_same, state_of
from seewhy.core.errors import Incompatible, UserError
from seewhy.core.types import Targets
from seewhy.explainers import captum_adapter
from seewhy.explainers.captum_adapter import Captum
from seewhy.explainers.captum_methods import check_method, leaving_nothing, load_methods, takes
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.guided_backprop import GuidedGradCam
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.layer_signals import record_activation_and_gradient
from seewhy.explainers.superpixels import segment_images
from seewhy.models.classifier import Classifier
from seewhy.models.layers import measure_grid, require_grid
from tiny import classifier_of, linear_classifier, looked_over, random_images, small_cnn

TARGETS = torch.tensor([3, 7])
B = {"probe_batch_size": 5}


def explain(method: str, classifier: Classifier | None = None, targets: Any = TARGETS, **settings: Any) -> Tensor:
    classifier = classifier or small_cnn()
    images = random_images(2, classifier.facts.shape[0])
    return Captum(method=method, **{**B, **settings})(classifier, images, targets)


def can_be_asked(name: str) -> bool:
    try:
        check_method(name)
    except UserError:
        return False
    return True


METHODS = [name for name in load_methods() if can_be_asked(name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_map_alone_or_in_a_batch_and_leaves_nothing_behind(name: str) -> None:
    if name in ("Lime", "KernelShap"):
        pytest.importorskip("sklearn")
    classifier, images = small_cnn(), random_images(2, 32)
    options = {"n_samples": 3} if name in ("Lime", "KernelShap", "ShapleyValueSampling") else {}
    settings = {"method": name, "options": options, **({"n_segments": 4} if takes(name, "feature_mask") else {})}
    explainer = Captum(**settings, **B)
    before = state_of(classifier)
    attributes = {key: set(vars(module)) for key, module in classifier.named_modules()}
    try:
        maps = explainer(classifier, images, TARGETS)
    except Incompatible as refused:
        words = "explainer=guided_grad_cam" if name == "GuidedGradCam" else "fails on this network"
        assert name in ("LRP", "LayerLRP", "GuidedGradCam") and words in str(refused)
    else:
        assert maps.shape == (2, 32, 32) and bool(maps.isfinite().all())
        assert bool(maps.any()) or name == "Lime", "its lasso gives zeros of small scores"
        torch.testing.assert_close(explainer(classifier, images[1:], TARGETS[1:]), maps[1:])
        other = Captum(**settings, probe_batch_size=64)
        torch.testing.assert_close(other(classifier, images, TARGETS), maps, rtol=1e-6, atol=1e-10)
    assert_same(before, state_of(classifier))
    assert attributes == {key: set(vars(module)) for key, module in classifier.named_modules()}


def test_whatever_a_method_leaves_is_taken_away_also_after_an_error() -> None:
    network = nn.Linear(2, 3)
    network.register_buffer("kept", torch.zeros(1))
    network.weight.grad = gradient = torch.ones(3, 2)
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in vars(network).items()}
    with pytest.raises(ValueError, match="fails"), leaving_nothing(network):
        network.register_forward_hook(lambda *given: None)
        network.register_buffer("mask", torch.zeros(1))
        network.eval()
        vars(network)["saved"] = 1
        del network.kept
        network.weight.grad, network.bias.grad = None, torch.ones(3)
        raise ValueError("fails")
    assert vars(network) == before
    assert network.weight.grad is gradient
    assert network.bias.grad is None


def test_gradients_are_ours() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    weights = torch.zeros(2, 10).double()
    weights[:, 3], weights[:, 7] = 1.0, -0.5
    for method, own in (("InputXGradient", InputXGradient()), ("IntegratedGradients", IntegratedGradients(n_steps=50))):
        found = Captum(method=method, **B)(classifier, images, Targets(weights))
        torch.testing.assert_close(found, own(classifier, images, Targets(weights)))


def score_coalitions(
    classifier: Classifier, image: Tensor, labels: Tensor, target: int
) -> dict[tuple[int, ...], float]:
    """The score with only some superpixels visible, for every subset."""
    count = int(labels.max()) + 1
    scores = {}
    for size in range(count + 1):
        for visible in itertools.combinations(range(count), size):
            mask = torch.isin(labels, torch.tensor(visible, dtype=torch.int64))
            with torch.no_grad():
                scores[visible] = float(classifier((image * mask)[None])[0, target])
    return scores


def test_shapley_values_from_every_subset_spread_over_their_pixels() -> None:
    classifier, images = small_cnn(), random_images(1, 32)
    labels = segment_images(images, 4)[0][0]
    count = int(labels.max()) + 1
    scores = score_coalitions(classifier, images[0], labels, 3)
    values = torch.zeros(count).double()
    for order in itertools.permutations(range(count)):
        for place, each in enumerate(order):
            with_it, without = tuple(sorted(order[: place + 1])), tuple(sorted(order[:place]))
            values[each] += (scores[with_it] - scores[without]) / math.factorial(count)
    expected = (values / torch.bincount(labels.flatten()))[labels]
    result = Captum(method="ShapleyValues", n_segments=4, **B).attribute(classifier, images, TARGETS[:1])
    torch.testing.assert_close(result.maps[0], expected, rtol=1e-5, atol=1e-9)
    assert float(result.facts["completeness_gap_relative"][0]) < 1e-6


def test_feature_ablation_on_a_linear_network() -> None:
    classifier, weights = linear_classifier(8)
    images, targets = random_images(2, 8), torch.tensor([0, 2])
    maps = Captum(method="FeatureAblation", n_segments=4, **B)(classifier, images, targets)
    for image, target, found in zip(images, targets.tolist(), maps, strict=True):
        labels = segment_images(image[None], 4)[0][0]
        parts = torch.zeros(int(labels.max()) + 1).double()
        parts.index_add_(0, labels.flatten(), (weights[target] * image).sum(0).flatten())
        torch.testing.assert_close(found, parts[labels], rtol=1e-5, atol=1e-7)


def test_sampled_shapley_values_add_up_and_belong_to_seed_and_image() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    explainer = Captum(method="ShapleyValueSampling", options={"n_samples": 3}, n_segments=6, **B)
    torch.manual_seed(1)
    result = explainer.attribute(classifier, images, TARGETS)
    torch.manual_seed(2)
    assert torch.equal(explainer(classifier, images, TARGETS), result.maps)
    assert float(result.facts["completeness_gap_relative"].max()) < 1e-6
    assert not torch.equal(
        Captum(method="ShapleyValueSampling", options={"n_samples": 3}, n_segments=6, seed=1, **B)(
            classifier, images, TARGETS
        ),
        result.maps,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(captum_adapter.BY_REGION))
@pytest.mark.parametrize("baseline", ["black", "noise"])
def test_a_switch_for_each_superpixel_gives_what_captum_gives_of_images(
    name: str, baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"n_samples": 3} if name == "ShapleyValueSampling" else {}
    settings: dict[str, Any] = {"options": options, "n_segments": 5, "baseline": baseline}
    found = explain(name, **settings)
    monkeypatch.setattr(captum_adapter, "BY_REGION", frozenset())
    assert len(found.unique()) > 4
    torch.testing.assert_close(found, explain(name, **settings), rtol=1e-9, atol=1e-12)


def test_deep_lift_shap_is_the_mean_over_the_baselines_and_complete() -> None:
    classifier, images = small_cnn(), random_images(2, 32)
    names = ("black", "white", "blurred")
    result = Captum(method="DeepLiftShap", baseline=names, **B).attribute(classifier, images, TARGETS)
    parts = [Captum(method="DeepLift", baseline=name, **B)(classifier, images, TARGETS) for name in names]
    torch.testing.assert_close(result.maps, torch.stack(parts).mean(0))


def test_internal_influence_on_a_path_where_the_layer_is_linear() -> None:
    """The layer's gradient does not change along the path: it is that at the image, summed over the channels."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 3)
    )
    classifier, images, targets = classifier_of(network, 8, 3), random_images(2, 8), torch.tensor([0, 2])
    maps = Captum(method="InternalInfluence", layer="0", **B)(classifier, images, targets)
    gradient = record_activation_and_gradient(classifier, network[0], images, Targets(targets))[1]
    grid = require_grid(classifier, "0", (8, 8))
    torch.testing.assert_close(maps, grid.enlarge(gradient.sum(1)), rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "IntegratedGradients"},
        {"method": "GradientShap", "options": {"n_samples": 12, "stdevs": 0.1}},
        {"method": "ShapleyValueSampling", "options": {"n_samples": 2}, "n_segments": 6},
        {"method": "DeepLiftShap", "baseline": ("black", "white", "grey")},
        {"method": "LayerGradientShap", "options": {"n_samples": 7}},
        {"method": "InternalInfluence"},
        {"method": "Occlusion"},
    ],
    ids=lambda settings: settings["method"],
)
def test_no_more_images_are_in_the_network_than_allowed(settings: dict[str, Any]) -> None:
    classifier, sizes = looked_over(small_cnn()), list[int]()
    measure_grid(classifier, "relu2", (32, 32))
    handle = classifier.network.fc1.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda module, arguments: sizes.append(len(arguments[0]))
    )
    Captum(**settings, **B)(classifier, random_images(2, 32), TARGETS)
    handle.remove()
    assert max(sizes) <= 5


def build(activation: nn.Module) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Flatten(), nn.Linear(144, 3))
    nn.init.normal_(network[0].weight, std=3.0)  # type: ignore[arg-type]
    return classifier_of(network, 8, 3, cam_layer="1")


def warn(classifier: Classifier, **settings: Any) -> list[str]:
    explainer = Captum(**settings, **B).resolve(classifier, (8, 8))
    result = explainer.attribute(classifier, random_images(2, 8), torch.tensor([0, 2]))
    return explainer.list_warnings({key: float(values[0]) for key, values in result.facts.items()})


@pytest.mark.parametrize("method", ["DeepLift", "DeepLiftShap"])
def test_deep_lift_without_a_rule_is_warned_of(method: str) -> None:
    (warning,) = warn(build(nn.ReLU6()), method=method)
    assert warning.startswith(f"captum's {method}: completeness gap")
    assert "no rule for ReLU6 on this network; explainer=deep_lift is exact here" in warning
    assert not warn(build(nn.ReLU()), method=method)


class Functional(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return functional.relu(values)


@pytest.mark.parametrize("method", ["GuidedBackprop", "Deconvolution"])
def test_rectifiers_that_captum_does_not_see_are_warned_of(method: str) -> None:
    assert not warn(build(nn.ReLU()), method=method)
    (warning,) = warn(build(Functional()), method=method)
    assert "changes nn.ReLU modules alone: the map differs by" in warning and "sees every rectifier" in warning
    (warning,) = warn(build(nn.GELU()), method=method)
    assert "refuses this network: take explainer=integrated_gradients" in warning


def test_a_promise_that_options_take_back_is_not_measured() -> None:
    classifier, images = small_cnn(), random_images(1, 32)
    explainer = Captum(method="IntegratedGradients", options={"multiply_by_inputs": False}, **B)
    assert not explainer.attribute(classifier, images, TARGETS[:1]).facts


class OtherAxes(nn.Module):
    """Layer `b` gives 8x8 cells behind which the channels stand, or an image's own shape turned and mirrored."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        last = kind == "channels last"
        self.a = nn.Conv2d(3, 8, 3, 3) if last else nn.Conv2d(3, 3, 3, padding=1)
        self.b = nn.Linear(8, 8) if last else nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(8 if last else 3, 8)
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        values = self.a(images).permute(0, 2, 3, 1) if self.kind == "channels last" else self.a(images).mT.flip(2)
        values = self.b(values).relu()
        values = values if self.kind == "channels last" else values.permute(0, 2, 3, 1)
        count = values.shape[1] * values.shape[2]
        ramp = torch.arange(count).to(values).view(1, *values.shape[1:3], 1) / count
        return self.head((values * ramp).mean((1, 2)))


@pytest.mark.parametrize("kind", ["channels last", "turned"])
def test_a_shape_that_happens_to_fit_is_no_map(kind: str) -> None:
    """Values of a layer are drawn where its cells look, and those that captum makes of other axes are refused."""
    classifier, images = classifier_of(OtherAxes(kind), 24, 8), random_images(1, 24)
    grid = require_grid(classifier, "b", (24, 24))
    module, targets = classifier.find_layer("b"), torch.tensor([3])
    features, gradient = record_activation_and_gradient(classifier, module, images, Targets(targets))
    own = grid.enlarge(grid.arrange(features * gradient).sum(1))
    maps = Captum(method="LayerGradientXActivation", layer="b", **B)(classifier, images, targets)
    torch.testing.assert_close(maps, own)
    for method, words in (("LayerGradCam", "no map of this image"), ("GuidedGradCam", "explainer=guided_grad_cam")):
        with pytest.raises(Incompatible, match=words):
            Captum(method=method, layer="b", **B)(classifier, images, targets)


def test_guided_grad_cam_of_a_layer_that_covers_the_image() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))
    classifier, images = classifier_of(network, 16, 8), random_images(1, 16)
    settings = {"layer": "4", "options": {"interpolate_mode": "bilinear"}}
    maps = Captum(method="GuidedGradCam", **settings, **B)(classifier, images, torch.tensor([3]))
    torch.testing.assert_close(maps, GuidedGradCam(layer="4", **B)(classifier, images, torch.tensor([3])))


@pytest.mark.slow
def test_gradients_that_a_normalisation_lets_add_up_to_nothing_are_refused() -> None:
    """Every path behind a block goes through a normalisation, which takes off what all channels have in common."""
    torch.manual_seed(0)
    classifier = classifier_of(timm.create_model("test_vit", img_size=64, num_classes=5), 64, 5)
    explainer = Captum(method="InternalInfluence", options={"n_steps": 3}, layer="blocks.2", **B)
    with pytest.raises(Incompatible, match=r"layer 'blocks.2' add up to nothing but rounding.*integrated_gradients"):
        explainer.attribute(classifier, random_images(1, 64), torch.tensor([1]))
    behind = Captum(method="InternalInfluence", options={"n_steps": 3}, layer="blocks.2.norm1", **B)
    assert bool(behind(classifier, random_images(1, 64), torch.tensor([1])).any())


@pytest.mark.slow
def test_tokens_that_captum_makes_no_map_of_are_refused() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(timm.create_model("test_vit", img_size=64, num_classes=5), 64, 5)
    with pytest.raises(Incompatible, match=r"LayerGradCam gives values of shape.*explainer=grad_cam"):
        explain("LayerGradCam", classifier, torch.tensor([1, 3]))
    assert bool(explain("LayerGradientXActivation", classifier, torch.tensor([1, 3]), layer="blocks.4").any())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "ShapleyValueSamplng"}, r"did you mean explainer.method=ShapleyValueSampling\?"),
        ({"method": "os.system"}, "is no method of captum.attr"),
        ({"method": "Attribution"}, "is no method of captum.attr"),
        ({"method": "NoiseTunnel"}, "use explainer=noise_tunnel"),
        ({"method": "NeuronConductance"}, "explains a neuron"),
        ({"method": "FeaturePermutation"}, "neighbours: use explainer.method=FeatureAblation"),
        ({"options": {"n_step": 3}}, r"explainer.options.n_step=3.*did you mean explainer.options.n_steps\?"),
        (
            {"method": "FeatureAblation", "options": {"n_samples": 3}},
            "no option of captum's FeatureAblation; it has none",
        ),
        (
            {"options": {"layer": 3}},
            "no option of captum's IntegratedGradients; it has multiply_by_inputs, n_steps, method",
        ),
        (
            {"method": "LayerConductance", "options": {"attribute_to_layer_input": True}},
            "attribute_to_layer_input=true: .*set explainer.layer to the module before it",
        ),
        ({"baseline": ("black", "white")}, "are several, and captum's IntegratedGradients takes one"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Captum(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("IntegratedGradients", {"method": "simpson"}, "method=simpson must be gausslegendre, riemann_left, "),
        ("IntegratedGradients", {"n_steps": 0}, "n_steps=0 must be a whole number from 1"),
        ("IntegratedGradients", {"multiply_by_inputs": "no"}, "multiply_by_inputs=no must be true or false"),
        ("Lime", {"n_samples": 1_000_000_007}, "n_samples=1000000007 must be a whole number from 1 to 1,000,000"),
        ("GradientShap", {"stdevs": -1}, "stdevs=-1 must be a number from 0"),
        ("DeepLift", {"eps": 0}, "eps=0 must be a number above 0"),
        ("Saliency", {"abs": 2}, "abs=2 must be true or false"),
        ("GuidedGradCam", {"interpolate_mode": "cubic"}, "interpolate_mode=cubic must be nearest, "),
        ("Occlusion", {"sliding_window_shapes": [3, 4]}, r"sliding_window_shapes=\[3, ?4\] must be"),
        (
            "LayerGradCam",
            {"attr_dim_summation": False},
            "attr_dim_summation=False is no option of captum's LayerGradCam",
        ),
    ],
)
def test_a_bad_value_of_an_option_is_one_sentence(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^explainer\.options\.{words}"):
        Captum(method=method, options=options)


def test_lists_that_options_take_reach_captum() -> None:
    settings = {"sliding_window_shapes": [3, 16, 16], "strides": [3, 16, 16]}
    maps = explain("Occlusion", options=settings)
    blocks = maps.unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)
    assert torch.equal(blocks.amin(-1), blocks.amax(-1)) and len(blocks[0].amax(-1).unique()) == 4


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("Saliency", {"baseline": "white"}),
        ("IntegratedGradients", {"layer": "conv1"}),
        ("DeepLiftShap", {"n_segments": 20}),
        ("FeatureAblation", {"tolerance": 0.1}),
        ("LayerGradCam", {"baseline": ("black", "white")}),
    ],
)
def test_a_setting_that_the_method_does_not_read_is_refused(method: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^explainer\.{next(iter(settings))}=.* is not read by {method}: leave it at"):
        Captum(method=method, **settings)


def test_names_and_parameters() -> None:
    assert Captum().name == "captum" and Captum(method="DeepLiftShap").name == "deep_lift_shap"
    explainer = Captum(method="ShapleyValueSampling", options={"n_samples": 10, "n_steps": None})
    assert explainer.parameters == "method=ShapleyValueSampling, n_samples=10, baseline=black, n_segments=50"
    assert Captum(options={"method": "riemann_left"}).parameters == (
        "method=IntegratedGradients, options.method=riemann_left, baseline=black"
    )


def test_what_captum_would_leave_behind_is_taken_away() -> None:
    network = small_cnn().network
    kept = network.conv1.register_forward_hook(lambda module, inputs, output: None)  # type: ignore[union-attr]
    first = nn.Parameter(torch.zeros(2))
    network.register_parameter("first", first)
    first.grad = torch.ones(2)
    with pytest.raises(ZeroDivisionError), leaving_nothing(network):
        network.conv1.register_forward_hook(lambda module, inputs, output: None)  # type: ignore[union-attr]
        network.conv2.saved = 3  # type: ignore[union-attr]
        first.grad = torch.zeros(2)
        network.train()
        raise ZeroDivisionError
    assert list(network.conv1._forward_hooks) == [kept.id]  # type: ignore[union-attr]
    assert not hasattr(network.conv2, "saved") and not network.conv2.training
    assert torch.equal(first.grad, torch.ones(2))
