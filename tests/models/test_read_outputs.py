"""Class scores in whatever a network returns, and one sentence where there are none."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from seewhy.core.errors import UserError
from seewhy.models.read_outputs import read_outputs

SCORES, FEATURES = torch.rand(3, 5), torch.rand(3, 7)


class Pair(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Result:
    loss: Tensor | None
    logits: Tensor


class ModelOutput(OrderedDict[str, Any]):
    """An ordered mapping with attributes, as libraries of transformers return."""


@pytest.mark.parametrize(
    ("returned", "key"),
    [
        (SCORES, None),
        (SCORES[:, :, None, None], None),
        ((SCORES,), None),
        ([FEATURES, SCORES], None),
        ((SCORES, 2 * SCORES), 0),
        ([FEATURES, SCORES], "1"),
        ({"scores": SCORES}, None),
        ({"logits": SCORES, "auxiliary": 2 * SCORES}, None),
        ({"a": SCORES, "b": 2 * SCORES}, "a"),
        ({0: SCORES, 1: 2 * SCORES}, 0),
        (Pair(FEATURES, SCORES), None),
        (Result(None, SCORES), None),
        (ModelOutput(hidden=FEATURES, logits=SCORES), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scores_are_read_from_what_holds_them(returned: Any, key: str | int | None) -> None:
    assert torch.equal(read_outputs(returned, 3, 5, key), SCORES)


def test_one_number_an_image_is_one_output() -> None:
    assert read_outputs(SCORES[:, 0], 3, 1).shape == (3, 1)
    assert read_outputs(SCORES[:1, 0].squeeze(), 1, 1).shape == (1, 1)
    assert read_outputs(SCORES[0], 1, 5).shape == (1, 5), "squeezed for one image"


@pytest.mark.parametrize(
    ("returned", "key", "words"),
    [
        (torch.rand(3, 5, 8, 8), None, r"\[3, 5, 8, 8\] for 3 images: a value for each position"),
        (torch.rand(4, 5), None, "no row for each image"),
        (SCORES.argmax(1), None, "int64 .* not class indices"),
        ({"a": SCORES, "b": 2 * SCORES}, None, r"a dict of a \[3, 5\], b \[3, 5\]: set model.output"),
        ({"a": SCORES}, "b", r"model.output=b: .*a \[3, 5\]"),
        (SCORES, "logits", "model.output=logits"),
        (None, None, "NoneType, in which there is no tensor"),
        ({"loss": None}, None, "must return class scores"),
        ("text", None, "must return class scores"),
    ],
)
def test_what_holds_no_scores_is_refused_in_one_sentence(returned: Any, key: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_outputs(returned, 3, 5, key)
    assert "\n" not in str(error.value)
