"""Libra-Grad: inputs and biases times their gradients are the score, on every transformer, under every method."""

import pytest
import timm
import torch
from torch import Tensor, nn

from hidden import script
from seewhy.core.errors import Incompatible
from seewhy.explainers._backward_rules.libra import balance_gradients
from seewhy.explainers.cam import GradCam
from seewhy.explainers.gradient import InputXGradient
from seewhy.explainers.integrated_gradients import IntegratedGradients
from seewhy.explainers.libra_grad import LibraGrad
from seewhy.explainers.lrp import Lrp
from tiny import classifier_of, random_images, small_cnn
from transformer_networks import NETWORKS, draw_parameters

CONSTANT = ("bias", "token", "pos_embed", "reg_token")
"""Parameters that a network adds."""


def measure_full_gradient_gap(network: nn.Module, image: Tensor, balanced: bool) -> float:
    """|sum over inputs and added parameters of value x gradient - score| / |score|."""
    added = [value for name, value in network.named_parameters() if name.endswith(CONSTANT)]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    leaves = [image.clone(), *added]
    for leaf in leaves:
        leaf.requires_grad_()
    if balanced:
        with balance_gradients(network):
            score = network(leaves[0])[0, 1]
    else:
        score = network(leaves[0])[0, 1]
    gradients = torch.autograd.grad(score, leaves, allow_unused=True)
    total = sum((leaf * each).sum() for leaf, each in zip(leaves, gradients, strict=True) if each is not None)
    return float(((total - score).abs() / score.abs()).detach())


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_and_biases_add_up_to_the_score(name: str) -> None:
    network = draw_parameters(NETWORKS[name]()).double()
    image = random_images(1, 32)
    assert measure_full_gradient_gap(network, image, balanced=True) < 1e-10
    assert measure_full_gradient_gap(network, image, balanced=False) > 1e-2


@pytest.mark.parametrize("name", ["registers, scaled layers", "convolutions"])
def test_it_is_cp_lrp_with_the_basic_rule(name: str) -> None:
    classifier = classifier_of(draw_parameters(NETWORKS[name]()), 32, 5, normalised=False)
    images, targets = random_images(2, 32), torch.tensor([1, 4])
    expected = Lrp(rule="cp_lrp", gamma=0, dense_gamma=0, epsilon=0, probe_batch_size=2)(classifier, images, targets)
    found = LibraGrad(probe_batch_size=2)(classifier, images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


METHODS = {
    "input_x_gradient": InputXGradient(probe_batch_size=4),
    "integrated_gradients": IntegratedGradients(n_steps=3, probe_batch_size=4),
    "grad_cam": GradCam(probe_batch_size=4),
}


@pytest.mark.parametrize("over", METHODS)
def test_where_the_gradient_is_complete_already_it_stays(over: str) -> None:
    classifier, images, targets = small_cnn(), random_images(2, 32), torch.tensor([3, 7])
    found = LibraGrad(over=over, n_steps=3, probe_batch_size=4)(classifier, images, targets)
    torch.testing.assert_close(found, METHODS[over](classifier, images, targets), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("over", METHODS)
def test_a_transformer_gets_another_map_and_no_hook_stays(over: str) -> None:
    classifier = classifier_of(draw_parameters(NETWORKS["registers, scaled layers"]()), 32, 5)
    images, targets = random_images(2, 32), torch.tensor([1, 4])
    plain = METHODS[over](classifier, images, targets)
    found = LibraGrad(over=over, n_steps=3, probe_batch_size=4)(classifier, images, targets)
    assert bool(found.any())
    assert not torch.allclose(found, plain, rtol=0.05)
    assert torch.equal(METHODS[over](classifier, images, targets), plain)
    assert not classifier.network._forward_hooks
    assert not classifier.network._forward_pre_hooks


def test_an_activation_that_is_not_zero_at_zero_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Softplus(), nn.Linear(4, 3))
    with pytest.raises(
        Incompatible, match=r"libra_grad has no rule for `softplus`, which is not 0 at 0, in module '2'"
    ):
        LibraGrad(probe_batch_size=1)(classifier_of(network, 4, 3), random_images(1, 4), torch.tensor([0]))


def test_parameters_name_what_the_method_uses() -> None:
    assert LibraGrad().parameters == "over=input_x_gradient"
    assert (
        LibraGrad(over="integrated_gradients", n_steps=7).parameters
        == "over=integrated_gradients, baseline=black, n_steps=7"
    )
    network = draw_parameters(timm.create_model("test_vit", num_classes=5, img_size=32))
    resolved = LibraGrad(over="grad_cam").resolve(classifier_of(network, 32, 5), (32, 32))
    assert resolved.parameters.startswith("over=grad_cam, layer=")


class Squares(nn.Module):
    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * outputs


def test_what_compiled_code_does_to_the_outputs_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().requires_grad_(False)
    image = random_images(1, 4).requires_grad_()
    network.append(script(Squares()))
    with balance_gradients(network), pytest.raises(Incompatible, match="no rule for `mul` of two activations"):
        network(image)
