"""Networks that hide their modules: methods that look inside refuse, all others give the maps of the network itself."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainer_checks import YAMLS, assert_same, explainer_of, state_of
from hidden import CLASSES, HIDDEN, SIZE, STANDING, build, build_plain, example, script, trace
from seewhy.core.errors import Incompatible
from seewhy.explainers.cam import GradCam
from seewhy.explainers.deep_lift import DeepLift
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.guided_backprop import Deconvolution, GuidedBackprop
from seewhy.explainers.lrp import Lrp
from seewhy.explainers.noise_tunnel import NoiseTunnel
from seewhy.models.classifier import Classifier
from tiny import classifier_of

INSIDE = set(
    "ablation_cam attention_gradient attention_rollout deconvolution deep_lift deep_lift_shap eigen_cam expert full_grad "
    "grad_cam grad_cam_plus_plus guided_backprop guided_grad_cam hires_cam internal_influence layer_cam le_grad "
    "libra_grad lrp score_cam".split()
)
"""Every method that reads more of a network than its outputs and gradients."""
TARGETS = torch.tensor([1, 3])


def classify(network: nn.Module) -> Classifier:
    return classifier_of(network, SIZE, CLASSES, influence_layer="0", normalised=False)


@functools.cache
def build_once(form: str) -> Classifier:
    return classify(build(form))


def find_path(name: str) -> Path:
    return next(path for path in YAMLS if path.stem == name)


PAIRS = [(form, path.stem) for form in HIDDEN for path in YAMLS if path.stem != "xrai" or form == "traced"]
"""XRAI, which takes seconds here, is tried once."""


@pytest.mark.slow
@pytest.mark.parametrize(("form", "name"), PAIRS)
def test_a_network_that_hides_its_modules(form: str, name: str) -> None:
    explainer, classifier = explainer_of(find_path(name)), build_once(form)
    before = state_of(classifier)
    if name in INSIDE:
        with pytest.raises(Incompatible, match=r"hides.* (TorchScript|an exported program).*saliency"):
            explainer(classifier, example(), TARGETS)
    else:
        expected = explainer(build_once("plain"), example(), TARGETS)
        torch.testing.assert_close(explainer(classifier, example(), TARGETS), expected, rtol=1e-9, atol=1e-12)
    assert_same(before, state_of(classifier))


@pytest.mark.parametrize("form", STANDING)
@pytest.mark.parametrize("name", ["grad_cam", "guided_backprop", "lrp", "deep_lift", "saliency", "occlusion"])
def test_a_network_inside_of_another_form_is_explained(form: str, name: str) -> None:
    explainer = explainer_of(find_path(name))
    expected = explainer(build_once("plain"), example(), TARGETS)
    torch.testing.assert_close(explainer(build_once(form), example(), TARGETS), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("explainer", [GuidedBackprop(), Lrp(rule="gamma"), Lrp(rule="z_plus"), DeepLift()])
def test_a_part_that_hides_its_operations_is_named(explainer: Saliency) -> None:
    plain = build_plain()
    for hide in (trace, script):
        network = nn.Sequential(plain[0], nn.Sequential(plain[1:5]), plain[5:])
        with torch.no_grad():
            hidden = hide(plain[:5]) if hide is trace else hide(plain[1:5])
        network = nn.Sequential(hidden, *plain[5:]) if hide is trace else nn.Sequential(plain[0], hidden, *plain[5:])
        with pytest.raises(Incompatible, match=r"module '[01]' is TorchScript"):
            explainer(classify(network), example(), TARGETS)


def test_class_activation_maps_read_the_layers_that_are_visible() -> None:
    plain = build_plain()
    network = nn.Sequential(trace(plain[:2]), *plain[2:])
    expected = GradCam(layer="3")(classify(plain), example(), TARGETS)
    torch.testing.assert_close(GradCam(layer="2")(classify(network), example(), TARGETS), expected)
    expected = GradCam()(classify(plain), example(), TARGETS)
    torch.testing.assert_close(GradCam()(classify(network), example(), TARGETS), expected)
    with pytest.raises(Incompatible, match=r"layer '0\.1' cannot be looked into.*TorchScript"):
        GradCam(layer="0.1")(classify(network), example(), TARGETS)


def test_a_method_inside_of_noise_refuses_too() -> None:
    with pytest.raises(Incompatible, match="noise_tunnel reads the operations"):
        NoiseTunnel(explainer=GuidedBackprop(), n_samples=2)(build_once("traced"), example(), TARGETS)
    NoiseTunnel(explainer=Saliency(), n_samples=2)(build_once("traced"), example(), TARGETS)


def compute_swish(values: Tensor) -> Tensor:
    return values * values.sigmoid() * 2


class Swish(nn.Module):
    """A visible module that calls a compiled function."""

    def __init__(self) -> None:
        super().__init__()
        self.function = script(compute_swish)

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.function(values)
        return result


@pytest.mark.parametrize(
    "explainer", [GuidedBackprop(), Deconvolution(), Lrp(rule="gamma"), Lrp(rule="z_plus"), DeepLift()]
)
@pytest.mark.parametrize("last", [False, True])
def test_compiled_functions_are_seen_behind_the_last_function_too(explainer: Saliency, last: bool) -> None:
    plain = build_plain()
    network = nn.Sequential(*plain, Swish()) if last else nn.Sequential(plain[0], Swish(), *plain[2:])
    with pytest.raises(Incompatible, match=f"{explainer.name} has no rule for"):
        explainer(classify(network), example(), TARGETS)
