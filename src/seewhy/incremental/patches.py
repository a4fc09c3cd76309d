"""Cutting pieces out of clean maps and setting patches into them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Place(NamedTuple):
    """Where pieces of one size begin: the rows and the columns [n], perhaps outside of the map."""

    tops: Tensor
    lefts: Tensor
    size: tuple[int, int]


def pieces(table: Tensor, side: tuple[int, int], images: Tensor, place: Place) -> Tensor:
    """Pieces [n, height, width, channels] of the maps number `images` [n].

    `table` [maps * height * width + 1, channels] holds maps of size `side` and a last row for what lies outside.
    """
    rows, inside_rows = _numbers(place.tops, place.size[0], side[0])
    columns, inside_columns = _numbers(place.lefts, place.size[1], side[1])
    flat = (images[:, None] * side[0] + rows)[:, :, None] * side[1] + columns[:, None, :]
    outside = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    flat = flat.masked_fill_(outside, len(table) - 1)
    return table.index_select(0, flat.view(-1).to(table.device)).view(*flat.shape, table.shape[1])


def paste(into: Tensor, place: Place, patches: Tensor, tops: Tensor, lefts: Tensor) -> None:
    """Set `patches` [n, height, width, channels], which begin at `tops` and `lefts` of the map, into pieces at `place`.

    What does not lie in its piece is left out.
    """
    down, right = tops - place.tops, lefts - place.lefts
    if bool((down == down[0]).all()) and bool((right == right[0]).all()):
        rows, from_rows = _overlap(int(down[0]), patches.shape[1], into.shape[1])
        columns, from_columns = _overlap(int(right[0]), patches.shape[2], into.shape[2])
        into[:, rows, columns] = patches[:, from_rows, from_columns]
        return
    rows_at, inside_rows = _numbers(down, patches.shape[1], into.shape[1])
    columns_at, inside_columns = _numbers(right, patches.shape[2], into.shape[2])
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :]).view(-1)
    first = torch.arange(len(into))[:, None] * into.shape[1]
    flat = ((first + rows_at)[:, :, None] * into.shape[2] + columns_at[:, None, :]).view(-1)
    source = patches.reshape(-1, patches.shape[3])
    if not bool(inside.all()):
        chosen = inside.nonzero()[:, 0]
        source, flat = source.index_select(0, chosen.to(source.device)), flat[chosen]
    into.view(-1, into.shape[3]).index_put_((flat.to(into.device),), source)


def _numbers(first: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """(`count` indices from each first one [n, count], whether each is one of `length`)."""
    numbers = first[:, None] + torch.arange(count)
    return numbers, (numbers >= 0) & (numbers < length)


def _overlap(by: int, length: int, room: int) -> tuple[slice, slice]:
    """(where what begins at `by` lies in a room, which part of it lies there)."""
    start, stop = min(max(by, 0), room), max(0, min(by + length, room))
    stop = max(start, stop)
    return slice(start, stop), slice(start - by, stop - by)
