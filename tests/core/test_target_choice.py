"""Targets as they are written: classes, policies, labels, contrasts and lists, and what they choose for each image."""

import math

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts
from seewhy.core.target_choice import choose, describe_target, name_suffix, parse_targets

NAMES = ("cat", "dog", "black-and-tan coonhound", "salt - pepper")
SCORES = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 1.0, 4.0]])
LABELS = torch.tensor([1, -1])


def facts_of(score: str = "softmax") -> Facts:
    return Facts(NAMES, 8, (0.5,) * 3, (0.5,) * 3, score=score)


def weights_of(target: object, score: str = "softmax", labels: torch.Tensor = LABELS) -> list[list[float]]:
    """The weights of every chosen row on every class."""
    (choice,) = parse_targets(target, NAMES)
    targets = choose(choice, SCORES, labels, facts_of(score)).targets
    return targets.expand(len(NAMES)).tolist()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("predicted - runner_up", [[1, 0, -1, 0], [0, 1, 0, -1]]),
        ("dog - 0.5*cat", [[-0.5, 1, 0, 0]] * 2),
        ("1.5 * dog + .5*cat", [[0.5, 1.5, 0, 0]] * 2),
        ("1 - 0", [[-1, 1, 0, 0]] * 2),
        ("-1*dog", [[0, -1, 0, 0]] * 2),
        ("black-and-tan coonhound - cat", [[-1, 0, 1, 0]] * 2),
        ("predicted - dog", [[1, -1, 0, 0]]),
        ("true - cat", [[-1, 1, 0, 0]]),
        ("salt - pepper", [[0, 0, 0, 1]] * 2),
        ("Dog", [[0, 1, 0, 0]] * 2),
        (True, [[0, 1, 0, 0]]),
        (2, [[0, 0, 1, 0]] * 2),
        (["runner_up"], [[0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_weights_are_those_that_were_written(target: object, expected: list[list[float]]) -> None:
    assert weights_of(target) == expected


def test_one_class_stays_a_class_and_a_contrast_has_no_probability() -> None:
    (predicted, contrast) = parse_targets(["predicted", "dog - 0.5*cat"], NAMES)
    chosen = choose(predicted, SCORES, LABELS, facts_of())
    assert chosen.targets.classes.tolist() == [0, 1]
    assert [target.name for target in chosen.described] == ["cat", "dog"]
    assert [target.probability for target in chosen.described] == pytest.approx(
        SCORES.softmax(1)[[0, 1], [0, 1]].tolist()
    )
    (first, _) = choose(contrast, SCORES, LABELS, facts_of()).described
    assert (first.index, first.name, first.policy) == (-1, "dog - 0.5*cat", "dog - 0.5*cat")
    assert first.weights == ((1, 1.0), (0, -0.5))
    assert math.isnan(first.probability)


def test_images_without_a_target_are_left_out_with_the_reason() -> None:
    (choice,) = parse_targets("predicted - dog", NAMES)
    chosen = choose(choice, SCORES, LABELS, facts_of())
    assert chosen.rows == [0]
    assert chosen.left_out == [(1, "target=predicted - dog weighs dog against itself")]
    (choice,) = parse_targets("true - cat", NAMES)
    ((row, reason),) = choose(choice, SCORES, LABELS, facts_of()).left_out
    assert row == 1
    assert "true class is unknown" in reason


def test_every_predicted_label_is_a_target() -> None:
    (choice,) = parse_targets("labels", NAMES)
    logits = torch.tensor([[1.0, 2.0, -1.0, -1.0], [-1.0, -1.0, -2.0, -3.0]])
    chosen = choose(choice, logits, torch.full((2, 4), -1), facts_of("sigmoid"))
    assert (chosen.rows, [target.name for target in chosen.described]) == ([0, 0], ["dog", "cat"])
    assert chosen.described[0].probability == pytest.approx(1 / (1 + math.exp(-2)))
    assert chosen.left_out[0][0] == 1
    assert "above model.threshold=0.5" in chosen.left_out[0][1]
    assert weights_of("labels") == [[1, 0, 0, 0], [0, 1, 0, 0]], "of classes that exclude each other the predicted one"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([], "names nothing"),
        (["cat", "cat"], "names 'cat' twice"),
        ("cat - dgo", "'cat - dgo': .*'dgo' is none of .*nearest: dog"),
        ("0*cat", "weighs '0\\*cat' by 0"),
        ("cat - labels", "labels are explained one by one"),
        ("cat - 7", "must be from 0 to 3"),
        (["cat", 9], "must be from 0 to 3"),
        ("cat-dog", "is none of"),
    ],
)
def test_what_is_no_target_is_one_sentence(target: object, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        parse_targets(target, NAMES)
    assert "\n" not in str(error.value)


def test_suffixes_are_safe_and_differ() -> None:
    names = [
        name_suffix(words) for words in ("predicted", "a b", "a_b", "a/b", "dog - cat", "dog + cat", "x" * 99, "x" * 98)
    ]
    assert names[0] == "predicted"
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._+-") and len(name) < 60 for name in names)


def test_targets_are_described_as_they_were_written() -> None:
    assert describe_target(["predicted", "dog - cat"]) == "predicted, dog - cat"
    assert describe_target(True) == "true"
