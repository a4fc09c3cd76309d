"""Layers of weights in every spelling, and what follows them, under the rules of LRP."""

import gc
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.core.errors import Incompatible
from seewhy.explainers._backward_rules.rule_mode import SavedTensor
from seewhy.explainers.lrp import Lrp
from tiny import classifier_of, random_images

RULES = ("composite", "epsilon", "gamma", "z_plus", "attn_lrp", "cp_lrp")
TARGETS = torch.tensor([2, 0])


class Written(nn.Module):
    """A dense layer as a function of (values, weight [outputs, inputs], bias)."""

    def __init__(self, run: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run
        self.weight = nn.Parameter(torch.randn(6, 8))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, values: Tensor) -> Tensor:
        return self.run(values, self.weight, self.bias)


def add_in_place(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    result = values @ weight.T
    result += bias
    return result


SPELLINGS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "operator": lambda x, w, b: x @ w.T + b,
    "bias first": lambda x, w, b: b + x.matmul(w.T),
    "bias in place": add_in_place,
    "addmm": lambda x, w, b: torch.addmm(b, x, w.T),
    "scaled addmm": lambda x, w, b: torch.addmm(b * 4, x, w.T / 2, beta=0.25, alpha=2),
    "einsum": lambda x, w, b: torch.einsum("ni,oi->no", x, w) + b,
    "weights first": lambda x, w, b: (w @ x.T + b[:, None]).T,
    "batched": lambda x, w, b: torch.baddbmm(b.expand(1, len(x), -1), x[None], w.T[None])[0],
    "one dimension": lambda x, w, b: functional.conv1d(x[:, :, None], w[:, :, None], b)[..., 0],
    "tensordot": lambda x, w, b: torch.tensordot(x, w, dims=([1], [1])) + b,
}


def build_network(layer: nn.Module) -> nn.Sequential:
    """A convolution, the layer, and a dense one."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 2, 2, stride=2), nn.ReLU(), nn.Flatten(), layer, nn.GELU(approximate="tanh"), nn.Linear(6, 3)]
    network = nn.Sequential(*body)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.eval()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_layer_has_its_rule_however_it_is_written(spelling: str, rule: str) -> None:
    images, explainer = random_images(2, 4), Lrp(rule=rule, probe_batch_size=2)
    if spelling == "one dimension" and rule in ("composite", "attn_lrp", "cp_lrp"):
        pytest.skip("convolutions have another rule than dense layers")
    expected = explainer(classifier_of(build_network(Written(functional.linear)), 4, 3), images, TARGETS)
    found = explainer(classifier_of(build_network(Written(SPELLINGS[spelling])), 4, 3), images, TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_gamma_of_dense_layers_changes_the_map_of_written_ones() -> None:
    classifier, images = classifier_of(build_network(Written(SPELLINGS["operator"])), 4, 3), random_images(2, 4)
    maps = [
        Lrp(rule="attn_lrp", dense_gamma=gamma, probe_batch_size=2)(classifier, images, TARGETS) for gamma in (0.0, 1.0)
    ]
    assert float((maps[0] - maps[1]).abs().max()) > 0.01 * float(maps[0].abs().max())


class Residual(nn.Module):
    """A bias that depends on the image: no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, images: Tensor) -> Tensor:
        values = images.mean((2, 3))
        return torch.addmm(values, values, self.weight)


def test_a_product_without_a_rule_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(Incompatible, match=r"lrp has no rule for `addmm`"):
        Lrp(rule="attn_lrp", probe_batch_size=2)(classifier_of(Residual(), 4, 3), random_images(2, 4), TARGETS)


ACTIVATIONS: dict[str, Callable[[bool], nn.Module]] = {
    "relu": lambda in_place: nn.ReLU(in_place),
    "relu6": lambda in_place: nn.ReLU6(in_place),
    "hardswish": lambda in_place: nn.Hardswish(in_place),
    "silu": lambda in_place: nn.SiLU(in_place),
    "leaky": lambda in_place: nn.LeakyReLU(0.2, in_place),
    "slopes": lambda in_place: nn.PReLU(4),
}


class Behind(nn.Module):
    """Convolution, normalisation or none, activation, dense layer; `apart`: a sum with 0 keeps the activation by itself."""

    def __init__(self, activation: nn.Module, normalised: bool, apart: bool, skip: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution, self.activation = nn.Conv2d(3, 4, 3, padding=1), activation
        self.normalisation = nn.BatchNorm2d(4) if normalised else nn.Identity()
        self.head = nn.Linear(64, 3)
        self.apart, self.skip = apart, skip
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        values = self.normalisation(self.convolution(images))
        before = values * 2 if self.skip else None
        result = self.activation(values + 0.0 if self.apart else values)
        if before is not None:
            result = result + before
        return self.head(result.flatten(1))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_behind_a_layer_is_the_same_by_itself(
    name: str, skip: bool, normalised: bool, in_place: bool
) -> None:
    images = random_images(2, 4)
    for rule in ("composite", "z_plus", "attn_lrp") if not skip else ("gamma", "epsilon"):
        maps = []
        for apart in (False, True):
            network = Behind(ACTIVATIONS[name](in_place), normalised, apart, skip)
            classifier = classifier_of(network.eval(), 4, 3, fold=False)
            maps.append(Lrp(rule=rule, probe_batch_size=2)(classifier, images, TARGETS))
        torch.testing.assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-12)


class Summed(nn.Module):
    """Two convolutions whose sum is rectified, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.head, self.in_place = nn.Linear(64, 3), in_place

    def forward(self, images: Tensor) -> Tensor:
        shortcut, values = self.first(images), self.second(images)
        if self.in_place:
            values += shortcut
            return self.head(functional.relu_(values).flatten(1))
        return self.head(functional.relu(values + shortcut).flatten(1))


@pytest.mark.parametrize("rule", ["gamma", "cp_lrp"])
def test_a_residual_sum_in_place_is_not_the_layer_any_more(rule: str) -> None:
    maps = [
        Lrp(rule=rule, probe_batch_size=2)(classifier_of(Summed(in_place), 4, 3), random_images(2, 4), TARGETS)
        for in_place in (False, True)
    ]
    assert float(maps[0].abs().max()) > 0
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_layer_and_its_rectifier_keep_two_tensors(in_place: bool) -> None:
    torch.manual_seed(0)
    layers = [[nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(in_place)] for _ in range(4)]
    network = nn.Sequential(*(each for layer in layers for each in layer), nn.Flatten(), nn.Linear(48, 3)).eval()
    kept: list[set[int]] = []
    differentiate = torch.autograd.grad

    def count(*args: object, **kwargs: object) -> object:
        gc.collect()
        values = [each._value for each in gc.get_objects() if type(each) is SavedTensor]
        kept.append({each.untyped_storage().data_ptr() for each in values if each is not None})
        return differentiate(*args, **kwargs)  # type: ignore[arg-type]

    explainer, classifier = Lrp(rule="gamma", probe_batch_size=2), classifier_of(network, 4, 3, fold=False)
    explainer(classifier, random_images(2, 4), TARGETS)
    with patch("torch.autograd.grad", count):
        explainer(classifier, random_images(2, 4), TARGETS)
    assert len(kept[0]) == 6  # the image, four rectified maps, the scores
