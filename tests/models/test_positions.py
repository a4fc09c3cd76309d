"""Tokens and channels-last maps become a grid of positions, in the order of the image."""

import pytest
import torch
from torch import nn

from seewhy.models.layers import arrange_as_grid, find_token_grid


def net(**facts: object) -> nn.Module:
    module = nn.Identity()
    for key, value in facts.items():
        setattr(module, key, value)
    return module


def test_tokens_lose_their_prefix_and_run_row_by_row() -> None:
    tokens = torch.arange(2 * 11 * 3.0).view(2, 11, 3)
    grid = arrange_as_grid(tokens, net(num_prefix_tokens=2), (30, 30))
    assert grid is not None and grid.shape == (2, 3, 3, 3)
    for row in range(3):
        for column in range(3):
            assert torch.equal(grid[:, :, row, column], tokens[:, 2 + 3 * row + column])


@pytest.mark.parametrize(
    ("tokens", "facts", "size", "expected"),
    [
        (197, {}, (224, 224), (1, 14, 14)),
        (196, {}, (224, 224), (0, 14, 14)),
        (198, {}, (224, 224), (2, 14, 14)),
        (196, {"num_prefix_tokens": 1}, (224, 224), (0, 14, 14)),
        (201, {"num_prefix_tokens": 5}, (224, 224), (5, 14, 14)),
        (7, {"num_prefix_tokens": 1}, (32, 48), (1, 2, 3)),
        (7, {"num_prefix_tokens": 1}, (48, 32), (1, 3, 2)),
        (11, {"num_prefix_tokens": 1}, (32, 32), None),
        (11, {}, (32, 32), (2, 3, 3)),
    ],
)
def test_grid_of_a_sequence(tokens: int, facts: dict[str, int], size: tuple[int, int], expected: object) -> None:
    assert find_token_grid(net(**facts), tokens, size) == expected


def test_the_grid_of_the_patch_embedding_comes_first() -> None:
    embedding = net(grid_size=(2, 8))
    assert find_token_grid(net(patch_embed=embedding, num_prefix_tokens=0), 16, (32, 32)) == (0, 2, 8)


def test_feature_maps_pass_and_channels_last_is_turned() -> None:
    assert arrange_as_grid(torch.zeros(1, 8, 4, 4), net(), (32, 32)).shape == (1, 8, 4, 4)  # type: ignore[union-attr]
    turned = torch.rand(1, 4, 4, 8)
    assert torch.equal(arrange_as_grid(turned, net(), (32, 32)), turned.permute(0, 3, 1, 2))  # type: ignore[arg-type]
    both = torch.rand(1, 4, 4, 4)
    assert arrange_as_grid(both, net(), (32, 32)) is both
    assert torch.equal(arrange_as_grid(both, net(output_fmt="NHWC"), (32, 32)), both.permute(0, 3, 1, 2))  # type: ignore[arg-type]


def test_what_has_no_positions() -> None:
    assert arrange_as_grid(torch.zeros(2, 5), net(), (32, 32)) is None
    assert arrange_as_grid(torch.zeros(2, 3, 197, 64), net(), (224, 224)) is None
