"""FGSM and PGD against closed forms, their bounds, and Captum's."""

import pytest
import torch
from torch.nn import functional

from seewhy.core.errors import UserError
from seewhy.data.corruptions.attacks import FGSM, PGD, compute_loss_gradient, parse_number
from seewhy.models.batched import BatchedEvaluator
from tiny import linear_classifier, random_images, small_cnn

ATTACKS = (FGSM([0.0, 0.01, "8/255"]), PGD([0.0, 0.01, "8/255"]), PGD([0.05], random_start=True))


def linear_gradient(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """sum over c of (p_c - [c is the class]) w_c, written out."""
    classifier, weights = linear_classifier()
    excess = classifier(images).softmax(1) - functional.one_hot(classes, 3)
    return torch.einsum("bc,cijk->bijk", excess, weights).detach()


def test_fgsm_on_a_linear_network_is_the_closed_form() -> None:
    classifier, _ = linear_classifier()
    images, classes = random_images(4, 8), torch.tensor([0, 1, 2, 1])
    evaluator = BatchedEvaluator(classifier, images[0], 3)
    torch.testing.assert_close(compute_loss_gradient(evaluator, images, classes), linear_gradient(images, classes))
    (made,) = FGSM([0.1]).levels(evaluator, images, classes)
    torch.testing.assert_close(made, (images + 0.1 * linear_gradient(images, classes).sign()).clamp(0, 1))


def test_pgd_on_a_linear_network_follows_the_plain_loop() -> None:
    classifier, _ = linear_classifier()
    images, classes = random_images(3, 8), torch.tensor([0, 1, 2])
    (made,) = PGD([0.06], step=0.02, n_steps=5).levels(BatchedEvaluator(classifier, images[0], 2), images, classes)
    for row in range(3):
        attacked, one = images[row : row + 1].clone(), images[row : row + 1]
        for _ in range(5):
            attacked = attacked + 0.02 * linear_gradient(attacked, classes[row : row + 1]).sign()
            attacked = torch.minimum(torch.maximum(attacked, one - 0.06), one + 0.06).clamp(0, 1)
        torch.testing.assert_close(made[row : row + 1], attacked)


def test_with_two_classes_enough_steps_end_in_the_corner_of_the_box() -> None:
    classifier, weights = linear_classifier(classes=2)
    images, classes = random_images(2, 8) * 0.5 + 0.25, torch.tensor([0, 1])
    (made,) = PGD([0.1], n_steps=8).levels(BatchedEvaluator(classifier, images[0], 4), images, classes)
    away = (weights[1] - weights[0]).sign()
    torch.testing.assert_close(made, images + 0.1 * torch.stack([away, -away]))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_epsilon_and_the_unit_range_are_never_exceeded(attack: FGSM | PGD) -> None:
    images, classes = random_images(3, 32), torch.tensor([1, 2, 3])
    images[0, :, :16], images[1, :, 16:] = 0, 1
    classifier = small_cnn()
    for eps, made in zip(
        attack.eps, attack.levels(BatchedEvaluator(classifier, images[0], 2), images, classes), strict=True
    ):
        assert float((made - images).abs().max()) <= eps + 1e-6
        assert float(made.min()) >= 0 and float(made.max()) <= 1
        if eps == 0:
            assert torch.equal(made, images)
        else:
            assert float((made - images).abs().mean()) > eps / 3


def test_the_score_of_the_attacked_class_falls_with_epsilon() -> None:
    classifier, images = small_cnn(), random_images(4, 32)
    classes = classifier(images).argmax(1)
    loss = [
        functional.cross_entropy(classifier(made), classes).item()
        for made in PGD([0, "1/255", "4/255", "16/255"]).levels(
            BatchedEvaluator(classifier, images[0], 4), images, classes
        )
    ]
    assert loss == sorted(loss) and loss[-1] > loss[0]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_neighbours_and_probe_size_change_nothing_and_passes_are_counted(attack: FGSM | PGD) -> None:
    classifier, images, classes = small_cnn(), random_images(3, 32), torch.tensor([1, 2, 3])
    with classifier.frozen():
        together = list(attack.levels(BatchedEvaluator(classifier, images[0], 2), images, classes, seed=4))
        assert (classifier.passes.forward, classifier.passes.backward) == tuple(
            3 * n for n in attack.passes_per_image()
        )
        alone = list(attack.levels(BatchedEvaluator(classifier, images[0], 8), images[2:], classes[2:], seed=4))
    for level, (many, one) in enumerate(zip(together, alone, strict=True)):
        differ = (many[2:] - one).abs() > 1e-6  # a gradient of nearly zero may change its sign
        assert float(differ.float().mean()) < 0.01, level


def test_mistakes_are_named() -> None:
    assert parse_number("8/255") == pytest.approx(8 / 255)
    for wrong in ("a", "1/0"):
        with pytest.raises(UserError, match="neither a number nor a fraction"):
            parse_number(wrong)
        with pytest.raises(UserError, match="each a number from 0 to 1 or a fraction"):
            FGSM([wrong])
    with pytest.raises(UserError, match=r"corruption\.fgsm\.eps=.* must be a list that is not empty"):
        FGSM([])
    with pytest.raises(UserError, match=r"corruption\.pgd\.n_steps=0 must be"):
        PGD([0.1], n_steps=0)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
def test_captum_gives_the_same_images() -> None:
    from captum import robust

    classifier, images, classes = small_cnn(), random_images(4, 32), torch.tensor([1, 2, 3, 4])
    evaluator = BatchedEvaluator(classifier, images[0], 4)
    with classifier.frozen():
        (fgsm,) = FGSM([0.03]).levels(evaluator, images, classes)
        (pgd,) = PGD([0.04], step=0.01, n_steps=6).levels(evaluator, images, classes)

        def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            """Large, because Captum takes gradients below 1e-6 for zero; the sign is what counts."""
            return 1e6 * functional.cross_entropy(logits, target, reduction="none")

        oracle = robust.FGSM(classifier, loss, lower_bound=0, upper_bound=1)
        theirs = oracle.perturb(images.clone().requires_grad_(), 0.03, classes).detach()
        repeated = robust.PGD(classifier, loss, lower_bound=0, upper_bound=1)
        start = images.clone().requires_grad_()
        steps = repeated.perturb(start, radius=0.04, step_size=0.01, step_num=6, target=classes).detach()
    torch.testing.assert_close(fgsm, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(pgd, steps, atol=1e-6, rtol=0)
