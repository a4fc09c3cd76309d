"""model.compile: torch.compile computes passes that nobody looks into, and nothing else."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.explainers.base import Explainer
from seewhy.explainers.cam import GradCam
from seewhy.explainers.full_grad import FullGrad
from seewhy.explainers.gradient import Saliency
from seewhy.explainers.lrp import Lrp
from seewhy.metrics.randomisation.randomized_network import RandomizedNetwork
from seewhy.models.batched import BatchedEvaluator, name_measurement
from seewhy.models.classifier import Classifier
from tiny import classifier_of, random_images, small_cnn


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each call of what stands in for compiled code: the network's own forward."""
    found: list[int] = []

    def stand_in(network: nn.Module) -> Callable[[Tensor], Any]:
        def run(values: Tensor) -> Any:
            found.append(len(values))
            return network(values)

        return run

    monkeypatch.setattr(torch, "compile", stand_in)
    return found


def compiled_cnn() -> Classifier:
    plain = small_cnn()
    options = {"cam_layer": plain.cam_layer, "compiled": True}
    return Classifier(plain.network, plain.facts, name="compiled", **options).eval()  # type: ignore[arg-type]


def test_passes_that_nobody_looks_into_are_compiled(calls: list[int]) -> None:
    classifier, images = compiled_cnn(), random_images(3, 32)
    evaluator = BatchedEvaluator(classifier, images[0], 2)
    with classifier.frozen():
        evaluator.compute_logits(images)
        evaluator.compute_gradient(images, torch.tensor([0, 1, 2]))
    assert calls == [2, 1, 2, 1]
    classifier(images)  # as in training
    assert len(calls) == 4


@pytest.mark.parametrize("explainer", [GradCam(), Lrp(), FullGrad()], ids=lambda each: each.name)
def test_methods_that_look_at_layers_see_them(explainer: Explainer, calls: list[int]) -> None:
    classifier, images, targets = compiled_cnn(), random_images(2, 32), torch.tensor([0, 1])
    found = explainer(classifier, images, targets)
    torch.testing.assert_close(found, explainer(small_cnn(), images, targets), rtol=1e-4, atol=1e-6)
    assert explainer.name != "full_grad" or not calls


def test_a_hook_is_not_passed_over(calls: list[int]) -> None:
    classifier, images = compiled_cnn(), random_images(2, 32)
    seen: list[int] = []
    handle = next(iter(classifier.network.children())).register_forward_hook(lambda *given: seen.append(1))
    with classifier.frozen(), torch.no_grad():
        seen.clear()  # the network was looked over
        classifier(images)
        assert (len(seen), len(calls)) == (1, 0)
        handle.remove()
        classifier(images)
        assert (len(seen), len(calls)) == (1, 1)
        with classifier.folding.off():
            classifier(images)
    assert len(calls) == 1


def test_random_networks_are_not_compiled_one_by_one(calls: list[int]) -> None:
    classifier = compiled_cnn()
    network = RandomizedNetwork(classifier, 1)
    network.randomize(*network.layers)
    network.explain(Saliency(), random_images(2, 32), torch.tensor([0, 1]))
    assert not calls


def test_batch_sizes_are_those_of_compiled_passes() -> None:
    plain, image = small_cnn(), random_images(1, 32)[0]
    names = {name_measurement(each, image, True) for each in (plain, compiled_cnn())}
    assert len(names) == 2


def test_other_outputs_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: lambda values: 1.01 * network(values))
    classifier = compiled_cnn()
    with classifier.frozen(), torch.no_grad(), pytest.raises(UserError, match=r"model\.compile=true.*other outputs"):
        classifier(random_images(1, 32))


def test_in_a_shorter_type_outputs_may_differ_as_it_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: lambda values: 1.01 * network(values))
    plain = small_cnn()
    classifier = Classifier(plain.network.float(), plain.facts, name="compiled", compiled=True).float().eval()
    with torch.autocast("cpu", torch.bfloat16), classifier.frozen(), torch.no_grad():
        classifier(random_images(1, 32).float())


def test_a_machine_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: nn.Module) -> Callable[[Tensor], Any]:
        def run(values: Tensor) -> Any:
            raise RuntimeError("No working C++ compiler found\nmore")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    classifier = compiled_cnn()
    words = r"model\.compile=true.*No working C\+\+.*set model\.compile=false"
    with classifier.frozen(), torch.no_grad(), pytest.raises(UserError, match=words):
        classifier(random_images(1, 32))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler of C++")
def test_compiled_maps_are_those_of_the_network(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).double().eval()
    plain = classifier_of(network, 8, 5)
    classifier = Classifier(network, plain.facts, name="compiled", compiled=True).eval()
    images, targets = random_images(3, 8).double(), torch.tensor([0, 1, 2])
    for size in (1, 3):
        maps = [Saliency(probe_batch_size=size)(each, images, targets) for each in (plain, classifier)]
        torch.testing.assert_close(*maps, rtol=1e-6, atol=1e-7)
