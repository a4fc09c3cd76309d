"""Class visualization: closed forms, a plain loop of each variant, seeds, and images that do not depend on others."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from explainer_checks import assert_same, state_of
from seewhy.analyses.synthesis.base import COLOURS, Fourier, to_bytes
from seewhy.analyses.synthesis.class_visualization import ClassVisualization, Visualization, make_class_generator
from seewhy.core.errors import UserError
from seewhy.core.facts import IMAGENET_MEAN, IMAGENET_STD
from seewhy.models.architectures import Own
from seewhy.models.build import build_classifier
from seewhy.models.cifar_networks import CifarCNN
from seewhy.models.classifier import Passes
from tiny import linear_classifier, small_cnn

VARIANTS = ("fourier", "cs231n")
QUICK = {"rate": 0.5, "steps": 12, "probe_batch_size": 4}


def quick(variant: str, **fields: object) -> ClassVisualization:
    given = {**QUICK, "rate": 0.05 if variant == "fourier" else 2.0, "variant": variant, **fields}
    return ClassVisualization(**given)  # type: ignore[arg-type]


def last(made: Visualization) -> Tensor:
    return made.frames[-1].pixels


def test_one_step_on_a_linear_network_in_closed_form() -> None:
    """With image = std z + mean, w . image - l2 ||z||^2 has the gradient std w - 2 l2 z; the step is as long as the rate."""
    network, weights = linear_classifier(size=6)
    still = quick("cs231n", steps=1, jitter=0, blur=0.0, l2=0.1, rate=3.0, seed=5)
    (made,) = still.visualize(network, [2])
    start = torch.randn(3, 6, 6, generator=make_class_generator(5, 2))
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
    gradient = std * weights[2] - 0.2 * start
    expected = ((start + 3.0 * gradient / gradient.norm()) * std + mean).clamp(0, 1)
    assert torch.equal(last(made), to_bytes(expected))
    assert made.frames[-1].score == pytest.approx(
        float(network(to_bytes(expected)[None] / 255.0)[0, 2].detach()), rel=1e-5
    )


def test_cs231n_is_the_plain_loop() -> None:
    network, index, steps = small_cnn(), 4, 12
    (made,) = quick("cs231n", steps=steps, jitter=28, seed=1).visualize(network, [index])
    generator = make_class_generator(1, index)
    values = torch.randn(3, 32, 32, generator=generator)
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
    for step in range(steps):
        down, right = torch.randint(0, 4 + 1, (2,), generator=generator).tolist()
        rolled = values.roll((down, right), (1, 2)).requires_grad_()
        score = network((rolled * std + mean)[None])[0, index] - 1e-3 * rolled.square().sum()
        (gradient,) = torch.autograd.grad(score, rolled)
        rolled = rolled.detach() + 2.0 * gradient / gradient.norm()
        values = rolled.roll((-down, -right), (1, 2))
        values = torch.maximum(torch.minimum(values, (1 - mean) / std), -mean / std)
        if step % 10 == 0:
            values = functional.gaussian_blur(values, [5, 5], [0.5, 0.5])
    difference = last(made).int() - to_bytes(values * std + mean).int()
    assert int(difference.abs().max()) <= 1


def test_fourier_is_the_plain_loop() -> None:
    network, index = small_cnn(), 4
    (made,) = quick("fourier", steps=5, jitter=0, rotation=0, scale=1, seed=1).visualize(network, [index])
    spectrum = (0.01 * torch.randn(3, 32, 17, 2, generator=make_class_generator(1, index))).requires_grad_()
    adam = torch.optim.Adam([spectrum], lr=0.05)

    def image() -> Tensor:
        shares = torch.empty(32, 17)
        for row in range(32):
            for column in range(17):
                away = (min(row, 32 - row) ** 2 + column**2) ** 0.5
                shares[row, column] = (max(away, 1) / 32) ** -1.2
        values = torch.fft.irfft2(torch.complex(spectrum[..., 0], spectrum[..., 1]) * shares, norm="ortho")
        bound = values[0].std() / values[1:].std()
        values = torch.cat([values[:1], values[1:] * min(bound, torch.tensor(1.0))])
        values = (torch.tensor(COLOURS) @ values.flatten(1)).view(3, 32, 32)
        return (values * min(1.2 / values.std(), torch.tensor(1.0))).sigmoid()

    for _ in range(5):
        adam.zero_grad()
        (-network(image()[None])[0, index]).backward()
        adam.step()
    difference = last(made).int() - to_bytes(image()).int()
    assert int(difference.abs().max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_score_rises(variant: str) -> None:
    trained = build_classifier("cifar_cnn", Own(CifarCNN), "shipped")
    for made in quick(variant, steps=30).visualize(trained, [0, 6, 9]):
        assert [made.frames[0].step, made.frames[-1].step] == [1, 30]
        assert made.frames[-1].score > made.frames[0].score + 3
        assert made.frames[-1].probability > max(0.8, made.frames[0].probability)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_same_bytes_and_another_seed_another_image(variant: str) -> None:
    first, again, other = (quick(variant, seed=seed).visualize(small_cnn(), [3])[0] for seed in (0, 0, 1))
    assert torch.equal(last(first), last(again))
    assert not torch.equal(last(first), last(other))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_is_the_same_to_the_byte_whatever_classes_are_beside_it(variant: str) -> None:
    """In single precision, where rounding decides, and over enough steps for differences to grow."""
    long = quick(variant, steps=30)
    alone = long.visualize(small_cnn().float(), [7])[0]
    for others, position in (([3, 7, 1], 1), ([7, 2], 0)):
        made = long.visualize(small_cnn().float(), others)
        assert (made[position].index, made[position].name) == (7, "class 7")
        assert made[position].frames[-1].score == alone.frames[-1].score
        assert all(
            torch.equal(one.pixels, two.pixels) for one, two in zip(made[position].frames, alone.frames, strict=True)
        )
        assert int((last(made[position - 1]).int() - last(alone).int()).abs().max()) > 20


@pytest.mark.slow
def test_the_penalty_makes_a_fourier_image_paler() -> None:
    free, bound = (quick("fourier", l2=l2).visualize(small_cnn(), [3])[0] for l2 in (0.0, 10.0))
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    away = [float((last(one) / 255.0 - mean).square().sum()) for one in (free, bound)]
    assert away[1] < 0.5 * away[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_passes_steps_and_nothing_left_behind(variant: str) -> None:
    network, calls = small_cnn().train(), []
    before = state_of(network)
    with torch.inference_mode():
        quick(variant).visualize(network, [0, 1], lambda: calls.append(1))
    assert_same(before, state_of(network))
    assert len(calls) == 2 * 12
    assert network.passes == Passes(2 * (12 + 12), 2 * 12), "each kept frame is scored once"


def test_the_image_of_no_spectrum_and_of_one_wave() -> None:
    canvas = Fourier((3, 8, 8), decay=1.0, contrast=100.0, saturation=1.0)
    assert torch.equal(canvas.images(torch.zeros(2, 3, 8, 5, 2)), torch.full((2, 3, 8, 8), 0.5))
    wave = torch.zeros(1, 3, 8, 5, 2)
    wave[0, 0, 0, 2, 0] = 1.0
    columns = torch.arange(8)
    cosine = 2 / 8 * torch.cos(2 * torch.pi * 2 * columns / 8) / (2 / 8)
    expected = torch.sigmoid(torch.tensor(COLOURS)[:, 0, None, None] * cosine.expand(8, 8))
    torch.testing.assert_close(canvas.images(wave)[0], expected)


def test_contrast_and_saturation_are_bounds() -> None:
    spectrum = 50 * torch.randn(2, 3, 16, 9, 2, generator=torch.Generator().manual_seed(0))
    values = Fourier((3, 16, 16), 1.0, contrast=1.2, saturation=1.0).images(spectrum).logit()
    torch.testing.assert_close(values.flatten(1).std(1), torch.full((2,), 1.2), rtol=1e-3, atol=0)
    pale = Fourier((3, 16, 16), 1.0, contrast=1.2, saturation=1e-6).images(spectrum).logit()
    brightness = torch.tensor(COLOURS)[:, 0]
    torch.testing.assert_close(
        pale[:, 1] / pale[:, 0], (brightness[1] / brightness[0]).expand(2, 16, 16), rtol=1e-2, atol=1e-3
    )
    faint = Fourier((3, 16, 16), 1.0, contrast=1.2, saturation=100.0)
    torch.testing.assert_close(
        faint.images(spectrum * 2e-4).logit(), 2 * faint.images(spectrum * 1e-4).logit(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"variant": "deep"}, "synthesis.variant=deep must be fourier or cs231n"),
        ({"parametrization": "wavelet"}, "parametrization=wavelet must be fourier, pixels or null"),
        ({"steps": 0}, "synthesis.steps=0"),
        ({"scale": 0.5}, "synthesis.scale=0.5"),
        ({"rate": -1.0}, "synthesis.rate=-1"),
        ({"l2": float("nan")}, "synthesis.l2=nan"),
        ({"blur": -0.1}, "synthesis.blur=-0.1"),
        ({"classes": "gorilla"}, "must be a list"),
        ({"classes": []}, "must be a list"),
    ],
)
def test_a_mistake_names_its_value(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ClassVisualization(**fields)  # type: ignore[arg-type]


def test_the_studys_defaults() -> None:
    recipe = ClassVisualization(variant="cs231n").recipe
    assert (recipe.steps, recipe.rate, recipe.l2, recipe.jitter) == (100, 25, 1e-3, 16)
    assert (recipe.blur, recipe.blur_every, recipe.rotation, recipe.scale) == (0.5, 10, 0, 1)
    assert ClassVisualization(variant="cs231n", steps=7).recipe.steps == 7
