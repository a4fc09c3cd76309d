"""The evaluator: bounded batches, gradients, memory that runs out, and counting."""

import pytest
import torch
from torch import Tensor, nn

from seewhy.core.errors import UserError
from seewhy.models.batched import BatchedEvaluator
from seewhy.models.classifier import Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn

IMAGES, TARGETS = random_images(10, 32), torch.arange(10)


class Crowded(nn.Module):
    """Mean colours to logits; runs out of memory for more than `room` images and remembers the sizes it was given."""

    def __init__(self, room: int, error: type[Exception] = torch.OutOfMemoryError, words: str = "") -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.room, self.error, self.words = room, error, words
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error(self.words)
        return self.layer(images.mean((2, 3)))


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_results_do_not_depend_on_the_bound(batch_size: int) -> None:
    classifier = small_cnn()
    leaves = IMAGES.clone().requires_grad_()
    logits = classifier(leaves)
    scores = logits[TARGETS, TARGETS]
    (gradient,) = torch.autograd.grad(scores.sum(), leaves)
    evaluator = BatchedEvaluator(classifier, IMAGES[0], batch_size)
    torch.testing.assert_close(evaluator.compute_logits(IMAGES), logits.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(evaluator.compute_scores(IMAGES, TARGETS), scores.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(evaluator.compute_gradient(IMAGES, TARGETS), gradient, rtol=1e-3, atol=1e-7)
    found = evaluator.compute_score_and_gradient(IMAGES, TARGETS)
    torch.testing.assert_close(found[0], scores.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], gradient, rtol=1e-3, atol=1e-7)


def test_no_pass_holds_more_images_than_the_bound() -> None:
    network = Crowded(room=100)
    evaluator = BatchedEvaluator(classifier_of(network, 32, 4), IMAGES[0], 4)
    evaluator.compute_logits(IMAGES)
    evaluator.compute_gradient(IMAGES, TARGETS % 4)
    assert network.sizes == [4, 4, 2] * 2


def test_the_gradient_of_a_linear_network_is_its_weights() -> None:
    classifier, weights = linear_classifier()
    images, targets = random_images(3, 8), torch.tensor([2, 0, 2])
    torch.testing.assert_close(
        BatchedEvaluator(classifier, images[0], 2).compute_gradient(images, targets), weights[targets]
    )


def test_passes_are_counted_once_for_each_image() -> None:
    classifier = small_cnn()
    evaluator = BatchedEvaluator(classifier, IMAGES[0], 3)
    evaluator.compute_logits(IMAGES)
    assert classifier.passes == Passes(10, 0)
    evaluator.compute_gradient(IMAGES, TARGETS)
    assert classifier.passes == Passes(20, 10)


def test_what_is_given_is_left_alone_and_carries_no_graph() -> None:
    images = IMAGES.clone()
    evaluator = BatchedEvaluator(small_cnn(), images[0], 4)
    scores, gradient = evaluator.compute_score_and_gradient(images, TARGETS)
    assert torch.equal(images, IMAGES)
    assert not images.requires_grad
    assert images.grad is None
    assert not (scores.requires_grad or gradient.requires_grad or evaluator.compute_logits(images).requires_grad)


def test_chunks_are_all_indices_in_order() -> None:
    evaluator = BatchedEvaluator(small_cnn(), IMAGES[0], 4)
    chunks = [chunk.tolist() for chunk in evaluator.split(10, gradient=False)]
    assert chunks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(evaluator.split(0, gradient=True)) == []


def test_no_images_give_no_rows() -> None:
    evaluator = BatchedEvaluator(small_cnn(), IMAGES[0], 4)
    assert evaluator.compute_logits(IMAGES[:0]).shape == (0, 10)
    assert evaluator.compute_scores(IMAGES[:0], TARGETS[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, ""),
        (RuntimeError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError, "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
@pytest.mark.parametrize("gradient", [False, True])
def test_a_batch_that_does_not_fit_is_halved_and_stays_small(
    error: type[Exception], words: str, gradient: bool
) -> None:
    network = Crowded(3, error, words)
    classifier = classifier_of(network, 32, 4)
    evaluator, targets = BatchedEvaluator(classifier, IMAGES[0], 8), TARGETS % 4
    expected = BatchedEvaluator(classifier, IMAGES[0], 1).compute_score_and_gradient(IMAGES, targets)
    network.sizes.clear()
    classifier.passes = Passes()
    found = evaluator.compute_gradient(IMAGES, targets) if gradient else evaluator.compute_scores(IMAGES, targets)
    torch.testing.assert_close(found, expected[1] if gradient else expected[0])
    assert network.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert evaluator.find_limit(gradient) == 2
    assert classifier.passes == Passes(10, 10 if gradient else 0)
    assert [len(chunk) for chunk in evaluator.split(5, gradient)] == [2, 2, 1]
    assert [len(chunk) for chunk in evaluator.split(13, gradient, per_image=3)] == [6, 6, 1], "also of smaller rows"


def test_the_other_kind_of_pass_keeps_its_own_bound() -> None:
    evaluator = BatchedEvaluator(classifier_of(Crowded(3), 32, 4), IMAGES[0], 8)
    evaluator.compute_gradient(IMAGES, TARGETS % 4)
    assert (evaluator.find_limit(True), evaluator.find_limit(False)) == (2, 8)


def test_a_single_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        BatchedEvaluator(classifier_of(Crowded(0), 32, 4), IMAGES[0], 4).compute_logits(IMAGES)


def test_other_errors_are_not_tried_again() -> None:
    network = Crowded(0, RuntimeError, "shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        BatchedEvaluator(classifier_of(network, 32, 4), IMAGES[0], 8).compute_logits(IMAGES)
    assert network.sizes == [8]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "fast", None])
def test_an_impossible_bound_is_refused(batch_size: object) -> None:
    with pytest.raises(UserError, match=f"probe_batch_size={batch_size}"):
        BatchedEvaluator(small_cnn(), IMAGES[0], batch_size)  # type: ignore[arg-type]


def test_auto_is_measured_once_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def measured(classifier: object, image: Tensor, gradient: bool) -> int:
        asked.append(gradient)
        return 2 if gradient else 4

    monkeypatch.setattr("seewhy.models.batched.find_batch_size", measured)
    evaluator = BatchedEvaluator(small_cnn(), IMAGES[0])
    assert [evaluator.find_limit(kind) for kind in (False, True, False, True)] == [4, 2, 4, 2]
    assert asked == [False, True]


def test_several_results_of_a_pass_are_joined_and_a_pass_that_does_not_fit_is_made_again() -> None:
    sizes = []

    def one(chunk: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(chunk))
        if len(chunk) > 3:
            raise torch.OutOfMemoryError
        return chunk, -chunk

    up, down = BatchedEvaluator(small_cnn(), IMAGES[0], 16).run_passes(one, 7, gradient=True, images_each=2)
    assert up.tolist() == list(range(7))
    assert torch.equal(down, -up)
    assert sizes == [7, 3, 3, 1]
