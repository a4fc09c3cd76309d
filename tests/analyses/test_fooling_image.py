"""Fooling images: closed forms on linear networks, a plain loop, and what a saved file is taken for."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from explainer_checks import assert_same, state_of
from seewhy.analyses.synthesis.base import encode_image, round_to_bytes, to_bytes
from seewhy.analyses.synthesis.fooling_image import ALREADY, EXHAUSTED, FOOLED, STUCK, FoolingImage
from seewhy.core.errors import UserError
from seewhy.models.classifier import Classifier, Passes
from tiny import classifier_of, linear_classifier, random_images, small_cnn


def one_pixel_classifier(threshold: float, weight: float = 10.0) -> Classifier:
    """Class 1 has the logit weight * first pixel, class 0 weight * threshold / 255: class 1 wins above the threshold."""
    layer = nn.Linear(3 * 4 * 4, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight[1, 0] = weight
        layer.bias[0] = weight * threshold / 255
    return classifier_of(nn.Sequential(nn.Flatten(), layer), 4, 2, normalised=False)


def grey(level: int, count: int = 1) -> Tensor:
    return torch.full((count, 3, 4, 4), level / 255)


ONE = torch.tensor([1])


def fooling(**fields: Any) -> FoolingImage:
    """Without a measurement of the fastest batch size."""
    return FoolingImage(**{"probe_batch_size": 4, **fields})


@pytest.mark.parametrize(("margin", "steps"), [(0.0, 6), (0.3, 8)])
def test_steps_and_pixels_on_a_linear_network_by_hand(margin: float, steps: int) -> None:
    """From 100 in steps of 5 levels: 130 is the first above 127.5; a lead of 0.3 logits needs 135.15."""
    classifier = one_pixel_classifier(127.5)
    made = fooling(rate=5 / 255, margin=margin, probe_batch_size=4).fool(classifier, grey(100), ONE)
    assert made.steps.tolist() == [steps]
    assert made.outcomes == [FOOLED]
    expected = to_bytes(grey(100))
    expected[0, 0, 0, 0] = 100 + 5 * steps
    assert torch.equal(to_bytes(made.images), expected)
    assert torch.equal(made.images, expected / 255)
    assert classifier.passes == Passes(steps + 2, steps + 1), "every image once more at the end, and its rounded copy"


def test_the_path_on_a_linear_network_is_straight_along_the_weights() -> None:
    classifier, weights = linear_classifier(size=8, classes=3)
    images, targets, rate = 0.4 + 0.2 * random_images(6, 8), torch.tensor([0, 1, 2, 0, 1, 2]), 0.05
    made = fooling(rate=rate, probe_batch_size=4).fool(classifier, images, targets)
    logits = classifier(images).detach()
    for row, target in enumerate(targets.tolist()):
        direction = weights[target] / weights[target].norm()
        gains = torch.tensor([float((weights[target] - other).mul(direction).sum()) for other in weights])
        needed = (logits[row] - logits[row, target]) / (rate * gains.clamp_min(1e-9))
        expected = max(0, int(needed[gains > 1e-6].max().floor()) + 1)
        assert abs(int(made.steps[row]) - expected) <= 1, "rounding to 8 bits may cost a step"
        path = made.unrounded[row] - images[row]
        torch.testing.assert_close(path, int(made.steps[row]) * rate * direction, atol=1e-5, rtol=0)
    assert int(made.steps.max()) > 2


def test_it_goes_on_until_the_8_bit_image_succeeds() -> None:
    """Steps of 0.2 levels from 100 pass the threshold 100.1 at once, but round to 101 only from 100.6 on."""
    made = fooling(rate=0.2 / 255).fool(one_pixel_classifier(100.1), grey(100), ONE)
    assert made.steps.tolist() == [3]
    assert int(to_bytes(made.images)[0, 0, 0, 0]) == 101


def test_a_plain_loop_finds_the_same_images() -> None:
    classifier, images, target = small_cnn(), round_to_bytes(random_images(3, 32)), 7
    made = fooling(rate=0.3, probe_batch_size=2).fool(classifier, images, torch.full((3,), target))
    for row in range(3):
        image, steps = images[row : row + 1].clone(), 0
        while int(classifier(round_to_bytes(image)).argmax()) != target or int(classifier(image).argmax()) != target:
            leaf = image.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(classifier(leaf)[0, target], leaf)
            image, steps = (image + 0.3 * gradient / gradient.norm()).clamp(0, 1), steps + 1
        assert int(made.steps[row]) == steps > 0
        torch.testing.assert_close(made.unrounded[row], image[0].detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [0.05, 1.0, 20.0])
def test_the_length_of_the_path_bounds_the_change(rate: float) -> None:
    images = torch.cat([random_images(3, 32), torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)])
    made = fooling(rate=rate, max_steps=12, margin=50.0).fool(small_cnn(), images, torch.arange(5))
    changes = (made.unrounded - images).flatten(1).norm(dim=1)
    assert bool((changes > 0).all())
    assert bool((changes <= made.steps * rate * (1 + 1e-5)).all())
    assert float(made.unrounded.min()) >= 0 and float(made.unrounded.max()) <= 1


def test_the_saved_file_is_taken_for_the_target() -> None:
    classifier, targets = small_cnn(), torch.tensor([1, 5, 9])
    made = fooling(rate=0.3).fool(classifier, round_to_bytes(random_images(3, 32)), targets)
    assert made.outcomes == [FOOLED] * 3
    read = [np.asarray(Image.open(io.BytesIO(encode_image(image)[1]))) for image in made.images]
    pixels = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2) / 255
    assert torch.equal(pixels, made.images)
    assert classifier(pixels).argmax(1).tolist() == targets.tolist()


def test_every_other_outcome_is_named() -> None:
    classifier = one_pixel_classifier(127.5)
    made = fooling(rate=5 / 255, max_steps=3).fool(classifier, torch.cat([grey(200), grey(100)]), ONE.expand(2))
    assert (made.outcomes, made.steps.tolist()) == ([ALREADY, EXHAUSTED], [0, 3])
    assert torch.equal(made.images[0], grey(200)[0])
    assert int(to_bytes(made.images)[1, 0, 0, 0]) == 115
    stuck = fooling().fool(classifier, grey(200), torch.tensor([0]))
    assert (stuck.outcomes, stuck.steps.tolist()) == ([STUCK], [0])
    flat = fooling().fool(one_pixel_classifier(127.5, weight=float("nan")), grey(100), ONE)
    assert flat.outcomes == [STUCK]


def test_equal_logits_are_not_success() -> None:
    classifier, _ = linear_classifier(size=4, classes=2)
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    assert fooling().fool(classifier, grey(100), torch.tensor([0])).outcomes == [STUCK]


@pytest.mark.parametrize("probe_batch_size", [1, 3, 64])
def test_neighbours_order_and_batches_do_not_matter(probe_batch_size: int) -> None:
    images, targets = random_images(4, 32), torch.tensor([3, 7, 1, 0])
    together = fooling(rate=0.3, probe_batch_size=5).fool(small_cnn(), images, targets)
    turned = fooling(rate=0.3, probe_batch_size=probe_batch_size).fool(small_cnn(), images.flip(0), targets.flip(0))
    assert turned.steps.flip(0).tolist() == together.steps.tolist()
    torch.testing.assert_close(turned.unrounded.flip(0), together.unrounded, atol=1e-4, rtol=0)


def test_nothing_is_left_behind() -> None:
    classifier, images = small_cnn().train(), random_images(2, 32)
    before, kept = state_of(classifier), images.clone()
    with torch.inference_mode():
        fooling(rate=0.3).fool(classifier, images, torch.tensor([1, 2]))
    assert_same(before, state_of(classifier))
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rate": 0.0}, "synthesis.rate=0"),
        ({"rate": float("nan")}, "synthesis.rate=nan"),
        ({"max_steps": 0}, "synthesis.max_steps=0"),
        ({"margin": -1.0}, "synthesis.margin=-1"),
        ({"target": "predicted"}, "fools nobody"),
    ],
)
def test_a_mistake_names_its_value(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        fooling(**fields)


def test_eight_bits() -> None:
    values = torch.tensor([0.0, 1.0, 127.4 / 255, 127.6 / 255])
    assert to_bytes(values).tolist() == [0, 255, 127, 128]
    levels = torch.arange(256) / 255
    assert torch.equal(round_to_bytes(levels), levels)
    assert float((round_to_bytes(random_images(1, 32)) - random_images(1, 32)).abs().max()) <= 0.5 / 255 + 1e-6
