"""What outputs mean: probabilities, losses and labels against their formulas."""

import math

import pytest
import torch
from torch.nn import functional

from seewhy.core.errors import Incompatible, UserError
from seewhy.core.facts import Facts
from seewhy.core.outputs import compute_losses, compute_probabilities, expand_binary, list_labels, settle_classes
from seewhy.core.targets import choose_targets, find_true_classes

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
MEAN = (0.5,) * 3


def facts_of(score: str, classes: int = 3, **options: object) -> Facts:
    return Facts(tuple("abc"[:classes]), 8, MEAN, MEAN, score=score, **options)  # type: ignore[arg-type]


def test_a_binary_logit_is_the_softmax_of_zero_and_the_logit() -> None:
    logit = torch.tensor([[1.5], [-0.3]], dtype=torch.float64)
    scores = expand_binary(logit, gives_probabilities=False)
    expected = torch.cat([0 * logit, logit], 1)
    torch.testing.assert_close(scores, torch.cat([-logit, logit], 1))
    torch.testing.assert_close(compute_probabilities(scores, "binary"), expected.softmax(1))
    labels = torch.tensor([0, 1])
    losses = functional.cross_entropy(expected, labels, reduction="none")
    torch.testing.assert_close(compute_losses(scores, labels, "binary"), losses)


def test_probabilities_of_a_network_that_gives_them_are_used_as_they_are() -> None:
    probabilities, labels = LOGITS.softmax(1), torch.tensor([2, 1])
    facts = facts_of("softmax", gives_probabilities=True)
    assert torch.equal(facts.compute_probabilities(probabilities), probabilities)
    expected = functional.cross_entropy(LOGITS, labels, reduction="none")
    torch.testing.assert_close(facts.compute_losses(probabilities, labels), expected)
    share = torch.tensor([[0.2]], dtype=torch.float64)
    torch.testing.assert_close(expand_binary(share, gives_probabilities=True), torch.tensor([[0.8, 0.2]]).double())


def test_several_labels_have_independent_probabilities_and_the_mean_loss_over_all_labels() -> None:
    facts, labels = facts_of("sigmoid"), torch.tensor([[1, 0, 1], [0, 1, 1]])
    torch.testing.assert_close(facts.compute_probabilities(LOGITS), 1 / (1 + (-LOGITS).exp()))
    expected = torch.tensor(
        [
            sum(math.log1p(math.exp(-z if mark else z)) for z, mark in zip(row, marks, strict=True)) / 3
            for row, marks in zip(LOGITS.tolist(), labels.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(facts.compute_losses(LOGITS, labels), expected)
    given = facts_of("sigmoid", gives_probabilities=True)
    torch.testing.assert_close(given.compute_losses(LOGITS.sigmoid(), labels), expected)
    single = torch.tensor([0, 2])
    torch.testing.assert_close(
        facts.compute_losses(LOGITS, single), torch.tensor([math.log1p(math.exp(-1)), math.log1p(math.e)]).double()
    )


def test_all_labels_must_be_right_and_the_threshold_decides() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 1, 1]])
    assert facts_of("sigmoid").are_correct(LOGITS, labels).tolist() == [True, False]
    assert facts_of("sigmoid", threshold=0.25).are_correct(LOGITS, labels).tolist() == [True, False]
    assert facts_of("sigmoid", threshold=0.7).are_correct(LOGITS, labels).tolist() == [False, False]
    assert list_labels([0.2, 0.9, 0.6, 0.5], 0.5) == [1, 2]


def test_values_without_meaning_have_no_probability() -> None:
    facts = facts_of("none")
    assert torch.equal(facts.compute_probabilities(LOGITS), LOGITS), "metrics read the values as they are"
    assert bool(facts.report_probabilities(LOGITS).isnan().all()), "people are shown none"
    torch.testing.assert_close(facts.compute_losses(LOGITS, torch.tensor([1, 0])), torch.tensor([2.0, 0.0]).double())
    with pytest.raises(Incompatible, match=r"model\.score=softmax"):
        facts.require_score("callbacks=representers", "softmax")


@pytest.mark.parametrize(
    ("given", "score", "classes", "settled"),
    [
        (("positive",), None, ("not positive", "positive"), "binary"),
        (("class 0",), None, ("class 0", "class 1"), "binary"),
        (("cat", "dog"), "binary", ("cat", "dog"), "binary"),
        (("cat", "dog"), None, ("cat", "dog"), "softmax"),
        (("cat",), "sigmoid", ("cat",), "sigmoid"),
    ],
)
def test_one_name_is_a_binary_network(given: tuple[str, ...], score: str | None, classes: object, settled: str) -> None:
    assert settle_classes(given, score) == (classes, settled)


@pytest.mark.parametrize(
    ("classes", "score", "words"),
    [
        (("a",), "softmax", "softmax of one class"),
        (("a", "b", "c"), "binary", "names 3"),
        (("a", "b"), "logits", "model.score=logits must be softmax, sigmoid, binary or none"),
    ],
)
def test_meanings_that_do_not_fit_are_refused(classes: tuple[str, ...], score: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        settle_classes(classes, score)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, True])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(UserError, match=r"model\.threshold"):
        facts_of("sigmoid", threshold=threshold)


def test_the_true_class_of_several_labels_is_the_likeliest_one() -> None:
    labels = torch.tensor([[0, 1, 1], [-1, -1, -1]])
    assert find_true_classes(labels, LOGITS).tolist() == [2, -1]
    assert choose_targets("true", LOGITS, labels, "abc").tolist() == [2, -1]
    assert choose_targets("b", LOGITS, labels, "abc").tolist() == [1, 1]
    assert find_true_classes(torch.zeros(2, 3, dtype=torch.int64), LOGITS).tolist() == [-1, -1]


def test_the_meaning_travels_with_the_weights() -> None:
    facts = facts_of("sigmoid", threshold=0.3, output="scores", gives_probabilities=True)
    assert Facts.from_metadata(facts.to_metadata()) == facts
