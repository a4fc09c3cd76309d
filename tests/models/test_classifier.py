"""The classifier normalises inside, counts passes and comes back as it was."""

import pytest
import torch
from torch import nn

from seewhy.core.errors import UserError
from seewhy.core.types import Batch
from seewhy.models.build import _read_source
from seewhy.models.classifier import AutoOptimization, Passes
from seewhy.models.weights import Checkpoint, find_head
from tiny import classifier_of, linear_classifier, random_images, small_cnn


def test_normalisation_is_inside() -> None:
    classifier = classifier_of(nn.Flatten(), 2, 12)
    images = random_images(2, 2)
    expected = (images - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(
        1, 3, 1, 1
    )
    torch.testing.assert_close(classifier(images), expected.flatten(1))


def test_channels_last_changes_nothing_but_the_order_in_memory() -> None:
    plain = small_cnn()
    other = classifier_of(small_cnn().network, 32, 10, channels_last=True)
    torch.testing.assert_close(plain(random_images(3, 32)), other(random_images(3, 32)), rtol=1e-4, atol=1e-5)
    assert other.network.conv2.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]


def test_passes_are_counted_per_image_in_both_directions() -> None:
    classifier, _ = linear_classifier()
    images = random_images(5, 8).requires_grad_()
    torch.autograd.grad(classifier(images).sum(), images)
    with torch.no_grad():
        classifier(images[:2])
    assert classifier.passes == Passes(7, 5)
    assert classifier.passes.since(Passes(3, 1)) == Passes(4, 4)


def test_frozen_restores_modes_and_gradients_also_after_an_error() -> None:
    classifier = small_cnn()
    classifier.train()
    classifier.network.conv1.eval()  # type: ignore[union-attr]
    classifier.network.fc1.weight.requires_grad_(False)  # type: ignore[union-attr]
    before = [module.training for module in classifier.modules()]
    wanted = [parameter.requires_grad for parameter in classifier.parameters()]
    with pytest.raises(ZeroDivisionError), classifier.frozen():
        assert not any(module.training for module in classifier.modules())
        assert not any(parameter.requires_grad for parameter in classifier.parameters())
        raise ZeroDivisionError
    assert [module.training for module in classifier.modules()] == before
    assert [parameter.requires_grad for parameter in classifier.parameters()] == wanted


def test_a_wrong_layer_name_lists_candidates() -> None:
    with pytest.raises(UserError, match=r"no layer 'conv3'; nearest: .*conv.*fc3"):
        small_cnn().find_layer("conv3")


# Optimisation that depends on what a parameter begins with


def test_a_new_head_learns_faster_than_trained_weights() -> None:
    body, head = nn.Linear(3, 3), nn.Linear(3, 2)
    optimization = AutoOptimization(lr=1e-2, lr_trained=1e-4)
    chosen = optimization.configure([*body.parameters(), *head.parameters()], 10, list(head.parameters()))
    peaks = {id(p): group["max_lr"] for group in chosen["optimizer"].param_groups for p in group["params"]}
    assert [peaks[id(p)] for p in (*body.parameters(), *head.parameters())] == [1e-4, 1e-4, 1e-2, 1e-2]
    alone = optimization.configure(body.parameters(), 10)
    assert [group["max_lr"] for group in alone["optimizer"].param_groups] == [1e-2]


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr_trained": -1.0}, {"weight_decay": -0.1}])
def test_rates_that_train_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"optimization.{next(iter(options))}="):
        AutoOptimization(**options)


def test_a_head_differs_in_its_first_dimension_alone() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert find_head(network, state, 5) == []
    state["1.weight"], state["1.bias"] = torch.zeros(7, 3), torch.zeros(7)
    assert find_head(network, state, 5) == ["1.weight", "1.bias"]
    assert find_head(network, {**state, "1.weight": torch.zeros(7, 4)}, 5) == []
    assert find_head(network, {**state, "0.weight": torch.zeros(3, 6)}, 5) == []


def test_a_batch_of_which_nothing_could_be_read_has_no_logits() -> None:
    batch = Batch(torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.int64), [], [], [], [])
    assert small_cnn().test_step(batch, 0)["logits"].shape == (0, 10)


@pytest.mark.parametrize(("source", "words"), [("random", "random (seed 3)"), ("built", "as its code builds it")])
def test_nothing_is_read_for_weights_without_a_file(source: str, words: str) -> None:
    assert _read_source("net", source, 3, False) == (Checkpoint({}, None), words)
    assert _read_source("net", "pretrained", 3, False)[0] == Checkpoint({}, None), "its package loads them"
