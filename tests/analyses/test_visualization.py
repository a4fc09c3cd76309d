"""The frames that are kept, and how they are drawn and animated."""

import io

import pytest
import torch
from PIL import Image

from figure_checks import NAMES, assert_legible
from seewhy.analyses.synthesis.class_visualization import (
    ANIMATED,
    Frame,
    Visualization,
    list_frame_steps,
    list_strip_steps,
    make_class_generator,
)
from seewhy.analyses.synthesis.visualization_run import (
    draw_score_curves,
    draw_strips,
    encode_webp,
    resolve_class_indices,
)
from seewhy.core.errors import UserError
from seewhy.plots.canvas import encode_figure


def visualization(name: str = "cat", steps: int = 100, size: int = 32) -> Visualization:
    frames = [
        Frame(step, torch.full((3, size, size), 255 * step // steps, dtype=torch.uint8), step / 10, step / 200)
        for step in list_frame_steps(steps)
    ]
    return Visualization(3, name, frames)


def test_the_strip_shows_1_25_50_75_and_100_of_100() -> None:
    assert list_strip_steps(100) == [1, 25, 50, 75, 100]
    assert [frame.step for frame in visualization().strip] == [1, 25, 50, 75, 100]
    assert list_strip_steps(1) == [1]
    assert list_frame_steps(2) == [1, 2]
    for steps in (1, 7, 100, 128, 1000, 4096):
        kept = list_frame_steps(steps)
        assert set(list_strip_steps(steps)) <= set(kept)
        assert kept[-1] == steps
        assert len(kept) <= ANIMATED + 5


def test_the_animation_ends_on_the_result() -> None:
    made = visualization(steps=8)
    with Image.open(io.BytesIO(encode_webp(made.frames))) as moving:
        assert moving.format == "WEBP"
        assert moving.n_frames == len(made.frames)
        assert moving.size == (32, 32)
        for place in (0, len(made.frames) - 1):
            moving.seek(place)
            shown = torch.tensor(moving.convert("RGB").getpixel((16, 16)))
            assert int((shown - made.frames[place].pixels[:, 16, 16].int()).abs().max()) <= 4
    assert encode_webp(made.frames) == encode_webp(made.frames)


@pytest.mark.parametrize("name", NAMES)
def test_no_word_leaves_the_page(name: str) -> None:
    figure = draw_strips([visualization(name), visualization()], "a=1, " * 60, name)
    assert_legible(figure)


def test_the_curve_is_the_score_of_each_frame() -> None:
    made = visualization("a $x_1^2$")
    figure = draw_score_curves([made])
    assert encode_figure(figure)
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [frame.step for frame in made.frames]
    assert line.get_ydata().tolist() == [frame.score for frame in made.frames]


def test_classes_by_name_and_index() -> None:
    known = ["cat", "great white shark", "dog"]
    assert resolve_class_indices(None, known) == [0, 1, 2]
    assert resolve_class_indices(None, [str(number) for number in range(99)]) == list(range(10))
    assert resolve_class_indices(["dog", 0, "Great_White_Shark", "2"], known) == [2, 0, 1]
    for wrong, words in (("dgo", "nearest: dog"), (3, "from 0 to 2"), ("predicted", "not a class")):
        with pytest.raises(UserError, match=words):
            resolve_class_indices([wrong], known)


def test_a_generator_belongs_to_seed_and_class() -> None:
    drawn = {
        (seed, index): float(torch.rand(1, generator=make_class_generator(seed, index)))
        for seed in (0, 1, 11)
        for index in (0, 1, 11, 111)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert drawn[1, 11] == float(torch.rand(1, generator=make_class_generator(1, 11)))
