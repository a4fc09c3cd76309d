"""Which channels of an image figures show, and that they say so."""

import numpy as np
import pytest
import torch

from figure_checks import explanation
from seewhy.plots.explanation import describe_display, draw_original, draw_panel
from seewhy.plots.heatmaps import blend_overlay, build_colour_map


@pytest.mark.parametrize(
    ("channels", "display", "words", "shown"),
    [
        (3, (), "", (0, 1, 2)),
        (1, (), "", (0, 0, 0)),
        (2, (), "channel 1 of 2", (0, 0, 0)),
        (13, (), "channels 1, 2, 3 of 13", (0, 1, 2)),
        (13, (4, 3, 2), "channels 4, 3, 2 of 13", (3, 2, 1)),
        (13, (9,), "channel 9 of 13", (8, 8, 8)),
        (3, (3, 2, 1), "channels 3, 2, 1 of 3", (2, 1, 0)),
    ],
)
def test_the_original_shows_its_channels_and_names_them(
    channels: int, display: tuple[int, ...], words: str, shown: tuple[int, ...]
) -> None:
    drawn = explanation(image=torch.rand(channels, 24, 40), attribution=torch.rand(24, 40), display=display)
    assert describe_display(drawn) == words
    cell = draw_original(drawn)
    assert (words in [text for text, _ in cell.titles]) == bool(words)
    assert np.array_equal(cell.colours, drawn.image[list(shown)].permute(1, 2, 0).numpy())
    assert draw_panel(drawn) is not None


def test_the_overlay_lies_over_what_is_shown() -> None:
    drawn = explanation(image=torch.rand(5, 8, 12), attribution=torch.zeros(8, 12), display=(5, 1, 2))
    overlay = blend_overlay(drawn.picture, np.zeros((8, 12), np.float32), build_colour_map("default", "signed"))
    grey = drawn.image[[4, 0, 1]].mean(0).numpy()
    np.testing.assert_allclose(overlay, np.stack([grey] * 3, 2), rtol=1e-6)
