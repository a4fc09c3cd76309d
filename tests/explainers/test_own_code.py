"""Explainers and metrics of the user's own that fail: one sentence with the lines of their code, no traceback of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import OwnCodeFailure, UserError
from seewhy.core.types import Batch
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import build_context, measure_batch
from seewhy.models.classifier import Classifier
from tiny import linear_classifier, random_images


@dataclass(frozen=True, kw_only=True)
class Own(Explainer):
    """Returns what it is given."""

    compute: Callable[[Any], Any] = lambda images: AttributionResult(images.mean(1))

    def _attribute(self, evaluator: Any, images: Any, targets: Any) -> Any:
        return self.compute(images)


class OwnMetric(ImageMetric):
    name = "own_metric"
    higher_is_better = True

    @property
    def variant(self) -> str:
        return "own"

    def measure(self, context: Any) -> Any:
        return {"score": context.nothing}


def make_batch(count: int = 3) -> Batch:
    names = [f"photo_{number}" for number in range(count)]
    labels = torch.full((count,), -1)
    return Batch(random_images(count, 8), labels, names, [f"{name}.png" for name in names], [""] * count, [])


def explain(explainer: Explainer, count: int = 3) -> list[Any]:
    classifier, batch = linear_classifier()[0], make_batch(count)
    return explain_batch(classifier, batch, classifier(batch.images), explainer, "predicted")[0]


def test_what_an_explainer_raises_ends_with_lines_of_its_code() -> None:
    """Its own frames alone: the one that it calls in a library or in this project is none of them."""
    with pytest.raises(UserError) as caught:
        explain(Own(compute=lambda images: torch.cat([images, images[:, :, :1]])))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("image photo_0 and 2 more: explainer own failed: RuntimeError: Sizes of tensors must match")
    assert [line.split(" in ")[1].partition(":")[0] for line in lines] == ["_attribute", "<lambda>"]
    assert all(Path(__file__).name in line for line in lines)


def test_faults_of_this_project_stay_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Saliency, "_attribute", broken)
    with pytest.raises(ZeroDivisionError):
        explain(Saliency())


def test_what_a_metric_raises_names_it_and_the_image() -> None:
    explanations = explain(Own(), 1)
    context = build_context(linear_classifier()[0], explanations, Own())
    with pytest.raises(
        UserError, match=r"^image photo_0: metric own_metric failed: AttributeError: .*\n.* in measure: "
    ):
        measure_batch(context, explanations, {"own": OwnMetric()})


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (lambda images: AttributionResult(images), r"\[3, 8, 8\] of \[batch, height, width\], not \[3, 3, 8, 8\]"),
        (lambda images: AttributionResult(images[:1].mean(1)), r"not \[1, 8, 8\]"),
        (lambda images: images.mean(1), r"must return AttributionResult\(maps \[3, 8, 8\]\), not Tensor"),
        (lambda images: None, "not NoneType"),
        (lambda images: AttributionResult([1.0]), r"not AttributionResult\(list\)"),
        (lambda images: AttributionResult(images.mean(1), {"steps": torch.ones(2)}), r"'steps' .* \[3\], not \[2\]"),
        (lambda images: AttributionResult(images.mean(1), {"steps": 2}), r"'steps' must be a tensor \[3\], not int"),
    ],
)
def test_another_result_is_one_sentence(compute: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^explainer own.*{words}") as caught:
        explain(Own(compute=compute))
    assert "\n" not in str(caught.value)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise ArithmeticError("no gradient")


class OwnNetwork(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.fault = fault

    def forward(self, images: Tensor) -> Tensor:
        values = self.layer(images.mean((2, 3)))
        if self.fault == "bright" and images.amax() > 1:
            raise ValueError("too bright")
        if self.fault == "shape" and images.amax() > 1:
            return torch.cat([values, images])
        return Square.apply(values) if self.fault == "gradient" else values  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fault", "reason", "line"),
    [
        ("bright", "ValueError: too bright", 'raise ValueError("too bright")'),
        (
            "shape",
            "RuntimeError: Tensors must have same number of dimensions: got 2 and 4",
            "torch.cat([values, images])",
        ),
        ("gradient", "ArithmeticError: no gradient", 'raise ArithmeticError("no gradient")'),
    ],
)
def test_what_a_network_of_ones_own_raises_ends_with_lines_of_its_code(fault: str, reason: str, line: str) -> None:
    facts = linear_classifier()[0].facts
    classifier, batch = Classifier(OwnNetwork(fault).double().eval(), facts, name="mine"), make_batch(2)
    twice = batch._replace(images=batch.images * (1 if fault == "gradient" else 4))
    with pytest.raises(OwnCodeFailure) as caught:
        explain_batch(classifier, twice, torch.zeros(2, 3).double(), Saliency(), "predicted")
    first, *lines = str(caught.value).splitlines()
    assert first == f"image photo_0 and 1 more: the network mine failed: {reason}"
    assert line in lines[-1] and all("test_own_code.py" in each for each in lines)
    assert not classifier.network.layer.weight.grad and classifier.network.layer.weight.requires_grad


def test_what_a_hook_raises_or_a_library_is_not_blamed_on_the_network() -> None:
    """A hook of this project is called by the module, and torch's own layers are not the user's."""
    classifier = Classifier(OwnNetwork("").double().eval(), linear_classifier()[0].facts, name="mine")
    namespace = {"__name__": "seewhy.hooks"}
    exec("def fail(*_):\n    raise KeyError('ours')", namespace)
    handle = classifier.network.layer.register_forward_hook(namespace["fail"])  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="ours"), classifier.frozen():
        classifier(random_images(1, 8))
    handle.remove()
    with pytest.raises(RuntimeError, match="mat1"), classifier.frozen():
        classifier.network.layer(torch.zeros(1, 4, dtype=torch.float64))
