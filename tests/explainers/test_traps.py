"""Where engines are silently wrong: on each trap ours is right, with a measured gap, or refuses and says what to use.

Traps that are tests elsewhere, and not repeated here:
- DeepLIFT and functional, re-used or in-place ReLUs, overlapping pools beside ReLUs: test_deep_lift, test_oracles
- guided backprop and ReLU as function, method or in place: test_guided_backprop
- CAMs on tokens, with prefix tokens dropped: test_cam; the class token alone is refused: test_cam
- LRP on timm networks: test_lrp; equal to zennit on EfficientNet-Lite0: test_oracles
- n_steps=auto for many images and seeds: test_integrated_gradients, test_adaptive_path
- maps that are NaN or zero everywhere: test_explain_batch, test_figures
- noise that belongs to (seed, image): test_image_seed; neighbours of every method: test_explainer_contract
- baselines in image space, black is 0: test_baselines; black and white pixels of each dtype: test_images
"""

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from explainer_checks import YAMLS, explainer_of, maps_of
from figure_checks import explanation
from oracles.networks import Case, case
from seewhy.core.errors import Incompatible
from seewhy.explainers.base import Explainer
from seewhy.explainers.batch import find_warnings
from seewhy.explainers.cam import GradCam
from seewhy.explainers.controls import Random
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.gradient import InputXGradient, Saliency
from seewhy.explainers.gradient_shap import GradientShap
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop, GuidedGradCam
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel, SmoothGrad
from seewhy.explainers.rise import Rise
from seewhy.explainers.surrogates import KernelShap, Lime
from seewhy.models.classifier import Classifier
from seewhy.plots.canvas import encode_figure
from seewhy.plots.explanation import draw_panel
from tiny import classifier_of, double_by_default, random_images, small_cnn

B: dict[str, Any] = {"probe_batch_size": 8}


def change(chosen: Case) -> Tensor:
    """f(image) - f(black) of each image's target."""
    with torch.no_grad():
        ends = chosen.classifier(torch.cat([chosen.images, torch.zeros_like(chosen.images)]))
    scores = ends.gather(1, chosen.targets.repeat(2)[:, None])[:, 0]
    return scores[: len(chosen.images)] - scores[len(chosen.images) :]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cifar_cnn", "efficientnet_lite0", "squeezenet", "vgg16", "mobilenetv3", "silu"])
def test_deep_lift_is_complete_on_relu6_hardswish_silu_gates_and_overlapping_pools(network: str) -> None:
    chosen = case(network)
    maps = DeepLift(**B)(chosen.classifier, chosen.images, chosen.targets)
    gap = (maps.sum((1, 2)) - change(chosen)).abs() / change(chosen).abs()
    assert float(gap.max()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("network", ["squeezenet", "vgg16_cifar"])
def test_deep_lift_from_black_in_single_precision_is_that_in_double(network: str) -> None:
    """A flat baseline ties in every pooling window: where rounding chose among them, maps were off by 14 %."""
    chosen = case(network)
    found = DeepLift(**B)(copy.deepcopy(chosen.classifier).float(), chosen.images.float(), chosen.targets)
    exact = DeepLift(**B)(chosen.classifier, chosen.images, chosen.targets)
    assert float((found - exact).norm() / exact.norm()) < 1e-2


@pytest.mark.slow
def test_without_a_rule_for_relu6_the_same_sum_is_off() -> None:
    """What an engine gives that takes ReLU6 for linear, and the reason for the test above."""
    chosen = case("efficientnet_lite0")
    maps = InputXGradient(**B)(chosen.classifier, chosen.images, chosen.targets)
    assert float(((maps.sum((1, 2)) - change(chosen)).abs() / change(chosen).abs()).min()) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution])
def test_relu6_is_guided_as_a_relu_below_a_bound(method: type[GuidedBackprop]) -> None:
    chosen = case("efficientnet_lite0")
    rewritten = Classifier(chosen.rectified.network, chosen.classifier.facts, name="rewritten").eval()
    maps = method(**B)(chosen.classifier, chosen.images, chosen.targets)
    expected = method(**B)(rewritten, chosen.images, chosen.targets)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    plain = Saliency(reduction="sum", **B)(chosen.classifier, chosen.images, chosen.targets)
    assert float((maps - plain).norm() / plain.norm()) > 0.2, "it is not the gradient"


RECTIFIERS_ONLY = (GuidedBackprop, Deconvolution, GuidedGradCam)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "network", "words"),
    [
        *((method, "mobilenetv3", r"hardswish.*module 'bn1\.act'.*use smooth_grad") for method in RECTIFIERS_ONLY),
        *((method, "silu", r"silu.*module 'bn1\.act'.*use smooth_grad") for method in RECTIFIERS_ONLY),
        *(
            (method, "vit_tiny", r"module 'blocks\.0\.attn' \(Attention\); use smooth_grad")
            for method in RECTIFIERS_ONLY
        ),
        (
            Lrp,
            "vit_tiny",
            r"layer_norm.*module 'blocks\.0\.norm1'.*use explainer\.rule=attn_lrp or integrated_gradients",
        ),
    ],
)
def test_a_method_that_would_be_silently_wrong_is_refused(method: type[Explainer], network: str, words: str) -> None:
    chosen = case(network)
    with pytest.raises(Incompatible, match=words):
        method(**B)(chosen.classifier, chosen.images, chosen.targets)


def test_a_relu_beside_a_gelu_is_not_half_guided() -> None:
    """An engine that changes nn.ReLU alone returns a mixture of both rules."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 3)
    )
    with pytest.raises(Incompatible, match=r"gelu.*module '3' \(GELU\)"):
        GuidedBackprop(**B)(classifier_of(network, 8, 3), random_images(1, 8), torch.tensor([0]))


class Changeable(nn.Module):
    """Batch normalisation and dropout: both behave otherwise in training mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.relu = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
        self.drop, self.flatten, self.head = nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 10 * 10, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.flatten(self.drop(self.relu(self.norm(self.conv(images))))))


@pytest.mark.slow
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_classifier_in_training_mode_gives_the_map_of_evaluation(path: Any) -> None:
    explainer = explainer_of(path)
    classifier, images, targets = (
        classifier_of(Changeable(), 12, 4, influence_layer="relu"),
        random_images(2, 12),
        torch.tensor([1, 3]),
    )
    expected = maps_of(explainer, classifier, images, targets)
    before = copy.deepcopy(classifier.state_dict())
    classifier.train()
    found = explainer(classifier, images, targets)
    torch.testing.assert_close(found, expected)
    assert classifier.training and classifier.network.drop.training  # type: ignore[union-attr]
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


@pytest.mark.slow
def test_integrated_gradients_say_that_their_steps_are_too_few_and_auto_takes_enough() -> None:
    chosen = case("efficientnet_lite0")
    call = chosen.classifier, chosen.images[:1], chosen.targets[:1]
    few, enough = IntegratedGradients(n_steps=8, **B), IntegratedGradients(n_steps="auto", **B)
    for explainer, accepted in ((few, False), (enough, True)):
        result = explainer.attribute(*call)
        facts = {key: float(value[0]) for key, value in result.facts.items()}
        true_gap = float((result.maps.sum() - change(chosen)[0]) / change(chosen)[0])
        assert facts["completeness_gap_relative"] == pytest.approx(abs(true_gap), abs=1e-4)
        assert (facts["completeness_gap_relative"] <= 0.01) == accepted
        assert bool(find_warnings(explainer, result.maps[0], facts)) != accepted
    assert 8 < facts["n_steps"] < 1000


def test_lime_of_small_scores_is_the_same_map_only_smaller() -> None:
    """A lasso with a fixed penalty returns zeros for them."""
    chosen, explainer = case("cifar_cnn"), Lime(n_segments=10, n_samples=60, **B)
    large = explainer(chosen.classifier, chosen.images, chosen.targets)
    small = explainer(chosen.steep(1e-4).classifier, chosen.images, chosen.targets)
    assert bool(small.flatten(1).any(1).all())
    torch.testing.assert_close(small * 1e4, large, rtol=0, atol=1e-3 * float(large.abs().max()))


@pytest.mark.parametrize("sign", [-1.0, 0.0, 1.0])
def test_a_map_without_one_of_its_signs_is_drawn(sign: float) -> None:
    values = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    pictures = [encode_figure(draw_panel(explanation(attribution=each))) for each in (values * sign, values - 0.5)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]


DRAWING: list[Explainer] = [
    SmoothGrad(n_samples=5),
    NoiseTunnel(explainer=IntegratedGradients(n_steps=3), n_samples=4),
    GradientShap(n_samples=6, noise=0.1, baseline=("noise", "uniform", "blurred")),
    Lime(n_segments=6, n_samples=20),
    KernelShap(n_segments=16, n_samples=40),
    Rise(n_masks=20, cells=4),
    Random(),
]


@pytest.mark.slow
@pytest.mark.parametrize("explainer", DRAWING, ids=lambda explainer: explainer.name)
def test_what_is_drawn_depends_on_neither_batch_size_order_nor_the_callers_settings(explainer: Explainer) -> None:
    classifier, images, targets = small_cnn().double(), random_images(3, 32).double(), torch.tensor([3, 7, 1])
    maps = []
    for size, order in ((1, [0, 1, 2]), (4, [2, 0, 1]), (64, [1, 2, 0])):
        torch.manual_seed(size)
        np.random.seed(size)
        sized = copy.copy(explainer)
        object.__setattr__(sized, "probe_batch_size", size)
        with double_by_default() if size == 4 else contextlib.nullcontext():
            found = sized(classifier, images[order], targets[order])
        maps.append(found[torch.tensor(order).argsort()])
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=0, atol=1e-6 * float(maps[0].abs().max()))
    assert float((maps[0][0] - maps[0][1]).abs().max()) > 0


@pytest.mark.slow
def test_gradient_and_grad_cam_follow_the_weights_and_guided_backprop_hardly() -> None:
    """Sanity checks for saliency maps (Adebayo et al., 2018): trained VGG16, the upper half of its layers anew.

    Rank correlation of the absolute maps: about 0.4 for the gradient, below that for Grad-CAM, 0.93 for guided backprop.
    """
    chosen = case("vgg16_cifar")
    randomised = copy.deepcopy(chosen.classifier)
    layers = [module for module in randomised.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    norms = [module for module in randomised.network.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.manual_seed(0)
    for module in [*layers[len(layers) // 2 :], *norms[len(norms) // 2 :]]:
        module.float().reset_parameters()  # the draws of single precision
        module.double()

    def alike(explainer: Explainer) -> float:
        pair = [
            explainer(classifier, chosen.images, chosen.targets).abs().flatten(1)
            for classifier in (chosen.classifier, randomised)
        ]
        return float(np.mean([spearmanr(one, other).statistic for one, other in zip(*pair, strict=True)]))

    guided = alike(GuidedBackprop(reduction="max", **B))
    gradient, cam = alike(Saliency(**B)), alike(GradCam(**B))
    assert guided > 0.85
    assert gradient < 0.6
    assert cam < 0.6
