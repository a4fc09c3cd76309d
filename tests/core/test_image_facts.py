"""What the facts say of images: height and width apart, channels, and those that are shown."""

import pytest
import torch

from seewhy.core.errors import UserError
from seewhy.core.facts import Facts, select_display


def facts_of(size: object = 8, channels: int = 3, **fields: object) -> Facts:
    return Facts(("a", "b"), size, (0.5,) * channels, (0.5,) * channels, **fields)  # type: ignore[arg-type]


def test_a_square_is_one_number_and_a_rectangle_two() -> None:
    assert facts_of([24, 24]).size == facts_of(24).size == 24
    assert facts_of(24).shape == (24, 24)
    assert facts_of([160, 192]).size == facts_of([160, 192]).shape == (160, 192)
    assert facts_of(24).replace({"size": [16, 20]}).shape == (16, 20)


def test_facts_travel_with_their_weights() -> None:
    for facts in (facts_of(8), facts_of((16, 20), 13, display=(4, 3, 2), fit="squash"), facts_of(8, 1)):
        assert Facts.from_metadata(facts.to_metadata()) == facts
    assert "display" not in facts_of(8).to_metadata()["facts"], "weights of squares keep their bytes"


def test_the_input_is_described_in_words() -> None:
    assert facts_of(224).describe_input() == "224 px"
    assert facts_of((160, 192), 1).describe_input() == "160 x 192 px, 1 channel"
    assert facts_of(64, 13).describe_input() == "64 px, 13 channels"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": [1, 2, 3]}, r"model.size=\[1, 2, 3\] must be a number of pixels, or \[height, width\]"),
        ({"size": [16, 0]}, r"model.size=\[16, 0\] must be at least 1 pixel"),
        ({"size": 8.5}, "model.size=8.5"),
        ({"display": (1, 2)}, r"model.display=\[1, 2\] must name one or three channels"),
        ({"display": (0,)}, "which are 1 to 3"),
        ({"display": (1, 2, 4)}, "which are 1 to 3"),
        ({"fit": "stretch"}, "model.fit=stretch must be crop or squash"),
        ({"mean": ()}, "one number for each channel"),
        ({"mean": (0.1, 0.2)}, "one number for each channel"),
    ],
)
def test_impossible_facts_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        facts_of(8).replace(changes)


def test_the_channels_that_are_shown() -> None:
    images = torch.rand(2, 13, 4, 5)
    assert torch.equal(select_display(images), images[:, :3])
    assert torch.equal(select_display(images, (4, 3, 2)), images[:, [3, 2, 1]])
    assert torch.equal(select_display(images, (9,)), images[:, [8, 8, 8]])
    assert torch.equal(select_display(images[:, :2]), images[:, [0, 0, 0]])
    colours = images[0, :3]
    assert select_display(colours) is colours, "a picture in RGB is what is shown"
    assert torch.equal(select_display(colours, (3, 2, 1)), colours.flip(0))
