"""What is put around a network is taken off; exported programs take any number of images."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from hidden import CLASSES, SIZE, build, build_plain, example
from seewhy import explain, load_classifier
from seewhy.core.errors import UserError
from seewhy.models.unwrapping import FixedBatch, find_hidden_names, unwrap_network
from tiny import classifier_of


@pytest.mark.parametrize("form", ["compiled", "for several devices", "averaged", "twice"])
def test_the_module_inside_is_taken(form: str) -> None:
    network = unwrap_network(build(form))
    assert [name for name, _ in network.named_modules()] == [name for name, _ in build_plain().named_modules()]


def test_a_program_for_three_images_takes_any_number() -> None:
    program = torch.export.export(build_plain(), (example(3),))
    network = unwrap_network(program)
    assert isinstance(network, FixedBatch)
    for count in (1, 2, 3, 4, 7):
        torch.testing.assert_close(network(example(count)), build_plain()(example(count)))


def test_pieces_of_several_outputs_are_joined() -> None:
    class Both(nn.Module):
        def forward(self, values: Tensor) -> dict[str, object]:
            assert len(values) == 2
            return {"logits": values, "more": (values + 1,)}

    outputs = FixedBatch(Both(), 2)(torch.arange(3.0)[:, None])
    assert outputs["logits"].tolist() == [[0], [1], [2]] and outputs["more"][0].tolist() == [[1], [2], [3]]


def test_an_exported_program_stays_in_its_mode_wherever_it_is() -> None:
    network = nn.Sequential(build("exported"), nn.Dropout())
    classifier = classifier_of(network, SIZE, CLASSES, normalised=False)
    classifier.train()
    assert network[1].training
    with classifier.frozen():
        assert not network[1].training
        torch.testing.assert_close(classifier(example()), build_plain()(example()))
    assert network[1].training


def test_parameters_that_are_spread_over_processes_are_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(UserError, match="gather them"):
        unwrap_network(FullyShardedDataParallel())


def test_hidden_modules_are_listed() -> None:
    assert find_hidden_names(build_plain()) == set()
    assert find_hidden_names(nn.Sequential(build("traced"), nn.ReLU())) >= {"0", "0.0", "0.6"}
    assert find_hidden_names(nn.Sequential(build("traced"), nn.ReLU())).isdisjoint({"", "1"})
    assert "0" in find_hidden_names(build("exported"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "compiled", "scripted", "exported"])
def test_python_takes_networks_in_every_form(form: str) -> None:
    facts = {"classes": CLASSES, "size": SIZE, "mean": [0.0] * 3, "std": [1.0] * 3}
    (explanation,) = explain(build(form), example(1), "saliency", overrides=["trainer=cpu"], **facts)
    (expected,) = explain(build("plain"), example(1), "saliency", overrides=["trainer=cpu"], **facts)
    torch.testing.assert_close(explanation.attribution, expected.attribution)
    assert explanation.classifier == ("GraphModule (given)" if form == "exported" else "Sequential (given)")


def test_python_takes_an_exported_program() -> None:
    program = torch.export.export(build_plain(), (example(2),))
    classifier = load_classifier(program, classes=CLASSES, size=SIZE, mean=[0.0] * 3, std=[1.0] * 3)
    torch.testing.assert_close(classifier(example(3)), build_plain()(example(3)))


@pytest.mark.slow
def test_a_lightning_module_is_explained_as_it_is() -> None:
    class Lit(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = build_plain()

        def forward(self, values: Tensor) -> Tensor:
            result: Tensor = self.net(values)
            return result

    facts = {"classes": CLASSES, "size": SIZE, "mean": [0.0] * 3, "std": [1.0] * 3, "overrides": ["trainer=cpu"]}
    for explainer in ("grad_cam", "guided_backprop"):
        (explanation,) = explain(Lit().eval(), example(1), explainer, **facts)
        (expected,) = explain(build_plain(), example(1), explainer, **facts)
        torch.testing.assert_close(explanation.attribution, expected.attribution)
