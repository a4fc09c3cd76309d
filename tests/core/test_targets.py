"""Which class is explained."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.targets import check_policy, choose_targets

CLASSES = ("tabby", "Egyptian cat", "great white shark")
LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
LABELS = torch.tensor([2, -1])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("predicted", [1, 0]),
        ("runner_up", [2, 2]),
        ("true", [2, -1]),
        (2, [2, 2]),
        ("0", [0, 0]),
        ("egyptian_cat", [1, 1]),
        ("Great-White shark", [2, 2]),
    ],
)
def test_each_policy_chooses_its_class(policy: str | int, expected: list[int]) -> None:
    assert choose_targets(policy, LOGITS, LABELS, CLASSES).tolist() == expected


@pytest.mark.parametrize(("policy", "words"), [("3", "from 0 to 2"), (-1, "from 0 to 2"), ("tabi", "nearest: tabby")])
def test_an_unknown_class_is_refused_with_the_nearest(policy: str | int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_policy(policy, CLASSES)


def test_a_single_class_has_no_runner_up_but_itself() -> None:
    assert choose_targets("runner_up", LOGITS[:, :1], LABELS, CLASSES[:1]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("policy", "nearest"),
    [
        ("shrak", "tiger shark"),
        ("ture", "true"),
        ("runnerup", "runner_up"),
        ("predictd", "predicted"),
        ("printr", "printer"),
    ],
)
def test_the_nearest_name_is_a_policy_a_class_or_a_word_of_a_class(policy: str, nearest: str) -> None:
    classes = ("turtle", "tiger shark", "printer", "vulture", "house finch")
    with pytest.raises(UserError, match=f"nearest: {nearest}"):
        check_policy(policy, classes)
