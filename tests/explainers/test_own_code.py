"""Explainers and metrics of the user's own that fail: one sentence with the lines of their code, no traceback of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.types import Batch
from seewhy.explainers.base import AttributionResult, Explainer
from seewhy.explainers.batch import explain_batch
from seewhy.explainers.gradient import Saliency
from seewhy.metrics.base import ImageMetric
from seewhy.metrics.batch import build_context, measure_batch
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
